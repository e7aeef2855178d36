//! An answer that is being read: what may be held of it until it is complete.
//!
//! A short answer is not charged. Up to a megabyte, an answer is charged as it grows, within the limit for its server's
//! unfinished answers. A larger answer needs its share of the [room](crate::budget::Room). It loses that share if it
//! comes too slowly while others wait. Until there is room, the server holds the rest.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use model::units::in_words;
use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::budget::{Begun, Behind, Charge, GRACE, LARGE, RATE, SMALL, Share};
use crate::call::life;
use crate::call::{CallError, Cause, Side};
use crate::endpoint::Endpoint;

/// How often the router checks how far a large answer is behind.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The share that an answer of unknown length requests first. The share grows.
const FIRST: u64 = 2 << 20;

/// Holds nothing at first, and never holds anything for what the gateway asks for itself.
#[derive(Default)]
pub(super) struct HalfRead {
    begun: Option<Begun>,
    large: Option<Box<Large>>,
    /// The bytes may be for any call: a child has one pipe for all its messages.
    anyones: bool,
}

struct Large {
    share: Share,
    charge: Charge,
    /// Bytes that came since the last look.
    came: u64,
    behind: Behind,
    look: Pin<Box<Sleep>>,
}

/// Why no more of an answer is held.
pub(super) enum Refused {
    /// The answer came too slowly, and its room was needed.
    TooSlow,
    /// There was no room for so many bytes.
    NoRoom(usize),
    /// The answer would leave too little room to others.
    TooMuch,
}

impl HalfRead {
    /// For a line of a child.
    pub(super) fn of_line() -> Self {
        Self { anyones: true, ..Self::default() }
    }

    /// Whether `bytes` of the answer may be held now.
    pub(super) fn try_hold(&mut self, bytes: usize, endpoint: &Endpoint) -> bool {
        if bytes <= SMALL || !self.anyones && is_own(endpoint) {
            (self.begun, self.large) = (None, None);
            return true;
        }
        if bytes > LARGE {
            let grows = |large: &mut Box<Large>| bytes <= most(endpoint) && large.try_grow(bytes);
            return self.large.as_mut().is_some_and(grows);
        }
        self.large = None;
        let budget = &endpoint.upstreams.budget;
        let begun = self.begun.get_or_insert_with(|| Begun::of(&endpoint.unfinished, budget));
        begun.try_set(bytes, endpoint.limits().buffered_bytes)
    }

    /// Returns once `bytes` of the answer may be held. `announced` is its whole length, if the server gave it.
    pub(super) async fn hold(
        &mut self,
        bytes: usize,
        announced: Option<u64>,
        endpoint: &Endpoint,
    ) -> Result<(), Refused> {
        if self.try_hold(bytes, endpoint) {
            return Ok(());
        }
        let (write, buffered) = (endpoint.limits().write, endpoint.limits().buffered_bytes);
        let budget = &endpoint.upstreams.budget;
        if bytes <= LARGE {
            let begun = self.begun.get_or_insert_with(|| Begun::of(&endpoint.unfinished, budget));
            let fits = life::deaf(begun.set_within(write, bytes, buffered)).await;
            return if fits { Ok(()) } else { Err(Refused::NoRoom(bytes)) };
        }
        if bytes > most(endpoint) || announced.is_some_and(|announced| announced > most(endpoint) as u64) {
            return Err(Refused::TooMuch);
        }
        if let Some(large) = &mut self.large {
            life::deaf(large.share.grow(bytes)).await;
            large.is_now(bytes);
            return Ok(());
        }
        let mut share = life::deaf(budget.room().share(endpoint.number, announced.unwrap_or(FIRST), buffered)).await;
        life::deaf(share.grow(bytes)).await;
        let (mut charge, look) = (budget.nothing_yet(), Box::pin(sleep_until(Instant::now() + LOOK_EVERY)));
        // Bytes that came before there was room do not count toward its speed.
        charge.set(bytes);
        let large = Large { share, charge, came: 0, behind: Behind::default(), look };
        (self.begun, self.large) = (None, Some(Box::new(large)));
        Ok(())
    }

    /// Ready if the answer comes too slowly and its room is needed.
    pub(super) fn poll_too_slow(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.large.as_mut().map_or(Poll::Pending, |large| large.poll_too_slow(context))
    }

    /// All of a large answer is there: it has its share for as long as it is held.
    pub(super) fn complete(self, bytes: usize) -> Option<(Share, Charge)> {
        let Large { mut share, charge, .. } = *self.large?;
        share.complete(bytes as u64);
        Some((share, charge))
    }
}

impl Large {
    fn try_grow(&mut self, bytes: usize) -> bool {
        let grows = self.share.try_grow(bytes);
        if grows {
            self.is_now(bytes);
        }
        grows
    }

    fn is_now(&mut self, bytes: usize) {
        self.came += bytes.saturating_sub(self.charge.bytes()) as u64;
        // The room bounds what is read now.
        self.charge.set(bytes);
    }

    fn poll_too_slow(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.look.as_mut().poll(context).is_ready() {
            let came = std::mem::take(&mut self.came);
            if self.behind.is_too_far(came, LOOK_EVERY, self.share.is_wanted()) {
                return Poll::Ready(());
            }
            self.look.as_mut().reset(Instant::now() + LOOK_EVERY);
        }
        Poll::Pending
    }
}

/// No answer may hold more than half of the whole budget before its client can take it.
fn most(endpoint: &Endpoint) -> usize {
    let half = endpoint.limits().buffered_bytes / 2;
    usize::try_from(half.max(FIRST)).unwrap_or(usize::MAX)
}

/// Whether this is a request of the gateway's own: it runs on the control thread, and its answer is not held for a
/// client.
fn is_own(endpoint: &Endpoint) -> bool {
    Handle::current().id() == endpoint.upstreams.control.id()
}

impl Refused {
    pub(super) fn said(self, endpoint: &Endpoint) -> CallError {
        let (server, limits) = (&endpoint.key.backend, endpoint.limits());
        match self {
            Self::TooSlow => {
                let text = format!(
                    "server `{server}` sent a large answer too slowly while other large answers waited for room (an eighth \
                     of limits.buffered_bytes): it fell more than {} s behind {} KiB a second",
                    GRACE.as_secs(),
                    RATE >> 10
                );
                CallError::sent(Cause::Protocol, text)
            }
            Self::TooMuch => {
                let text = format!(
                    "the call was executed and its answer is lost: server `{server}` sends more than half of the {} bytes \
                     that the gateway holds for clients (limits.buffered_bytes)",
                    limits.buffered_bytes
                );
                CallError { side: Side::Gateway, ..CallError::sent(Cause::TooLarge, text) }
            }
            Self::NoRoom(read) => {
                let text = format!(
                    "the call was executed and its answer is lost: after {read} bytes of what server `{server}` said there \
                     was no room for more for {} (limits.write), since the gateway holds no more than {} bytes for \
                     clients (limits.buffered_bytes), and of what one server has begun and not ended an eighth",
                    in_words(limits.write),
                    limits.buffered_bytes
                );
                CallError { side: Side::Gateway, ..CallError::sent(Cause::TooLarge, text) }
            }
        }
    }
}
