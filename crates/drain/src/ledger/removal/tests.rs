//! Removals over several routers: from the first step to the last word.

use std::time::Duration;

use model::{DrainPolicy, Revision, Weight};

use super::super::tests::{Coordinator, TIMEOUT, key, removal};
use super::super::{Event, State};
use crate::{Count, LiveEndpoint, Phase, Stay};

const SECOND: Duration = Duration::from_secs(1);

impl Coordinator {
    /// The router is at revision 2, which removed that endpoint of `a`, and gives it so many thousandths of its share.
    fn stays(&mut self, connection: u64, permille: u16, remaining: Duration) {
        let weight = Weight::of(permille).unwrap();
        let stay = Some(Stay { revision: Revision(2), weight, remaining, strained: false });
        let policy = DrainPolicy { timeout: TIMEOUT, ..DrainPolicy::default() };
        let come = vec![LiveEndpoint { endpoint: key("a"), policy, strained: false, stay }];
        self.say(Event::Said { connection, count: Count::Change { revision: Revision(2), come, gone: Vec::new() } });
    }

    /// It has no share any more.
    fn falls_to_nothing(&mut self, connection: u64) {
        let count = Count::Change { revision: Revision(2), come: Vec::new(), gone: vec![key("a")] };
        self.say(Event::Said { connection, count });
    }

    /// Of the one drain that is shown without asking for all.
    fn shown(&self) -> Option<(State, u16, Duration)> {
        let list = self.core.list(self.now, false);
        list.first().map(|drain| (drain.state, drain.weight.permille(), drain.eta.unwrap_or_default()))
    }
}

fn two_routers() -> Coordinator {
    let mut it = Coordinator::new();
    it.attach(1, "r1", "x", 1, &["a"]);
    it.attach(2, "r2", "y", 1, &["a"]);
    it
}

#[test]
fn a_removal_is_shown_while_its_share_falls_and_goes_as_far_as_the_router_that_is_least_far() {
    let mut it = two_routers();
    it.stays(1, 750, SECOND * 3 + TIMEOUT);
    assert_eq!(it.shown(), Some((State::Draining, 750, SECOND * 3 + TIMEOUT)));
    it.stays(2, 1000, SECOND * 4 + TIMEOUT);
    assert_eq!(it.shown(), Some((State::Draining, 1000, SECOND * 4 + TIMEOUT)));
    it.now = it.now + SECOND;
    it.stays(1, 500, SECOND * 2 + TIMEOUT);
    it.stays(2, 750, SECOND * 3 + TIMEOUT);
    assert_eq!(it.shown(), Some((State::Draining, 750, SECOND * 3 + TIMEOUT)));
    let drain = removal("a", 2);
    it.falls_to_nothing(1);
    it.count(1, &drain, "a", Phase::Closed, [0, 2, 0]);
    assert_eq!(it.shown().map(|shown| (shown.0, shown.1)), Some((State::Draining, 750)), "the other one has it still");
    it.falls_to_nothing(2);
    assert_eq!(it.sum().0, State::Draining, "it has not said what it found");
    it.count(2, &drain, "a", Phase::Closed, [0, 3, 0]);
    assert_eq!(it.sum(), (State::Done, [5, 5, 0, 0, 0]));
    assert_eq!(it.core.list(it.now, true).len(), 1);
}

#[test]
fn a_removal_waits_for_every_router_that_had_it_however_long_it_takes() {
    let mut it = two_routers();
    it.live(1, 2, &[]);
    it.count(1, &removal("a", 2), "a", Phase::Closed, [0, 1, 0]);
    it.now = it.now + TIMEOUT * 100;
    it.say(Event::Tick);
    assert_eq!(it.sum(), (State::Draining, [1, 1, 0, 0, 0]), "the other one still gives it calls");
    it.live(2, 2, &[]);
    it.count(2, &removal("a", 2), "a", Phase::Closed, [0, 4, 0]);
    assert_eq!(it.sum(), (State::Done, [5, 5, 0, 0, 0]));
}

#[test]
fn a_router_that_is_gone_before_it_counted_is_said_to_be() {
    let mut it = two_routers();
    it.stays(1, 500, SECOND);
    it.live(2, 2, &[]);
    it.count(2, &removal("a", 2), "a", Phase::Closed, [0, 1, 0]);
    it.attach(3, "r1", "another boot", 2, &[]);
    assert_eq!(it.sum(), (State::Done, [1, 1, 0, 0, 0]));
    let routers = it.core.list(it.now, true)[0].routers.clone();
    let gone: Vec<_> = routers.iter().map(|router| (router.node.as_str(), router.gone)).collect();
    assert_eq!(gone, [("r1", true), ("r2", false)]);
}

#[test]
fn what_a_later_revision_has_again_before_it_is_cordoned_is_cancelled() {
    let mut it = Coordinator::new();
    it.attach(1, "r1", "x", 1, &["a"]);
    it.stays(1, 500, SECOND);
    it.live(1, 3, &["a"]);
    assert_eq!((it.sum().0, it.shown()), (State::Cancelled, None));
}

#[test]
fn a_coordinator_that_is_killed_hears_anew_how_far_a_removal_is() {
    let mut it = Coordinator::new();
    it.attach(1, "r1", "x", 1, &["a"]);
    it.stays(1, 750, SECOND * 3);
    it.again(9_000_000);
    assert_eq!(it.shown().map(|shown| shown.0), Some(State::Draining));
    it.attach(2, "r1", "x", 1, &["a"]);
    it.stays(2, 250, SECOND);
    assert_eq!(it.shown(), Some((State::Draining, 250, SECOND)));
}
