//! Servers that misbehave: each call gets its one answer, soon, and others do not suffer.

use serde_json::json;
use testkit::{Document, Fault, Server, demo};

use super::{
    Stage,
    raw::{Raw, call},
    stub::{RAW, Stub, text},
};

#[test]
fn a_child_that_dies_under_its_calls_answers_all_of_them_with_the_reason() -> Result<(), Fault> {
    let stage = Stage::new("dies", |scratch| Ok(Document::default().with(demo::stdio("demo", "demo", scratch)?)))?;
    let session = Raw::open(stage.gateway.mcp)?;
    let mut clients = (0..20).map(|_| session.again()).collect::<Result<Vec<_>, _>>()?;
    for (number, client) in clients.iter_mut().enumerate() {
        let mut message = call(number, "demo__sleep", json!({ "ms": 60_000, "id": format!("s{number}") }));
        if number % 2 == 0 {
            message["params"]["_meta"] = json!({ "progressToken": number });
        }
        client.say(&message)?;
        stage.carried_out(&format!("s{number}"))?;
    }
    let mut last = session.again()?;
    last.say(&call("last", "demo__crash", json!({ "code": 3 })))?;
    for (number, client) in clients.iter_mut().enumerate() {
        let answer = client.response()?;
        let message = answer.json();
        assert_eq!((answer.code(), &message["id"]), (Some(-32603), &json!(number)), "{message}");
        assert!(message["error"]["message"].as_str().is_some_and(|text| text.contains("status 3")), "{message}");
        client.works()?;
    }
    assert_eq!(last.response()?.code(), Some(-32603));
    // The next call finds a new child.
    let answer = last.ask(&call(1, "demo__echo", json!({ "text": "again" })))?.json();
    assert_eq!(answer["result"]["content"][0]["text"], "again", "{answer}");
    Ok(())
}

#[test]
fn http_is_read_as_it_is_written_and_refused_where_it_is_none() -> Result<(), Fault> {
    let stub = Stub::start(vec!["do".to_owned()], |request| {
        let body = text(&request.body["id"], "fine");
        let (head, length) = ("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n", body.len());
        // The stub closes after each of these; where the router may think otherwise, it is told.
        let close = "Connection: close\r\n";
        let chunked = "Transfer-Encoding: chunked\r\n\r\n";
        let chunks = |end: &str| {
            let (first, rest) = body.split_at(7);
            format!("{head}{close}{chunked}7;x=y\r\n{first}\r\n{:X}\r\n{rest}\r\n{end}", rest.len())
        };
        let how = request.body["params"]["arguments"]["how"].as_str().unwrap_or_default();
        let all = match how {
            "until the end" => format!("{head}{close}\r\n{body}"),
            "of old" => format!("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{body}"),
            "chunks" => chunks("0\r\nTrailer: x\r\n\r\n"),
            "continued" => format!("HTTP/1.1 100 Continue\r\n\r\n{head}{close}Content-Length: {length}\r\n\r\n{body}"),
            "more than said" => format!("{head}Content-Length: {length}\r\n\r\n{body}HTTP/1.1 200 OK\r\n"),
            "less than said" => format!("{head}Content-Length: {}\r\n\r\n{body}", length + 1),
            "no last chunk" => chunks(""),
            "no chunk" => format!("{head}{chunked}zz\r\n{body}\r\n0\r\n\r\n"),
            "an endless chunk" => format!("{head}{chunked}fffffffffffffffff\r\n{body}"),
            "two lengths" => format!("{head}Content-Length: {length}\r\nContent-Length: 3\r\n\r\n{body}"),
            "no length" => format!("{head}Content-Length: -1\r\n\r\n{body}"),
            "half a head" => head.trim_end().to_owned(),
            "a long head" => format!("{head}X: {}\r\n\r\n", "x".repeat(2 << 20)),
            "no http" => "SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned(),
            "nothing" => String::new(),
            _ => return Some(("application/json", body)),
        };
        Some((RAW, all))
    })?;
    let url = stub.url();
    let stage = Stage::new("framing", |_| Ok(Document::default().with(Server::http("stub", &url))))?;
    let mut raw = Raw::open(stage.gateway.mcp)?;
    let good = ["until the end", "of old", "chunks", "continued", "more than said"];
    let bad = [
        "less than said",
        "no last chunk",
        "no chunk",
        "an endless chunk",
        "two lengths",
        "no length",
        "half a head",
        "a long head",
        "no http",
        "nothing",
    ];
    for (how, is_good) in good.map(|how| (how, true)).into_iter().chain(bad.map(|how| (how, false))) {
        let answer = raw.ask(&call(how, "stub__do", json!({ "how": how })))?;
        assert_eq!((answer.code(), &answer.json()["id"]), ((!is_good).then_some(-32603), &json!(how)), "{answer:?}");
        // The next one, on whatever connection, is not touched by what was left on the last one.
        let answer = raw.ask(&call("next", "stub__do", json!({ "how": "well" })))?;
        assert_eq!((answer.code(), &answer.json()["id"]), (None, &json!("next")), "after {how}: {answer:?}");
    }
    let carried_out = stub.seen().iter().filter(|request| request.body["method"] == "tools/call").count();
    assert_eq!(carried_out, 30, "each once");
    Ok(())
}
