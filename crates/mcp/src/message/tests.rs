//! Our own messages, as the bytes they are.

use super::{ErrorObject, INITIALIZED, cancelled, error, notification, request, result, unknown};
use crate::envelope::{Message, scan};
use crate::error_code::ErrorCode;
use crate::kind::Kind;

#[test]
fn bytes() {
    let check = |message: &[u8], expected: &str| {
        assert_eq!(String::from_utf8_lossy(message), expected);
        assert!(scan(message).is_ok(), "{expected}");
    };
    check(&result("\"a\"", b"{}"), r#"{"jsonrpc":"2.0","id":"a","result":{}}"#);
    check(
        &error(Some("1"), ErrorCode::INTERNAL_ERROR, "a \"b\"\n", Some(b"[1]")),
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"a \"b\"\n","data":[1]}}"#,
    );
    check(
        &error(None, ErrorCode::PARSE_ERROR, "x", None),
        r#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"x"}}"#,
    );
    check(
        &unknown(Kind::Tool, "1", "t"),
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"Unknown tool: t"}}"#,
    );
    check(&request("9", "ping", None), r#"{"jsonrpc":"2.0","id":9,"method":"ping"}"#);
    check(&notification("n", Some(b"{\"a\":1}")), r#"{"jsonrpc":"2.0","method":"n","params":{"a":1}}"#);
    check(
        &cancelled("\"7\"", Some("evicted")),
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"7","reason":"evicted"}}"#,
    );
    assert!(matches!(scan(INITIALIZED).unwrap().message, Message::Notification(_)));
}

#[test]
fn error_objects() {
    let parsed = ErrorObject::parse(r#"{"code":-32000,"message":"No valid \u0073ession","data":{}}"#).unwrap();
    assert_eq!((parsed.code, &*parsed.message), (-32000, "No valid session"));
    assert!(ErrorObject::parse(r#"{"code":"x","message":""}"#).is_err());
}

#[test]
fn own_codes_stay_out_of_the_reserved_range() {
    for code in [ErrorCode::UNAVAILABLE, ErrorCode::TIMED_OUT, ErrorCode::EVICTED] {
        assert!(!(-32768..=-32000).contains(&code.0), "{code}");
    }
}

#[test]
fn what_was_asked_for_is_not_said_back_at_any_length() {
    let error = unknown(Kind::Tool, "1", &"ü".repeat(3 << 20));
    let text = serde_json::from_slice::<serde_json::Value>(&error).unwrap()["error"]["message"].to_string();
    assert!(text.len() < 2100 && text.ends_with("ü…\""), "{} bytes", text.len());
}
