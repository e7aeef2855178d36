//! The core by itself, and its messages as a client sees them.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use super::{
    message::{self, Incoming},
    script::{Script, Step},
    server::{Demo, Era, Identity, Origin, Outcome},
};

fn demo() -> Demo {
    let environment = BTreeMap::from([("COLOUR".to_owned(), "blue".to_owned())]);
    Demo::new(Identity { label: "one".to_owned(), pid: 7, environment }, None)
}

fn ask(demo: &mut Demo, era: Era, request: &Value) -> Outcome {
    let text = request.to_string();
    let Ok(Incoming::Request(request)) = message::parse(text.as_bytes()) else { panic!("no request: {text}") };
    demo.request(Origin { era, session: Some("s"), connection: 3 }, &request)
}

fn call(demo: &mut Demo, tool: &str, arguments: &Value) -> Outcome {
    let params = json!({ "name": tool, "arguments": arguments, "_meta": { "progressToken": "t" } });
    ask(demo, Era::Sessions, &json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params }))
}

fn answer(outcome: Outcome) -> Value {
    let text = match outcome {
        Outcome::Answer(text) | Outcome::NoSuchMethod(text) | Outcome::Initialized(text) => text,
        Outcome::Run { script, .. } => script.last().expect("a script ends with its answer").message,
        other @ (Outcome::Listen { .. } | Outcome::Exit { .. }) => panic!("no answer: {other:?}"),
    };
    serde_json::from_str(&text).unwrap()
}

#[test]
fn each_tool_answers_as_it_says() {
    let mut demo = demo();
    let mut check = |tool: &str, arguments: Value, text: &str, is_error: bool| {
        let answer = answer(call(&mut demo, tool, &arguments));
        let result = &answer["result"];
        assert_eq!((&result["content"][0]["text"], &result["isError"]), (&json!(text), &json!(is_error)), "{tool}");
    };
    check("echo", json!({ "text": "a\"b\n" }), "a\"b\n", false);
    check("echo", json!({ "text": 5 }), "text: expected a string, got 5", true);
    check("add", json!({ "a": 40, "b": 2 }), "42", false);
    check("add", json!({ "a": 0.5, "b": 2 }), "2.5", false);
    check("add", json!({ "a": "4" }), "a: expected a number, got \"4\"", true);
    check("sleep", json!({ "ms": 0 }), "slept 0 ms", false);
    check("progress", json!({ "steps": 3 }), "3 steps done", false);
    check("fail", json!({ "message": "no luck" }), "no luck", true);
    check("env", json!({ "name": "COLOUR" }), "blue", false);
    check("env", json!({ "name": "HOME" }), "HOME is not set", true);
}

#[test]
fn a_changed_list_is_told_and_called() {
    let mut demo = demo();
    let names = |demo: &mut Demo| {
        let list = answer(ask(demo, Era::Sessions, &json!({ "jsonrpc": "2.0", "id": "x", "method": "tools/list" })));
        let tools = list["result"]["tools"].as_array().unwrap().clone();
        tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let changed = |outcome: &Outcome| matches!(outcome, Outcome::Run { list_changed: true, .. });
    let before = names(&mut demo);
    assert!(answer(call(&mut demo, "extra", &json!({})))["error"]["code"] == -32602);
    assert!(changed(&call(&mut demo, "tools", &json!({ "add": "extra", "remove": "add" }))));
    assert!(!changed(&call(&mut demo, "tools", &json!({ "add": "extra" }))), "nothing changed");
    assert_eq!(answer(call(&mut demo, "extra", &json!({})))["result"]["content"][0]["text"], "extra");
    assert!(answer(call(&mut demo, "add", &json!({ "a": 1, "b": 1 })))["error"]["code"] == -32602);
    assert!(changed(&call(&mut demo, "tools", &json!({ "remove": "extra", "add": "add" }))));
    let mut after = names(&mut demo);
    after.sort();
    let mut sorted = before;
    sorted.sort();
    assert_eq!(after, sorted);
}

#[test]
fn progress_comes_only_to_those_who_asked() {
    let step = |ms, message: &str| Step { after: Duration::from_millis(ms), message: message.to_owned() };
    let script = |token| Script::in_steps(2, Duration::from_millis(50), token, "done".to_owned());
    assert_eq!(script(None).collect::<Vec<_>>(), [step(100, "done")]);
    let steps =
        [step(50, &message::progress("\"t\"", 1, 2)), step(50, &message::progress("\"t\"", 2, 2)), step(0, "done")];
    assert_eq!(script(Some("\"t\"")).collect::<Vec<_>>(), steps);
    assert!(!Script::at_once(String::new()).has_notifications() && Script::at_once(String::new()).is_immediate());
}

#[test]
fn versions_are_negotiated_and_eras_kept_apart() {
    let mut demo = demo();
    let mut initialize = |version: &str| {
        let params = json!({ "protocolVersion": version });
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params });
        answer(ask(&mut demo, Era::Sessions, &request))["result"]["protocolVersion"].clone()
    };
    assert_eq!(initialize("2025-06-18"), "2025-06-18");
    assert_eq!(initialize("2026-07-28"), "2025-11-25");
    for (era, method) in [(Era::Stateless, "initialize"), (Era::Stateless, "ping"), (Era::Sessions, "server/discover")]
    {
        let outcome = ask(&mut demo, era, &json!({ "jsonrpc": "2.0", "id": 1, "method": method }));
        assert!(matches!(outcome, Outcome::NoSuchMethod(_)), "{method}: {outcome:?}");
    }
    let list = answer(ask(&mut demo, Era::Stateless, &json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" })));
    assert_eq!(list["result"]["resultType"], "complete");
    assert_eq!(list["result"]["cacheScope"], "public");
}

#[test]
fn what_is_no_message_is_refused_with_its_reason() {
    let check = |text: &str, id: Option<&str>, code: i64| {
        let malformed = message::parse(text.as_bytes()).expect_err(text);
        assert_eq!((malformed.id.as_deref(), malformed.code), (id, code), "{text}");
    };
    check("{", None, message::PARSE_ERROR);
    check("[]", None, message::INVALID_REQUEST);
    check(r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, None, message::INVALID_REQUEST);
    check(r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, None, message::INVALID_REQUEST);
    check(r#"{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":1}}"#, Some("\"a\""), -32602);
}
