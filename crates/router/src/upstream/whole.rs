//! The body of a response that is one message, read to its end.
//!
//! A large one has its share of the [room](crate::room) from before it is read until its client has it, and is not copied
//! meanwhile.

#[cfg(test)]
mod tests;

use std::ops::Deref;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::runtime::Handle;

use super::http_answer::{Exchange, too_large};
use super::http_pool::Body;
use super::http1::Http1Error;
use crate::budget::{LARGE, SMALL, Share, Weight};
use crate::call::{CallError, Cause, Side};

/// How long a server may send nothing of a large answer that it has begun, while others wait for the room.
const PAUSE: Duration = Duration::from_secs(5);
/// By how much a message grows at most when the client's id takes the place of ours.
const GROWTH: usize = 2 << 10;

/// One message.
pub(super) enum Whole {
    /// Charged while it is read and sorted, unless it is short.
    Small {
        bytes: Bytes,
        _weight: Option<Weight>,
    },
    Large(Large),
}

/// One that counts for as long as it is held.
pub(super) struct Large {
    bytes: Vec<u8>,
    /// None for what the gateway asks for itself.
    _share: Option<Share>,
    /// Until it is charged as what its client has to take.
    weight: Weight,
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
        self.weight.set(0);
        Bytes::from_owner(self)
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
    /// It paused, and its room was needed.
    Paused,
    /// There was no room to read on after so many bytes.
    NoRoom(usize),
}

impl ReadError {
    pub(super) fn of(self, exchange: &Exchange) -> CallError {
        match self {
            Self::TooLarge => too_large(exchange),
            Self::Broken(error) => exchange.broken(&error),
            Self::Paused => {
                let text = format!(
                    "server `{}` sent nothing of a large answer for {} s while other large answers waited for room \
                     (an eighth of limits.buffered_bytes)",
                    exchange.server(),
                    PAUSE.as_secs()
                );
                CallError::sent(Cause::Protocol, text)
            }
            Self::NoRoom(read) => no_room(exchange, read),
        }
    }
}

/// Reads until the end was seen, not only until the last byte: a connection may be used again only after that.
pub(super) async fn read(mut body: Body, exchange: &Exchange) -> Result<Whole, ReadError> {
    let mut first = Bytes::new();
    let mut more = BytesMut::new();
    let mut length = 0_usize;
    let mut weight = None;
    let (announced, limit) = (body.size_hint().lower(), exchange.limit());
    if announced > limit {
        return Err(ReadError::TooLarge);
    }
    if announced > LARGE as u64 {
        return Box::pin(read_large(body, &[], announced, exchange)).await;
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
        if more.capacity() > SMALL {
            charge(&mut weight, more.capacity(), exchange).await?;
        }
        if length > LARGE {
            return Box::pin(read_large(body, &more, 0, exchange)).await;
        }
    }
    Ok(Whole::Small { bytes: if more.is_empty() { first } else { more.freeze() }, _weight: weight })
}

/// Reads the rest of what has `begun`; of what length it is in all, if that was announced.
async fn read_large(mut body: Body, begun: &[u8], announced: u64, exchange: &Exchange) -> Result<Whole, ReadError> {
    let limit = exchange.limit();
    let mut share = share(exchange, if announced > 0 { announced } else { limit }).await;
    // The room bounds what is read now.
    let mut weight = exchange.endpoint.upstreams.budget.nothing();
    let mut bytes = Vec::with_capacity(usize::try_from(announced).unwrap_or(0).max(begun.len()) + GROWTH);
    bytes.extend_from_slice(begun);
    while let Some(data) = next(&mut body, share.as_ref()).await? {
        if (bytes.len() + data.len()) as u64 > limit {
            return Err(ReadError::TooLarge);
        }
        bytes.extend_from_slice(&data);
        weight.set(bytes.len());
    }
    if let Some(share) = &mut share {
        share.shrink(bytes.len() as u64);
    }
    Ok(Whole::Large(Large { bytes, _share: share, weight }))
}

/// Whether the gateway asks for itself: on the control thread, and what it reads it does not hold for a client.
pub(super) fn is_own(exchange: &Exchange) -> bool {
    Handle::current().id() == exchange.endpoint.upstreams.control.id()
}

/// What is read on, when what there was no room for before may come: its server holds the rest meanwhile.
async fn charge(weight: &mut Option<Weight>, bytes: usize, exchange: &Exchange) -> Result<(), ReadError> {
    if is_own(exchange) {
        return Ok(());
    }
    let weight = weight.get_or_insert_with(|| exchange.endpoint.upstreams.budget.nothing());
    let limits = exchange.endpoint.limits();
    if weight.try_set(bytes, limits.buffered_bytes) {
        return Ok(());
    }
    let fits = Box::pin(weight.set_within(limits.write, bytes, limits.buffered_bytes)).await;
    if fits { Ok(()) } else { Err(ReadError::NoRoom(bytes)) }
}

/// A call whose answer could not be read to its end.
pub(super) fn no_room(exchange: &Exchange, read: usize) -> CallError {
    let limits = exchange.endpoint.limits();
    let text = format!(
        "the call was executed and its answer is lost: after {read} bytes of what server `{}` said there was no room \
         for more for {:?} (limits.write), since the gateway holds no more than {} bytes for clients \
         (limits.buffered_bytes)",
        exchange.server(),
        limits.write,
        limits.buffered_bytes
    );
    CallError { side: Side::Gateway, ..CallError::sent(Cause::TooLarge, text) }
}

/// Waits for room, unless the gateway asks for itself: what it reads then it does not hold.
async fn share(exchange: &Exchange, bytes: u64) -> Option<Share> {
    if is_own(exchange) {
        return None;
    }
    let buffered = exchange.endpoint.limits().buffered_bytes;
    Some(exchange.endpoint.upstreams.budget.room().share(bytes, buffered).await)
}

/// The next piece. A server that pauses keeps its room for as long as nobody else needs it.
async fn next(body: &mut Body, share: Option<&Share>) -> Result<Option<Bytes>, ReadError> {
    loop {
        match tokio::time::timeout(PAUSE, body.frame()).await {
            Ok(Some(frame)) => {
                if let Ok(data) = frame.map_err(ReadError::Broken)?.into_data() {
                    return Ok(Some(data));
                }
            }
            Ok(None) => return Ok(None),
            Err(_) if share.is_some_and(Share::is_wanted) => return Err(ReadError::Paused),
            Err(_) => {}
        }
    }
}
