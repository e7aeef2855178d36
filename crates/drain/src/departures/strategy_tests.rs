//! How removed endpoints leave by each strategy.

use std::time::Duration;

use model::{DrainPolicy, DrainStrategy, ProgressivePolicy, Revision, Time};

use super::tests::{Router, TIMEOUT, key, laid};
use super::{Departures, Effect, Event, Phase};
use crate::{Count, Directive, OverlayEntry};

const SECOND: Duration = Duration::from_secs(1);

fn by(strategy: DrainStrategy) -> DrainPolicy {
    let progressive = ProgressivePolicy { weight_reduction: 25, ..ProgressivePolicy::default() };
    DrainPolicy { timeout: TIMEOUT, strategy, progressive }
}

#[test]
fn what_leaves_at_once_has_its_exchanges_ended_at_once() {
    let mut router = Router::leaving_by(by(DrainStrategy::Immediate), &["a", "b"]);
    router.weigh(&[("a", 500)]);
    assert!(router.enter("a") && router.enter("a"));
    router.swap(&["a.2", "b"]);
    assert!(!router.enter("a") && router.staying().is_empty(), "a weight of its own keeps it not");
    assert_eq!((router.evictions, router.last()), (1, (Phase::Evicting, 2, 2, 0, 0)));
    router.leave("a", true);
    router.leave("a", false);
    assert_eq!(router.last(), (Phase::Closed, 2, 0, 1, 1), "one was quicker");
}

#[test]
fn a_share_falls_step_by_step_and_then_the_calls_have_the_whole_timeout() {
    let mut router = Router::leaving_by(by(DrainStrategy::Progressive), &["a"]);
    router.swap(&["a.2"]);
    assert_eq!(router.staying(), [key("a")]);
    for share in [750, 500, 250] {
        router.pass(SECOND);
        assert_eq!(router.weights[&key("a")], share);
        assert!(router.enter("a"));
    }
    assert_eq!(router.moving[&key("a")], 3 * 50, "50 sessions a second");
    router.pass(SECOND);
    assert!(!router.enter("a") && router.staying().is_empty() && router.core.take_unsettled());
    assert!(router.moving.is_empty());
    assert_eq!(router.last(), (Phase::Cordoned, 3, 3, 0, 0));
    router.leave("a", false);
    router.pass(TIMEOUT.checked_sub(SECOND).unwrap());
    assert_eq!(router.evictions, 0);
    router.pass(SECOND);
    assert_eq!((router.evictions, router.last()), (1, (Phase::Evicting, 3, 2, 1, 0)));
}

#[test]
fn what_returns_while_its_share_falls_has_all_of_it_again() {
    let mut router = Router::leaving_by(by(DrainStrategy::Progressive), &["a"]);
    router.swap(&["a.2"]);
    router.pass(SECOND * 2);
    router.swap(&["a", "a.2"]);
    assert_eq!((router.weights[&key("a")], router.staying()), (1000, vec![]));
    assert!(router.moving.is_empty(), "nor does any session leave it");
    router.pass(SECOND * 20);
    assert!(router.enter("a") && router.reports.is_empty());
    // It falls from the beginning when it leaves again.
    router.swap(&["a.2"]);
    router.pass(SECOND);
    assert_eq!(router.weights[&key("a")], 750);
    router.swap(&["b"]);
    assert!(!router.enter("a") && router.staying().is_empty(), "nothing takes over any more");
}

#[test]
fn sessions_leave_where_an_operators_drain_falls_and_stay_where_it_is_cancelled() {
    let mut router = Router::leaving_by(by(DrainStrategy::Graceful), &["a", "a.2"]);
    let falls = |permille, rate| {
        Event::Said(Directive::Overlay { entries: vec![OverlayEntry { rate, ..laid(3, "a", permille) }] })
    };
    router.say(falls(900, 20));
    router.pass(SECOND);
    router.say(falls(800, 20));
    router.pass(SECOND);
    assert_eq!(
        (router.moving.get(&key("a")), router.moving.get(&key("a.2"))),
        (Some(&40), None),
        "as if no step had been told"
    );
    router.say(falls(800, 0));
    assert!(router.moving.is_empty(), "no session moves because of a weight that stays");
    router.say(falls(700, 20));
    router.say(falls(0, 0));
    assert!(router.moving.is_empty() && !router.enter("a"));
    router.say(Event::Said(Directive::Overlay { entries: Vec::new() }));
    assert!(router.moving.is_empty() && router.enter("a") && router.weights[&key("a")] == 1000);
}

