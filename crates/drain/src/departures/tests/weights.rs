//! Endpoints with a weight: what stays, what leaves, and what a coordinator is told of it.

use super::*;

#[test]
fn weights_multiply_and_come_back_when_they_are_lifted() {
    let mut router = Router::with(&["a", "a.2"]);
    let whole = OverlayEntry { endpoint: None, ..laid(7, "a", 500) };
    router.say(Event::Said(Directive::Overlay { entries: vec![whole, laid(8, "a", 100)] }));
    assert_eq!(router.weights, BTreeMap::from([(key("a"), 50), (key("a.2"), 500)]));
    router.swap(&["a", "a.2", "b"]);
    assert!(router.enter("a"), "a weight is no cordon");
    assert_eq!(router.weights.len(), 2, "a generation changes no weight");
    router.weigh(&[("a", 0)]);
    assert_eq!((router.enter("a"), router.weights[&key("a.2")]), (false, 1000));
    router.weigh(&[("a", 300)]);
    assert_eq!((router.enter("a"), router.weights[&key("a")]), (true, 300));
}

#[test]
fn a_removed_endpoint_with_a_weight_stays_while_another_can_take_over() {
    let mut router = Router::with(&["a", "a.2", "b", "alone"]);
    router.weigh(&[("a", 500), ("b", 500), ("alone", 500)]);
    router.swap(&["a.2", "alone.2"]);
    // `b` has no successor, and that of `alone` waits for its end.
    assert_eq!(router.staying(), [key("a")]);
    assert!(router.enter("a") && !router.words.contains_key(&key("b")) && !router.words.contains_key(&key("alone")));
    assert!(!router.core.take_unsettled(), "they were never in the new table");
    router.weigh(&[("a", 10)]);
    assert_eq!((router.weights[&key("a")], router.staying()), (10, vec![key("a")]));

    router.weigh(&[("a", 0)]);
    assert!(router.core.take_unsettled() && router.staying().is_empty() && !router.enter("a"));
    // Its calls count once, for the removal.
    let removal = DrainId::Removal { endpoint: key("a"), revision: Revision(2) };
    let counted =
        |is: fn(&DrainId) -> bool| router.reports.iter().rfind(|report| is(&report.drain) && report.in_flight == 1);
    assert_eq!(counted(DrainId::is_removal).map(|report| &report.drain), Some(&removal));
    assert!(counted(|drain| !drain.is_removal()).is_none());
    router.leave("a", false);
    assert!(!router.words.contains_key(&key("a")));
}

#[test]
fn what_lies_on_a_whole_server_keeps_no_endpoint_that_is_replaced() {
    let mut router = Router::with(&["a", "a.2"]);
    let whole = OverlayEntry { endpoint: None, ..laid(9, "a", 500) };
    router.say(Event::Said(Directive::Overlay { entries: vec![whole] }));
    router.swap(&["a.2"]);
    assert!(router.staying().is_empty() && !router.words.contains_key(&key("a")));
}

#[test]
fn a_stay_ends_at_the_deadline_and_with_the_last_successor_and_when_the_weight_is_lifted() {
    let stays = || {
        let mut router = Router::with(&["a", "a.2"]);
        router.weigh(&[("a", 500)]);
        router.swap(&["a.2"]);
        assert!(router.enter("a"));
        router
    };
    let mut router = stays();
    router.pass(TIMEOUT);
    assert!(!router.enter("a") && router.core.take_unsettled());
    assert_eq!(router.evictions, 0, "a call may have come a moment ago");
    router.pass(TIMEOUT);
    assert_eq!(router.evictions, 1);

    let mut router = stays();
    router.swap(&["b"]);
    assert!(!router.enter("a") && router.staying().is_empty());
    assert_eq!(router.evictions, 0);

    let mut router = stays();
    router.weigh(&[]);
    assert!(!router.enter("a") && router.core.take_unsettled());

    let mut router = stays();
    router.swap(&["a", "a.2"]);
    assert!(router.enter("a") && router.staying().is_empty());
    router.pass(TIMEOUT * 2);
    assert!(router.enter("a") && router.evictions == 0, "it is live again");
}

#[test]
fn a_coordinator_that_takes_changes_is_told_what_differs() {
    let mut core = Departures::new();
    let mut said = |event| {
        core.handle(Time::ZERO, event);
        let effects = std::iter::from_fn(|| core.poll_effect());
        let told = effects.filter_map(|effect| match effect {
            Effect::Report(count @ (Count::Live { .. } | Count::Change { .. })) => Some(count),
            Effect::Report(_)
            | Effect::Cordon { .. }
            | Effect::Weigh { .. }
            | Effect::LetGo { .. }
            | Effect::Uncordon { .. }
            | Effect::Count { .. }
            | Effect::Evict { .. }
            | Effect::TryClose { .. } => None,
        });
        told.collect::<Vec<_>>()
    };
    let endpoints = |names: &[&str]| {
        let live = |name: &&str| LiveEndpoint { endpoint: key(name), policy: policy(), strained: false, stay: None };
        names.iter().map(live).collect::<Vec<_>>()
    };
    let swap = |revision, come: &[&str], gone: &[&str]| Event::Live {
        revision: Revision(revision),
        come: come.iter().map(|name| (key(name), policy())).collect(),
        gone: gone.iter().map(|name| key(name)).collect(),
        beside: BTreeSet::new(),
    };
    let whole = |revision, names| vec![Count::Live { revision: Revision(revision), endpoints: endpoints(names) }];
    assert_eq!(said(Event::Attached), whole(0, &[]));
    assert_eq!(said(swap(1, &["a", "b"], &[])), whole(1, &["a", "b"]), "it has not said yet what it takes");
    assert_eq!(said(Event::TakesChanges), []);
    let change = Count::Change { revision: Revision(2), come: endpoints(&["c"]), gone: vec![key("b")] };
    assert_eq!(said(swap(2, &["c"], &["b"])), [change]);
    assert_eq!(said(Event::Detached), []);
    assert_eq!(said(Event::Attached), whole(2, &["a", "c"]), "it may be another one");
    assert_eq!(said(swap(3, &[], &["a"])), whole(3, &["c"]));
}
