//! What a router holds in its memory for clients: requests that came, answers that were not taken yet. Counted over all
//! cores, and only where it is large: what is small is bounded by the number of connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is no larger is not counted.
pub(super) const SMALL: usize = 64 << 10;
/// From here on what clients do not read is given up, longest first: an eighth of what may be held.
const MUCH: usize = 8;

/// How much of what may be held is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pressure {
    None,
    Some,
    High,
}

/// The books of one process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held(Arc<AtomicUsize>);

/// Some of what is held. Dropped, it is held no more.
#[derive(Debug)]
pub(super) struct Weight {
    held: Held,
    bytes: usize,
}

impl Held {
    pub(crate) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn pressure(&self, limit: u64) -> Pressure {
        let (bytes, limit) = (self.bytes(), size(limit));
        if bytes > limit / 2 {
            Pressure::High
        } else if bytes > limit / MUCH {
            Pressure::Some
        } else {
            Pressure::None
        }
    }

    /// Holds that much more, if with it no more than `limit` is held. A single one may be as large as it is.
    pub(super) fn weigh(&self, bytes: usize, limit: u64) -> Option<Weight> {
        let fits =
            |before: usize| (before == 0 || before.saturating_add(bytes) <= size(limit)).then_some(before + bytes);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(Weight { held: self.clone(), bytes })
    }

    /// Nothing yet, and later what it is set to, whatever the limit says.
    pub(super) fn nothing(&self) -> Weight {
        Weight { held: self.clone(), bytes: 0 }
    }
}

fn size(limit: u64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

impl Weight {
    pub(super) fn set(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.held.0.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else {
            self.held.0.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.set(0);
    }
}
