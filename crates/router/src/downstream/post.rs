//! One POST: read, scanned once, and answered by whoever its method is about.

use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use mcp::{Call, ErrorCode, Id, Message, ScanError, message, scan};
use model::Revision;
use runtime::Span;

use super::body::Body;
use super::core::Core;
use super::service::{self, Session};
use super::{answer, initialize, tools_call, traced, unread};

/// How long a client may take from the head of a request to the end of its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) async fn post(core: Rc<Core>, request: Request<Incoming>) -> Response<Body> {
    let (revision, limit) = {
        let generation = core.shared.live.load();
        (generation.revision, generation.policy.limits.request_bytes)
    };
    let (head, mut incoming) = request.into_parts();
    if let Err(fault) = service::check_post(&head.headers) {
        return Box::pin(unread::answer(&head.headers, incoming, service::refused(revision, &fault))).await;
    }
    let body = match read(&mut incoming, limit).await {
        Ok(body) => body,
        Err(fault) => return Box::pin(fault.answer(revision, limit, &head.headers, incoming)).await,
    };
    let envelope = match scan(&body) {
        Ok(envelope) => envelope,
        Err(error) => return malformed(revision, &error),
    };
    if let Message::Request { id, call } = &envelope.message
        && call.method.value() == message::method::INITIALIZE
    {
        let span = traced::local(&core, call, *id, message::method::INITIALIZE, &head.headers, None);
        return initialize::initialize(&core, *id, call, span);
    }
    let id = if let Message::Request { id, .. } = &envelope.message { Some(id.text()) } else { None };
    let session = match service::with_session(&core, &head.headers, revision, id) {
        Ok(session) => session,
        Err(no) => return *no,
    };
    match &envelope.message {
        Message::Request { id, call } => match call.method.value() {
            message::method::TOOLS_CALL => {
                tools_call::call(core, &session, &envelope, *id, call, &body, &head.headers).await
            }
            message::method::TOOLS_LIST => {
                let list = message::method::TOOLS_LIST;
                let span = traced::local(&core, call, *id, list, &head.headers, Some(&session));
                list_tools(&core, &session, *id, call, span)
            }
            _ => local(&core, *id, call),
        },
        Message::Notification(call) => {
            if call.method.value() == message::method::CANCELLED
                && let Some(request) = call.params.as_ref().and_then(|params| params.request_id)
            {
                core.everywhere.cancel(session.sealed.id, request.text());
            }
            answer::accepted(revision)
        }
        // The gateway asks clients for nothing, so whatever this answers has no reader.
        Message::Response { .. } | Message::Error { .. } => answer::accepted(revision),
    }
}

fn list_tools(core: &Core, session: &Session, id: Id<'_>, call: &Call<'_>, mut span: Option<Span>) -> Response<Body> {
    let generation = core.shared.live.load();
    let revision = generation.revision;
    let cursor = call.params.as_ref().and_then(|params| params.cursor.as_ref());
    match generation.catalog.list_response(id.text(), cursor.map(mcp::Text::value)) {
        Ok(body) => {
            session.known.saw_list(generation.list_turn);
            answer::ok(revision, body)
        }
        Err(error) => {
            let (code, text) = (ErrorCode::INVALID_PARAMS, error.to_string());
            if let Some(span) = &mut span {
                traced::refuse(span, code, &text);
            }
            answer::error(revision, StatusCode::OK, Some(id.text()), code, &text)
        }
    }
}

/// What else the gateway answers itself.
fn local(core: &Core, id: Id<'_>, call: &Call<'_>) -> Response<Body> {
    let revision = core.shared.live.load().revision;
    match call.method.value() {
        message::method::PING => answer::ok(revision, message::result(id.text(), message::EMPTY_RESULT)),
        method => {
            let text = format!("Method not found: {method}");
            answer::error(revision, StatusCode::OK, Some(id.text()), ErrorCode::METHOD_NOT_FOUND, &text)
        }
    }
}

fn malformed(revision: Revision, error: &ScanError) -> Response<Body> {
    let id = error.id.as_deref();
    answer::error(revision, StatusCode::BAD_REQUEST, id, error.code(), &error.to_string())
}

/// Why there is no body.
enum ReadFault {
    TooLarge,
    TooSlow,
    /// The client went away: nobody reads the answer.
    Gone(hyper::Error),
}

impl ReadFault {
    async fn answer(&self, revision: Revision, limit: u64, head: &HeaderMap, rest: Incoming) -> Response<Body> {
        let (status, text) = match self {
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the request is larger than {limit} bytes (limits.request_bytes)"),
            ),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, format!("the body did not come within {BODY_TIMEOUT:?}")),
            Self::Gone(error) => (StatusCode::BAD_REQUEST, format!("the body ended early: {error}")),
        };
        let mut answer = answer::error(revision, status, None, ErrorCode::INVALID_REQUEST, &text);
        match self {
            Self::TooLarge => unread::answer(head, rest, answer).await,
            Self::TooSlow | Self::Gone(_) => {
                unread::closing(&mut answer);
                answer
            }
        }
    }
}

async fn read(body: &mut Incoming, limit: u64) -> Result<Bytes, ReadFault> {
    if body.size_hint().lower() > limit {
        return Err(ReadFault::TooLarge);
    }
    let mut reading = std::pin::pin!(collect(body, limit));
    // Nearly always the body is here with its head: no timer for those.
    if let std::task::Poll::Ready(read) = futures_util::poll!(reading.as_mut()) {
        return read;
    }
    tokio::time::timeout(BODY_TIMEOUT, reading).await.unwrap_or(Err(ReadFault::TooSlow))
}

/// A body of one frame is taken as it is, without a copy.
async fn collect(body: &mut Incoming, limit: u64) -> Result<Bytes, ReadFault> {
    let mut first = Bytes::new();
    let mut all: Option<BytesMut> = None;
    let mut length = 0_u64;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(ReadFault::Gone)?.into_data() else { continue };
        length += data.len() as u64;
        if length > limit {
            return Err(ReadFault::TooLarge);
        }
        if first.is_empty() {
            first = data;
        } else {
            all.get_or_insert_with(|| BytesMut::from(&first[..])).extend_from_slice(&data);
        }
    }
    Ok(all.map_or(first, BytesMut::freeze))
}
