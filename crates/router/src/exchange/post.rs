//! One POST: it is read, scanned once, and answered according to its method.

use std::rc::Rc;

use http::{Response, StatusCode};
use hyper::body::Incoming;
use mcp::{Call, ErrorCode, Id, Kind, Message, ScanError, message, scan};
use model::Revision;

use super::answer::body::Body;
use super::answer::unread;
use super::call::{Asked, Caller};
use super::fields::Fields;
use super::upload;
use super::{Terms, answer, call, door, initialize, list, traced};
use crate::beside::{self, LONG};
use crate::core::Core;
use crate::core::clients::Client;

pub(super) async fn post(
    core: Rc<Core>,
    fields: &Fields<'_>,
    mut incoming: Incoming,
    client: &Client,
    terms: &Terms,
) -> Response<Body> {
    let (revision, limits) = (terms.revision, terms.body);
    if let Err(fault) = door::check_post(fields) {
        return Box::pin(unread::answer(fields.all, incoming, door::refused(revision, &fault))).await;
    }
    let body = match upload::read(&core, client, &mut incoming, limits).await {
        Ok(read) => read,
        Err(fault) => return Box::pin(fault.answer(revision, limits, fields.all, incoming)).await,
    };
    let (large, here);
    let scanned = if body.bytes.len() > LONG {
        large = Box::pin(beside::scan(body.bytes.clone())).await;
        large.borrow_dependent()
    } else {
        here = scan(&body.bytes);
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
        let span = traced::local(&core, call, *id, message::method::INITIALIZE, fields, None);
        return initialize::initialize(&core, *id, call, span);
    }
    let id = if let Message::Request { id, .. } = &envelope.message { Some(id.text()) } else { None };
    let now = core.now();
    let session = match door::with_session(&core, client, fields, (revision, now), id) {
        Ok(session) => session,
        Err(no) => return *no,
    };
    let caller = Caller { session: &session, client, since: now, limits: terms.time };
    match &envelope.message {
        Message::Request { id, call } => {
            let (id, method) = (*id, call.method.value());
            if let Some(kind) = Kind::used_by(method) {
                call::call(core, caller, Asked { kind, id, call }, envelope, &body, fields).await
            } else if let Some(kind) = Kind::listed_by(method) {
                list::list(&core, caller, Asked { kind, id, call }, &body, fields).await
            } else {
                local(&core, id, call)
            }
        }
        Message::Notification(call) => {
            if call.method.value() == message::method::CANCELLED
                && let Some(request) = call.params.as_ref().and_then(mcp::Params::request_id)
            {
                core.everywhere.cancel(session.sealed.id, request.text());
            }
            answer::accepted(revision)
        }
        // The gateway sends no requests to clients, so a response from a client has no reader.
        Message::Response { .. } | Message::Error { .. } => answer::accepted(revision),
    }
}

/// The other requests that the gateway answers itself.
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

/// The maximum length of a name or id, in bytes as written. It is kept, logged and shown while a call runs, so a longer
/// one is refused before that.
const NAME_MAX: usize = 1024;

/// The field of a message that is longer than a name may be.
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
    let ids = [(params.request_id(), "params.requestId"), (call.progress_token(), "params._meta.progressToken")];
    let long_id = ids.into_iter().find(|(id, _)| id.is_some_and(|id| is_long(id.text())));
    let is_long = |text: Option<&mcp::Text<'_>>| text.is_some_and(|text| is_long(text.raw().text()));
    match long_id {
        Some((_, what)) => Some(what),
        None if is_long(params.name.as_ref()) => Some("params.name"),
        None if is_long(params.uri().as_ref()) => Some("params.uri"),
        None => is_long(params.cursor().as_ref()).then_some("params.cursor"),
    }
}

/// Answers without the id, which may itself be too long.
fn refuse_long(revision: Revision, what: &str) -> Response<Body> {
    let text = format!("`{what}` is longer than {NAME_MAX} bytes");
    answer::error(revision, StatusCode::BAD_REQUEST, None, ErrorCode::INVALID_REQUEST, &text)
}
