//! An unambiguous deviation is accepted, and where something is left out the status says so.

use serde_json::{Value, json};
use testkit::{Fault, System};

use super::{
    Cases, expect,
    hall::Hall,
    http_server::{EVENTS, HttpServer, JSON, Request, greeting, response, tool, usual, usual_text},
    raw_client::{initialize, send},
    stdio_server::{ID, StdioServer, answer, line},
};

const BOM: &[u8] = b"\xef\xbb\xbf";

pub(super) fn add(cases: &mut Cases) -> Result<(), Fault> {
    capabilities(cases)?;
    numbers(cases)?;
    marks(cases)?;
    heartbeats(cases)?;
    schemas(cases)
}

/// Servers that do not announce the tools that they have.
fn capabilities(cases: &mut Cases) -> Result<(), Fault> {
    let case = "capabilities-empty";
    for (name, capabilities) in [("none", json!({})), ("others", json!({ "logging": {}, "prompts": {} }))] {
        let server = StdioServer::default().initialize(answer(&greeting(&capabilities)));
        cases.stdio(case, format!("{name} announced, tools listed"), &server, |hall, id| hall.serves(id))?;
    }
    let over_http = HttpServer::start(|request, _| match request.method() {
        "initialize" => {
            let result = greeting(&json!({}));
            response(
                "200 OK",
                JSON,
                json!({ "jsonrpc": "2.0", "id": request.body["id"], "result": result }).to_string(),
            )
        }
        _ => usual(request),
    })?;
    cases.http(case, "none announced over HTTP, tools listed", &over_http, |hall, id| hall.serves(id));
    let refusal = format!(r#"{{"jsonrpc":"2.0","id":{ID},"error":{{"code":-32601,"message":"no such method"}}}}"#);
    let without = StdioServer::default().initialize(answer(&greeting(&json!({})))).list(line(&refusal));
    cases.stdio(case, "none announced, and none there", &without, |hall, id| {
        hall.warned(id, &["tools"])?;
        let asked = hall.told(id, "tools/list");
        expect(asked <= 2, "one question", asked)
    })
}

/// Other spellings of the number that the request had.
fn numbers(cases: &mut Cases) -> Result<(), Fault> {
    let case = "id-as-float";
    let spelt = |bytes: Vec<u8>, id: &str| String::from_utf8_lossy(&bytes).replace(ID, id).into_bytes();
    let ways = [
        ("1.0", format!("{ID}.0")),
        ("1.00", format!("{ID}.00")),
        ("\"1\"", format!("\"{ID}\"")),
        ("1e0", format!("{ID}e0")),
        ("10e-1", format!("{ID}0e-1")),
    ];
    for (name, id) in ways {
        let tools = json!({ "tools": [tool("t"), tool("u")] });
        let server = StdioServer::default()
            .initialize(spelt(answer(&greeting(&json!({ "tools": {} }))), &id))
            .list(spelt(answer(&tools), &id))
            .call(spelt(answer(&json!({ "content": [] })), &id));
        cases.stdio(case, format!("{name} in answer to 1"), &server, |hall, id| hall.serves(id))?;
    }
    let over_http = HttpServer::start(|request, _| {
        let id = request.body["id"].to_string();
        let other = usual_text(request).replace(&format!("\"id\":{id}"), &format!("\"id\":{id}.0"));
        if request.body.get("id").is_some() { response("200 OK", JSON, other) } else { usual(request) }
    })?;
    cases.http(case, "1.0 over HTTP", &over_http, |hall, id| hall.serves(id));
    Ok(())
}

/// A byte order mark, wherever a text may begin.
fn marks(cases: &mut Cases) -> Result<(), Fault> {
    let case = "stdio-bom";
    let first = StdioServer::default().start(r"printf '\357\273\277'");
    cases.stdio(case, "before the first line", &first, |hall, id| hall.serves(id))?;
    let marked = |bytes: &[u8]| [BOM, bytes].concat();
    let each = StdioServer::default()
        .initialize(marked(&answer(&greeting(&json!({ "tools": {} })))))
        .list(marked(&answer(&json!({ "tools": [tool("t")] }))))
        .call(marked(&answer(&json!({ "content": [] }))));
    cases.stdio(case, "before each line", &each, |hall, id| hall.serves(id))?;
    let body = |request: &Request| [BOM, usual_text(request).as_bytes()].concat();
    let json = HttpServer::start(move |request, _| {
        if request.body.get("id").is_some() { response("200 OK", JSON, body(request)) } else { usual(request) }
    })?;
    cases.http(case, "before a JSON body", &json, |hall, id| hall.serves(id));
    let events = HttpServer::start(|request, _| {
        let body = [BOM, b"data: ", usual_text(request).as_bytes(), b"\n\n"].concat();
        if request.body.get("id").is_some() { response("200 OK", EVENTS, body) } else { usual(request) }
    })?;
    cases.http(case, "before an event stream", &events, |hall, id| hall.serves(id));
    cases.alone(case, "before what a client sends", |hall| {
        let body = [BOM, initialize("2025-11-25").as_bytes()].concat();
        let answer = send(hall.gateway.mcp, "POST /mcp", &[], body)?;
        expect(answer.status == 200 && answer.json()?["result"].is_object(), "a session", answer)
    });
    Ok(())
}

/// Events of a type of their own, before every answer.
fn heartbeats(cases: &mut Cases) -> Result<(), Fault> {
    for (name, said) in [
        ("a ping with an object", "event: ping\ndata: {}\n\n"),
        ("a heartbeat with words", "event: heartbeat\ndata: keepalive\n\n"),
        ("an endpoint of the older transport", "event: endpoint\ndata: /messages?session=1\n\n"),
        ("an error of the stream's own", "event: error\nid: 7\ndata: {\"code\": 1}\n\n"),
    ] {
        let server = HttpServer::start(move |request, _| {
            let body = format!("{said}event: message\ndata: {}\n\n", usual_text(request));
            if request.body.get("id").is_some() { response("200 OK", EVENTS, body) } else { usual(request) }
        })?;
        cases.http("sse-other-event-types", name, &server, |hall, id| hall.serves(id));
    }
    Ok(())
}

/// Tools that cannot be shown: the others are, and these are named with the reason where people and programs look.
fn schemas(cases: &mut Cases) -> Result<(), Fault> {
    let ways: [(_, Value); 4] = [
        ("no inputSchema", json!({ "name": "odd" })),
        ("null as its inputSchema", json!({ "name": "odd", "inputSchema": null })),
        ("a text as its inputSchema", json!({ "name": "odd", "inputSchema": "object" })),
        ("a list as its inputSchema", json!({ "name": "odd", "inputSchema": [] })),
    ];
    for (name, odd) in ways {
        let server = StdioServer::default().list(answer(&json!({ "tools": [tool("t"), odd] })));
        cases.stdio("tool-without-schema", format!("a tool with {name}"), &server, withheld)?;
    }
    let twice = StdioServer::default().list(answer(&json!({ "tools": [tool("t"), tool("odd"), tool("odd")] })));
    cases.stdio("tool-without-schema", "two tools of one name", &twice, withheld)
}

fn withheld(hall: &Hall, id: &str) -> Result<(), Fault> {
    hall.serves(id)?;
    hall.warned(id, &["odd"])?;
    let status = hall.gateway.status()?;
    let lists = [&status["routers"][0]["withheld"], &status["warnings"]];
    let mut entries = lists.iter().filter_map(|list| list.as_array()).flatten().map(Value::to_string);
    let found = entries.any(|entry| entry.contains(id) && entry.contains("odd"));
    expect(found, "the tool `odd` among those withheld, or in the warnings", json!(lists))
}
