//! One router with real admission words, driven step by step.

mod weights;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::{BackendId, Digest, DrainPolicy, EndpointKey, Revision, Time, VariantId, WallTime, Weight};

use super::{Departures, Effect, Event, ROUND, Seen};
use crate::{Admission, Count, Departure, Directive, DrainId, LiveEndpoint, OverlayEntry, Phase, State};

pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// `search.2` is another endpoint of `search`.
pub(super) fn key(name: &str) -> EndpointKey {
    let backend = BackendId::new(name.split('.').next().unwrap_or(name)).unwrap();
    EndpointKey { digest: Digest::of_bytes(name.as_bytes()), backend, variant: VariantId::only() }
}

fn policy() -> DrainPolicy {
    DrainPolicy { timeout: TIMEOUT, ..DrainPolicy::default() }
}

/// An operator's entry for that endpoint alone.
pub(super) fn laid(number: u64, name: &str, permille: u16) -> OverlayEntry {
    let EndpointKey { backend, digest, .. } = key(name);
    OverlayEntry {
        drain: DrainId::Admin { number, started: WallTime(1) },
        backend,
        endpoint: Some(digest),
        weight: Weight::of(permille).unwrap(),
        remaining: TIMEOUT,
        disabled: false,
        rate: 0,
    }
}

#[derive(Default)]
pub(super) struct Router {
    now: Time,
    pub(super) core: Departures,
    pub(super) words: BTreeMap<EndpointKey, (Admission, u64)>,
    revision: u64,
    live: BTreeSet<EndpointKey>,
    pub(super) reports: Vec<Departure>,
    pub(super) evictions: usize,
    pub(super) weights: BTreeMap<EndpointKey, u16>,
    /// What was told last of endpoints from which not enough takes over.
    pub(super) strained: Vec<EndpointKey>,
    /// The sessions that may have moved away so far.
    pub(super) moving: BTreeMap<EndpointKey, u64>,
    /// Of all endpoints.
    policy: DrainPolicy,
    /// An attempt wants the leaving endpoint back: it is not closed.
    wanted: bool,
}

impl Router {
    fn with(live: &[&str]) -> Self {
        Self::leaving_by(policy(), live)
    }

    pub(super) fn leaving_by(policy: DrainPolicy, live: &[&str]) -> Self {
        let mut router = Self { policy, ..Self::default() };
        router.say(Event::Attached);
        router.swap(live);
        router
    }

    pub(super) fn swap(&mut self, live: &[&str]) {
        self.revision += 1;
        let endpoints: BTreeSet<_> = live.iter().map(|name| key(name)).collect();
        let before = std::mem::replace(&mut self.live, endpoints.clone());
        self.say(Event::Coming { endpoints: endpoints.difference(&before).cloned().collect() });
        for endpoint in &endpoints {
            self.words.entry(endpoint.clone()).or_insert_with(|| (Admission::new(), 0));
        }
        let gone = before.difference(&endpoints).cloned().collect();
        let beside = endpoints.iter().map(|endpoint| endpoint.backend.clone()).filter(|id| id.as_str() != "alone");
        let beside = beside.collect();
        let come = endpoints.into_iter().filter(|endpoint| !before.contains(endpoint));
        let come = come.map(|endpoint| (endpoint, self.policy.clone())).collect();
        self.say(Event::Live { revision: Revision(self.revision), come, gone, beside });
    }

    pub(super) fn say(&mut self, event: Event) {
        self.core.handle(self.now, event);
        while let Some(effect) = self.core.poll_effect() {
            let answer = match effect {
                Effect::Cordon { endpoint } => {
                    let (word, _) = self.words.entry(endpoint.clone()).or_insert_with(|| (Admission::new(), 0));
                    word.cordon();
                    Some(self.counted(endpoint))
                }
                Effect::Count { endpoint } => Some(self.counted(endpoint)),
                Effect::Uncordon { endpoint } => {
                    assert!(self.words[&endpoint].0.uncordon(), "a closed one must not be asked to open");
                    None
                }
                Effect::Evict { .. } => {
                    self.evictions += 1;
                    None
                }
                Effect::Weigh { endpoint, weight } => {
                    self.weights.insert(endpoint, weight.permille());
                    None
                }
                Effect::LetGo { endpoint, sessions } => {
                    let before = self.moving.get(&endpoint).copied().unwrap_or_default();
                    self.moving.remove(&endpoint);
                    self.moving.extend(sessions.map(|more| (endpoint, before + u64::from(more))));
                    None
                }
                Effect::TryClose { .. } if self.wanted => None,
                Effect::TryClose { endpoint } => {
                    assert!(self.words[&endpoint].0.try_close());
                    self.words.remove(&endpoint);
                    Some(Event::Closed { endpoint })
                }
                Effect::Report(Count::Departure(departure)) => {
                    assert!(departure.adds_up(), "{departure:?}");
                    self.reports.push(departure);
                    None
                }
                Effect::Report(Count::Live { endpoints, .. }) => {
                    let strained = endpoints.into_iter().filter(|live| live.strained);
                    self.strained = strained.map(|live| live.endpoint).collect();
                    None
                }
                Effect::Report(_) => None,
            };
            if let Some(answer) = answer {
                self.core.handle(self.now, answer);
            }
        }
    }

