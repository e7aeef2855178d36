//! The coordinator's end, told what routers would say.

mod time;

use std::time::Duration;

use model::{
    BackendId, Digest, DrainOverlay, DrainPolicy, EndpointKey, NodeId, Revision, Time, VariantId, WallTime, Weight,
};

use super::{CancelError, Effect, Event, Image, Ledger, Limits, StartError, Started, State, Summary, Totals, Wanted};
use crate::{Count, Departure, Directive, DrainId, LiveEndpoint, Phase};

pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
const LOST_AFTER: Duration = Duration::from_secs(60);

fn backend(name: &str) -> BackendId {
    BackendId::new(name).unwrap()
}

/// `a.2` is another endpoint of `a`.
pub(super) fn key(name: &str) -> EndpointKey {
    let backend = backend(name.split('.').next().unwrap_or(name));
    EndpointKey { backend, variant: VariantId::only(), digest: Digest::of_bytes(name.as_bytes()) }
}

pub(super) fn removal(name: &str, revision: u64) -> DrainId {
    DrainId::Removal { endpoint: key(name), revision: Revision(revision) }
}

/// A drain of all endpoints of the server.
pub(super) fn wanted(name: &str) -> Wanted {
    let backend = key(name).backend;
    Wanted {
        backend,
        endpoint: None,
        weight: Weight::NONE,
        disable: false,
        policy: DrainOverlay::default(),
        actor: "uid:0".into(),
    }
}

pub(super) struct Coordinator {
    pub(super) now: Time,
    pub(super) core: Ledger,
    pub(super) effects: Vec<Effect>,
    disk: Image,
}

impl Coordinator {
    pub(super) fn new() -> Self {
        Self::from(Image::default())
    }

    fn from(image: Image) -> Self {
        let limits = Limits { lost_after: LOST_AFTER, history: 4 };
        // As after a reboot: the monotonic clock began again.
        let core = Ledger::new(Time::ZERO, WallTime(1_000_000), image, limits);
        Self { now: Time::ZERO, core, effects: Vec::new(), disk: Image::default() }
    }

    /// As after `kill -9` and a start with the clock set to `wall`.
    pub(super) fn again(&mut self, wall: u64) {
        let limits = Limits { lost_after: LOST_AFTER, history: 4 };
        self.core = Ledger::new(self.now, WallTime(wall), self.disk.clone(), limits);
    }

    pub(super) fn say(&mut self, event: Event) {
        self.core.handle(self.now, event);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        self.effects.clear();
        while let Some(effect) = self.core.poll_effect() {
            if effect == Effect::Persist {
                let json = serde_json::to_vec(&self.core.image()).unwrap();
                self.disk = serde_json::from_slice(&json).unwrap();
            }
            self.effects.push(effect);
        }
    }

    pub(super) fn attach(&mut self, connection: u64, node: &str, boot: &str, revision: u64, live: &[&str]) {
        let node = NodeId::new(node).unwrap();
        self.say(Event::Said { connection, count: Count::Hello { node, boot: boot.into() } });
        self.live(connection, revision, live);
    }

    pub(super) fn live(&mut self, connection: u64, revision: u64, live: &[&str]) {
        self.live_and_strained(connection, revision, live, &[]);
    }

    /// From those that are `strained` not enough takes over.
    pub(super) fn live_and_strained(&mut self, connection: u64, revision: u64, live: &[&str], strained: &[&str]) {
        let endpoints = live
            .iter()
            .map(|name| LiveEndpoint {
                endpoint: key(name),
                policy: DrainPolicy { timeout: TIMEOUT, ..DrainPolicy::default() },
                strained: strained.contains(name),
                stay: None,
            })
            .collect();
        let revision = Revision(revision);
        self.say(Event::Said { connection, count: Count::Live { revision, endpoints } });
    }

