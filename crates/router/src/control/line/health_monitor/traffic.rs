//! What real calls show of each endpoint's health: a few outcomes per look at its counters.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use health::Outcome;
use model::{EndpointKey, Verdict, units::count};

use crate::control::EndpointStatus;
use crate::endpoint::Endpoint;

/// It is there; how fast it answers is not known from counters.
const IS_UP: Outcome = Outcome::Ok { latency: Duration::ZERO };

/// What the counters of each endpoint said at the last look.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    seen: BTreeMap<u64, Counters>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counters {
    /// Calls that the server answered: neither failures, nor calls that the gateway or a client ended.
    answered: u64,
    failed: u64,
    up: bool,
    /// How often the endpoint came up.
    ups: u32,
    /// The endpoint will most likely not come up.
    failing: bool,
    /// Probes or calls have shown how it is since it came up.
    judged: bool,
}

impl Counters {
    fn of(status: &EndpointStatus) -> Self {
        let Endpoint { stats, .. } = &*status.endpoint;
        let failed = stats.failed.load(Ordering::Relaxed);
        let judged = match status.endpoint.verdict() {
            Verdict::Healthy | Verdict::Degraded | Verdict::Unhealthy => true,
            Verdict::Unknown | Verdict::Starting | Verdict::Failing => false,
        };
        Self { answered: stats.answered(), failed, up: status.up, ups: status.ups, failing: is_failing(status), judged }
    }
}

impl Traffic {
    /// What happened since the last look, of the endpoints of the live snapshot. An endpoint without calls has nothing
    /// to say.
    pub(super) fn look(&mut self, endpoints: &[Arc<EndpointStatus>]) -> Vec<(EndpointKey, Outcome)> {
        let mut outcomes = Vec::new();
        let mut seen = BTreeMap::new();
        for status in endpoints.iter().filter(|status| status.is_served()) {
            let now = Counters::of(status);
            // Of an endpoint that is seen for the first time, all that can be said is that it is up.
            let unseen = Counters { up: false, ..now };
            let before = self.seen.get(&status.endpoint.number).copied().unwrap_or(unseen);
            seen.insert(status.endpoint.number, now);
            let why = status.endpoint.take_failure();
            let mut shown = outcomes_of(before, now, || starting(status), || again(status), why);
            if now.up && shown[1].is_none() && status.endpoint.is_unreachable() {
                // Calls avoid it since, so none of them fails any more.
                shown[1] = Some(Outcome::Failed { reason: "no connection could be made".to_owned() });
            }
            outcomes.extend(shown.into_iter().flatten().map(|outcome| (status.endpoint.key.clone(), outcome)));
        }
        self.seen = seen;
        outcomes
    }

    /// What came up for the first time, was lost, or came up again; that the last one is up is said at the next look.
    pub(super) fn lives<'a>(
        &mut self,
        endpoints: impl Iterator<Item = &'a EndpointStatus>,
    ) -> Vec<(EndpointKey, Outcome)> {
        let mut outcomes = Vec::new();
        for status in endpoints.filter(|status| status.is_served()) {
            let now = Counters::of(status);
            // One that has never been up comes up for the first time, however long it has been seen.
            let before = self.seen.get(&status.endpoint.number).filter(|before| before.ups > 0 || !now.up);
            let (noted, outcome) = match (before, now.up) {
                (None, true) => (now, (!now.judged).then_some(IS_UP)),
                (None, false) => (now, None),
                (Some(before), true) if before.ups != now.ups => (Counters { up: false, ..now }, Some(again(status))),
                (Some(before), false) if is_lost(*before, now) => (now, Some(starting(status))),
                (Some(_), true | false) => continue,
            };
            self.seen.insert(status.endpoint.number, noted);
            outcomes.extend(outcome.map(|outcome| (status.endpoint.key.clone(), outcome)));
        }
        outcomes
    }
}

/// Of an endpoint that is not up: whether that is news.
fn is_lost(before: Counters, now: Counters) -> bool {
    before.up || before.failing != now.failing
}

/// The outcome for an endpoint that is not up.
pub(super) fn starting(status: &EndpointStatus) -> Outcome {
    let reason = status.reason.clone().or_else(|| last_error(status));
    let reason = reason.map_or_else(|| "being brought up".to_owned(), |reason| reason.to_string());
    Outcome::Starting { reason, failing: is_failing(status) }
}

