//! The body of a request: it is read whole, within its limits, and charged where it is not small.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body::Frame;
use hyper::body::{Body as _, Incoming};
use mcp::ErrorCode;
use model::{Limits, Revision};

use super::answer::body::Body;
use super::answer::{self, unread};
use super::taking::take_frame;
use crate::beside::{self, LONG, Turn};
use crate::budget::{Refused, SMALL, Upload, Whole};
use crate::core::Core;
use crate::core::clients::Client;

/// How long a client may take from the head of a request to the end of its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// The same once the core drains.
const BODY_TIMEOUT_DRAINING: Duration = Duration::from_secs(1);

/// Why there is no body.
pub(super) enum ReadFault {
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

impl From<Refused> for ReadFault {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NoRoom => Self::NoRoom,
            Refused::GivenUp => Self::GivenUp,
        }
    }
}

impl ReadFault {
    pub(super) async fn answer(
        &self,
        revision: Revision,
        limits: BodyLimits,
        head: &HeaderMap,
        rest: Incoming,
    ) -> Response<Body> {
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
pub(super) struct BodyLimits {
    pub(super) one: u64,
    pub(super) all: u64,
}

impl From<&Limits> for BodyLimits {
    fn from(limits: &Limits) -> Self {
        Self { one: limits.request_bytes, all: limits.buffered_bytes }
    }
}

pub(super) async fn read(
    core: &Core,
    client: &Client,
    body: &mut Incoming,
    limits: BodyLimits,
) -> Result<Whole, ReadFault> {
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
    client.note_sent(core.clients.now());
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
        let frame = take_frame(body, context);
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