    fn counted(&self, endpoint: EndpointKey) -> Event {
        let (word, evicted) = &self.words[&endpoint];
        let in_flight = word.in_flight();
        let oldest = (in_flight > 0).then(|| format!("of {in_flight}"));
        Event::Counted { endpoint, seen: Seen { in_flight, evicted: *evicted, oldest } }
    }

    pub(super) fn enter(&self, name: &str) -> bool {
        self.words[&key(name)].0.enter()
    }

    pub(super) fn leave(&mut self, name: &str, evicted: bool) {
        let (word, evictions) = self.words.get_mut(&key(name)).unwrap();
        *evictions += u64::from(evicted);
        if word.leave() {
            self.say(Event::LastLeft { endpoint: key(name) });
        }
    }

    pub(super) fn pass(&mut self, by: Duration) {
        let until = self.now + by;
        while let Some(at) = self.core.next_deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.say(Event::Tick);
        }
        self.now = until;
    }

    fn overlay(&mut self, cordons: &[(u64, &str, Duration)]) {
        let cordon = |(number, backend, remaining): &(u64, &str, Duration)| OverlayEntry {
            endpoint: None,
            remaining: *remaining,
            ..laid(*number, backend, 0)
        };
        let entries = cordons.iter().map(cordon).collect();
        self.say(Event::Said(Directive::Overlay { entries }));
    }

    pub(super) fn weigh(&mut self, weights: &[(&str, u16)]) {
        let entries = weights.iter().enumerate().map(|(at, (name, permille))| laid(at as u64, name, *permille));
        self.say(Event::Said(Directive::Overlay { entries: entries.collect() }));
    }

    pub(super) fn staying(&self) -> Vec<EndpointKey> {
        self.core.staying().cloned().collect()
    }

    /// Of the last report.
    fn oldest(&self) -> Option<&str> {
        self.reports.last()?.oldest.as_deref()
    }

    /// The last report: phase, total, in flight, finished, evicted.
    pub(super) fn last(&self) -> (Phase, u64, u64, u64, u64) {
        let last = self.reports.last().expect("something was reported");
        (last.phase, last.total, last.in_flight, last.finished, last.evicted)
    }
}

#[test]
fn a_removal_waits_evicts_at_the_deadline_and_closes() {
    let mut router = Router::with(&["a", "b"]);
    assert!(router.enter("a") && router.enter("a") && router.enter("b"));
    router.swap(&["b"]);
    assert_eq!(router.last(), (Phase::Cordoned, 2, 2, 0, 0));
    assert!(!router.enter("a"));
    assert!(router.enter("b"), "what stays is not touched");
    router.leave("a", false);
    router.pass(TIMEOUT.checked_sub(Duration::from_millis(1)).unwrap());
    assert_eq!((router.evictions, router.last()), (0, (Phase::Cordoned, 2, 1, 1, 0)));
    router.pass(Duration::from_millis(1));
    assert_eq!((router.evictions, router.last()), (1, (Phase::Evicting, 2, 1, 1, 0)));
    router.leave("a", true);
    assert_eq!(router.last(), (Phase::Closed, 2, 0, 1, 1));
    assert_eq!(router.oldest(), Some("of 1"), "it was evicted");
    assert!(!router.words.contains_key(&key("a")));
}

