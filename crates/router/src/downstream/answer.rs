//! HTTP answers of the MCP endpoint. Every one names a revision.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Response, StatusCode};
use mcp::{ErrorCode, message};
use model::Revision;

use super::body::Body;

pub(super) const REVISION: HeaderName = HeaderName::from_static("only1mcp-revision");
pub(super) const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

fn with(status: StatusCode, revision: Revision, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(REVISION, HeaderValue::from(revision.0));
    response
}

pub(super) fn json(revision: Revision, status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = with(status, revision, Body::whole(body.into()));
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

pub(super) fn ok(revision: Revision, body: impl Into<Bytes>) -> Response<Body> {
    json(revision, StatusCode::OK, body)
}

/// A JSON-RPC error; without an id where the request's own could not be read.
pub(super) fn error(
    revision: Revision,
    status: StatusCode,
    id: Option<&str>,
    code: ErrorCode,
    text: &str,
) -> Response<Body> {
    json(revision, status, message::error(id, code, text, None))
}

pub(super) fn accepted(revision: Revision) -> Response<Body> {
    with(StatusCode::ACCEPTED, revision, Body::empty())
}

pub(super) fn no_content(revision: Revision) -> Response<Body> {
    with(StatusCode::NO_CONTENT, revision, Body::empty())
}

pub(super) fn method_not_allowed(revision: Revision) -> Response<Body> {
    let text = "the MCP endpoint takes POST, GET and DELETE";
    let mut response = error(revision, StatusCode::METHOD_NOT_ALLOWED, None, ErrorCode::INVALID_REQUEST, text);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST, GET, DELETE"));
    response
}

pub(super) fn events(revision: Revision, body: Body) -> Response<Body> {
    let mut response = with(StatusCode::OK, revision, body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}
