//! Drains that operators ask for, by each strategy.

use std::time::Duration;

use model::{DrainOverlay, DrainStrategy};

use super::tests::{Coordinator, TIMEOUT, key, wanted};
use super::{Effect, Event, Started, State, Wanted};
use crate::{Directive, Phase};

const SECOND: Duration = Duration::from_secs(1);

impl Coordinator {
    fn pass(&mut self, by: Duration) {
        let until = self.now + by;
        while let Some(at) = self.core.next_deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.say(Event::Tick);
        }
        self.now = until;
    }

    /// The endpoint of that name leaves by that strategy, with a quarter of its share per step.
    fn leave_by(&mut self, name: &str, strategy: DrainStrategy) -> Started {
        let endpoint = Some(key(name).digest.short());
        let policy = DrainOverlay { strategy: Some(strategy), weight_reduction: Some(25), ..DrainOverlay::default() };
        self.wish(Wanted { endpoint, policy, ..wanted(name) }).unwrap()
    }

    /// How many of its sessions may move per second, as was told last.
    fn rates(&self) -> Vec<u32> {
        let last = self.effects.iter().rev().find_map(|effect| {
            let Effect::Tell { directive: Directive::Overlay { entries }, .. } = effect else { return None };
            Some(entries.iter().map(|entry| entry.rate).collect())
        });
        last.expect("an overlay was told")
    }
}

#[test]
fn a_share_falls_step_by_step_to_the_cordon_and_is_told_each_time() {
    let mut it = Coordinator::new();
    it.attach(1, "r1", "x", 1, &["a", "a.2"]);
    let started = it.leave_by("a", DrainStrategy::Progressive);
    let drain = started.drain;
    assert_eq!((drain.state, drain.strategy), (State::Draining, Some(DrainStrategy::Progressive)));
    assert_eq!((drain.remaining, drain.eta), (SECOND * 4 + TIMEOUT, Some(SECOND * 4 + TIMEOUT)));
    let digest = Some(key("a").digest);
    assert_eq!((it.told(), it.rates()), (vec![(digest, 1000)], vec![50]));
    for share in [750, 500, 250] {
        it.pass(SECOND);
        assert_eq!((it.told(), it.rates()), (vec![(digest, share)], vec![50]));
    }
    assert_eq!(it.sum().0, State::Draining);
    it.pass(SECOND);
    assert_eq!((it.told(), it.rates()), (vec![(digest, 0)], vec![0]));
    assert_eq!((it.core.next_deadline(), it.left()), (None, TIMEOUT), "the calls that run have the whole timeout");
    it.count(1, &drain.id, "a", Phase::Cordoned, [2, 0, 0]);
    it.count(1, &drain.id, "a", Phase::Closed, [0, 2, 0]);
    assert_eq!(it.sum(), (State::Done, [2, 2, 0, 0, 0]));
    assert_eq!(it.core.list(it.now, false)[0].started, drain.started, "it began with the first step");
}

#[test]
fn a_coordinator_that_is_killed_goes_on_from_the_step_on_record() {
    let mut it = Coordinator::new();
    it.attach(1, "r1", "x", 1, &["a", "a.2"]);
    it.leave_by("a", DrainStrategy::Progressive);
    it.pass(SECOND);
    it.now = it.now + SECOND * 3 / 2;
    // The clock says that it is long over.
    it.again(9_000_000);
    it.attach(2, "r1", "x", 1, &["a", "a.2"]);
    assert_eq!(it.core.list(it.now, false)[0].weight.permille(), 750);
    for share in [500, 250, 0] {
        it.pass(SECOND);
        assert_eq!(it.told(), [(Some(key("a").digest), share)]);
    }
    assert_eq!(it.left(), TIMEOUT);
}

#[test]
fn steps_that_were_missed_are_taken_at_once() {
    let mut it = Coordinator::new();
    it.attach(1, "r1", "x", 1, &["a", "a.2"]);
    it.leave_by("a", DrainStrategy::Progressive);
    it.now = it.now + SECOND * 5 / 2;
    it.say(Event::Tick);
    assert_eq!(it.told(), [(Some(key("a").digest), 500)]);
    it.pass(SECOND / 2);
    assert_eq!(it.told(), [(Some(key("a").digest), 250)], "and the next is not late");
}

#[test]
fn a_cancelled_fall_gives_the_share_back() {
    let mut it = Coordinator::new();
    it.attach(1, "r1", "x", 1, &["a", "a.2"]);
    it.leave_by("a", DrainStrategy::Progressive);
    it.pass(SECOND * 2);
    assert_eq!(it.cancel_one("a"), State::Cancelled);
    assert_eq!((it.told(), it.core.next_deadline()), (vec![], None));
    it.pass(SECOND * 10);
    assert_eq!(it.sum().0, State::Cancelled);
}

