//! The body of a response that is one message, read to its end.
//!
//! A large body has its share of the [room](crate::budget::Room) from before it is read until its client has it, and is
//! not copied meanwhile.

#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::ops::Deref;
use std::pin::Pin;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt;

use super::awaited::Awaited;
use super::http1::Http1Error;
use super::pool::Body;
use crate::beside::{LONG, Turn, put_away};
use crate::budget::{Charge, LARGE, SMALL, Share};
use crate::call::CallError;
use crate::upstream::half_read::{HalfRead, Refused};

/// By how much a message grows at most when the client's id takes the place of ours.
const GROWTH: usize = 2 << 10;

/// One message.
pub(super) enum Whole {
    /// Charged while it is read and sorted, unless it is short.
    Small {
        bytes: Bytes,
        _held: HalfRead,
    },
    Large(Large),
}

/// A large message, charged for as long as it is held.
pub(super) struct Large {
    bytes: Vec<u8>,
    /// `None` for the gateway's own requests. The charge lasts until the message is charged as one that its client has
    /// to take.
    held: Option<(Share, Charge)>,
}

impl Deref for Whole {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Small { bytes, .. } => bytes,
            Self::Large(large) => &large.bytes,
        }
    }
}

impl Large {
    /// As `change` leaves it.
    pub(super) fn with(mut self, change: impl FnOnce(&mut Vec<u8>)) -> Bytes {
        change(&mut self.bytes);
        if let Some((_, charge)) = &mut self.held {
            charge.set(0);
        }
        Bytes::from_owner(self)
    }
}

impl Drop for Large {
    /// The client has the message. Its share of the room is given back once its memory is.
    fn drop(&mut self) {
        if self.bytes.capacity() > LONG {
            put_away((std::mem::take(&mut self.bytes), self.held.take()));
        }
    }
}

impl AsRef<[u8]> for Large {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

pub(super) enum ReadError {
    TooLarge,
    Broken(Http1Error),
    Refused(Refused),
}

impl ReadError {
    pub(super) fn of(self, awaited: &Awaited) -> CallError {
        match self {
            Self::TooLarge => awaited.too_large(),
            Self::Broken(error) => awaited.broken(&error),
            Self::Refused(refused) => refused.said(&awaited.endpoint),
        }
    }
}

/// Reads until the end was seen, not only until the last byte: a connection may be used again only after that.
pub(super) async fn read(mut body: Body, awaited: &Awaited) -> Result<Whole, ReadError> {
    let mut first = Bytes::new();
    let mut more = BytesMut::new();
    let mut length = 0_usize;
    let mut held = HalfRead::default();
    let (announced, limit) = (body.size_hint().lower(), awaited.endpoint.response_max());
    if announced > limit {
        return Err(ReadError::TooLarge);
    }
    if announced > LARGE as u64 {
        return Box::pin(read_large(body, held, &[], Some(announced), awaited)).await;
    }
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(ReadError::Broken)?.into_data() else { continue };
        length += data.len();
        if length as u64 > limit {
            return Err(ReadError::TooLarge);
        }
        if first.is_empty() && more.is_empty() {
            first = data;
            continue;
        }
        if more.is_empty() {
            more.reserve(usize::try_from(announced).unwrap_or(0).max(first.len() + data.len()));
            more.extend_from_slice(&first);
        }
        more.extend_from_slice(&data);
        if length > LARGE {
            return Box::pin(read_large(body, held, &more, None, awaited)).await;
        }
        let holds = more.capacity().min(LARGE);
        if holds > SMALL && !held.try_hold(holds, &awaited.endpoint) {
            Box::pin(held.hold(holds, None, &awaited.endpoint)).await.map_err(ReadError::Refused)?;
        }
    }
    Ok(Whole::Small { bytes: if more.is_empty() { first } else { more.freeze() }, _held: held })
}

/// Reads the rest of a body that has `begun`; its whole length is given if it was announced.
async fn read_large(
    mut body: Body,
    mut held: HalfRead,
    begun: &[u8],
    announced: Option<u64>,
    awaited: &Awaited,
) -> Result<Whole, ReadError> {
    let (limit, endpoint) = (awaited.endpoint.response_max(), &awaited.endpoint);
    held.hold(begun.len().max(LARGE + 1), announced, endpoint).await.map_err(ReadError::Refused)?;
    let expected = announced.and_then(|announced| usize::try_from(announced).ok()).unwrap_or(0);
    let mut bytes = Vec::with_capacity(expected.max(begun.len()) + GROWTH);
    bytes.extend_from_slice(begun);
    let mut turn = Turn::default();
    while let Some(data) = next(&mut body, &mut held).await? {
        if (bytes.len() + data.len()) as u64 > limit {
            return Err(ReadError::TooLarge);
        }
        bytes.extend_from_slice(&data);
        let holds = bytes.len().max(LARGE + 1);
        if !held.try_hold(holds, endpoint) {
            Box::pin(held.hold(holds, announced, endpoint)).await.map_err(ReadError::Refused)?;
        }
        turn.read(data.len()).await;
    }
    let held = held.complete(bytes.len());
    Ok(Whole::Large(Large { bytes, held }))
}

/// The next piece of a large body.
async fn next(body: &mut Body, held: &mut HalfRead) -> Result<Option<Bytes>, ReadError> {
    loop {
        let frame = poll_fn(|context| {
            if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(context) {
                return Poll::Ready(Ok(frame));
            }
            held.poll_too_slow(context).map(|()| Err(ReadError::Refused(Refused::TooSlow)))
        });
        match frame.await? {
            Some(frame) => {
                if let Ok(data) = frame.map_err(ReadError::Broken)?.into_data() {
                    return Ok(Some(data));
                }
            }
            None => return Ok(None),
        }
    }
}
