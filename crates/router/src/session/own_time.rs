//! The time by which sessions live: it only goes forward, at the pace of the machine, however its clock is set.
//!
//! `now` counts milliseconds of this process. What leaves the process (sealed ids, records on disk) carries a *stamp*,
//! which can be compared with stamps of other processes: wall time, except that it never goes back. When the clock is
//! set forward, the stamps move with it, and so do the records of sessions in use, so that no session is charged for
//! time that did not pass.

use std::sync::atomic::{AtomicU64, Ordering};

use runtime::Clock;

/// A wall clock that is ahead by more than this was set, and did not merely drift.
const STEP: u64 = 1000;

#[derive(Debug)]
pub(super) struct OwnTime {
    clock: Clock,
    /// What `now` was when `clock` showed `origin`, in nanoseconds.
    base: u64,
    origin: u64,
    /// How far stamps are ahead of `now`.
    ahead: AtomicU64,
}

impl OwnTime {
    /// Begins at `wall`, or at the latest stamp of earlier processes if the wall clock was set back since.
    pub(super) fn after(latest: u64, wall: u64, clock: Clock) -> Self {
        if latest > wall + STEP {
            tracing::warn!(
                seconds = (latest - wall) / 1000,
                "the clock is behind what sessions have seen; until it has caught up, they live by the later time"
            );
        }
        Self { clock, base: wall.max(latest), origin: clock.now_nanos(), ahead: AtomicU64::new(0) }
    }

    pub(super) fn now(&self) -> u64 {
        self.at(self.clock.now_nanos())
    }

    /// What `now` is when the clock shows `nanos`.
    pub(super) fn at(&self, nanos: u64) -> u64 {
        self.base + nanos.saturating_sub(self.origin) / 1_000_000
    }

    pub(super) fn wall(&self) -> u64 {
        self.clock.unix_millis()
    }

    pub(super) fn stamp(&self, now: u64) -> u64 {
        now + self.ahead.load(Ordering::Relaxed)
    }

    /// Whether the wall clock was set forward since the last call: then all stamps on disk must be written anew. Called
    /// by one thread.
    pub(super) fn was_set(&self, now: u64, wall: u64) -> bool {
        let lead = wall.saturating_sub(self.stamp(now));
        if lead > STEP {
            self.ahead.fetch_add(lead, Ordering::Relaxed);
        }
        lead > STEP
    }
}
