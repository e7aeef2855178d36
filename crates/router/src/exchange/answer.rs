//! HTTP answers of the MCP endpoint. Every answer names a revision.

pub(super) mod body;
pub(super) mod cors;
pub(super) mod notifications;
pub(super) mod outbox;
pub(super) mod unread;

use std::cell::{Cell, RefCell};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use mcp::{ErrorCode, message};
use model::Revision;

use crate::budget::Charge;
use body::Body;

pub(super) const REVISION: HeaderName = HeaderName::from_static("only1mcp-revision");
pub(super) const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
/// The methods that the MCP endpoint takes.
pub(super) const METHODS: HeaderValue = HeaderValue::from_static("POST, GET, DELETE, OPTIONS");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

thread_local! {
    /// The headers of a request that was answered, emptied: the next answer is written into their memory.
    static SPARE: Cell<HeaderMap> = Cell::default();
    /// The revision of the last answer, and its header value: nearly every answer names the same one.
    static NAMED: RefCell<(Revision, HeaderValue)> = const { RefCell::new((Revision::NONE, HeaderValue::from_static("0"))) };
}

fn name_of(revision: Revision) -> HeaderValue {
    NAMED.with_borrow_mut(|(named, value)| {
        if *named != revision {
            (*named, *value) = (revision, HeaderValue::from(revision.0));
        }
        value.clone()
    })
}

/// What is left of the head of a request that was answered.
pub(super) fn spare(mut headers: HeaderMap) {
    headers.clear();
    SPARE.set(headers);
}

fn with(status: StatusCode, revision: Revision, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.headers_mut() = SPARE.take();
    *response.status_mut() = status;
    response.headers_mut().insert(REVISION, name_of(revision));
    response
}

pub(super) fn json(revision: Revision, status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = with(status, revision, Body::whole(body.into()));
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// As [`ok`], for an answer that is charged.
pub(super) fn large(revision: Revision, body: Bytes, charge: Charge) -> Response<Body> {
    let mut response = with(StatusCode::OK, revision, Body::large(body, Some(charge)));
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

pub(super) fn ok(revision: Revision, body: impl Into<Bytes>) -> Response<Body> {
    json(revision, StatusCode::OK, body)
}

/// The maximum length of an error's text, in bytes: a part of it may be a client's own.
const TEXT_MAX: usize = 1024;

/// A JSON-RPC error; without an id if the request's id could not be read.
pub(super) fn error(
    revision: Revision,
    status: StatusCode,
    id: Option<&str>,
    code: ErrorCode,
    text: &str,
) -> Response<Body> {
    let text = &text[..text.floor_char_boundary(TEXT_MAX)];
    json(revision, status, message::error(id, code, text, None))
}

/// As [`error`], for a request that was not executed and may soon succeed.
pub(super) fn again(revision: Revision, id: Option<&str>, code: ErrorCode, text: &str) -> Response<Body> {
    let mut response = error(revision, StatusCode::SERVICE_UNAVAILABLE, id, code, text);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
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
    response.headers_mut().insert(ALLOW, METHODS);
    response
}

/// The answer to a request that its client has cancelled. The protocol wants a JSON body or a stream of events as the
/// answer to any request, and no message about a cancelled one. So the answer is a stream without a message, which SDKs
/// accept silently.
pub(super) fn silence(revision: Revision) -> Response<Body> {
    events(revision, Body::whole(Bytes::from_static(b": cancelled\n\n")))
}

pub(super) fn events(revision: Revision, body: Body) -> Response<Body> {
    let mut response = with(StatusCode::OK, revision, body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}