    pub(super) fn count(&mut self, connection: u64, drain: &DrainId, name: &str, phase: Phase, counts: [u64; 3]) {
        let [in_flight, finished, evicted] = counts;
        let departure = Departure {
            drain: drain.clone(),
            endpoint: key(name),
            total: in_flight + finished + evicted,
            in_flight,
            finished,
            evicted,
            phase,
            remaining: TIMEOUT,
            oldest: (in_flight + evicted > 0).then(|| format!("the oldest at {connection}")),
        };
        self.say(Event::Said { connection, count: Count::Departure(departure) });
    }

    pub(super) fn start(&mut self, name: &str, timeout: Option<Duration>) -> Result<Started, StartError> {
        self.wish(Wanted { policy: DrainOverlay { timeout, ..DrainOverlay::default() }, ..wanted(name) })
    }

    /// The endpoint of that name gets so many thousandths of its share.
    pub(super) fn weigh(&mut self, name: &str, permille: u16) -> Result<Started, StartError> {
        let endpoint = Some(key(name).digest.short());
        self.wish(Wanted { endpoint, weight: Weight::of(permille).unwrap(), ..wanted(name) })
    }

    pub(super) fn wish(&mut self, wanted: Wanted) -> Result<Started, StartError> {
        let started = self.core.start(self.now, wanted);
        self.carry_out();
        started
    }

    /// What was told last: the endpoint, if it is about one, and the weight.
    pub(super) fn told(&self) -> Vec<(Option<Digest>, u16)> {
        let last = self.effects.iter().rev().find_map(|effect| {
            let Effect::Tell { directive: Directive::Overlay { entries }, .. } = effect else { return None };
            Some(entries.iter().map(|entry| (entry.endpoint, entry.weight.permille())).collect())
        });
        last.expect("an overlay was told")
    }

    pub(super) fn cancel(&mut self, id: &str) -> Result<Vec<Summary>, CancelError> {
        let cancelled = self.core.cancel(self.now, id, "uid:0");
        self.carry_out();
        cancelled
    }

    /// Cancels what is one drain, and returns the state it is in then.
    pub(super) fn cancel_one(&mut self, id: &str) -> State {
        let cancelled = self.cancel(id).unwrap();
        assert_eq!(cancelled.len(), 1);
        cancelled[0].state
    }

    /// How long the one cordon that was last told has left.
    pub(super) fn left(&self) -> Duration {
        let left = self.effects.iter().find_map(|effect| {
            let Effect::Tell { directive: Directive::Overlay { entries }, .. } = effect else { return None };
            Some(entries[0].remaining)
        });
        left.expect("a cordon was told")
    }

    /// State, then total = finished + evicted + lost + in flight.
    pub(super) fn sum(&self) -> (State, [u64; 5]) {
        let list = self.core.list(self.now, true);
        let Totals { total, finished, evicted, lost, in_flight } = list[0].totals;
        (list[0].state, [total, finished, evicted, lost, in_flight])
    }

    /// To whom, and how many cordons, each overlay was told.
    fn overlays(&self) -> Vec<(u64, usize)> {
        let overlay = |effect: &Effect| {
            let Effect::Tell { connection, directive: Directive::Overlay { entries } } = effect else { return None };
            Some((*connection, entries.len()))
        };
        self.effects.iter().filter_map(overlay).collect()
    }
}

#[test]
fn a_removal_is_over_when_every_router_is_through_with_it() {
    let mut it = Coordinator::new();
    it.attach(1, "r1", "x", 1, &["a"]);
    it.attach(2, "r2", "y", 1, &["a"]);
    let drain = removal("a", 2);
    it.live(1, 2, &[]);
    it.count(1, &drain, "a", Phase::Closed, [0, 3, 0]);
    assert_eq!(it.sum(), (State::Draining, [3, 3, 0, 0, 0]), "the other router still admits");
    it.live(2, 2, &[]);
    assert_eq!(it.sum().0, State::Draining, "it cordoned, and did not say what it found");
    it.count(2, &drain, "a", Phase::Evicting, [2, 1, 1]);
    assert_eq!(it.sum(), (State::Evicting, [7, 4, 1, 0, 2]));
    it.count(2, &drain, "a", Phase::Closed, [0, 1, 3]);
    assert_eq!(it.sum(), (State::Done, [7, 4, 3, 0, 0]));
    assert_eq!(it.core.list(it.now, true)[0].oldest.as_deref(), Some("the oldest at 2"), "of those that were evicted");
    let recorded = Directive::Recorded { drain, endpoint: key("a") };
    let told = Effect::Tell { connection: 2, directive: recorded };
    let order: Vec<_> = it.effects.iter().filter(|effect| **effect == Effect::Persist || **effect == told).collect();
    assert_eq!(order, [&Effect::Persist, &told], "what is said to be on record is on disk");
}

