//! The fault that an answer of a server tells of.

use std::sync::LazyLock;

use mcp::message::ErrorObject;
use mcp::{ErrorCode, Message};
use memchr::memmem::Finder;
use serde::Deserialize;

use crate::beside::LONG;

static IS_ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""isError""#));

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A JSON-RPC error, by its code.
    Refused(i64),
    /// A result with `isError`.
    Tool,
}

impl Fault {
    /// The fault in a message of a server that was found to be one. Most messages have none, and are not parsed for
    /// that: of a notification only the head is read, and of a result it is enough that nothing in it looks like a
    /// fault. A long message is not looked at here: that would take the time of other calls.
    pub(super) fn of(message: &[u8]) -> Option<Self> {
        if message.len() > LONG {
            return None;
        }
        let suspect = match Head::of(message) {
            Some(Head::Other) => false,
            Some(Head::Result) => IS_ERROR.find_iter(message).any(|at| is_true(message, at)),
            Some(Head::Error) | None => true,
        };
        if suspect { Self::parsed(message) } else { None }
    }

    fn parsed(message: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct ToolResult {
            #[serde(default, rename = "isError")]
            is_error: bool,
        }
        match mcp::scan(message).ok()?.message {
            Message::Error { error, .. } => Some(Self::Refused(ErrorObject::parse(error.text()).ok()?.code)),
            Message::Response { result, .. } => {
                let result: ToolResult = serde_json::from_str(result.text()).ok()?;
                result.is_error.then_some(Self::Tool)
            }
            Message::Request { .. } | Message::Notification(_) => None,
        }
    }

    /// The server says that the fault is its own. Other errors may be about what the client sent.
    pub(super) fn is_of_server(self) -> bool {
        self == Self::Refused(ErrorCode::INTERNAL_ERROR.0)
    }
}

/// What the first members of a message say of it.
enum Head {
    Result,
    Error,
    /// A request or a notification.
    Other,
}

impl Head {
    /// None where it cannot be said without more of a parser.
    fn of(message: &[u8]) -> Option<Self> {
        let mut rest = message.trim_ascii_start().strip_prefix(b"{")?;
        loop {
            let (name, after) = plain_text(rest)?;
            rest = after.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
            match name {
                b"result" => return Some(Self::Result),
                b"error" => return Some(Self::Error),
                b"method" => return Some(Self::Other),
                b"jsonrpc" | b"id" => {}
                _ => return None,
            }
            rest = match plain_text(rest) {
                Some((_, after)) => after.trim_ascii_start().strip_prefix(b",")?,
                None => rest.split_at_checked(memchr::memchr(b',', rest)? + 1)?.1,
            };
        }
    }
}

/// A text without escapes, and what comes after it.
fn plain_text(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = rest.trim_ascii_start().strip_prefix(b"\"")?;
    let end = memchr::memchr2(b'"', b'\\', text)?;
    (text[end] == b'"').then(|| (&text[..end], &text[end + 1..]))
}

/// Whether the member whose name stands at `at` has the value `true`.
fn is_true(message: &[u8], at: usize) -> bool {
    let after = message[at + IS_ERROR.needle().len()..].trim_ascii_start();
    after.strip_prefix(b":").is_some_and(|value| value.trim_ascii_start().starts_with(b"true"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glance_sees_the_faults_that_are_counted() {
        let check = |message: &str, fault| {
            assert_eq!(Fault::of(message.as_bytes()), fault, "{message:.100}");
        };
        let result = |result: &str| {
            [
                format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#),
                format!(r#" {{ "id" : "a,\"b\"" , "jsonrpc" : "2.0" , "result" : {result} }}"#),
                format!(r#"{{"result":{result},"jsonrpc":"2.0","id":"r"}}"#),
            ]
        };
        let results = [
            (r#"{"content":[]}"#, None),
            (r#"{"content":[],"isError":false}"#, None),
            (r#"{"content":[],"isError" : true}"#, Some(Fault::Tool)),
            (r#"{"structuredContent":{"isError":true},"isError":false}"#, None),
            (r#"{"structuredContent":{"isError":false},"isError":true}"#, Some(Fault::Tool)),
            (r#"{"content":"\"isError\":true -32603"}"#, None),
        ];
        for (content, fault) in results {
            result(content).iter().for_each(|message| check(message, fault));
        }
        for code in [-32603, -32602] {
            let error = format!(r#""error":{{"code":{code},"message":"-32603"}}"#);
            check(&format!(r#"{{"jsonrpc":"2.0","id":1,{error}}}"#), Some(Fault::Refused(code)));
            check(&format!(r#"{{{error},"jsonrpc":"2.0","id":1}}"#), Some(Fault::Refused(code)));
        }
        let progress = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"error":1,"isError":true}}"#;
        check(progress, None);
        let long = result(&format!(r#"{{"content":"{}","isError":true}}"#, "x".repeat(LONG)));
        long.iter().for_each(|message| check(message, None));
        check("no JSON, with -32603", None);
        check(r#"{"jsonrpc":"2.0","id":1"#, None);
    }
}
