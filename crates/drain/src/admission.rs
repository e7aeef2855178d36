//! The single word that decides whether an exchange may go to an endpoint, and counts the admitted exchanges.
//!
//! State and count share a word because two words cannot answer "is the drain over". A reader that finds "cordoned" in
//! one word and "none in flight" in the other may miss an exchange that entered between the two reads.

use std::fmt;

use crate::sync::{AtomicU64, Ordering};

/// Open ⇄ cordoned → closed, with the number of exchanges in flight.
///
/// Entering is a compare-and-swap, not an addition that is taken back when it was too late. A refused exchange
/// therefore never shows in the count: the count at the cordon is the exact total of a drain, and closing needs no
/// retry for an exchange that was only refused.
pub struct Admission(AtomicU64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Exchanges come and go.
    Open,
    /// Exchanges leave; none enters.
    Cordoned,
    /// None is in flight and none will ever be.
    Closed,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Cordoned => "cordoned",
            Self::Closed => "closed",
        }
    }
}

/// What [`Admission::cordon`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cordoned {
    /// The exchanges in flight at that moment: all that ever entered and have not left.
    pub in_flight: u64,
    /// Whether the endpoint was open until now. If not, `in_flight` is not a total, only the rest of an earlier one.
    pub first: bool,
}

const CORDONED: u64 = 1 << 62;
const CLOSED: u64 = 1 << 63;
const COUNT: u64 = CORDONED - 1;

impl Admission {
    /// Open, with no exchange in flight.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "an endpoint's word is made in one place, on purpose")]
    pub fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Comes in, if it is open. Whoever got `true` owes one [`Admission::leave`], however the exchange ends.
    #[must_use]
    pub fn enter(&self) -> bool {
        self.update(|word| (word < CORDONED).then_some(word + 1)).is_ok()
    }

    /// Leaves, and says whether that was the last one out of a cordoned endpoint: time for [`Admission::try_close`].
    pub fn leave(&self) -> bool {
        let before = self.0.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before & COUNT > 0, "left without having entered");
        before == CORDONED + 1
    }

    pub fn in_flight(&self) -> u64 {
        self.0.load(Ordering::Acquire) & COUNT
    }

    pub fn state(&self) -> State {
        state(self.0.load(Ordering::Acquire))
    }

    /// Admits no more exchanges. On a closed endpoint: nothing is in flight, and it stays closed.
    pub fn cordon(&self) -> Cordoned {
        match self.update(|word| (word < CORDONED).then_some(word | CORDONED)) {
            Ok(before) => Cordoned { in_flight: before & COUNT, first: true },
            Err(word) => Cordoned { in_flight: word & COUNT, first: false },
        }
    }

    /// Opens the endpoint again; false when it is closed, which is final.
    #[must_use]
    pub fn uncordon(&self) -> bool {
        self.update(|word| (word & CLOSED == 0).then_some(word & COUNT)).is_ok()
    }

    /// Closes the endpoint for ever if it is cordoned and no exchange is in flight. Returns whether it is closed now.
    #[must_use]
    pub fn try_close(&self) -> bool {
        match self.0.compare_exchange(CORDONED, CLOSED, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(word) => word == CLOSED,
        }
    }

    /// Returns the word before the change, or the word that did not permit it.
    fn update(&self, change: impl Fn(u64) -> Option<u64>) -> Result<u64, u64> {
        let mut word = self.0.load(Ordering::Acquire);
        loop {
            let Some(next) = change(word) else { return Err(word) };
            match self.0.compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(before) => return Ok(before),
                Err(now) => word = now,
            }
        }
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.0.load(Ordering::Acquire);
        write!(f, "Admission({:?}, {} in flight)", state(word), word & COUNT)
    }
}

fn state(word: u64) -> State {
    match word {
        ..CORDONED => State::Open,
        CORDONED..CLOSED => State::Cordoned,
        CLOSED.. => State::Closed,
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