#[test]
fn a_router_that_may_have_had_it_holds_a_removal_up_only_until_the_deadline() {
    let mut it = Coordinator::new();
    it.attach(1, "r1", "x", 1, &["a"]);
    it.attach(2, "behind", "y", 0, &[]);
    it.live(1, 2, &[]);
    it.count(1, &removal("a", 2), "a", Phase::Closed, [0, 0, 0]);
    assert_eq!(it.sum().0, State::Draining);
    it.now = it.core.next_deadline().expect("the deadline of the drain");
    it.say(Event::Tick);
    assert_eq!(it.sum().0, State::Done);
    assert_eq!(it.core.next_deadline(), None);
}

#[test]
fn what_a_dead_router_had_in_flight_is_lost() {
    let drain = removal("a", 2);
    let mut it = Coordinator::new();
    it.attach(1, "r1", "x", 2, &[]);
    it.attach(2, "r2", "y", 2, &[]);
    it.count(1, &drain, "a", Phase::Cordoned, [3, 1, 0]);
    it.count(2, &drain, "a", Phase::Cordoned, [5, 0, 0]);

    it.say(Event::Detached { connection: 1 });
    it.attach(3, "r1", "x", 2, &[]);
    it.now = it.now + LOST_AFTER * 2;
    it.say(Event::Tick);
    assert_eq!(it.sum(), (State::Draining, [9, 1, 0, 0, 8]), "it only lost its stream");

    it.attach(4, "r1", "another boot", 2, &[]);
    assert_eq!(it.sum(), (State::Draining, [9, 1, 0, 3, 5]));
    assert!(it.effects.iter().all(|effect| !matches!(effect, Effect::Disconnect { connection: 4, .. })));
    it.say(Event::Detached { connection: 2 });
    it.now = it.core.next_deadline().unwrap();
    it.say(Event::Tick);
    assert_eq!(it.sum(), (State::Done, [9, 1, 0, 8, 0]));

    it.attach(5, "r2", "y", 2, &[]);
    it.count(5, &drain, "a", Phase::Closed, [0, 4, 1]);
    assert_eq!(it.sum(), (State::Done, [9, 5, 1, 3, 0]), "it was only slow: its word puts the record right");
}

#[test]
fn a_restart_keeps_the_sum() {
    let drain = removal("a", 2);
    let mut it = Coordinator::new();
    it.attach(1, "r1", "x", 1, &["a"]);
    it.attach(2, "r2", "y", 1, &["a", "b"]);
    let started = it.start("b", None).unwrap();
    assert!(matches!(it.effects[..], [Effect::Persist, ..]), "durable before anybody hears of it");
    it.live(1, 2, &[]);
    it.count(1, &drain, "a", Phase::Cordoned, [4, 0, 0]);
    it.count(2, &drain, "a", Phase::Cordoned, [2, 0, 0]);

    let mut it = Coordinator::from(it.disk);
    let states: Vec<_> = it.core.list(it.now, false).iter().map(|drain| drain.state).collect();
    assert_eq!(states, [State::Draining; 2], "nobody said that it is over");
    it.attach(1, "r1", "x", 2, &[]);
    assert_eq!(it.overlays(), [] as [(u64, usize); 0], "told at the hello, not again");
    it.count(1, &drain, "a", Phase::Closed, [0, 3, 1]);
    let find = |it: &Coordinator| it.core.list(it.now, true).into_iter().find(|found| found.id == drain).unwrap();
    assert_eq!(find(&it).totals, Totals { total: 6, in_flight: 2, finished: 3, evicted: 1, lost: 0 });
    it.now = it.now + LOST_AFTER;
    it.say(Event::Tick);
    assert_eq!(find(&it).totals, Totals { total: 6, in_flight: 0, finished: 3, evicted: 1, lost: 2 });
    let held = it.start("b", None).unwrap();
    assert_eq!((held.joined, held.drain.state, held.drain.id), (true, State::Done, started.drain.id.clone()));
    assert_eq!(it.cancel_one(&started.drain.id.to_string()), State::Cancelled);
}

