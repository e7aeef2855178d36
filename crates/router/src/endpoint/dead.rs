//! What a call gets of a server that is not there: an error that says when to try again, or a wait. One table says which,
//! whether the endpoint never was up or was up and died.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use backoff::Backoff;
use model::Limits;
use tokio::time::{Instant, sleep, timeout};

use super::{Endpoint, EndpointEvent, EndpointPhase};
use crate::call::life::deaf;
use crate::call::{CallError, Cause};
use crate::upstream::Link;

/// How long calls wait, by trying again, for an HTTP server that has just stopped to accept connections. Counted from
/// the first failure, so that the calls to a server that stays away fail at once.
const REFUSED: Duration = Duration::from_secs(3);
/// Between two tries of one call within [`REFUSED`].
const RETRY: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(250));
/// Between two tries of an endpoint that calls are held for, however many they are. The fleet tries as often as that.
const AGAIN: Duration = Duration::from_millis(500);
/// An endpoint that refuses connections is pinged that often.
const PINGED: Duration = Duration::from_secs(1);

/// Why a call cannot go out on its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absence {
    /// It is being brought up, or will be in a moment.
    Coming,
    /// It could not be brought up, or was lost. The next attempt is due after that time, which is more than a moment, if it
    /// is known yet.
    Away { next: Option<Duration> },
    /// It was up, and has refused connections for that time.
    Refusing { lasts: Duration },
    /// It takes no calls any more: they are routed anew.
    Over,
}

impl Absence {
    /// How much longer a call may wait that has waited for `waited`. `None`: it fails.
    pub(crate) fn patience(self, limits: &Limits, waited: Duration) -> Option<Duration> {
        let held = limits.hold.unwrap_or_default().saturating_sub(waited);
        let left = match self {
            Self::Coming => held.max(limits.connect.saturating_sub(waited)),
            Self::Away { .. } => held,
            Self::Refusing { lasts } => held.max(REFUSED.saturating_sub(lasts)),
            Self::Over => Duration::ZERO,
        };
        (!left.is_zero()).then_some(left)
    }

    /// For the client of a call that fails: after which time another one may succeed.
    pub(crate) fn hint(self) -> Option<Duration> {
        match self {
            Self::Coming => Some(AGAIN),
            Self::Away { next } => Some(next.unwrap_or(AGAIN)),
            Self::Refusing { .. } => Some(PINGED),
            Self::Over => None,
        }
    }

    /// The member of `data` that says it, in milliseconds.
    pub(crate) const HINT: &str = "retryAfterMs";

    fn told(self, error: CallError) -> CallError {
        let hint = self.hint().and_then(|hint| u64::try_from(hint.as_millis()).ok());
        match hint {
            Some(millis) => error.with(Self::HINT, millis.into()),
            None => error,
        }
    }
}

/// The waits of one call.
#[derive(Debug)]
pub(crate) struct Waits {
    /// How long it had waited before.
    before: Duration,
    since: Option<Instant>,
    connects: u32,
}

impl Waits {
    pub(crate) fn after(before: Duration) -> Self {
        Self { before, since: None, connects: 0 }
    }

    fn waited(&mut self) -> Duration {
        self.before + self.since.get_or_insert_with(Instant::now).elapsed()
    }

    /// The connection of `endpoint`, once it has one, unless the call goes elsewhere or fails before.
    pub(crate) async fn for_link(
        &mut self,
        endpoint: &Endpoint,
        mut elsewhere: impl FnMut() -> bool,
    ) -> Result<Arc<Link>, CallError> {
        let mut changes = endpoint.state.subscribe();
        loop {
            if let Some(link) = endpoint.link() {
                return Ok(link);
            }
            let absence = endpoint.absence();
            let left = absence.patience(&endpoint.patient_limits(), self.waited());
            let Some(left) = left.filter(|_| !elsewhere()) else { return Err(endpoint.down_error()) };
            if matches!(absence, Absence::Away { next: Some(_) }) {
                endpoint.tell(EndpointEvent::Wanted);
            }
            // Another endpoint may come up first.
            let change = timeout(left.min(AGAIN), changes.changed());
            let is_held = endpoint.patient_limits().hold.is_some();
            // The server of a held call owes it nothing yet.
            drop(if is_held { deaf(change).await } else { change.await });
        }
    }