#[test]
fn a_drain_is_joined_and_only_ever_made_stronger() {
    let mut it = Coordinator::new();
    it.attach(1, "r1", "x", 1, &["a", "a.2"]);
    let first = it.leave_by("a", DrainStrategy::Progressive).drain;
    it.pass(SECOND);
    // Without a strategy of its own, and with the same one.
    let endpoint = Some(key("a").digest.short());
    let plain = it.wish(Wanted { endpoint, ..wanted("a") }).unwrap();
    let again = it.leave_by("a", DrainStrategy::Progressive);
    for joined in [plain, again] {
        assert!(joined.joined && joined.drain.id == first.id && joined.drain.weight.permille() == 750);
    }
    let graceful = it.leave_by("a", DrainStrategy::Graceful);
    assert!(graceful.joined && graceful.drain.id == first.id);
    assert_eq!((graceful.drain.strategy, graceful.drain.remaining), (Some(DrainStrategy::Graceful), TIMEOUT));
    assert_eq!(it.told(), [(Some(key("a").digest), 0)]);
    let immediate = it.leave_by("a", DrainStrategy::Immediate).drain;
    assert_eq!((immediate.id.clone(), immediate.remaining, it.left()), (first.id, Duration::ZERO, Duration::ZERO));
    for weaker in [DrainStrategy::Graceful, DrainStrategy::Progressive] {
        let drain = it.leave_by("a", weaker).drain;
        let same = (immediate.id.clone(), Some(DrainStrategy::Immediate), Duration::ZERO);
        assert_eq!((drain.id, drain.strategy, drain.remaining), same);
        assert_eq!(it.told(), [(Some(key("a").digest), 0)]);
    }
}

#[test]
fn where_nothing_takes_over_there_is_nothing_to_pace() {
    let mut it = Coordinator::new();
    it.attach(1, "r1", "x", 1, &["a", "b", "b.2"]);
    let alone = it.leave_by("a", DrainStrategy::Progressive).drain;
    assert_eq!((alone.strategy, alone.weight.permille()), (Some(DrainStrategy::Graceful), 0));
    // The whole server leaves; and another endpoint that leaves takes nothing over.
    let policy = DrainOverlay { strategy: Some(DrainStrategy::Progressive), ..DrainOverlay::default() };
    assert_eq!(it.wish(Wanted { policy, ..wanted("b") }).unwrap().drain.weight.permille(), 0);
    it.cancel("b").unwrap();
    assert_eq!(it.leave_by("b", DrainStrategy::Progressive).drain.weight.permille(), 1000);
    assert_eq!(it.leave_by("b.2", DrainStrategy::Progressive).drain.weight.permille(), 0);
}

#[test]
fn a_weight_falls_from_where_it_is() {
    let mut it = Coordinator::new();
    it.attach(1, "r1", "x", 1, &["a", "a.2"]);
    let id = it.weigh("a", 400).unwrap().drain.id;
    let falls = it.leave_by("a", DrainStrategy::Progressive).drain;
    assert_eq!((falls.id.clone(), falls.weight.permille(), falls.state), (id, 400, State::Draining));
    it.pass(SECOND);
    assert_eq!(it.told(), [(Some(key("a").digest), 150)]);
    // A weight that an operator gives stops the fall.
    assert_eq!(it.weigh("a", 300).unwrap().drain.state, State::Weighted);
    it.pass(SECOND * 10);
    assert_eq!(it.told(), [(Some(key("a").digest), 300)]);
}

#[test]
fn while_too_few_of_what_takes_over_are_well_the_share_is_whole_and_the_end_comes_all_the_same() {
    let mut it = Coordinator::new();
    it.attach(1, "r1", "x", 1, &["a", "a.2"]);
    it.attach(2, "r2", "x", 1, &["a", "a.2"]);
    it.leave_by("a", DrainStrategy::Progressive);
    it.pass(SECOND * 2);
    let digest = Some(key("a").digest);
    assert_eq!(it.told(), [(digest, 500)]);
    it.live_and_strained(2, 1, &["a", "a.2"], &["a"]);
    assert_eq!((it.told(), it.rates()), (vec![(digest, 1000)], vec![50]), "it falls still, and waits");
    let shown = it.core.list(it.now, false)[0].clone();
    assert!(shown.strained && shown.state == State::Draining);
    it.pass(SECOND * 5);
    assert_eq!(it.told(), [(digest, 1000)]);
    it.live(2, 1, &["a", "a.2"]);
    it.pass(SECOND);
    assert_eq!(it.told(), [(digest, 750)], "from the beginning");
    assert_eq!(it.left(), SECOND * 3 + TIMEOUT);
    it.live_and_strained(1, 1, &["a", "a.2"], &["a"]);
    // Four seconds of falling, and the timeout once: longer it does not wait. Eight seconds are over.
    it.pass(SECOND * 5);
    assert_eq!((it.told(), it.core.list(it.now, false)[0].remaining), (vec![(digest, 1000)], SECOND + TIMEOUT));
    it.pass(SECOND);
    assert_eq!((it.told(), it.left()), (vec![(digest, 0)], TIMEOUT));
}

#[test]
fn the_end_is_judged_by_how_quickly_calls_have_ended() {
    let mut it = Coordinator::new();
    it.attach(1, "r1", "x", 1, &["a"]);
    let id = it.start("a", None).unwrap().drain.id;
    let eta = |it: &Coordinator| it.core.list(it.now, true)[0].eta;
    it.count(1, &id, "a", Phase::Cordoned, [8, 0, 0]);
    assert_eq!(eta(&it), Some(TIMEOUT), "none has ended yet");
    it.now = it.now + SECOND * 3;
    it.count(1, &id, "a", Phase::Cordoned, [2, 6, 0]);
    assert_eq!(eta(&it), Some(SECOND), "six took three seconds");
    it.count(1, &id, "a", Phase::Closed, [0, 8, 0]);
    assert_eq!(eta(&it), None);
}
