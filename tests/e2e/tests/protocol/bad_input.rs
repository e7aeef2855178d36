//! Input that is not MCP gets the error that HTTP, JSON-RPC or MCP have for it, and the connection serves on where it
//! can.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Document, Fault, demo};

use super::{
    Stage,
    raw::{Raw, call},
};

fn stage(name: &str) -> Result<Stage, Fault> {
    Stage::new(name, |scratch| {
        let document = Document::default().key("limits", json!({ "request_bytes": "64KiB" }));
        Ok(document.with(demo::stdio("demo", "demo", scratch)?))
    })
}

#[test]
fn malformed_messages_are_refused_one_by_one() -> Result<(), Fault> {
    let stage = stage("malformed")?;
    let mut raw = Raw::open(stage.gateway.mcp)?;
    let deep = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"a":{}{}}}}}"#,
        "[".repeat(9000),
        "]".repeat(9000)
    );
    // What is sent, the status, the code of the error (0 for none) and the id that the answer repeats.
    let cases: &[(&[u8], u16, i64, Value)] = &[
        (b"", 400, -32700, Value::Null),
        (b"{oops", 400, -32700, Value::Null),
        (b"\xef\xbb\xbf{}", 400, -32600, Value::Null),
        (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}", 400, -32700, Value::Null),
        (br#"{"jsonrpc":"2.0","id":1,"method":"ping"}{}"#, 400, -32700, Value::Null),
        (b"[]", 400, -32600, Value::Null),
        (br#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, 400, -32600, Value::Null),
        (b"null", 400, -32600, Value::Null),
        (br#""ping""#, 400, -32600, Value::Null),
        (br#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, 400, -32600, Value::Null),
        (br#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, 400, -32600, Value::Null),
        (br#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, 400, -32600, Value::Null),
        (br#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#, 400, -32600, Value::Null),
        (br#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#, 400, -32600, Value::Null),
        (br#"{"id":1,"method":"ping"}"#, 400, -32600, json!(1)),
        (br#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, 400, -32600, json!(1)),
        (br#"{"jsonrpc":"2.0","id":1}"#, 400, -32600, json!(1)),
        (br#"{"jsonrpc":"2.0","id":1,"method":7}"#, 400, -32600, json!(1)),
        (br#"{"jsonrpc":"2.0","id":1,"method":"ping","Method":"x"}"#, 400, -32600, json!(1)),
        (br#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}"#, 400, -32600, json!(1)),
        (
            br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"progressToken":1.5}}}"#,
            400,
            -32600,
            json!(1),
        ),
        (br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","name":"y"}}"#, 400, -32600, json!(1)),
        (br#"{"jsonrpc":"2.0","id":"x","method":"no/such"}"#, 200, -32601, json!("x")),
        (br#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#, 200, -32602, json!(1)),
        (br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":7}}"#, 200, -32602, json!(1)),
        (br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"no__such"}}"#, 200, -32602, json!(1)),
        (br#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":"zz"}}"#, 200, -32602, json!(1)),
        (br#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#, 200, -32602, json!(1)),
        (deep.as_bytes(), 400, -32600, json!(1)),
    ];
    for (body, status, code, id) in cases {
        raw.post(body, &[])?;
        let response = raw.response()?;
        let case = String::from_utf8_lossy(&body[..body.len().min(99)]).into_owned();
        assert_eq!((response.status, response.code().unwrap_or(0)), (*status, *code), "{case}");
        assert_eq!(response.json()["id"], *id, "{case}: {response:?}");
        assert!(response.header("only1mcp-revision").is_some(), "{case}: {response:?}");
        assert!(id != &Value::Null || response.json().get("id").is_none(), "no id is no `null`: {response:?}");
    }
    for notice in [
        json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }),
        json!({ "jsonrpc": "2.0", "method": "notifications/no/such" }),
        json!({ "jsonrpc": "2.0", "id": 5, "result": {} }),
        json!({ "jsonrpc": "2.0", "id": 5, "error": { "code": 1, "message": "" } }),
    ] {
        let response = raw.ask(&notice)?;
        assert_eq!((response.status, response.body.len()), (202, 0), "{notice}");
    }
    raw.works()
}

#[test]
fn ids_come_back_as_they_were_written() -> Result<(), Fault> {
    let stage = stage("ids")?;
    let mut raw = Raw::open(stage.gateway.mcp)?;
    // As long as an id may be, and one byte more.
    let [longest, longer] = [1022, 1023].map(|length| format!("\"{}\"", "x".repeat(length)));
    raw.post(format!(r#"{{"jsonrpc":"2.0","id":{longer},"method":"ping"}}"#).as_bytes(), &[])?;
    assert_eq!(raw.response()?.status, 400);
    let ids = ["0", "-7", "18446744073709551616", r#""a""#, r#""1""#, r#""\u0061 \"\\ \n""#, r#""""#, &longest];
    for id in ids {
        for (method, params) in [("ping", "{}"), ("tools/call", r#"{"name":"demo__add","arguments":{"a":1,"b":2}}"#)] {
            let body = format!(r#"{{"params":{params},"method":"{method}","id": {id} ,"jsonrpc":"2.0"}}"#);
            raw.post(body.as_bytes(), &[])?;
            let body = String::from_utf8(raw.response()?.body)?;
            assert!(body.contains(&format!(r#""id":{id},"#)) && body.contains("result"), "{id}: {body}");
        }
    }
    // The same id twice at a time in one session, and in another session.
    let mut clients = [raw.again()?, raw.again()?, Raw::open(stage.gateway.mcp)?];
    for (client, text) in clients.iter_mut().zip(["one", "two", "three"]) {
        client.say(&call(7, "demo__echo", json!({ "text": text })))?;
    }
    for (client, text) in clients.iter_mut().zip(["one", "two", "three"]) {
        let answer = client.response()?.json();
        assert_eq!((&answer["id"], &answer["result"]["content"][0]["text"]), (&json!(7), &json!(text)));
    }
    Ok(())
}

#[test]
fn headers_decide_who_is_let_in() -> Result<(), Fault> {
    let stage = stage("headers")?;
    let mut raw = Raw::open(stage.gateway.mcp)?;
    let session = raw.session.clone().unwrap_or_default();
    let other = |name: &'static str, value: &'static [u8]| vec![(name, value)];
    let cases: &[(Vec<(&str, &[u8])>, u16)] = &[
        (other("Origin", b"http://evil.example"), 403),
        (other("Origin", b"null"), 403),
        (other("Origin", b"http://localhost.evil.example"), 403),
        (other("Origin", b"http://localhost:1@evil.example"), 403),
        (other("Origin", b"http://localhost:3000"), 200),
        (other("Origin", b"http://[::1]:3000"), 200),
        // One that cannot be read must not pass for none, nor a second one be overlooked.
        (other("Origin", b"http://evil.example/\xe9"), 403),
        (vec![("Origin", b"http://localhost"), ("Origin", b"http://evil.example")], 403),
        (other("Host", b"evil.example"), 403),
        (other("Host", b"127.0.0.1.evil.example"), 403),
        (other("Host", b"localhost"), 200),
        (other("Host", b""), 400),
        (vec![("Host", b"localhost"), ("Host", b"evil.example")], 400),
        (other("Content-Type", b"text/plain"), 415),
        (other("Content-Type", b""), 415),
        (other("Content-Type", b"Application/JSON; charset=utf-8"), 200),
        (other("Accept", b"application/json"), 406),
        (other("Accept", b"text/event-stream"), 406),
        (other("Accept", b"application/json, text/event-stream;q=0"), 406),
        (other("Accept", b""), 200),
        (other("Accept", b"*/*"), 200),
        (other("Accept", b"text/*;q=0.5, APPLICATION/*"), 200),
        (vec![("Accept", b"application/json"), ("Accept", b"text/event-stream")], 200),
        (other("MCP-Protocol-Version", b"2025-06-18"), 200),
        (other("MCP-Protocol-Version", b"2025-11-25"), 200),
        (other("MCP-Protocol-Version", b"2024-11-05"), 400),
        (other("MCP-Protocol-Version", b"2026-07-28"), 400),
        (other("MCP-Protocol-Version", b"soon"), 400),
        (other("MCP-Protocol-Version", b"\xe9"), 400),
        (other("Mcp-Session-Id", b""), 400),
        (other("Mcp-Session-Id", b"none"), 404),
        (other("Mcp-Session-Id", b"\xe9"), 400),
    ];
    for (headers, status) in cases {
        raw.post(br#"{"jsonrpc":"2.0","id":"still","method":"ping"}"#, headers)?;
        let response = raw.response()?;
        let shown: Vec<_> = headers.iter().map(|(name, value)| (name, String::from_utf8_lossy(value))).collect();
        assert_eq!(response.status, *status, "{shown:?}: {response:?}");
        assert!(*status == 200 || response.json()["error"]["code"].is_i64(), "{shown:?}");
        // Once its body was read, the answer is to the request.
        let was_read = headers.iter().all(|(name, _)| name.starts_with('M'));
        assert!(!was_read || response.json()["id"] == "still", "{shown:?}: {response:?}");
    }
    let mut forged = session.into_bytes();
    let last = forged.last_mut().expect("a session has an id");
    *last = if *last == b'A' { b'B' } else { b'A' };
    raw.post(br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, &[("Mcp-Session-Id", &forged)])?;
    assert_eq!(raw.response()?.status, 404);
    raw.works()
}

#[test]
fn methods_and_versions_of_http() -> Result<(), Fault> {
    let stage = stage("methods")?;
    let raw = Raw::open(stage.gateway.mcp)?;
    for method in ["HEAD", "PUT", "PATCH", "BREW"] {
        let mut other = raw.again()?;
        other.bare(method)?;
        let response = other.head_of_response()?;
        assert_eq!((response.status, response.header("allow")), (405, Some("POST, GET, DELETE, OPTIONS")), "{method}");
        if method == "HEAD" {
            other.works()?;
        }
    }
    let ping = |id: u64| json!({ "jsonrpc": "2.0", "id": id, "method": "ping" }).to_string();
    // Several requests at once are answered in their order.
    let mut pipelined = raw.again()?;
    for id in 0..20 {
        pipelined.post(ping(id).as_bytes(), &[])?;
    }
    for id in 0..20 {
        assert_eq!(pipelined.response()?.json()["id"], id);
    }
    // A client of HTTP/1.0 is answered, and its connection ends.
    let mut old = raw.again()?;
    let session = old.session.clone().unwrap_or_default();
    let head = super::raw::head(stage.gateway.mcp, ping(1).len(), &[("Mcp-Session-Id", session.as_bytes())]);
    let head = String::from_utf8(head)?.replace("HTTP/1.1", "HTTP/1.0");
    old.write(format!("{head}{}", ping(1)).as_bytes())?;
    assert_eq!(old.response()?.json()["id"], 1);
    old.is_closed()?;
    // Elsewhere is nothing.
    let mut elsewhere = raw.again()?;
    elsewhere.write(b"GET /.well-known/oauth-protected-resource HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    assert_eq!(elsewhere.response()?.status, 404);
    elsewhere.works()?;
    // Not even HTTP.
    let mut garbage = raw.again()?;
    garbage.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")?;
    assert_eq!(garbage.response()?.status, 400);
    garbage.is_closed()
}

#[test]
fn a_body_that_is_refused_costs_nobody_the_answer() -> Result<(), Fault> {
    let stage = stage("bodies")?;
    let raw = Raw::open(stage.gateway.mcp)?;
    let body = vec![b'x'; 6 << 20];
    // All of it is written before anything is read, as simple clients do.
    let mut whole = raw.again()?;
    whole.post(&body, &[])?;
    let response = whole.response()?;
    assert_eq!((response.status, response.code(), response.closes()), (413, Some(-32600), true));
    whole.is_closed()?;
    // Of unknown length.
    let mut chunked = raw.again()?;
    chunked.post(b"", &[("Content-Length", b""), ("Transfer-Encoding", b"chunked")])?;
    for part in body.chunks(10_000) {
        chunked.write(&[format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat())?;
    }
    chunked.write(b"0\r\n\r\n")?;
    let response = chunked.response()?;
    assert_eq!((response.status, response.closes()), (413, true));
    // One that asks first has sent nothing yet.
    let mut asking = raw.again()?;
    asking.write(&super::raw::head(stage.gateway.mcp, body.len(), &[("Expect", b"100-continue")]))?;
    let response = asking.response()?;
    assert_eq!((response.status, response.closes()), (413, true));
    // A body that is not there yet when its head is refused: the connection ends, and the answer says so.
    let mut late = raw.again()?;
    late.write(&super::raw::head(stage.gateway.mcp, 2, &[("Content-Type", b"text/plain")]))?;
    let response = late.response()?;
    assert_eq!((response.status, response.closes()), (415, true));
    late.write(b"{}")?;
    late.is_closed()?;
    // One that is there costs nothing.
    let mut there = raw.again()?;
    there.post(b"{}", &[("Content-Type", b"text/plain")])?;
    let response = there.response()?;
    assert_eq!((response.status, response.closes()), (415, false));
    there.works()?;
    // A request that comes in pieces is put together, and one that stops in the middle delays no other client.
    let mut slow = raw.again()?;
    let ping = br#"{"jsonrpc":"2.0","id":"still","method":"ping"}"#;
    let session = slow.session.clone().unwrap_or_default();
    slow.write(&super::raw::head(stage.gateway.mcp, ping.len(), &[("Mcp-Session-Id", session.as_bytes())]))?;
    for byte in ping {
        slow.write(&[*byte])?;
    }
    assert_eq!(slow.response()?.status, 200);
    slow.write(&super::raw::head(stage.gateway.mcp, 100, &[("Mcp-Session-Id", session.as_bytes())]))?;
    slow.stream.set_read_timeout(Some(Duration::from_millis(50)))?;
    raw.again()?.works()?;
    drop(slow);
    raw.again()?.works()
}
