//! When a session lives, and which sessions are forgotten when there are too many: decisions over times alone. All
//! times are milliseconds.

use model::Limits;

use super::SessionId;

/// The limits of sessions, as configured now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// `limits.session_idle`.
    pub(crate) idle: u64,
    /// `limits.sessions`.
    pub(crate) sessions: usize,
}

impl From<&Limits> for Bounds {
    fn from(limits: &Limits) -> Self {
        let idle = u64::try_from(limits.session_idle.as_millis()).unwrap_or(u64::MAX);
        Self { idle, sessions: usize::try_from(limits.sessions).unwrap_or(usize::MAX) }
    }
}

/// A use is written down as valid for this much longer at most, and the next use is written down only after that.
const GRAIN_MAX: u64 = 10 * 60_000;
pub(super) const SWEEP_MIN: u64 = 1000;
const SWEEP_MAX: u64 = 60_000;

impl Bounds {
    /// How much longer than [`Bounds::idle`] a session may live because of a restart.
    pub(crate) fn grain(self) -> u64 {
        (self.idle / 32).min(GRAIN_MAX)
    }

    /// How often expired sessions are looked for.
    pub(super) fn sweep_every(self) -> u64 {
        (self.idle / 2).clamp(SWEEP_MIN, SWEEP_MAX)
    }

    /// Whether a session that was last used then has expired.
    pub(super) fn expired(self, used: u64, now: u64) -> bool {
        now.saturating_sub(used) > self.idle
    }

    /// Whether a session lives of which only the time of its sealing is known. A session that was issued before `floor`
    /// has had its time, whatever idle limit was configured when that time ended.
    pub(super) fn seal_holds(self, issued: u64, now: u64, floor: u64) -> bool {
        issued >= floor && !self.expired(issued, now)
    }

    /// The floor as of `now`: a session that was last used before it no longer lives.
    pub(super) fn floor(self, now: u64) -> u64 {
        now.saturating_sub(self.idle)
    }

    /// The hard bound on remembered sessions, however long it takes to forget others.
    pub(super) fn sessions_max(self) -> usize {
        self.sessions.saturating_mul(2)
    }

    /// Whether another row of ends may begin, `since_last` after the last one. Half of the rows are free for any burst.
    /// The other half is spread over the time for which ends are remembered: a client that ends many sessions leaves
    /// some rows to others.
    pub(super) fn row_may_begin(self, rows: usize, since_last: u64) -> bool {
        let free = self.sessions.saturating_sub(rows) as u64;
        rows < self.sessions / 2 || since_last.saturating_mul(free) >= self.idle.max(1)
    }

    /// How many of `known` sessions to forget, so that there is room for a while.
    pub(super) fn surplus(self, known: usize) -> usize {
        if known < self.sessions { 0 } else { known - self.sessions + self.sessions.div_ceil(16) }
    }
}

/// A session that may be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Idler {
    pub(super) id: SessionId,
    pub(super) used: u64,
    /// The client has an open stream, which ends when the session is forgotten.
    pub(super) listens: bool,
    /// What forgetting does to the session.
    pub(super) loss: Loss,
}

/// What forgetting a session does to it, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Loss {
    /// The session was never used, so its seal says all that is known of it; or it has expired.
    None,
    /// The session lives on by its seal, as if it had been used last when it was sealed.
    Forgotten,
    /// Its seal no longer holds: the session ends, as if it had expired.
    Ended,
}

/// The `count` sessions that are forgotten first: sessions that live on go before sessions that end, then those that do
/// not listen, then those that lose least, then the idlest. So a flood of new sessions, listening or not, costs nothing
/// to sessions that have long been in use.
pub(super) fn idlest(mut all: Vec<Idler>, count: usize) -> Vec<Idler> {
    let rank = |idler: &Idler| (idler.loss == Loss::Ended, idler.listens, idler.loss, idler.used);
    if count < all.len() {
        all.select_nth_unstable_by_key(count, rank);
        all.truncate(count);
    }
    all
}
