//! What real calls show of each endpoint's health: a few outcomes per look at its counters.

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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counters {
    /// Failures are no success, and neither is what the gateway or a client ended.
    answered: u64,
    failed: u64,
    up: bool,
    /// How often it came up.
    ups: u32,
}

impl Counters {
    fn of(status: &EndpointStatus) -> Self {
        let Endpoint { stats, .. } = &*status.endpoint;
        let failed = stats.failed.load(Ordering::Relaxed);
        Self { answered: stats.answered(), failed, up: status.up, ups: status.ups }
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
            // Of one that is seen for the first time all there is to say is that it is up.
            let unseen = Counters { up: false, ..now };
            let before = self.seen.get(&status.endpoint.serial).copied().unwrap_or(unseen);
            seen.insert(status.endpoint.serial, now);
            let shown = outcomes_of(before, now, status.reason.as_deref());
            outcomes.extend(shown.into_iter().flatten().map(|outcome| (status.endpoint.key.clone(), outcome)));
        }
        self.seen = seen;
        outcomes
    }
}

/// Failures beside answers count only if they are many, and never last: whoever answers is there, and one caller's bad
/// luck is not everybody's.
fn outcomes_of(before: Counters, now: Counters, reason: Option<&str>) -> [Option<Outcome>; 3] {
    if !now.up {
        let reason = reason.unwrap_or("being brought up").to_owned();
        return [before.up.then_some(Outcome::Starting { reason }), None, None];
    }
    let starting = (before.ups != now.ups).then(|| Outcome::Starting { reason: "it came up again".to_owned() });
    let answers = now.answered.saturating_sub(before.answered);
    let failures = now.failed.saturating_sub(before.failed);
    let many = failures > 0 && failures * 10 >= answers;
    let failed =
        many.then(|| Outcome::Failed { reason: format!("{failures} calls without an answer, {answers} with one") });
    let answered =
        (answers > 0 || (starting.is_some() || !before.up) && !many).then_some(Outcome::Ok { latency: Duration::ZERO });
    // What was before it came up says nothing about it: the first word is that it started.
    [starting, failed, answered]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_make_few_outcomes() {
        let counters = |answered, failed| Counters { answered, failed, up: true, ups: 1 };
        let check = |before, now, expected: &[&str]| {
            let words = outcomes_of(before, now, None).into_iter().flatten().map(|outcome| match outcome {
                Outcome::Ok { .. } => "ok",
                Outcome::Failed { .. } => "failed",
                Outcome::Starting { .. } => "starting",
            });
            assert_eq!(words.collect::<Vec<_>>(), expected, "{before:?} {now:?}");
        };
        let down = Counters { up: false, ..counters(3, 0) };
        let again = Counters { ups: 2, ..counters(3, 0) };
        check(counters(3, 0), counters(3, 0), &[]);
        check(counters(3, 0), counters(103, 9), &["ok"]);
        check(counters(3, 0), counters(103, 10), &["failed", "ok"]);
        check(counters(3, 0), counters(3, 1), &["failed"]);
        check(counters(3, 0), down, &["starting"]);
        check(down, down, &[]);
        check(down, counters(3, 0), &["ok"]);
        check(down, again, &["starting", "ok"]);
        check(counters(3, 0), again, &["starting", "ok"]);
        check(counters(3, 0), Counters { failed: 1, ..again }, &["starting", "failed"]);
    }
}
