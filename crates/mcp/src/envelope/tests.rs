//! What the scan finds, where, and each thing it refuses.

use proptest::prelude::*;

use super::{Fault, Message, scan};
use crate::error_code::ErrorCode;
use crate::kind::Kind;
use crate::splice::{Edit, splice};

fn spanned(body: &str, span: crate::raw::Span) -> &str {
    &body[span.range()]
}

#[test]
fn a_tool_call() {
    let body = r#" { "params" : {"arguments":{"name":"inner","_meta":{"progressToken":9}},"_meta" : { "traceparent":"00-ab","progressToken":50.,"io.modelcontextprotocol/protocolVersion":"2026-07-28"} , "name":"a\u0062\"" } ,
        "id":"x\u0031", "extra":[{"id":1}], "method":"tools/call","jsonrpc":"2.0" } "#;
    let body = &body.replace("50.,", "-50,");
    let envelope = scan(body.as_bytes()).unwrap();
    assert_eq!(envelope.open, 1);
    assert_eq!(envelope.id().unwrap().text(), r#""x\u0031""#);
    let call = envelope.call().unwrap();
    assert_eq!((call.method.value(), call.require_name(Kind::Tool).unwrap().value()), ("tools/call", "ab\""));
    assert_eq!(spanned(body, call.require_name(Kind::Tool).unwrap().raw().span()), r#""a\u0062\"""#);
    let params = call.params.as_ref().unwrap();
    assert!(spanned(body, params.raw.span()).starts_with(r#"{"arguments""#));
    assert!(spanned(body, params.raw.span()).ends_with(r#"\"" }"#));
    let meta = params.meta().unwrap();
    assert!(spanned(body, meta.raw.span()).starts_with("{ \"trace"));
    assert!(spanned(body, meta.raw.span()).ends_with("07-28\"}"));
    assert_eq!(spanned(body, call.progress_token().unwrap().span()), "-50");
    assert_eq!(call.traceparent().as_deref(), Some("00-ab"));
    assert_eq!(meta.protocol_version.as_ref().unwrap().value(), "2026-07-28");
}

#[test]
fn the_other_kinds() {
    let kind = |body: &str| match scan(body.as_bytes()).unwrap().message {
        Message::Request { id, .. } => format!("request {}", id.text()),
        Message::Notification(call) => {
            let params = call.params.as_ref();
            let id = |id: Option<crate::raw::Id<'_>>| id.map_or("-", |id| id.text()).to_owned();
            let ids = (id(params.and_then(|p| p.request_id())), id(params.and_then(|p| p.progress_token())));
            format!("notification {} {}", ids.0, ids.1)
        }
        Message::Response { id, result } => format!("response {} {}", id.text(), result.text()),
        Message::Error { id, error } => format!("error {:?} {}", id.map(|id| id.text()), error.text()),
    };
    let check = |body: &str, expected: &str| assert_eq!(kind(body), expected, "{body}");
    check(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, "request 1");
    check(
        r#"{"jsonrpc":"2.0","id":123456789012345678901234567890,"method":"ping","params":{}}"#,
        "request 123456789012345678901234567890",
    );
    check(r#"{"jsonrpc":"2.0","method":"n","params":{"requestId":"a","reason":"r"}}"#, "notification \"a\" -");
    check(r#"{"jsonrpc":"2.0","method":"n","params":{"progressToken":7,"progress":50.0}}"#, "notification - 7");
    check(r#"{"jsonrpc":"2.0","id":"a","result":{"n": 1.0 }}"#, r#"response "a" {"n": 1.0 }"#);
    check(r#"{"jsonrpc":"2.0","id":3,"error":{"code":-1}}"#, r#"error Some("3") {"code":-1}"#);
    check(r#"{"jsonrpc":"2.0","id":null,"error":{}}"#, "error None {}");
    check(r#"{"jsonrpc":"2.0","error":{}}"#, "error None {}");
    // Some languages write every number as a fraction, and some programs begin with a byte order mark.
    check(r#"{"jsonrpc":"2.0","id":1.0,"method":"ping"}"#, "request 1.0");
    check(r#"{"jsonrpc":"2.0","id":-0.00,"result":[]}"#, "response -0.00 []");
    check(r#"{"jsonrpc":"2.0","id":70e-1,"result":[]}"#, "response 70e-1 []");
    check(r#"{"jsonrpc":"2.0","method":"n","params":{"requestId":3.0,"progressToken":7.0}}"#, "notification 3.0 7.0");
    check("\u{feff} {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}", "request 1");
    // Keys written with escapes are the same keys.
    check(r#"{"jsonrpc":"2.0","\u006dethod":"n","p\u0061rams":{"request\u0049d":5}}"#, "notification 5 -");
}

#[test]
fn refusals() {
    let check = |body: &str, code: ErrorCode, id: Option<&str>, text: &str| {
        let error = scan(body.as_bytes()).unwrap_err();
        assert!(error.to_string().contains(text), "{body}: {error}");
        assert_eq!((error.code(), error.id.as_deref()), (code, id), "{body}: {error}");
    };
    let parse = ErrorCode::PARSE_ERROR;
    check("", parse, None, "empty");
    check(" \n", parse, None, "empty");
    check("{", parse, None, "EOF");
    check("nonsense", parse, None, "line 1 column 2");
    check("\u{feff}", parse, None, "empty");
    check("\u{feff}\u{feff}{}", parse, None, "line 1 column 1");
    check("{\u{feff}}", parse, None, "not JSON");
    check(r#"{"jsonrpc":"2.0","id":1,"method":"m"} {}"#, parse, None, "trailing");
    check(r#"{"jsonrpc":"2.0","id":01,"method":"m"}"#, parse, None, "not JSON");
    check(r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":]}}"#, parse, None, "line 1 column 52");
    check(r#"{"jsonrpc":"2.0","id":1,"method":"m","params"{}}"#, parse, None, "expected `:`");
    let invalid = ErrorCode::INVALID_REQUEST;
    check(r#" [{"jsonrpc":"2.0","id":1,"method":"m"}]"#, invalid, None, "batch");
    check("7", invalid, None, "found a number");
    check(r#"{"id":1,"method":"m"}"#, invalid, Some("1"), "`jsonrpc`");
    check(r#"{"jsonrpc":"1.0","method":"m","id":"q"}"#, invalid, Some("\"q\""), "`jsonrpc`");
    check(r#"{"jsonrpc":"2.0","id":1}"#, invalid, Some("1"), "found none");
    check(r#"{"jsonrpc":"2.0","id":1,"method":7}"#, invalid, Some("1"), "`method` must be a string");
    check(r#"{"jsonrpc":"2.0","id":1,"method":"\ud800"}"#, invalid, Some("1"), "`method` must be a string");
    check(r#"{"jsonrpc":"2.0","id":null,"method":"m"}"#, invalid, None, "found null");
    check(r#"{"jsonrpc":"2.0","id":1.5,"method":"m"}"#, invalid, None, "not written as an integer");
    check(r#"{"jsonrpc":"2.0","id":1.01,"method":"m"}"#, invalid, None, "not written as an integer");
    check(r#"{"jsonrpc":"2.0","id":1e-3,"result":{}}"#, invalid, None, "not written as an integer");
    check(r#"{"jsonrpc":"2.0","id":1e300,"result":{}}"#, invalid, None, "not written as an integer");
    check(r#"{"jsonrpc":"2.0","id":[],"method":"m"}"#, invalid, None, "found an array");
    check(r#"{"jsonrpc":"2.0","result":{}}"#, invalid, None, "without an `id`");
    check(r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#, invalid, Some("1"), "`result` and `error`");
    check(r#"{"jsonrpc":"2.0","id":1,"method":"m","result":{}}"#, invalid, Some("1"), "beside");
    check(
        r#"{"jsonrpc":"2.0","params":[1],"id":1,"method":"m"}"#,
        invalid,
        Some("1"),
        "`params` must be an object, found an array",
    );
    check(r#"{"jsonrpc":"2.0","params":{"_meta":null},"id":1,"method":"m"}"#, invalid, Some("1"), "found null");
    check(
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{"progressToken":{}}}}"#,
        invalid,
        Some("1"),
        "`params._meta.progressToken`",
    );
    check(
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":1}}}"#,
        ErrorCode::INVALID_PARAMS,
        Some("1"),
        "must be a string",
    );
    check(r#"{"jsonrpc":"2.0","method":"m","params":{"requestId":true}}"#, invalid, None, "found a boolean");
}

#[test]
fn a_key_has_one_spelling_and_one_place() {
    let check = |body: &str, id: Option<&str>, expected: Fault| {
        let error = scan(body.as_bytes()).unwrap_err();
        assert_eq!((error.id.as_deref(), error.code()), (id, ErrorCode::INVALID_REQUEST), "{body}");
        assert_eq!(error.fault, expected, "{body}");
    };
    let twice = |path| Fault::Duplicate { path };
    let variant = |path, found: &str| Fault::CaseVariant { path, found: found.to_owned() };
    check(r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"m"}"#, None, twice("id"));
    check(r#"{"jsonrpc":"2.0","method":"a","method":"b","id":1}"#, Some("1"), twice("method"));
    check(r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{},"params":{"name":"x"}}"#, Some("1"), twice("params"));
    check(
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"name":"a","n\u0061me":"b"}}"#,
        Some("1"),
        twice("params.name"),
    );
    check(
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"name":"a","Name":"b"}}"#,
        Some("1"),
        variant("params.name", "Name"),
    );
    check(r#"{"jsonrpc":"2.0","id":1,"METHOD":"m","method":"m"}"#, Some("1"), variant("method", "METHOD"));
    check(r#"{"jsonrpc":"2.0","id":1,"method":"m","paramſ":{}}"#, Some("1"), variant("params", "paramſ"));
    check(
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{"progreſsTo\u212aen":1}}}"#,
        Some("1"),
        variant("params._meta.progressToken", "progreſsTo\u{212a}en"),
    );
    check(r#"{"ID":0,"jsonrpc":"2.0","id":1,"method":"m","id":2}"#, None, variant("id", "ID"));
    // Deeper down the keys are the tool's own.
    assert!(
        scan(br#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"arguments":{"name":1,"Name":2,"Name":3}}}"#).is_ok()
    );
}

#[test]
fn invalid_utf8_and_depth() {
    let error = scan(b"{\"jsonrpc\":\"2.0\",\"x\":\"\xff\"}").unwrap_err();
    assert_eq!((error.code(), error.fault), (ErrorCode::PARSE_ERROR, Fault::NotUtf8 { offset: 22 }));
    let deep = "[".repeat(200_000) + &"]".repeat(200_000);
    let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{{"arguments":{deep}}}}}"#);
    let error = scan(body.as_bytes()).unwrap_err();
    assert!(matches!(error.fault, Fault::TooDeep { .. }), "and depth costs no stack: {error}");
}

#[test]
fn name_missing_or_not_a_string() {
    for params in ["", r#","params":{}"#, r#","params":{"name":5}"#, r#","params":{"name":null}"#] {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call"{params}}}"#);
        let envelope = scan(body.as_bytes()).unwrap();
        let fault = envelope.call().unwrap().require_name(Kind::Tool).unwrap_err();
        assert_eq!(fault.code(), ErrorCode::INVALID_PARAMS);
        assert_eq!(fault.to_string(), "`params.name` must be a string");
    }
}

#[test]
fn traceparent_is_added_wherever_it_is_missing() {
    let check = |params: &str, expected: &str| {
        let body = |params: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m"{params}}}"#);
        let before = body(params);
        let envelope = scan(before.as_bytes()).unwrap();
        let edit = envelope.traceparent_edit("00-1-2-01").unwrap();
        let after = String::from_utf8(splice(before.as_bytes(), &mut [edit])).unwrap();
        if !params.is_empty() {
            assert_eq!(after, body(expected));
        }
        assert_eq!(
            scan(after.as_bytes()).unwrap().call().unwrap().traceparent().as_deref(),
            Some("00-1-2-01"),
            "{after}"
        );
    };
    check("", "");
    check(r#","params":{ }"#, r#","params":{"_meta":{"traceparent":"00-1-2-01"} }"#);
    check(r#","params":{"a":1}"#, r#","params":{"_meta":{"traceparent":"00-1-2-01"},"a":1}"#);
    check(r#","params":{"_meta":{}}"#, r#","params":{"_meta":{"traceparent":"00-1-2-01"}}"#);
    check(r#","params":{"_meta":{"x":1}}"#, r#","params":{"_meta":{"traceparent":"00-1-2-01","x":1}}"#);
    check(r#","params":{"_meta":{"traceparent":"0"}}"#, r#","params":{"_meta":{"traceparent":"00-1-2-01"}}"#);
    // Of a wrong type it is replaced, not doubled.
    check(r#","params":{"_meta":{"traceparent":5}}"#, r#","params":{"_meta":{"traceparent":"00-1-2-01"}}"#);
}

#[test]
fn splicing_sorts_and_keeps_the_rest() {
    let body = br#"{"params":{"name":"a", "x":1.0},"id" : 5,"method":"m","jsonrpc":"2.0"}"#;
    let envelope = scan(body).unwrap();
    let name = envelope.call().unwrap().require_name(Kind::Tool).unwrap().raw().span();
    let id = envelope.id().unwrap().span();
    let mut edits = [Edit::new(id, &b"\"long\""[..]), Edit::new(name, b"\"b__a\"".to_vec())];
    let out = splice(body, &mut edits);
    assert_eq!(out, br#"{"params":{"name":"b__a", "x":1.0},"id" : "long","method":"m","jsonrpc":"2.0"}"#);
    assert_eq!(out.capacity(), out.len());
    assert_eq!(splice(body, &mut []), body);
}

#[test]
fn an_id_is_an_integer_however_it_is_written() {
    let id = |text: &str| {
        let body = format!(r#"{{"jsonrpc":"2.0","id":{text},"result":{{}}}}"#);
        scan(body.as_bytes()).map(|envelope| envelope.id().unwrap().as_u64())
    };
    for (text, number) in [
        ("7", 7),
        ("7.0", 7),
        ("7.000", 7),
        ("7e0", 7),
        ("7E+0", 7),
        ("70e-1", 7),
        ("1e+06", 1_000_000),
        ("1.234567e+06", 1_234_567),
        ("0.0", 0),
        ("\"7\"", 7),
    ] {
        assert_eq!(id(text).unwrap(), Some(number), "{text}");
    }
    assert_eq!(id("-1.0").unwrap(), None);
    for text in ["7.5", "75e-2", "1e-1", "1e400", "1e99999999999", "1e-99999999999", "123456789012345678901.0"] {
        assert!(id(text).is_err(), "{text}");
    }
}

#[test]
fn what_is_nested_too_deep_is_refused_with_its_place_and_id() {
    let nested = |levels: usize, open: &str, close: &str| {
        let value = format!("{}1{}", open.repeat(levels), close.repeat(levels));
        format!("{{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"m\",\"params\":{{\"x\":{value}}}}}")
    };
    for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"[\":", "}]")] {
        let each = open.matches(['[', '{']).count() - open.matches("\"[\"").count();
        let most = (512 - 2) / each;
        assert!(scan(nested(most, open, close).as_bytes()).is_ok(), "{open}");
        for levels in [most + 1, 1_000_000] {
            let error = scan(nested(levels, open, close).as_bytes()).unwrap_err();
            assert!(matches!(error.fault, Fault::TooDeep { offset } if offset > 512), "{open}: {error}");
            assert_eq!((error.code(), error.id.as_deref()), (ErrorCode::INVALID_REQUEST, Some("7")));
        }
    }
    // Brackets side by side, and in texts.
    let wide =
        format!("{{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"m\",\"params\":{{\"x\":[{}1]}}}}", "[],".repeat(5000));
    assert!(scan(wide.as_bytes()).is_ok());
    let text =
        format!("{{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"m\",\"params\":{{\"x\":\"{}\"}}}}", "\\\"[{".repeat(5000));
    assert!(scan(text.as_bytes()).is_ok());
    // Half of it is no message at all.
    assert!(matches!(scan("{\"a\":".repeat(100_000).as_bytes()).unwrap_err().fault, Fault::NotJson { .. }));
}

#[test]
fn a_byte_order_mark_is_not_passed_on() {
    let body = "\u{feff}{\"jsonrpc\":\"2.0\",\"id\":1.0,\"result\":{\"text\":\"\u{feff}\"}}";
    let id = scan(body.as_bytes()).unwrap().id().unwrap();
    assert_eq!((id.text(), id.as_u64()), ("1.0", Some(1)));
    let numbers = ["7e0", "\"7\"", "70e-1", "0.7E1", "-7.0", "7.5", "\"inf\"", "1e300"].map(crate::raw::number_of);
    assert_eq!(numbers, [Some(7), Some(7), Some(7), Some(7), None, None, None, None]);
    let out = splice(body.as_bytes(), &mut [Edit::new(id.span(), &b"7"[..])]);
    assert_eq!(out, "{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"text\":\"\u{feff}\"}}".as_bytes());
}

proptest! {
    /// Whatever serde_json refuses is refused, nothing panics, and spans are the values.
    #[test]
    fn agrees_with_serde_json(body in r#"\{("(id|method|params|jsonrpc|_meta|x|\\u0069d)":("2\.0"|"m"|1|\{"(name|_meta)":[\{"a\}1,:]{0,6}\}|\{\}|null|[\["\\0-9]{1,3}),?){0,5}\} ?"#) {
        let json = serde_json::from_str::<serde_json::Value>(&body);
        match scan(body.as_bytes()) {
            Ok(envelope) => {
                let json = json.unwrap();
                if let Some(id) = envelope.id() {
                    prop_assert_eq!(&serde_json::from_str::<serde_json::Value>(&body[id.span().range()]).unwrap(), &json["id"]);
                }
                if let Some(params) = envelope.call().and_then(|call| call.params.as_ref()) {
                    prop_assert_eq!(&serde_json::from_str::<serde_json::Value>(&body[params.raw.span().range()]).unwrap(), &json["params"]);
                }
            }
            Err(error) if error.code() == ErrorCode::PARSE_ERROR => prop_assert!(json.is_err(), "{}: {}", body, error),
            Err(_) => {}
        }
    }
}