#[test]
fn a_cordon_keeps_of_processes_that_are_gone_only_what_they_had_in_flight() {
    let mut it = Coordinator::new();
    it.attach(1, "r1", "0", 1, &["a"]);
    let drain = it.start("a", None).unwrap().drain.id;
    it.count(1, &drain, "a", Phase::Closed, [0, 2, 0]);
    for boot in 1..50 {
        it.attach(1 + boot, "r1", &boot.to_string(), 1, &["a"]);
        it.count(1 + boot, &drain, "a", Phase::Cordoned, [0, 0, 0]);
        assert_eq!(it.sum(), (State::Draining, [2, 2, 0, 0, 0]), "this one is not through with it");
        if boot % 2 == 0 {
            it.count(1 + boot, &drain, "a", Phase::Closed, [0, 0, 0]);
            assert_eq!(it.sum(), (State::Done, [2, 2, 0, 0, 0]));
        }
    }
    let disk = serde_json::to_value(&it.disk).unwrap();
    assert_eq!(disk["drains"][0]["shares"].as_array().map(Vec::len), Some(2), "{disk}");
}

#[test]
fn a_second_start_joins_and_only_a_shorter_timeout_changes_anything() {
    let mut it = Coordinator::new();
    assert_eq!(it.start("a", None), Err(StartError::NoRouter { backend: backend("a") }));
    it.attach(1, "r1", "x", 1, &["a"]);
    let first = it.start("a", None).unwrap();
    assert_eq!((first.joined, first.drain.remaining, first.drain.state), (false, TIMEOUT, State::Draining));
    assert_eq!(it.overlays(), [(1, 1)]);
    let longer = it.start("a", Some(TIMEOUT * 2)).unwrap();
    assert_eq!((longer.joined, longer.drain.remaining, &longer.drain.id), (true, TIMEOUT, &first.drain.id));
    let shorter = it.start("a", Some(TIMEOUT / 2)).unwrap();
    assert_eq!((shorter.joined, shorter.drain.remaining), (true, TIMEOUT / 2));

    it.count(1, &first.drain.id, "a", Phase::Closed, [0, 2, 0]);
    assert_eq!(it.sum().0, State::Done);
    assert_eq!(it.core.list(it.now, false).len(), 1, "it still holds the server cordoned");
    it.attach(2, "r2", "y", 1, &["a"]);
    let hello = Count::Hello { node: NodeId::new("r3").unwrap(), boot: "z".into() };
    it.say(Event::Said { connection: 3, count: hello });
    assert_eq!(it.overlays(), [(3, 1)], "whole, to everybody who comes");
}

#[test]
fn cancelling_opens_again_and_is_kept() {
    let mut it = Coordinator::new();
    it.attach(1, "r1", "x", 1, &["a"]);
    let id = it.start("a", None).unwrap().drain.id;
    it.count(1, &id, "a", Phase::Cordoned, [2, 1, 0]);
    assert_eq!(it.cancel("ghost"), Err(CancelError::Unknown { id: "ghost".into() }));
    assert_eq!(it.cancel_one("a"), State::Cancelled, "by the name of the server");
    assert_eq!(it.overlays(), [(1, 0)]);
    it.count(1, &id, "a", Phase::Reopened, [0, 1, 0]);
    assert_eq!(it.sum(), (State::Cancelled, [1, 1, 0, 0, 0]));
    assert_eq!(it.cancel_one(&id.to_string()), State::Cancelled, "a second time changes nothing");
    assert!(it.core.list(it.now, false).is_empty());
    let again = it.start("a", None).unwrap();
    assert!(!again.joined && again.drain.id != id, "numbers are not used twice");
}