/// Why it was last lost, or did not come up.
fn last_error(status: &EndpointStatus) -> Option<Arc<str>> {
    status.endpoint.process_and_error().1
}

fn is_failing(status: &EndpointStatus) -> bool {
    !status.up && status.endpoint.verdict() == Verdict::Failing
}

fn again(status: &EndpointStatus) -> Outcome {
    let lost = last_error(status).map_or_else(String::new, |error| format!("; before that: {error}"));
    Outcome::Starting { reason: format!("it came up again{lost}"), failing: false }
}

/// Failures beside answers count only if they are many, and are never the last outcome: a server that answers is there,
/// and one caller's bad luck does not concern all callers.
fn outcomes_of(
    before: Counters,
    now: Counters,
    starting: impl FnOnce() -> Outcome,
    again: impl FnOnce() -> Outcome,
    why: Option<Arc<str>>,
) -> [Option<Outcome>; 3] {
    if !now.up {
        return [is_lost(before, now).then(starting), None, None];
    }
    let starting = (before.ups > 0 && before.ups != now.ups).then(again);
    let answers = now.answered.saturating_sub(before.answered);
    let failures = now.failed.saturating_sub(before.failed);
    let many = failures > 0 && failures * 10 >= answers;
    let failed = many.then(|| {
        let failures = count(failures, "call");
        let first = why.map_or_else(String::new, |why| format!("; the first: {why}"));
        Outcome::Failed { reason: format!("{failures} failed, and {answers} did not{first}") }
    });
    // That it came up is older than what probes have shown of it since.
    let came_up = starting.is_some() || !before.up && !now.judged;
    let answered = (answers > 0 || came_up && !many).then_some(IS_UP);
    // What happened before the server came up says nothing about it: the first outcome is that it started.
    [starting, failed, answered]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_with_its_reason() {
        let counters =
            |answered, failed| Counters { answered, failed, up: true, ups: 1, failing: false, judged: false };
        let again = || Outcome::Starting { reason: String::new(), failing: false };
        let said = |now, why: Option<&str>| match outcomes_of(counters(0, 0), now, again, again, why.map(Into::into)) {
            [None, Some(Outcome::Failed { reason }), _] => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            said(counters(0, 1), Some("reset by peer")),
            "1 call failed, and 0 did not; the first: reset by peer"
        );
        assert_eq!(said(counters(7, 2), None), "2 calls failed, and 7 did not");
    }

    #[test]
    fn calls_make_few_outcomes() {
        let counters =
            |answered, failed| Counters { answered, failed, up: true, ups: 1, failing: false, judged: false };
        let check = |before, now, expected: &[&str]| {
            let starting = || Outcome::Starting { reason: String::new(), failing: false };
            let said: Vec<_> = outcomes_of(before, now, starting, starting, None).into_iter().flatten().collect();
            let words: Vec<_> = said.iter().map(Outcome::as_str).collect();
            assert_eq!(words, expected, "{before:?} {now:?}");
        };
        let down = Counters { up: false, ..counters(3, 0) };
        let again = Counters { ups: 2, ..counters(3, 0) };
        check(counters(3, 0), counters(3, 0), &[]);
        check(counters(3, 0), counters(103, 9), &["ok"]);
        check(counters(3, 0), counters(103, 10), &["failed", "ok"]);
        check(counters(3, 0), counters(3, 1), &["failed"]);
        check(counters(3, 0), down, &["starting"]);
        check(down, down, &[]);
        check(down, Counters { failing: true, ..down }, &["starting"]);
        check(down, counters(3, 0), &["ok"]);
        check(down, Counters { judged: true, ..counters(3, 0) }, &[]);
        check(down, Counters { judged: true, ..counters(4, 0) }, &["ok"]);
        check(down, again, &["starting", "ok"]);
        check(Counters { ups: 0, ..down }, counters(3, 0), &["ok"]);
        check(counters(3, 0), again, &["starting", "ok"]);
        check(counters(3, 0), Counters { failed: 1, ..again }, &["starting", "failed"]);
    }
}
