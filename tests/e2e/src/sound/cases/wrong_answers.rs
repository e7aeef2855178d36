//! Invalid answers over HTTP: the caller is told what is wrong with them, in words for people.

use serde_json::json;
use testkit::Fault;

use super::{
    Cases,
    hall::Hall,
    http_server::{EVENTS, HttpServer, JSON, Request, response, usual, usual_text},
    says,
};

/// How what a program prints of its own values looks.
const DEBUG: [&str; 6] = ["Span {", "Answer {", "Some(", "None)", "Ok(", "Err("];

pub(super) fn add(cases: &mut Cases) -> Result<(), Fault> {
    events(cases)?;
    identities(cases)
}

fn events(cases: &mut Cases) -> Result<(), Fault> {
    let ways: [(_, &[u8]); 5] = [
        ("NaN", br#"data: {"jsonrpc":"2.0","id":ID,"result":{"x":NaN}}"#),
        ("neither result nor error", br#"data: {"jsonrpc":"2.0","id":ID}"#),
        ("a message that is cut", br#"data: {"jsonrpc":"2.0","id":ID,"result":{"content":["#),
        (
            "a letter in Latin-1",
            b"data: {\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{\"content\":[{\"text\":\"caf\xe9\"}]}}",
        ),
        ("a text", b"data: done"),
    ];
    for (name, event) in ways {
        let server = HttpServer::start(move |request, _| {
            if !request.is_call() {
                return usual(request);
            }
            let id = request.body["id"].to_string();
            let event = replaced(event, b"ID", id.as_bytes());
            response("200 OK", EVENTS, [&event[..], b"\n\n"].concat())
        })?;
        cases.http("sse-unreadable-answer", name, &server, |hall, id| {
            let mut unwanted = DEBUG.to_vec();
            unwanted.extend(["ended before the answer", "nothing came"]);
            hall.call(id, "t")?.fails(&["no MCP"], &unwanted)
        });
    }
    Ok(())
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    match bytes.windows(from.len()).position(|window| window == from) {
        Some(place) => [&bytes[..place], to, &bytes[place + from.len()..]].concat(),
        None => bytes.to_vec(),
    }
}

fn identities(cases: &mut Cases) -> Result<(), Fault> {
    let ways: [(_, fn(&Request) -> String); 4] = [
        ("another number", |_| json!({ "jsonrpc": "2.0", "id": 987_654, "result": {} }).to_string()),
        ("a name", |_| json!({ "jsonrpc": "2.0", "id": "call-1", "result": {} }).to_string()),
        ("a request of the server's own", |_| json!({ "jsonrpc": "2.0", "id": 5, "method": "ping" }).to_string()),
        ("a list of messages", |request| format!("[{}]", usual_text(request))),
    ];
    for (name, body) in ways {
        let at_call = HttpServer::start(move |request, _| {
            if request.is_call() { response("200 OK", JSON, body(request)) } else { usual(request) }
        })?;
        cases.http("debug-text-in-error", format!("{name} to a call"), &at_call, |hall, id| {
            hall.call(id, "t")?.fails(&[], &DEBUG)
        });
        let at_start = HttpServer::start(move |request, _| {
            if request.verb == "POST" { response("200 OK", JSON, body(request)) } else { usual(request) }
        })?;
        cases.http("debug-text-in-error", format!("{name} to initialize"), &at_start, |hall: &Hall, id: &str| {
            says(&hall.trouble(id)?, &[], &DEBUG)
        });
    }
    Ok(())
}
