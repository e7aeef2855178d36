//! What real calls show of each endpoint's health, as one outcome per look at its counters.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use health::Outcome;
use model::EndpointKey;

use crate::endpoint::Endpoint;
use crate::fleet::EndpointStatus;

/// What the counters of each endpoint said at the last look.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    seen: BTreeMap<u64, Counters>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counters {
    /// Failures are no success, and neither is what the gateway ended itself.
    answered: u64,
    failed: u64,
    up: bool,
}

impl Counters {
    fn of(status: &EndpointStatus) -> Self {
        let Endpoint { stats, .. } = &*status.endpoint;
        let failed = stats.failed.load(Ordering::Relaxed);
        let evicted = stats.evicted.load(Ordering::Relaxed);
        let finished = stats.finished.load(Ordering::Acquire);
        Self { answered: finished.saturating_sub(failed + evicted), failed, up: status.up }
    }
}

impl Traffic {
    /// What happened since the last look, of the endpoints of the live snapshot. An endpoint without calls has nothing
    /// to say.
    pub(super) fn look(&mut self, endpoints: &[EndpointStatus]) -> Vec<(EndpointKey, Outcome)> {
        let mut outcomes = Vec::new();
        let mut seen = BTreeMap::new();
        for status in endpoints.iter().filter(|status| status.live) {
            let now = Counters::of(status);
            let before = self.seen.get(&status.endpoint.serial).copied().unwrap_or_default();
            seen.insert(status.endpoint.serial, now);
            if let Some(outcome) = outcome(before, now, status.reason.as_deref()) {
                outcomes.push((status.endpoint.key.clone(), outcome));
            }
        }
        self.seen = seen;
        outcomes
    }
}

/// One answer among failures shows that the server is there: one caller's bad luck is not everybody's.
fn outcome(before: Counters, now: Counters, reason: Option<&str>) -> Option<Outcome> {
    if !now.up {
        let reason = reason.unwrap_or("being brought up").to_owned();
        return before.up.then_some(Outcome::Starting { reason });
    }
    if now.answered > before.answered || !before.up {
        return Some(Outcome::Ok { latency: Duration::ZERO });
    }
    let failures = now.failed.saturating_sub(before.failed);
    (failures > 0).then(|| Outcome::Failed { reason: format!("{failures} calls without an answer, none with one") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_make_one_outcome_per_look() {
        let counters = |answered, failed| Counters { answered, failed, up: true };
        let check = |before, now, expected: Option<&str>| {
            let word = outcome(before, now, None).map(|outcome| match outcome {
                Outcome::Ok { .. } => "ok",
                Outcome::Failed { .. } => "failed",
                Outcome::Starting { .. } => "starting",
            });
            assert_eq!(word, expected, "{before:?} {now:?}");
        };
        let down = Counters { answered: 3, failed: 0, up: false };
        check(counters(3, 0), counters(3, 0), None);
        check(counters(3, 0), counters(4, 9), Some("ok"));
        check(counters(3, 0), counters(3, 1), Some("failed"));
        check(counters(3, 0), down, Some("starting"));
        check(down, down, None);
        check(down, counters(3, 0), Some("ok"));
    }
}
