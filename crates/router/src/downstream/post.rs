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
use super::held::{SMALL, Weight};
use super::service::{self, Session};
use super::{answer, initialize, tools_call, traced, unread};
use crate::beside::{self, LARGE};

/// How long a client may take from the head of a request to the end of its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// And how long at most once the core drains.
const BODY_TIMEOUT_DRAINING: Duration = Duration::from_secs(1);

pub(super) async fn post(core: Rc<Core>, request: Request<Incoming>) -> Response<Body> {
    let (revision, limits) = {
        let generation = core.shared.live.load();
        let limits = &generation.policy.limits;
        (generation.revision, BodyLimits { one: limits.request_bytes, all: limits.buffered_bytes })
    };
    let (head, mut incoming) = request.into_parts();
    if let Err(fault) = service::check_post(&head.headers) {
        return Box::pin(unread::answer(&head.headers, incoming, service::refused(revision, &fault))).await;
    }
    let (body, _weight) = match read(&core, &mut incoming, limits).await {
        Ok(read) => read,
        Err(fault) => return Box::pin(fault.answer(revision, limits, &head.headers, incoming)).await,
    };
    let (large, here);
    let scanned = if body.len() > LARGE {
        large = Box::pin(beside::scan(body.clone())).await;
        large.borrow_dependent()
    } else {
        here = scan(&body);
        &here
    };
    let envelope = match scanned {
        Ok(envelope) => envelope,
        Err(error) => return malformed(revision, error),
    };
    if let Some(what) = too_long(&envelope.message) {
        return refuse_long(revision, what);
    }
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
                tools_call::call(core, &session, envelope, *id, call, &body, &head.headers).await
            }
            message::method::TOOLS_LIST => {
                let list = message::method::TOOLS_LIST;
                let span = traced::local(&core, call, *id, list, &head.headers, Some(&session));
                if core.shared.live.load().catalog.is_unknown() || revision == Revision::NONE {
                    Box::pin(first_list(&core)).await;
                }
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

/// Nobody has said yet what there is: one that starts in no time is waited for, as calls wait for it.
async fn first_list(core: &Core) {
    tokio::select! {
        () = core.shared.live.listed() => {}
        () = core.draining.cancelled() => {}
    }
}

fn list_tools(core: &Core, session: &Session, id: Id<'_>, call: &Call<'_>, mut span: Option<Span>) -> Response<Body> {
    let generation = core.shared.live.load();
    let revision = generation.revision;
    if (generation.catalog.is_unknown() || revision == Revision::NONE)
        && let Some(text) = generation.no_list()
    {
        if let Some(span) = &mut span {
            traced::refuse(span, ErrorCode::UNAVAILABLE, &text);
        }
        return answer::error(revision, StatusCode::OK, Some(id.text()), ErrorCode::UNAVAILABLE, &text);
    }
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
    let id = error.id.as_deref().filter(|id| id.len() <= NAME_MAX);
    answer::error(revision, StatusCode::BAD_REQUEST, id, error.code(), &error.to_string())
}

/// How long what names something may be, in bytes as written. It is kept, logged and shown while a call runs, so it is
/// refused before that.
const NAME_MAX: usize = 1024;

/// What of a message is longer than a name may be.
fn too_long(message: &Message<'_>) -> Option<&'static str> {
    let (id, call) = match message {
        Message::Request { id, call } => (Some(*id), call),
        Message::Notification(call) => (None, call),
        // Nothing of these is kept.
        Message::Response { .. } | Message::Error { .. } => return None,
    };
    let is_long = |text: &str| text.len() > NAME_MAX;
    if id.is_some_and(|id| is_long(id.text())) {
        return Some("id");
    }
    if is_long(call.method.raw().text()) {
        return Some("method");
    }
    let params = call.params.as_ref()?;
    let ids = [(params.request_id, "params.requestId"), (call.progress_token(), "params._meta.progressToken")];
    let texts = [(&params.name, "params.name"), (&params.cursor, "params.cursor")];
    let long_id = ids.into_iter().find(|(id, _)| id.is_some_and(|id| is_long(id.text())));
    let long_text = texts.into_iter().find(|(text, _)| text.as_ref().is_some_and(|text| is_long(text.raw().text())));
    long_id.map(|(_, what)| what).or_else(|| long_text.map(|(_, what)| what))
}

/// Without the id, which may be what is too long.
fn refuse_long(revision: Revision, what: &str) -> Response<Body> {
    let text = format!("`{what}` is longer than {NAME_MAX} bytes");
    answer::error(revision, StatusCode::BAD_REQUEST, None, ErrorCode::INVALID_REQUEST, &text)
}

/// Why there is no body.
enum ReadFault {
    TooLarge,
    /// As much as may be is held for others.
    NoRoom,
    TooSlow,
    /// The client went away: nobody reads the answer.
    Gone(hyper::Error),
}

impl ReadFault {
    async fn answer(&self, revision: Revision, limits: BodyLimits, head: &HeaderMap, rest: Incoming) -> Response<Body> {
        let BodyLimits { one, all } = limits;
        let (status, text) = match self {
            Self::TooLarge => {
                let text = format!("the request is larger than {one} bytes (limits.request_bytes)");
                (StatusCode::PAYLOAD_TOO_LARGE, text)
            }
            Self::NoRoom => {
                let text = format!(
                    "the gateway holds {all} bytes for its clients and no more (limits.buffered_bytes); try again"
                );
                (StatusCode::SERVICE_UNAVAILABLE, text)
            }
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "the body did not come in time".to_owned()),
            Self::Gone(error) => (StatusCode::BAD_REQUEST, format!("the body ended early: {error}")),
        };
        let mut answer = answer::error(revision, status, None, ErrorCode::INVALID_REQUEST, &text);
        match self {
            Self::TooLarge | Self::NoRoom => unread::answer(head, rest, answer).await,
            Self::TooSlow | Self::Gone(_) => {
                unread::closing(&mut answer);
                answer
            }
        }
    }
}

/// How much one request may have, and how much all that is held.
#[derive(Clone, Copy)]
struct BodyLimits {
    one: u64,
    all: u64,
}

async fn read(core: &Core, body: &mut Incoming, limits: BodyLimits) -> Result<(Bytes, Option<Weight>), ReadFault> {
    if body.size_hint().lower() > limits.one {
        return Err(ReadFault::TooLarge);
    }
    let mut reading = std::pin::pin!(collect(core, body, limits));
    // Nearly always the body is here with its head: no timer for those.
    if let std::task::Poll::Ready(read) = futures_util::poll!(reading.as_mut()) {
        return read;
    }
    let draining = async {
        core.draining.cancelled().await;
        tokio::time::sleep(BODY_TIMEOUT_DRAINING).await;
    };
    tokio::select! {
        biased;
        read = reading => read,
        () = tokio::time::sleep(BODY_TIMEOUT) => Err(ReadFault::TooSlow),
        () = draining => Err(ReadFault::TooSlow),
    }
}

/// A body of one frame is taken as it is, without a copy.
async fn collect(core: &Core, body: &mut Incoming, limits: BodyLimits) -> Result<(Bytes, Option<Weight>), ReadFault> {
    let mut first = Bytes::new();
    let mut all: Option<BytesMut> = None;
    let (mut length, mut weight) = (0_u64, None);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(ReadFault::Gone)?.into_data() else { continue };
        length += data.len() as u64;
        if length > limits.one {
            return Err(ReadFault::TooLarge);
        }
        if first.is_empty() {
            first = data;
            continue;
        }
        let all = all.get_or_insert_with(|| BytesMut::from(&first[..]));
        all.extend_from_slice(&data);
        if all.capacity() > SMALL {
            // What was counted so far is counted anew.
            drop(weight.take());
            weight = Some(core.shared.held.weigh(all.capacity(), limits.all).ok_or(ReadFault::NoRoom)?);
        }
    }
    Ok((all.map_or(first, BytesMut::freeze), weight))
}
