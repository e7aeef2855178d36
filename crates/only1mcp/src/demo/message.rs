//! JSON-RPC as the demo server reads and writes it.
//!
//! Deliberately a separate and plain parser: a server behind the gateway in its tests must not share the gateway's idea
//! of what a message looks like.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

/// Key of `_meta` by which a client of the stateless protocol names its revision.
pub(crate) const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

pub(crate) const PARSE_ERROR: i64 = -32700;
pub(crate) const INVALID_REQUEST: i64 = -32600;
pub(crate) const METHOD_NOT_FOUND: i64 = -32601;
pub(crate) const INVALID_PARAMS: i64 = -32602;
pub(crate) const INTERNAL_ERROR: i64 = -32603;
pub(crate) const HEADER_MISMATCH: i64 = -32020;
pub(crate) const UNSUPPORTED_VERSION: i64 = -32022;

/// One message from a client.
#[derive(Debug)]
pub(crate) enum Incoming<'a> {
    Request(Request<'a>),
    Notification(Notification<'a>),
    /// The answer to a request that we never sent.
    Response,
}

#[derive(Debug)]
pub(crate) struct Request<'a> {
    /// As written, quotes included: `1` and `"1"` are different ids.
    pub(crate) id: &'a str,
    pub(crate) method: Cow<'a, str>,
    pub(crate) params: Params<'a>,
}

#[derive(Debug)]
pub(crate) struct Notification<'a> {
    pub(crate) method: Cow<'a, str>,
    pub(crate) params: Params<'a>,
}

/// The members of `params` that any of our methods reads.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Params<'a> {
    pub(crate) name: Option<String>,
    pub(crate) arguments: Option<Map<String, Value>>,
    pub(crate) protocol_version: Option<String>,
    #[serde(borrow)]
    pub(crate) request_id: Option<&'a RawValue>,
    pub(crate) notifications: Option<Value>,
    #[serde(borrow, rename = "_meta")]
    pub(crate) meta: Option<Meta<'a>>,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Meta<'a> {
    #[serde(borrow, rename = "progressToken")]
    progress_token: Option<&'a RawValue>,
    traceparent: Option<String>,
    #[serde(rename = "io.modelcontextprotocol/protocolVersion")]
    version: Option<String>,
    #[serde(rename = "io.modelcontextprotocol/clientCapabilities")]
    capabilities: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    jsonrpc: Option<Cow<'a, str>>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

/// Why a message cannot be acted on; becomes a JSON-RPC error.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// The request's id as written, where it could be read.
    pub(crate) id: Option<String>,
    pub(crate) code: i64,
    pub(crate) message: String,
}

impl Malformed {
    pub(crate) fn answer(&self) -> String {
        error(self.id.as_deref(), self.code, &self.message, None)
    }
}

pub(crate) fn parse(bytes: &[u8]) -> Result<Incoming<'_>, Malformed> {
    let unreadable = |code, message: String| Malformed { id: None, code, message };
    let text = std::str::from_utf8(bytes).map_err(|error| unreadable(PARSE_ERROR, error.to_string()))?;
    let raw = serde_json::from_str::<&RawValue>(text).map_err(|error| unreadable(PARSE_ERROR, error.to_string()))?;
    let envelope = serde_json::from_str::<Envelope<'_>>(raw.get())
        .map_err(|error| unreadable(INVALID_REQUEST, format!("not one JSON-RPC message: {error}")))?;
    if envelope.jsonrpc.as_deref() != Some("2.0") {
        return Err(unreadable(INVALID_REQUEST, r#"expected "jsonrpc": "2.0""#.to_owned()));
    }
    let id = envelope.id.map(RawValue::get);
    if id.is_some_and(|id| !id.starts_with(|first: char| first == '"' || first == '-' || first.is_ascii_digit())) {
        return Err(unreadable(INVALID_REQUEST, "id is neither a string nor an integer".to_owned()));
    }
    let Some(method) = envelope.method else {
        return Ok(Incoming::Response);
    };
    let params = envelope.params.map_or_else(|| Ok(Params::default()), |params| serde_json::from_str(params.get()));
    match (id, params) {
        (Some(id), Ok(params)) => Ok(Incoming::Request(Request { id, method, params })),
        (None, Ok(params)) => Ok(Incoming::Notification(Notification { method, params })),
        (id, Err(error)) => {
            let message = format!("params of {method}: {error}");
            Err(Malformed { id: id.map(str::to_owned), code: INVALID_PARAMS, message })
        }
    }
}

impl Params<'_> {
    /// As written.
    pub(crate) fn progress_token(&self) -> Option<&str> {
        self.meta.as_ref()?.progress_token.map(RawValue::get)
    }

    /// The `traceparent` of the trace that the request belongs to.
    pub(crate) fn traceparent(&self) -> Option<&str> {
        self.meta.as_ref()?.traceparent.as_deref()
    }

    /// The revision a client of the stateless protocol names in every request.
    pub(crate) fn meta_version(&self) -> Option<&str> {
        self.meta.as_ref()?.version.as_deref()
    }

    /// The member of `_meta` that the stateless protocol requires and this request lacks.
    pub(crate) fn missing_meta(&self) -> Option<&'static str> {
        let meta = self.meta.as_ref();
        if meta.and_then(|meta| meta.version.as_ref()).is_none() {
            return Some(META_VERSION);
        }
        meta.and_then(|meta| meta.capabilities.as_ref()).is_none().then_some(META_CAPABILITIES)
    }
}

/// A response; `id` as written.
pub(crate) fn result(id: &str, result: &Value) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
}

/// An error response. Without a readable id the member is left out: `null` is no id in any revision.
pub(crate) fn error(id: Option<&str>, code: i64, message: &str, data: Option<&Value>) -> String {
    let id = id.map_or_else(String::new, |id| format!(r#""id":{id},"#));
    let data = data.map_or_else(String::new, |data| format!(r#","data":{data}"#));
    let message = Value::from(message);
    format!(r#"{{"jsonrpc":"2.0",{id}"error":{{"code":{code},"message":{message}{data}}}}}"#)
}

/// A progress notification; `token` as written.
pub(crate) fn progress(token: &str, done: u64, total: u64) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":{done},"total":{total},"message":"step {done} of {total}"}}}}"#
    )
}

/// `notifications/tools/list_changed`; on the stream of a `subscriptions/listen` it carries that request's id.
pub(crate) fn list_changed(subscription: Option<&str>) -> String {
    notification("notifications/tools/list_changed", subscription, None)
}

/// The first message on the stream of a `subscriptions/listen`.
pub(crate) fn acknowledged(subscription: &str, honoured: &Value) -> String {
    notification("notifications/subscriptions/acknowledged", Some(subscription), Some(honoured))
}

fn notification(method: &str, subscription: Option<&str>, notifications: Option<&Value>) -> String {
    let meta = subscription.map(|id| format!(r#""_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}"#));
    let honoured = notifications.map(|honoured| format!(r#""notifications":{honoured}"#));
    let members: Vec<String> = meta.into_iter().chain(honoured).collect();
    let params = if members.is_empty() { String::new() } else { format!(r#","params":{{{}}}"#, members.join(",")) };
    format!(r#"{{"jsonrpc":"2.0","method":"{method}"{params}}}"#)
}

/// A tool's result with one text.
pub(crate) fn text_content(text: &str, is_error: bool) -> Value {
    json!({ "content": [{ "type": "text", "text": text }], "isError": is_error })
}