#[test]
fn an_operator_is_told_the_oldest_that_was_evicted_and_of_an_end_in_time_none() {
    for (evicted, expected) in [(true, Some("of 1")), (false, None)] {
        let mut router = Router::with(&["a"]);
        assert!(router.enter("a"));
        router.overlay(&[(1, "a", TIMEOUT)]);
        assert_eq!(router.oldest(), Some("of 1"));
        router.pass(if evicted { TIMEOUT } else { TIMEOUT / 2 });
        router.leave("a", evicted);
        router.pass(ROUND * 3);
        assert_eq!((router.last().0, router.oldest()), (Phase::Closed, expected));
    }
}

#[test]
fn an_end_is_reported_until_it_is_on_record() {
    let mut router = Router::with(&["a"]);
    router.swap(&[]);
    let end = router.reports.last().unwrap().clone();
    assert_eq!(end.phase, Phase::Closed, "nothing was in flight");
    router.say(Event::Detached);
    router.reports.clear();
    router.pass(ROUND * 10);
    assert!(router.reports.is_empty(), "nobody listens");
    router.say(Event::Attached);
    router.pass(ROUND);
    assert!(router.reports.len() >= 2 && router.reports.iter().all(|report| *report == end));
    router.say(Event::Said(Directive::Recorded { drain: end.drain, endpoint: end.endpoint }));
    router.reports.clear();
    router.pass(ROUND * 10);
    assert!(router.reports.is_empty());
    assert_eq!(router.core.next_deadline(), None, "nothing to do, nothing to wake for");
}

#[test]
fn what_is_on_record_of_a_cordon_that_holds_is_said_again_on_another_stream() {
    let mut router = Router::with(&["a"]);
    router.overlay(&[(1, "a", TIMEOUT)]);
    let end = router.reports.last().unwrap().clone();
    assert_eq!(end.phase, Phase::Closed, "nothing was in flight");
    router.say(Event::Said(Directive::Recorded { drain: end.drain.clone(), endpoint: end.endpoint.clone() }));
    router.reports.clear();
    router.pass(ROUND * 10);
    assert!(router.reports.is_empty(), "it is on record");
    // Another process may have spoken in this router's name meanwhile, and this process was taken for dead.
    router.say(Event::Detached);
    router.say(Event::Attached);
    assert!(router.reports.contains(&end), "{:?}", router.reports);
}

#[test]
fn what_comes_back_opens_again_and_leaves_under_a_new_name() {
    let mut router = Router::with(&["a"]);
    assert!(router.enter("a") && router.enter("a"));
    router.swap(&[]);
    router.leave("a", false);
    router.pass(ROUND);
    router.swap(&["a"]);
    assert_eq!(router.last(), (Phase::Reopened, 1, 0, 1, 0), "the other one is nobody's business any more");
    assert!(router.enter("a"));
    router.pass(TIMEOUT * 2);
    assert_eq!(router.evictions, 0);
    router.swap(&[]);
    assert_eq!(router.last(), (Phase::Cordoned, 2, 2, 0, 0));
    let drain = DrainId::Removal { endpoint: key("a"), revision: Revision(4) };
    assert_eq!(router.reports.last().unwrap().drain, drain);
}

#[test]
fn a_cordon_lies_over_every_generation_until_it_is_lifted() {
    let mut router = Router::with(&["a"]);
    assert!(router.enter("a"));
    router.overlay(&[(1, "a", TIMEOUT), (2, "later", TIMEOUT)]);
    router.leave("a", false);
    assert_eq!(router.last(), (Phase::Closed, 1, 0, 1, 0));
    assert_eq!(router.words[&key("a")].0.state(), State::Cordoned, "it can open again");
    router.swap(&["a", "later"]);
    assert!(!router.enter("a"), "the new revision changes nothing");
    assert!(!router.enter("later"), "cordoned before it was live");
    assert_eq!(router.last(), (Phase::Closed, 0, 0, 0, 0));
    router.swap(&["later"]);
    assert!(!router.words.contains_key(&key("a")), "a removal closes it for good");
    router.overlay(&[]);
    assert!(router.enter("later"));
    assert_eq!(router.last().0, Phase::Reopened);
}

#[test]
fn what_is_empty_when_it_comes_back_ends_the_drain_that_still_lies_on_it() {
    let mut router = Router::with(&["a"]);
    assert!(router.enter("a"));
    router.overlay(&[(1, "a", TIMEOUT)]);
    // It is removed beside, and an attempt that wants it back keeps it open when its last exchange leaves.
    router.wanted = true;
    router.swap(&[]);
    router.leave("a", false);
    assert!(router.reports.iter().all(|report| !report.phase.is_ended()));
    router.swap(&["a"]);
    assert_eq!(
        router.reports.last().map(|report| (report.phase, report.drain.is_removal())),
        Some((Phase::Closed, false))
    );
}

