//! One POST: it is read, scanned once, and answered according to its method.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body::Frame;
use hyper::body::{Body as _, Incoming};
use mcp::{Call, ErrorCode, Id, Kind, Message, ScanError, message, scan};
use model::Revision;

use super::answer::body::Body;
use super::answer::unread;
use super::door;
use super::fields::Fields;
use super::tools_call::Caller;
use super::{answer, initialize, list, tools_call, traced};
use crate::beside::{self, LONG, Turn};
use crate::budget::{Refused, SMALL, Upload, Whole};
use crate::core::Core;
use crate::core::clients::Client;
use crate::serve::connection;

/// How long a client may take from the head of a request to the end of its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// The same once the core drains.
const BODY_TIMEOUT_DRAINING: Duration = Duration::from_secs(1);

pub(super) async fn post(
    core: Rc<Core>,
    fields: &Fields<'_>,
    mut incoming: Incoming,
    client: &Client,
) -> Response<Body> {
    let (revision, limits) = {
        let generation = core.shared.live.load();
        let limits = &generation.policy.limits;
        (generation.revision, BodyLimits { one: limits.request_bytes, all: limits.buffered_bytes })
    };
    if let Err(fault) = door::check_post(fields) {
        return Box::pin(unread::answer(fields.all, incoming, door::refused(revision, &fault))).await;
    }
    let body = match read(&core, client, &mut incoming, limits).await {
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
    let session = match door::with_session(&core, client, fields, revision, id) {
        Ok(session) => session,
        Err(no) => return *no,
    };
    match &envelope.message {
        Message::Request { id, call } => match call.method.value() {
            message::method::TOOLS_CALL => {
                let caller = Caller { session: &session, client };
                tools_call::call(core, caller, envelope, *id, call, &body, fields).await
            }
            method => match Kind::listed_by(method) {
                Some(kind) => {
                    let asked = list::Asked { kind, id: *id, call };
                    list::list(&core, Caller { session: &session, client }, asked, &body, fields).await
                }
                None => local(&core, *id, call),
            },
        },
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
        None => is_long(params.cursor().as_ref()).then_some("params.cursor"),
    }
}

/// Answers without the id, which may itself be too long.
fn refuse_long(revision: Revision, what: &str) -> Response<Body> {
    let text = format!("`{what}` is longer than {NAME_MAX} bytes");
    answer::error(revision, StatusCode::BAD_REQUEST, None, ErrorCode::INVALID_REQUEST, &text)
}

impl From<Refused> for ReadFault {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NoRoom => Self::NoRoom,
            Refused::GivenUp => Self::GivenUp,
        }
    }
}

/// Why there is no body.
enum ReadFault {
    TooLarge,
    /// Other requests hold as much as they may.
    NoRoom,
    /// Other requests needed its room, and this body had been arriving for longest.
    GivenUp,
    TooSlow,
    /// The gateway waits no longer.
    Stopping,
    /// The client went away: the answer has no reader.
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
                    "requests hold as much as they may: half of the {all} bytes that the gateway holds for its clients \
                     (limits.buffered_bytes); nothing was executed: try again"
                );
                (StatusCode::SERVICE_UNAVAILABLE, text)
            }
            Self::GivenUp => {
                let text = format!(
                    "the body was still not complete when its room was needed for other requests, which have half of \
                     {all} bytes (limits.buffered_bytes); nothing was executed: send it again, and faster"
                );
                (StatusCode::REQUEST_TIMEOUT, text)
            }
            Self::TooSlow => {
                let text =
                    format!("the body was not complete within {} s; nothing was executed", BODY_TIMEOUT.as_secs());
                (StatusCode::REQUEST_TIMEOUT, text)
            }
            Self::Stopping => {
                let text =
                    "the gateway stops, and the body was not complete in time; nothing was executed: send it again";
                (StatusCode::SERVICE_UNAVAILABLE, text.to_owned())
            }
            Self::Gone(error) => (StatusCode::BAD_REQUEST, format!("the body ended early: {error}")),
        };
        let mut answer = match status {
            StatusCode::SERVICE_UNAVAILABLE => answer::again(revision, None, ErrorCode::UNAVAILABLE, &text),
            _ => answer::error(revision, status, None, ErrorCode::INVALID_REQUEST, &text),
        };
        match self {
            Self::TooLarge | Self::NoRoom | Self::GivenUp => unread::answer(head, rest, answer).await,
            Self::TooSlow | Self::Stopping | Self::Gone(_) => {
                unread::closing(&mut answer);
                answer
            }
        }
    }
}

