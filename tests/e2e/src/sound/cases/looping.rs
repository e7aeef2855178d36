//! A loop that a peer can restart gets slower and slower, and ends where it leads nowhere.

use std::{thread, time::Duration};

use serde_json::{Value, json};
use testkit::Fault;

use super::{
    Cases, expect,
    hall::Hall,
    http_server::{EVENTS, HTML, HttpServer, JSON, Reply, Request, greeting, response, tool, usual},
    stdio_server::{StdioServer, answer},
};

/// How long a loop is watched, and how often it may turn in that time.
const WATCHED: Duration = Duration::from_secs(4);
const TURNS: usize = 8;

pub(super) fn add(cases: &mut Cases) -> Result<(), Fault> {
    streams(cases)?;
    cursors(cases)
}

fn streams(cases: &mut Cases) -> Result<(), Fault> {
    let stream = |body: &str| format!("HTTP/1.1 200 OK\r\n{EVENTS}Connection: close\r\n\r\n{body}").into_bytes();
    let ways = [
        ("ends at once and wants to be asked again at once", Reply::Close(stream("retry: 0\n\n"))),
        ("ends at once without a word", Reply::Close(stream(""))),
        ("ends after an id", Reply::Close(stream("id: 7\nretry: 1\ndata:\n\n"))),
        ("is a page", response("200 OK", HTML, "<h1>welcome</h1>")),
        ("is JSON", response("200 OK", JSON, "{}")),
    ];
    for (name, reply) in ways {
        let server = HttpServer::start(
            move |request, _| if request.verb == "GET" { reply.clone() } else { announcing(request) },
        )?;
        let judged = server.clone();
        cases.http("get-stream-closes", format!("the event stream {name}"), &server, move |hall, id| {
            hall.serves(id)?;
            let before = judged.seen().len();
            // Only watching shows that a loop turns seldom.
            thread::sleep(WATCHED);
            let seen = judged.seen();
            let gets = seen.iter().filter(|request| request.verb == "GET").count();
            let lists = seen.iter().filter(|request| request.method() == "tools/list").count();
            expect(gets >= 1, "a stream that was asked for", gets)?;
            expect(
                seen.len() - before <= TURNS && gets <= 2 * TURNS && lists <= 2 * TURNS,
                format!("at most {TURNS} requests in {WATCHED:?}"),
                format!("{} requests, of all {gets} GET and {lists} tools/list", seen.len() - before),
            )
        });
    }
    Ok(())
}

/// As a server that has a stream of notifications.
fn announcing(request: &Request) -> Reply {
    if request.method() != "initialize" {
        return usual(request);
    }
    let result = greeting(&json!({ "tools": { "listChanged": true } }));
    let message = json!({ "jsonrpc": "2.0", "id": request.body["id"], "result": result });
    response("200 OK", &format!("{JSON}Mcp-Session-Id: s1\r\n"), message.to_string())
}

fn cursors(cases: &mut Cases) -> Result<(), Fault> {
    let case = "cursor-never-ends";
    for (name, cursor) in [("stays empty", ""), ("stays the same", "8")] {
        let list = answer(&json!({ "tools": [tool("t"), tool("u")], "nextCursor": cursor }));
        let server = StdioServer::default().list(list);
        let judge = |hall: &Hall, id: &str| ends(hall, id, || hall.told(id, "tools/list"));
        cases.stdio(case, format!("a cursor that {name}"), &server, judge)?;
    }
    // Each from what was asked, and the number of the request.
    let ways: [(_, fn(&Value) -> String); 2] = [
        ("two cursors that lead to each other", |asked| if asked == "a" { "b" } else { "a" }.to_owned()),
        ("a way back to the third of five", |asked| match asked.as_str() {
            None => "2".to_owned(),
            Some("5") => "3".to_owned(),
            Some(page) => (page.parse::<u64>().unwrap_or_default() + 1).to_string(),
        }),
    ];
    for (name, next) in ways {
        let server = HttpServer::start(move |request, _| {
            if request.method() != "tools/list" {
                return usual(request);
            }
            let next = next(&request.body["params"]["cursor"]);
            let result = json!({ "tools": [tool("t"), tool("u")], "nextCursor": next });
            response(
                "200 OK",
                JSON,
                json!({ "jsonrpc": "2.0", "id": request.body["id"], "result": result }).to_string(),
            )
        })?;
        let judged = server.clone();
        cases.http(case, name, &server, move |hall, id| {
            ends(hall, id, || judged.count(|request| request.method() == "tools/list"))
        });
    }
    Ok(())
}

/// The tools are there, after few requests, and the status says what is odd.
fn ends(hall: &Hall, id: &str, requests: impl Fn() -> usize) -> Result<(), Fault> {
    hall.serves(id)?;
    expect(requests() <= 2 * TURNS, format!("at most {} requests", 2 * TURNS), requests())?;
    hall.warned(id, &["cursor"]).map(|_| ())
}
