//! How long clients may take, depending on whether the core serves, drains or closes.

use std::time::Duration;

use model::Time;

/// How long the first request may take to begin and to show its whole head.
const FIRST_HEAD: Duration = Duration::from_secs(10);
/// How long the head of a later request may take from its first byte.
pub(super) const HEAD: Duration = Duration::from_secs(10);
/// How long a connection that has served may be silent.
const IDLE: Duration = Duration::from_secs(600);
/// How long a client may keep a draining core waiting.
const DRAINING: Duration = Duration::from_secs(1);
/// The same at the very end, when the core waits for nothing else.
const CLOSING: Duration = Duration::from_millis(100);

/// How long clients may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    pub(super) first_head: Duration,
    pub(super) head: Duration,
    pub(super) idle: Duration,
    /// How long a client may take nothing of what is written to it.
    pub(super) write: Duration,
    /// Time before this does not count.
    pub(super) since: Time,
}

impl Patience {
    pub(crate) fn serving(write: Duration) -> Self {
        Self { first_head: FIRST_HEAD, head: HEAD, idle: IDLE, write, since: Time::ZERO }
    }

    /// The limits of a core that drains since then.
    pub(crate) fn draining(write: Duration, since: Time) -> Self {
        Self { first_head: DRAINING, head: DRAINING, idle: DRAINING, write: write.min(DRAINING), since }
    }

    pub(crate) fn closing() -> Self {
        Self { first_head: CLOSING, head: CLOSING, idle: CLOSING, write: CLOSING, since: Time::ZERO }
    }
}