#[test]
fn while_what_takes_over_is_not_well_the_leaving_one_has_its_share_and_its_sessions() {
    let strain = |strained| Event::Strained { endpoint: key("a"), strained };
    let mut router = Router::leaving_by(by(DrainStrategy::Progressive), &["a"]);
    router.swap(&["a.2"]);
    router.pass(SECOND * 2);
    router.say(strain(true));
    assert!(router.weights[&key("a")] == 1000 && router.moving.is_empty());
    router.pass(SECOND * 5);
    assert_eq!(router.weights[&key("a")], 1000);
    router.say(strain(false));
    router.pass(SECOND);
    assert_eq!((router.weights[&key("a")], router.moving[&key("a")]), (750, 50), "from the beginning");
    router.say(strain(true));
    // Four seconds of falling, and the timeout once: longer it does not wait.
    router.pass(SECOND * 5);
    assert!(router.enter("a"));
    router.pass(SECOND);
    assert!(!router.enter("a") && router.staying().is_empty() && router.core.take_unsettled());
    router.say(strain(false));
    router.pass(TIMEOUT);
    assert_eq!(router.evictions, 1);
}

#[test]
fn an_operator_makes_a_falling_share_smaller_or_ends_it() {
    let mut router = Router::leaving_by(by(DrainStrategy::Progressive), &["a"]);
    router.weigh(&[("a", 500)]);
    router.swap(&["a.2"]);
    router.pass(SECOND);
    assert_eq!(router.weights[&key("a")], 375);
    assert!(router.enter("a"));
    let at_once = OverlayEntry { remaining: Duration::ZERO, ..laid(9, "a", 0) };
    router.say(Event::Said(Directive::Overlay { entries: vec![at_once] }));
    assert!(!router.enter("a"));
    assert_eq!(router.evictions, 1);
}

#[test]
fn what_strains_an_operators_drain_is_told_and_keeps_its_sessions() {
    let strain = |strained| Event::Strained { endpoint: key("a"), strained };
    let mut router = Router::leaving_by(by(DrainStrategy::Graceful), &["a", "a.2"]);
    let falls = |rate| Event::Said(Directive::Overlay { entries: vec![OverlayEntry { rate, ..laid(3, "a", 500) }] });
    let falling = |router: &Router| router.core.falling().map(|one| (one.endpoint.clone(), one.strained)).collect();
    router.say(falls(20));
    let found: Vec<_> = falling(&router);
    assert_eq!(found, [(key("a"), false)]);
    router.say(strain(true));
    let found: Vec<_> = falling(&router);
    assert_eq!((found, router.strained.clone()), (vec![(key("a"), true)], vec![key("a")]));
    assert!(router.moving.is_empty());
    router.say(strain(false));
    assert!(router.strained.is_empty() && router.moving.contains_key(&key("a")));
    router.say(strain(true));
    router.say(Event::Said(Directive::Overlay { entries: Vec::new() }));
    let found: Vec<_> = falling(&router);
    assert!(router.strained.is_empty() && found.is_empty(), "nothing falls any more");
}

#[test]
fn how_far_a_removed_endpoint_is_that_gets_calls_is_told_at_each_step() {
    let (mut core, mut now) = (Departures::new(), Time::ZERO);
    let mut said = |now: Time, event: Event| {
        core.handle(now, event);
        let told = std::iter::from_fn(|| core.poll_effect()).filter_map(|effect| {
            let Effect::Report(Count::Live { endpoints, .. } | Count::Change { come: endpoints, .. }) = effect else {
                return None;
            };
            Some(endpoints.into_iter().filter_map(|one| one.stay))
        });
        let told = told.flatten().map(|stay| (stay.revision.0, stay.weight.permille(), stay.remaining, stay.strained));
        told.collect::<Vec<_>>()
    };
    let swap = |revision, come: &str, gone: &[&str]| Event::Live {
        revision: Revision(revision),
        come: [(key(come), by(DrainStrategy::Progressive))].into(),
        gone: gone.iter().map(|name| key(name)).collect(),
        beside: [key("a").backend].into(),
    };
    said(now, Event::Attached);
    said(now, Event::TakesChanges);
    assert_eq!(said(now, swap(1, "a", &[])), []);
    assert_eq!(said(now, swap(2, "a.2", &["a"])), [(2, 1000, SECOND * 4 + TIMEOUT, false)]);
    now = now + SECOND;
    assert_eq!(said(now, Event::Tick), [(2, 750, SECOND * 3 + TIMEOUT, false)]);
    let strained = said(now, Event::Strained { endpoint: key("a"), strained: true });
    let waits = (2, 1000, SECOND * 3 + TIMEOUT * 2, true);
    assert_eq!(strained.last(), Some(&waits));
    assert_eq!(said(now, Event::Detached), []);
    assert_eq!(said(now, Event::Attached), [waits], "to another coordinator too");
}
