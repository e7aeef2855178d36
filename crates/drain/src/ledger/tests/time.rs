//! Which times hold when clocks are set and coordinators and routers come and go.

use super::*;

#[test]
fn a_clock_that_was_set_takes_no_time_from_a_drain() {
    // Each later than the last, whatever the clock says: set ahead, set back, set ahead.
    let clocks = [1_000_000_000, 5, 2_000_000_000];
    for hurry in [None, Some(TIMEOUT / 2)] {
        let mut it = Coordinator::new();
        it.attach(1, "r1", "x", 1, &["a"]);
        let id = it.start("a", None).unwrap().drain.id;
        let term = hurry.unwrap_or(TIMEOUT);
        if hurry.is_some() {
            it.now = it.now + Duration::from_secs(1);
            assert!(it.start("a", hurry).unwrap().joined);
        }
        for (index, wall) in clocks.into_iter().enumerate() {
            it.again(wall);
            let hello = Count::Hello { node: NodeId::new("r1").unwrap(), boot: "x".into() };
            it.say(Event::Said { connection: 2 + index as u64, count: hello });
            assert_eq!(it.left(), term, "with the clock at {wall}");
            it.live(2 + index as u64, 1, &["a"]);
        }
        it.count(4, &id, "a", Phase::Cordoned, [1, 0, 0]);
        let hurried = it.start("a", Some(Duration::from_secs(3))).unwrap();
        assert_eq!((hurried.drain.remaining, it.left()), (Duration::from_secs(3), Duration::from_secs(3)));
    }
}

#[test]
fn a_router_tells_a_new_coordinator_what_is_left() {
    let mut it = Coordinator::new();
    it.attach(1, "r1", "x", 1, &["a"]);
    it.start("a", Some(TIMEOUT * 3)).unwrap();
    it.again(9);
    it.attach(2, "r1", "x", 1, &["a"]);
    let drain = it.core.list(it.now, false).remove(0);
    assert_eq!(drain.remaining, TIMEOUT * 3, "nothing is known");
    it.count(2, &drain.id, "a", Phase::Cordoned, [1, 0, 0]);
    assert_eq!(it.core.list(it.now, false)[0].remaining, TIMEOUT);
}

#[test]
fn a_clock_that_was_set_ahead_ends_no_removal_before_all_routers_have_begun() {
    let drain = removal("a", 2);
    let mut it = Coordinator::new();
    it.attach(1, "r1", "x", 1, &["a"]);
    it.attach(2, "r2", "y", 1, &["a"]);
    it.live(1, 2, &[]);
    it.count(1, &drain, "a", Phase::Closed, [0, 1, 0]);
    it.again(1_000_000_000);
    it.attach(3, "r2", "y", 1, &["a"]);
    it.say(Event::Tick);
    assert_eq!(it.sum().0, State::Draining);
}

#[test]
fn a_drain_that_ended_and_holds_gives_a_router_that_is_new_to_it_its_whole_time() {
    let mut it = Coordinator::new();
    it.attach(1, "r1", "x", 1, &["a"]);
    let id = it.start("a", None).unwrap().drain.id;
    it.count(1, &id, "a", Phase::Closed, [0, 1, 0]);
    it.again(1_000_000_000);
    let hello = Count::Hello { node: NodeId::new("r2").unwrap(), boot: "y".into() };
    it.say(Event::Said { connection: 2, count: hello });
    assert_eq!(it.left(), TIMEOUT);
}

#[test]
fn of_a_removal_each_router_has_its_own_time() {
    let mut it = Coordinator::new();
    it.attach(1, "r1", "x", 1, &["a"]);
    it.attach(2, "r2", "y", 1, &["a"]);
    let drain = removal("a", 2);
    let say = |it: &mut Coordinator, connection, remaining| {
        it.live(connection, 2, &[]);
        let departure = Departure {
            drain: drain.clone(),
            endpoint: key("a"),
            total: 1,
            in_flight: 1,
            finished: 0,
            evicted: 0,
            phase: Phase::Cordoned,
            remaining,
            oldest: None,
        };
        it.say(Event::Said { connection, count: Count::Departure(departure) });
    };
    say(&mut it, 1, TIMEOUT);
    say(&mut it, 2, TIMEOUT / 10);
    let hurried = it.start("a", Some(TIMEOUT / 2)).unwrap();
    assert_eq!((hurried.joined, hurried.drain.remaining), (true, TIMEOUT / 2), "the first has longer, and gets less");
}

#[test]
fn a_change_of_a_drain_that_is_over_says_so() {
    let mut it = Coordinator::new();
    it.attach(1, "r1", "x", 1, &["a"]);
    let id = it.start("a", None).unwrap().drain.id;
    it.count(1, &id, "a", Phase::Closed, [0, 1, 0]);
    it.cancel("a").unwrap();
    let change = it.effects.iter().find_map(|effect| {
        let Effect::Changed { drain, ended } = effect else { return None };
        Some((drain.state, drain.ended.is_some(), *ended))
    });
    assert_eq!(change, Some((State::Cancelled, true, false)), "it ended before");
}
