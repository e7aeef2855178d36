//! One endpoint: how it comes up, and how it comes up again.

use std::sync::Arc;
use std::time::Duration;

use model::{Limits, Time, Verdict};

use super::relist::Relist;
use super::restarts::Restarts;
use super::{Act, Serial};
use crate::reason::Reason;

/// After this many attempts in a row that failed, or did not last, the endpoint is failing, not starting.
const FAILING: u32 = 3;

#[derive(Debug)]
pub struct Member {
    pub serial: Serial,
    pub state: State,
    /// The verdict of the health check, which counts while the endpoint is up.
    pub(super) judged: Verdict,
    /// The failure behind that verdict, if there is one.
    pub(super) because: Option<Arc<str>>,
    told: Verdict,
    /// When its verdict last changed.
    pub since: Time,
    /// How long bringing it up may take.
    pub(super) connect: Duration,
    /// As the endpoint was last told them.
    pub(super) limits: Arc<Limits>,
    /// The live snapshot has it.
    pub live: bool,
    /// The live snapshot does not have it any more.
    pub leaving: bool,
    /// An operator has switched it off.
    pub disabled: bool,
    /// No snapshot or attempt wants it; it is kept until this time in case one does.
    pub(super) spare_until: Option<Time>,
    pub(super) relist: Relist,
    /// When it is to be ended and started again, because it hangs.
    pub(super) restart_at: Option<Time>,
    pub(super) restarts: Restarts,
    /// Its process is being ended, so that another one starts in its place.
    pub(super) restarting: bool,
    up_since: Time,
    /// How often it came up.
    pub ups: u32,
    /// Failures in a row, losses soon after it came up included.
    pub failures: u32,
    /// When it last failed to come up, or was lost.
    failed_at: Time,
    /// The time under which [`super::members::Members`] has it in its index.
    pub(super) noted: Option<Time>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not started: its old copy must end first.
    Waiting,
    /// Being brought up, with no failure so far: worth waiting for.
    Arriving,
    Up,
    /// Being brought up again.
    Retrying {
        reason: Reason,
    },
    Down {
        reason: Reason,
        retry_at: Time,
    },
}

impl State {
    pub fn is_up(&self) -> bool {
        *self == Self::Up
    }

    pub fn is_arriving(&self) -> bool {
        matches!(self, Self::Waiting | Self::Arriving)
    }

    /// Whether the endpoint is being brought up right now.
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Arriving | Self::Retrying { .. })
    }

    pub fn retry_at(&self) -> Option<Time> {
        match self {
            Self::Down { retry_at, .. } => Some(*retry_at),
            Self::Waiting | Self::Arriving | Self::Up | Self::Retrying { .. } => None,
        }
    }

    /// Why it is not up, if that is known.
    pub fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Retrying { reason } | Self::Down { reason, .. } => Some(reason),
            Self::Waiting | Self::Arriving | Self::Up => None,
        }
    }
}

impl Member {
    pub(super) fn new(now: Time, serial: Serial, state: State, connect: Duration, limits: Arc<Limits>) -> Self {
        Self {
            serial,
            state,
            judged: Verdict::Unknown,
            because: None,
            told: Verdict::Starting,
            since: now,
            connect,
            limits,
            live: false,
            leaving: false,
            disabled: false,
            spare_until: None,
            relist: Relist::default(),
            restart_at: None,
            restarts: Restarts::default(),
            restarting: false,
            up_since: Time::ZERO,
            ups: 0,
            failures: 0,
            failed_at: Time::ZERO,
            noted: None,
        }
    }

    /// Being up comes first: no verdict makes an endpoint routable that is not up.
    pub fn verdict(&self) -> Verdict {
        match (&self.state, self.judged) {
            (State::Up, Verdict::Starting | Verdict::Failing) => Verdict::Unknown,
            (State::Up, judged) => judged,
            (State::Retrying { .. } | State::Down { .. }, _) if self.failures >= FAILING => Verdict::Failing,
            (State::Waiting | State::Arriving | State::Retrying { .. } | State::Down { .. }, _) => Verdict::Starting,
        }
    }

    /// Why it is not well: not up, unhealthy or degraded. For operators.
    pub fn reason(&self) -> Option<&Arc<str>> {
        match self.verdict() {
            Verdict::Unhealthy | Verdict::Degraded => self.because.as_ref(),
            Verdict::Starting | Verdict::Failing => self.state.reason().map(|reason| &reason.full),
            Verdict::Healthy | Verdict::Unknown => None,
        }
    }

    /// When the roster must act on it next: retry it, list it, restart it, or end it as a spare.
    pub(super) fn due(&self) -> Option<Time> {
        let retry = self.state.retry_at().filter(|_| self.may_retry());
        [retry, self.relist.due(), self.restart_at, self.spare_until].into_iter().flatten().min()
    }

    /// Its process is being ended, so that another one takes its place.
    pub fn restarting(&self) -> bool {
        self.restarting
    }

    /// The verdict, if it differs from the one that was passed on last. A new endpoint is `starting`.
    pub(super) fn verdict_act(&mut self, now: Time) -> Option<Act> {
        let verdict = self.verdict();
        if verdict == std::mem::replace(&mut self.told, verdict) {
            return None;
        }
        self.since = now;
        Some(Act::Verdict { serial: self.serial, verdict })
    }

    pub(super) fn came_up(&mut self, now: Time) {
        self.restart_at = None;
        self.restarting = false;
        self.relist.came_up(now);
        self.state = State::Up;
        (self.judged, self.because) = (Verdict::Unknown, None);
        self.up_since = now;
        self.ups += 1;
    }

    pub(super) fn failed(&mut self, now: Time, reason: Reason, wait: impl Fn(u32) -> Duration) {
        self.relist.lost();
        self.restart_at = None;
        self.state = State::Down { reason, retry_at: now + wait(self.failures) };
        self.failures = self.failures.saturating_add(1);
        self.failed_at = now;
    }

    /// When it came up last.
    pub(super) fn up_since(&self) -> Time {
        self.up_since
    }

    /// Whether the endpoint was up long enough that it will most likely come up again.
    pub(super) fn was_stable(&self, now: Time, stable: Duration) -> bool {
        now.since(self.up_since) >= stable
    }

    /// The endpoint was lost: the roster brings it up again at once.
    pub(super) fn arrives_again(&mut self) {
        self.failures = 0;
        self.relist.lost();
        self.restart_at = None;
        self.state = State::Arriving;
    }

    /// The roster brings the endpoint up now. Its earlier failures still count.
    pub(super) fn hurry(&mut self) {
        self.state = State::Arriving;
    }

    /// A call waits for it: if it is down, its next attempt is due now, but not sooner than `pause` after the last one.
    pub(super) fn hasten(&mut self, now: Time, pause: Duration) {
        if let State::Down { retry_at, .. } = &mut self.state {
            *retry_at = (self.failed_at + pause).max(now).min(*retry_at);
        }
    }

    /// Ends the wait if its time has come. Returns true if it has: the roster then brings the endpoint up.
    pub(super) fn retry(&mut self, now: Time) -> bool {
        match &mut self.state {
            State::Down { reason, retry_at } if *retry_at <= now => {
                self.state = State::Retrying { reason: reason.clone() };
                true
            }
            State::Waiting | State::Arriving | State::Up | State::Retrying { .. } | State::Down { .. } => false,
        }
    }
}