#[test]
fn a_server_that_is_switched_off_stays_so_until_it_is_switched_on() {
    let off = |name: &str| Wanted { disable: true, ..wanted(name) };
    let mut it = Coordinator::new();
    it.attach(1, "r1", "x", 1, &["a", "b"]);
    it.count(1, &removal("c", 1), "c", Phase::Cordoned, [1, 0, 0]);
    assert!(matches!(it.wish(off("c")), Err(StartError::Unknown { .. })), "it has left");
    let drained = it.start("a", None).unwrap().drain;
    assert!(!drained.disabled);
    let disabled = it.wish(off("a")).unwrap();
    assert!(disabled.joined && disabled.drain.disabled && disabled.drain.id == drained.id);
    let told = it.core.overlay(it.now);
    assert!(matches!(told, Directive::Overlay { entries } if entries.iter().all(|entry| entry.disabled)));
    assert!(it.wish(off("b")).unwrap().drain.disabled);
    assert!(it.start("b", Some(Duration::ZERO)).unwrap().drain.disabled, "a drain leaves it switched off");
    it.wish(Wanted { weight: Weight::of(250).unwrap(), ..wanted("b") }).unwrap();
    assert_eq!(it.core.list(it.now, false).iter().filter(|drain| drain.disabled).count(), 2, "so does a weight");
    it.count(1, &drained.id, "a", Phase::Closed, [0, 0, 0]);
    it.again(1);
    let mut kept: Vec<_> = it.core.list(it.now, false).into_iter().filter(|drain| drain.disabled).collect();
    kept.sort_by(|a, b| a.backend.cmp(&b.backend));
    assert_eq!(kept.iter().map(|drain| drain.backend.as_str()).collect::<Vec<_>>(), ["a", "b"], "the record has it");
    assert_eq!(it.cancel_one("a"), State::Cancelled);
    assert!(!it.start("a", None).is_ok_and(|started| started.drain.disabled));
}

#[test]
fn what_was_hurried_or_is_long_over_can_be_cancelled() {
    let mut it = Coordinator::new();
    it.attach(1, "r1", "x", 1, &["a", "b"]);
    let id = it.start("a", None).unwrap().drain.id;
    it.start("a", Some(Duration::ZERO)).unwrap();
    it.count(1, &id, "a", Phase::Evicting, [1, 0, 0]);
    assert_eq!(it.cancel_one("a"), State::Cancelled);
    assert_eq!(it.overlays(), [(1, 0)]);

    let id = it.start("a", None).unwrap().drain.id;
    it.count(1, &id, "a", Phase::Closed, [0, 0, 0]);
    for _ in 0..6 {
        it.now = it.now + Duration::from_secs(1);
        let id = it.start("b", None).unwrap().drain.id;
        it.cancel("b").unwrap();
        it.count(1, &id, "b", Phase::Reopened, [0, 0, 0]);
    }
    assert_eq!(it.cancel_one("a"), State::Cancelled, "older than all that is remembered");
}