#[test]
fn a_cordon_holds_what_it_names_and_nothing_else_under_its_number() {
    let mut router = Router::with(&["a", "b"]);
    router.overlay(&[(1, "a", TIMEOUT)]);
    assert!(!router.enter("a") && router.enter("b"));
    router.overlay(&[(1, "b", TIMEOUT * 2)]);
    assert!(router.enter("a") && !router.enter("b"));
    router.pass(TIMEOUT);
    assert_eq!(router.evictions, 0, "the deadline of another cordon is not its own");
}

#[test]
fn the_earliest_deadline_of_any_cause_holds_and_never_moves_away() {
    let mut router = Router::with(&["a"]);
    assert!(router.enter("a"));
    router.overlay(&[(1, "a", TIMEOUT)]);
    router.overlay(&[(1, "a", TIMEOUT / 2)]);
    router.overlay(&[(1, "a", TIMEOUT * 2)]);
    router.swap(&[]);
    router.pass(TIMEOUT / 2);
    assert_eq!(router.evictions, 1);
    router.leave("a", true);
    let ends: Vec<_> = router.reports.iter().filter(|report| report.phase == Phase::Closed).collect();
    assert_eq!(ends.len(), 2, "each cause has its end");
    let counts: BTreeSet<_> = ends.iter().map(|end| (end.drain.is_removal(), end.total, end.evicted)).collect();
    assert_eq!(counts, BTreeSet::from([(false, 1, 1), (true, 0, 0)]), "it was cordoned by the operator");
}

#[test]
fn an_exchange_is_counted_in_one_drain_and_in_another_one_once_that_is_lifted() {
    let mut router = Router::with(&["a"]);
    assert!(router.enter("a") && router.enter("a") && router.enter("a"));
    router.overlay(&[(1, "a", TIMEOUT), (2, "a", TIMEOUT)]);
    let last = |router: &Router, number: u64| {
        let of_it = |one: &&Departure| one.drain == laid(number, "a", 0).drain;
        let one = router.reports.iter().rev().find(of_it).expect("it was reported");
        (one.phase, one.total, one.in_flight, one.finished, one.evicted)
    };
    router.leave("a", false);
    router.pass(ROUND);
    assert_eq!((last(&router, 1).1, last(&router, 2).1), (3, 0));
    router.overlay(&[(2, "a", TIMEOUT)]);
    router.pass(ROUND);
    assert_eq!(last(&router, 1), (Phase::Reopened, 1, 0, 1, 0));
    assert_eq!(last(&router, 2), (Phase::Cordoned, 2, 2, 0, 0));
    router.leave("a", true);
    router.leave("a", false);
    assert_eq!(last(&router, 2), (Phase::Closed, 2, 0, 1, 1));
}

#[test]
fn a_removal_can_be_hurried_and_a_stale_hurry_hurts_nobody() {
    let mut router = Router::with(&["a"]);
    assert!(router.enter("a"));
    router.swap(&[]);
    let drain = DrainId::Removal { endpoint: key("a"), revision: Revision(2) };
    let cordon = OverlayEntry { drain, remaining: Duration::ZERO, ..laid(0, "a", 0) };
    router.say(Event::Said(Directive::Overlay { entries: vec![cordon.clone()] }));
    assert_eq!(router.evictions, 1);
    router.leave("a", true);
    router.swap(&["a"]);
    router.say(Event::Said(Directive::Overlay { entries: vec![cordon] }));
    assert!(router.enter("a"), "it was about an earlier life of that endpoint");
}

#[test]
fn an_exchange_counted_as_evicted_before_it_left_pushes_no_finished_one_out() {
    let check = |observations: &[(u64, u64)], expected: (u64, u64)| {
        let mut record = super::record::Record::begin(3, 10);
        let mut finished = 0;
        for (in_flight, evicted) in observations {
            record.observe(*in_flight, *evicted);
            assert_eq!(record.finished() + record.evicted() + record.in_flight(), 3);
            assert!(record.finished() >= finished);
            finished = record.finished();
        }
        assert_eq!((record.finished(), record.evicted()), expected);
    };
    check(&[(2, 10), (2, 12), (0, 12)], (1, 2));
    check(&[(3, 13), (1, 13), (0, 13)], (0, 3));
    check(&[(0, 10)], (3, 0));
}