    /// Returns when a call that could not connect may try again, or gives back why it may not.
    pub(crate) async fn for_another_try(
        &mut self,
        endpoint: &Endpoint,
        error: CallError,
        mut elsewhere: impl FnMut() -> bool,
    ) -> Result<(), CallError> {
        // It may have been reached by another call since this one failed.
        while let Some(lasts) = endpoint.unreachable_for() {
            let absence = Absence::Refusing { lasts };
            let left = absence.patience(&endpoint.patient_limits(), self.waited());
            let Some(left) = left else { return Err(absence.told(error)) };
            if lasts < REFUSED {
                sleep(RETRY.ceiling(self.connects)).await;
                self.connects += 1;
                return Ok(());
            }
            let mut back = pin!(endpoint.back.notified());
            back.as_mut().enable();
            if endpoint.may_be_tried() {
                return Ok(());
            }
            drop(deaf(timeout(left.min(AGAIN), back)).await);
            if endpoint.is_unreachable() && elsewhere() {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Whether a call goes again of which nothing was sent although its endpoint was up: its process ended, and it is held.
    pub(crate) async fn for_another_process(&mut self, endpoint: &Endpoint) -> bool {
        let limits = endpoint.patient_limits();
        let is_held = Absence::Away { next: None }.patience(&limits, self.waited()).is_some();
        if is_held {
            // The end of the process may not have come to notice yet.
            deaf(sleep(RETRY.base)).await;
        }
        is_held
    }
}

impl Endpoint {
    /// Why it has no connection.
    fn absence(&self) -> Absence {
        if self.admission.state() == drain::State::Closed {
            return Absence::Over;
        }
        let (phase, next) = {
            let state = self.state.borrow();
            (state.phase, state.next_attempt)
        };
        let now = self.upstreams.clock.unix_millis();
        let next = next.map(|next| Duration::from_millis(next.0.saturating_sub(now)));
        match phase {
            EndpointPhase::Ended => Absence::Over,
            EndpointPhase::Idle | EndpointPhase::Connecting | EndpointPhase::Up => Absence::Coming,
            // The fleet brings it up at once, unless it says when.
            EndpointPhase::Lost if next.is_none() => Absence::Coming,
            EndpointPhase::Lost | EndpointPhase::Down if next.is_some_and(|next| next <= AGAIN) => Absence::Coming,
            EndpointPhase::Lost | EndpointPhase::Down => Absence::Away { next },
        }
    }

    /// How long calls may wait for it: one that is cordoned holds none, and those that it has may wait for a connection.
    fn patient_limits(&self) -> Limits {
        let limits = Limits::clone(&self.limits());
        let is_open = self.admission.state() == drain::State::Open;
        Limits { hold: limits.hold.filter(|_| is_open), ..limits }
    }

    /// Whether it is the turn of this call to try it, of those that are held because it refuses connections.
    fn may_be_tried(&self) -> bool {
        let now = self.now().as_nanos();
        let due = self.next_try.load(Ordering::Relaxed);
        let next = now.saturating_add(u64::try_from(AGAIN.as_nanos()).unwrap_or(u64::MAX));
        now >= due && self.next_try.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    pub(crate) fn down_error(&self) -> CallError {
        let last = self.state.borrow().last_error.clone();
        let reason = last.as_ref().map_or("it has not been connected yet", |reason| &*reason.plain);
        let mut error = CallError::unsent(Cause::Down, format!("server `{}` is down: {reason}", self.key.backend));
        if let Some(reference) = last.as_ref().and_then(|reason| reason.reference) {
            error = error.with("reference", reference.to_string().into());
        }
        self.when_to_try_again(error)
    }

    /// Adds to the error of a call that was not sent when another one may succeed.
    pub(crate) fn when_to_try_again(&self, error: CallError) -> CallError {
        self.absence().told(error)
    }
}

#[cfg(test)]
mod tests;