#[test]
fn a_removal_cannot_be_cancelled_and_can_be_hurried() {
    let drain = removal("a", 2);
    let mut it = Coordinator::new();
    it.attach(1, "r1", "x", 2, &[]);
    it.count(1, &drain, "a", Phase::Cordoned, [1, 0, 0]);
    let refused = it.cancel(&drain.to_string());
    assert_eq!(refused, Err(CancelError::Removal { id: drain.to_string(), revision: Revision(2) }));
    let hurried = it.start("a", Some(Duration::ZERO)).unwrap();
    assert_eq!((hurried.joined, hurried.drain.remaining, hurried.drain.id), (true, Duration::ZERO, drain.clone()));
    assert_eq!(it.overlays(), [(1, 1)]);
    it.count(1, &drain, "a", Phase::Closed, [0, 0, 1]);
    it.attach(2, "r2", "y", 2, &[]);
    let listed = it.core.list(it.now, false);
    assert!(listed.is_empty(), "over: {listed:?}");
}

#[test]
fn the_history_is_bounded_and_nothing_that_matters_is_forgotten() {
    let mut it = Coordinator::new();
    it.attach(1, "r1", "x", 1, &["a"]);
    let held = it.start("a", None).unwrap().drain.id;
    it.count(1, &held, "a", Phase::Closed, [0, 0, 0]);
    for revision in 2..20 {
        it.now = it.now + Duration::from_secs(1);
        it.live(1, revision, &["a"]);
        it.count(1, &removal("b", revision), "b", Phase::Closed, [0, revision, 0]);
    }
    let kept: Vec<_> = it.core.list(it.now, true).into_iter().map(|drain| drain.id).collect();
    let latest = (16..20).rev().map(|revision| removal("b", revision));
    assert_eq!(kept, latest.chain([held]).collect::<Vec<_>>());
    assert_eq!(it.disk, it.core.image());
}

#[test]
fn only_what_is_on_record_holds() {
    let mut it = Coordinator::new();
    let unknown = DrainId::Admin { number: 5, started: WallTime(1) };
    it.attach(1, "r1", "x", 1, &["a", "b"]);
    it.count(1, &unknown, "a", Phase::Closed, [0, 1, 0]);
    assert_eq!(it.sum(), (State::Cancelled, [1, 1, 0, 0, 0]), "history at most");
    assert_eq!(it.core.list(it.now, false), []);
    let started = it.start("b", None).unwrap();
    assert_eq!((started.joined, started.drain.id.to_string()), (false, "a6".into()), "no number is shown twice");
    assert_eq!(it.overlays(), [(1, 1)], "`a` stays open");
    assert!(!it.start("a", None).unwrap().joined);
}

#[test]
fn a_server_of_which_nothing_was_heard_yet_is_not_taken_for_a_removed_one() {
    let drain = removal("a", 2);
    let mut it = Coordinator::new();
    it.attach(1, "r1", "x", 2, &["a"]);
    it.count(1, &drain, "a", Phase::Cordoned, [1, 0, 0]);
    let mut it = Coordinator::from(it.disk);
    assert_eq!(it.start("a", Some(Duration::ZERO)), Err(StartError::NoRouter { backend: backend("a") }));
    let node = NodeId::new("r1").unwrap();
    it.say(Event::Said { connection: 1, count: Count::Hello { node: node.clone(), boot: "x".into() } });
    let silent = StartError::Silent { backend: backend("a"), routers: vec![node] };
    assert_eq!(it.start("a", Some(Duration::ZERO)), Err(silent));
    it.live(1, 2, &["a"]);
    let started = it.start("a", Some(Duration::ZERO)).unwrap();
    assert_eq!((started.joined, started.drain.id.is_removal()), (false, false));
}

#[test]
fn numbers_that_do_not_add_up_are_not_taken() {
    let mut it = Coordinator::new();
    it.attach(1, "r1", "x", 1, &["a"]);
    let departure = Departure {
        drain: removal("b", 1),
        endpoint: key("b"),
        total: 1,
        in_flight: 0,
        finished: u64::MAX,
        evicted: 2,
        phase: Phase::Cordoned,
        remaining: TIMEOUT,
        oldest: None,
    };
    it.say(Event::Said { connection: 1, count: Count::Departure(departure) });
    assert!(matches!(it.effects[..], [Effect::Disconnect { connection: 1, .. }]));
    assert!(it.core.list(it.now, true).is_empty());
}
