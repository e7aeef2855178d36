//! The messages the gateway itself writes. Ids and nested values are given as raw JSON and written unchanged.

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use serde::Deserialize;

use crate::error_code::ErrorCode;
use crate::kind::Kind;

/// Bytes of the text of an error.
const MAX_MESSAGE: usize = 2000;

/// Method names the gateway acts on.
pub mod method {
    pub const INITIALIZE: &str = "initialize";
    pub const INITIALIZED: &str = "notifications/initialized";
    pub const PING: &str = "ping";
    pub const CANCELLED: &str = "notifications/cancelled";
    pub const PROGRESS: &str = "notifications/progress";
}

/// The whole `notifications/initialized` message.
pub const INITIALIZED: &[u8] = br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// The `result` of a request that has nothing to say, such as `ping`.
pub const EMPTY_RESULT: &[u8] = b"{}";

/// Appends `text` as a JSON string.
pub fn push_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("writing a string into a Vec cannot fail");
}

/// Bytes of [`push_string`].
pub(crate) fn string_length(text: &str) -> usize {
    if text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        return text.len() + 2;
    }
    let mut escaped = Vec::new();
    push_string(&mut escaped, text);
    escaped.len()
}

fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// `id` and `result` are raw JSON.
pub fn result(id: &str, result: &[u8]) -> Vec<u8> {
    join(&[br#"{"jsonrpc":"2.0","id":"#, id.as_bytes(), br#","result":"#, result, b"}"])
}

/// `id` (raw) is left out when the request's own could not be read; `data` is raw JSON.
pub fn error(id: Option<&str>, code: ErrorCode, message: &str, data: Option<&[u8]>) -> Vec<u8> {
    let mut out = br#"{"jsonrpc":"2.0""#.to_vec();
    if let Some(id) = id {
        out.extend_from_slice(br#","id":"#);
        out.extend_from_slice(id.as_bytes());
    }
    out.extend_from_slice(br#","error":{"code":"#);
    out.extend_from_slice(code.to_string().as_bytes());
    out.extend_from_slice(br#","message":"#);
    push_string(&mut out, &cut(message));
    if let Some(data) = data {
        out.extend_from_slice(br#","data":"#);
        out.extend_from_slice(data);
    }
    out.extend_from_slice(b"}}");
    out
}

/// A text may name what was asked for, and that may be megabytes of a name.
fn cut(message: &str) -> Cow<'_, str> {
    if message.len() <= MAX_MESSAGE {
        return message.into();
    }
    format!("{}…", &message[..message.floor_char_boundary(MAX_MESSAGE)]).into()
}

/// The error for a name no backend offers; the wording is the specification's.
pub fn unknown(kind: Kind, id: &str, name: &str) -> Vec<u8> {
    error(Some(id), kind.unknown(), &format!("Unknown {}: {name}", kind.noun()), None)
}

/// `id` and `params` are raw JSON.
pub fn request(id: &str, method: &str, params: Option<&[u8]>) -> Vec<u8> {
    let mut out = join(&[br#"{"jsonrpc":"2.0","id":"#, id.as_bytes(), br#","method":"#]);
    push_call(&mut out, method, params);
    out
}

/// `params` is raw JSON.
pub fn notification(method: &str, params: Option<&[u8]>) -> Vec<u8> {
    let mut out = br#"{"jsonrpc":"2.0","method":"#.to_vec();
    push_call(&mut out, method, params);
    out
}

fn push_call(out: &mut Vec<u8>, method: &str, params: Option<&[u8]>) {
    push_string(out, method);
    if let Some(params) = params {
        out.extend_from_slice(br#","params":"#);
        out.extend_from_slice(params);
    }
    out.push(b'}');
}

/// `notifications/cancelled` for the request whose raw id is `request_id`.
pub fn cancelled(request_id: &str, reason: Option<&str>) -> Vec<u8> {
    let mut params = join(&[br#"{"requestId":"#, request_id.as_bytes()]);
    if let Some(reason) = reason {
        params.extend_from_slice(br#","reason":"#);
        push_string(&mut params, reason);
    }
    params.push(b'}');
    notification(method::CANCELLED, Some(&params))
}

/// The members of an error object that decide anything. The object itself is passed on raw.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ErrorObject<'a> {
    pub code: i64,
    #[serde(borrow)]
    pub message: Cow<'a, str>,
}

impl<'a> ErrorObject<'a> {
    /// # Errors
    /// If the object lacks an integer `code` or a string `message`.
    pub fn parse(error: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(error)
    }
}