/// The maximum size of one request, and of all that is held for clients.
#[derive(Clone, Copy)]
struct BodyLimits {
    one: u64,
    all: u64,
}

async fn read(core: &Core, client: &Client, body: &mut Incoming, limits: BodyLimits) -> Result<Whole, ReadFault> {
    if body.size_hint().lower() > limits.one {
        return Err(ReadFault::TooLarge);
    }
    let mut reading = std::pin::pin!(collect(core, body, limits));
    // Nearly always the body arrives with its head, and needs no timer.
    if let Poll::Ready(read) = futures_util::poll!(reading.as_mut()) {
        return read;
    }
    client.sends(core.clients.now());
    let draining = async {
        core.draining.cancelled().await;
        tokio::time::sleep(BODY_TIMEOUT_DRAINING).await;
    };
    let read = tokio::select! {
        biased;
        read = reading => read,
        () = tokio::time::sleep(BODY_TIMEOUT) => Err(ReadFault::TooSlow),
        () = draining => Err(ReadFault::Stopping),
    };
    client.has_sent(core.clients.now());
    read
}

/// A body of one frame is taken as it is, without a copy.
async fn collect(core: &Core, body: &mut Incoming, limits: BodyLimits) -> Result<Whole, ReadFault> {
    let mut first = Bytes::new();
    let mut all: Option<Vec<u8>> = None;
    let (mut length, mut upload, mut turn) = (0_u64, None, Turn::default());
    while let Some(frame) = next(body, &mut upload).await? {
        let Ok(data) = frame.into_data() else { continue };
        let piece = data.len();
        length += piece as u64;
        if length > limits.one {
            return Err(ReadFault::TooLarge);
        }
        let held = if first.is_empty() {
            first = data;
            first.len()
        } else {
            let all = all.get_or_insert_with(|| Vec::from(&first[..]));
            // Once the body is known to be long, its buffer is not copied again and again as it grows.
            let rest = usize::try_from(body.size_hint().lower()).unwrap_or(0);
            if all.len() > LONG && all.capacity() < all.len() + piece + rest {
                charge(core, &mut upload, all.len() + piece + rest, limits)?;
                *all = Box::pin(beside::with_room(std::mem::take(all), piece + rest)).await;
            }
            all.extend_from_slice(&data);
            all.capacity()
        };
        // A body that is complete with its first piece waits for nothing.
        if held > SMALL && !(all.is_none() && body.is_end_stream()) {
            charge(core, &mut upload, held, limits)?;
            turn.read_of_client(piece).await;
        }
    }
    let read = all.map_or(first, beside::held);
    Ok(match upload {
        Some(upload) => upload.whole(read)?,
        None => read.into(),
    })
}

async fn next(body: &mut Incoming, upload: &mut Option<Upload>) -> Result<Option<Frame<Bytes>>, ReadFault> {
    poll_fn(|context| {
        if upload.as_mut().is_some_and(|upload| upload.poll_given_up(context).is_ready()) {
            return Poll::Ready(Err(ReadFault::GivenUp));
        }
        let frame = connection::take_frame(body, context);
        frame.map(|frame| frame.transpose().map_err(ReadFault::Gone))
    })
    .await
}

fn charge(core: &Core, upload: &mut Option<Upload>, held: usize, limits: BodyLimits) -> Result<(), ReadFault> {
    let now = core.now();
    let upload = upload.get_or_insert_with(|| core.shared.budget.upload(now));
    if upload.bytes() != held {
        upload.grow(held, limits.all, now)?;
    }
    Ok(())
}
