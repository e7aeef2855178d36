//! What the stateless protocol (2026-07-28) asks of a request's HTTP headers.

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, StatusCode};
use serde_json::json;

use super::{
    message::{self, HEADER_MISMATCH, INVALID_PARAMS, META_VERSION, Request, UNSUPPORTED_VERSION},
    server::STATELESS,
};

pub(crate) const VERSION_HEADER: &str = "mcp-protocol-version";
const METHOD_HEADER: &str = "mcp-method";
const NAME_HEADER: &str = "mcp-name";

/// A refusal as it is sent.
pub(crate) type Refusal = (StatusCode, String);

/// Whether the request is written in the stateless protocol. `initialize` never is, unless its `_meta` says so.
pub(crate) fn is_stateless(headers: &HeaderMap, request: &Request<'_>) -> bool {
    request.params.meta_version().is_some()
        || (header(headers, VERSION_HEADER) == Some(STATELESS) && request.method != "initialize")
}

/// # Errors
/// The error response for what is missing in `_meta`, for headers that do not say what the body says, and for a
/// revision this server does not speak: in this order, which the protocol's conformance tests rely on.
pub(crate) fn check(headers: &HeaderMap, request: &Request<'_>) -> Result<(), Refusal> {
    if let Some(key) = request.params.missing_meta() {
        let text = format!("params._meta lacks {key}");
        return Err(refuse(request, INVALID_PARAMS, &text, None));
    }
    let version = request.params.meta_version();
    same(headers, request, VERSION_HEADER, META_VERSION, version)?;
    if version != Some(STATELESS) {
        let data = json!({ "supported": [STATELESS], "requested": version });
        return Err(refuse(request, UNSUPPORTED_VERSION, "unsupported protocol version", Some(&data)));
    }
    same(headers, request, METHOD_HEADER, "method", Some(&request.method))?;
    if request.method == "tools/call" {
        same(headers, request, NAME_HEADER, "params.name", request.params.name.as_deref())?;
    }
    Ok(())
}

fn same(
    headers: &HeaderMap,
    request: &Request<'_>,
    name: &str,
    path: &str,
    expected: Option<&str>,
) -> Result<(), Refusal> {
    let Some(value) = header(headers, name) else {
        return Err(refuse(request, HEADER_MISMATCH, &format!("header {name} is missing"), None));
    };
    match (decoded(value), expected) {
        (Some(value), Some(expected)) if value == expected => Ok(()),
        _ => {
            let text = format!("header {name} is `{value}`, but {path} is {}", json!(expected));
            Err(refuse(request, HEADER_MISMATCH, &text, None))
        }
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// Values that are no plain ASCII are written `=?base64?…?=`.
fn decoded(value: &str) -> Option<String> {
    match value.strip_prefix("=?base64?").and_then(|value| value.strip_suffix("?=")) {
        None => Some(value.to_owned()),
        Some(encoded) => String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok(),
    }
}

fn refuse(request: &Request<'_>, code: i64, text: &str, data: Option<&serde_json::Value>) -> Refusal {
    (StatusCode::BAD_REQUEST, message::error(Some(request.id), code, text, data))
}
