//! What a browser must be told before a page of another origin may use the gateway, by the rules of CORS: whether the
//! page may send its request (the browser asks by OPTIONS), and what it may read of an answer. Only origins that
//! [`super::super::door`] has let in come here.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, HeaderName, VARY,
};
use http::{HeaderMap, HeaderValue, Response};
use model::Revision;

use super::body::Body;
use super::{METHODS as SERVED, no_content};

const METHODS: HeaderValue = HeaderValue::from_static("POST, GET, DELETE");
/// The headers that MCP clients send, for a browser that does not name the headers it wants to send.
const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static(
    "Accept, Authorization, Content-Type, Last-Event-ID, Mcp-Method, Mcp-Name, Mcp-Protocol-Version, Mcp-Session-Id, \
     Traceparent, Tracestate, Baggage",
);
const EXPOSED: HeaderValue = HeaderValue::from_static("Mcp-Session-Id, Only1mcp-Revision");
/// For how long a browser need not ask again, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("3600");
const ASKS_FOR_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOWS_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");

/// The answer to OPTIONS. An allowed origin may send any headers: a request is checked when it comes.
pub(crate) fn permission(revision: Revision, asked: &HeaderMap, origin: Option<&HeaderValue>) -> Response<Body> {
    let mut response = no_content(revision);
    let headers = response.headers_mut();
    headers.insert(http::header::ALLOW, SERVED);
    let Some(origin) = origin else { return response };
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    let wanted = asked.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned().unwrap_or(REQUEST_HEADERS);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted);
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    // A page from the internet asks whether it may reach into this network: an operator has allowed its origin.
    if asked.contains_key(ASKS_FOR_PRIVATE_NETWORK) {
        headers.insert(ALLOWS_PRIVATE_NETWORK, HeaderValue::from_static("true"));
    }
    headers.append(VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
    readable(&mut response, origin.clone());
    response
}

/// The page of that origin may read the answer.
pub(crate) fn readable(response: &mut Response<Body>, origin: HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    headers.append(VARY, HeaderValue::from_static("Origin"));
}
