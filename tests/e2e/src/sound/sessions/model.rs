//! What must hold of a session, by DESIGN's rule alone: it lives until it was not used for the configured time, or
//! until its client ended it, whatever happens to the process and its clock.

use std::time::Duration;

use tokio::time::Instant;

/// `limits.session_idle` of all schedules.
pub(super) const IDLE: Duration = Duration::from_secs(2);
/// By how much a restart may lengthen a session's life: uses are written down as coarsely as this.
const GRAIN: i64 = 2000 / 32;
/// Below this, a use need not be noted.
const EXACT: i64 = 16;
/// What was written down just before a kill is at most so old.
const LAST_WRITE: i64 = 250;

/// What must hold at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Must {
    Live,
    /// Within the bounds of what can be measured from outside and of what is promised over a restart.
    Either,
    BeDead,
}

/// One session, as its client sees it.
#[derive(Debug)]
pub(super) struct Session {
    /// Between which moments it was last used.
    used: (Instant, Instant),
    /// What is to be added to the time since then, at least and at most, in milliseconds.
    charge: (i64, i64),
    dead: bool,
}

impl Session {
    /// A use that was asked for and answered at these moments.
    pub(super) fn begun(asked: Instant, answered: Instant) -> Self {
        Self { used: (asked, answered), charge: (0, 0), dead: false }
    }

    /// For a use that is asked for and answered at these moments.
    pub(super) fn must(&self, asked: Instant, answered: Instant) -> Must {
        let least = millis(asked.saturating_duration_since(self.used.1)) + self.charge.0;
        let most = millis(answered.saturating_duration_since(self.used.0)) + self.charge.1;
        match () {
            () if self.dead || least > millis(IDLE) + EXACT => Must::BeDead,
            () if most > millis(IDLE) => Must::Either,
            () => Must::Live,
        }
    }

    pub(super) fn was_used(&mut self, asked: Instant, answered: Instant) {
        (self.used, self.charge) = ((asked, answered), (0, EXACT));
    }

    pub(super) fn died(&mut self) {
        self.dead = true;
    }

    /// Over a restart that took that long, at most; the clock went forward by `forward` meanwhile, or shows less than
    /// what was written last.
    fn outlives_restart(&mut self, down: i64, clock: Clock) {
        let (least, most) = match clock {
            Clock::Forward(by) => (by, by),
            Clock::Steady => (0, 0),
            // Then time goes on from what was written last.
            Clock::Behind => (-down - LAST_WRITE, 0),
        };
        self.charge = (self.charge.0 + least - GRAIN, self.charge.1 + most);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clock {
    Steady,
    Forward(i64),
    Behind,
}

/// How far the machine's clock is ahead, and how far the gateway thinks that it is; in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clocks {
    machine: i64,
    gateway: i64,
}

impl Clocks {
    /// The clock is set while the gateway runs; true if it was set to a time that the gateway has not seen.
    pub(super) fn set(&mut self, seconds: i64) -> bool {
        self.machine += seconds * 1000;
        let unseen = self.machine > self.gateway + MARGIN;
        self.gateway = self.gateway.max(self.machine);
        unseen
    }

    /// The clock is set by so many seconds while the gateway is down, for at most `down`.
    pub(super) fn restart(&mut self, seconds: i64, down: Duration, sessions: &mut [Session]) {
        self.machine += seconds * 1000;
        let clock = match self.machine - self.gateway {
            ahead if ahead > MARGIN => Clock::Forward(ahead),
            ahead if ahead < -MARGIN => Clock::Behind,
            _ => Clock::Steady,
        };
        self.gateway = self.gateway.max(self.machine);
        sessions.iter_mut().for_each(|session| session.outlives_restart(millis(down), clock));
    }
}

/// Clocks are set by hours and more; what is less comes of restarts while the clock was behind.
const MARGIN: i64 = 600_000;

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
