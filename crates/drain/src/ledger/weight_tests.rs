//! Weights that operators lay over endpoints, as the coordinator keeps them.

use model::NodeId;

use super::tests::{Coordinator, TIMEOUT, key};
use super::{Event, StartError, State};
use crate::{Count, DrainId, Phase};

fn admin(number: u64, id: &DrainId) -> bool {
    matches!(id, DrainId::Admin { number: that, .. } if *that == number)
}

#[test]
fn a_weight_is_kept_until_it_is_cancelled_and_is_never_over() {
    let mut it = Coordinator::new();
    it.attach(1, "r1", "x", 1, &["a", "a.2"]);
    let first = it.weigh("a", 500).unwrap();
    assert!(!first.joined && first.drain.state == State::Weighted);
    assert_eq!(it.told(), [(Some(key("a").digest), 500)]);
    let second = it.weigh("a", 100).unwrap();
    assert!(second.joined && second.drain.id == first.drain.id);
    it.attach(2, "r2", "x", 1, &["a.2"]);
    it.live(1, 2, &["a.2"]);
    assert_eq!(it.sum().0, State::Weighted, "no router has the endpoint any more, and one may get it back");
    it.again(1);
    let hello = Count::Hello { node: NodeId::new("r1").unwrap(), boot: "x".into() };
    it.say(Event::Said { connection: 3, count: hello });
    assert_eq!(it.told(), [(Some(key("a").digest), 100)], "the record has it");
    assert_eq!(it.cancel_one("a"), State::Cancelled);
    assert_eq!(it.told(), []);
}

#[test]
fn a_server_that_is_given_back_by_its_name_is_given_back_whole() {
    let mut it = Coordinator::new();
    it.attach(1, "r1", "x", 1, &["a", "a.2", "b"]);
    let of_endpoint = it.weigh("a.2", 250).unwrap().drain.id;
    let of_server = it.start("a", None).unwrap().drain.id;
    it.start("b", None).unwrap();
    assert_eq!(it.told().len(), 3);
    let ended: Vec<_> = it.cancel("a").unwrap().into_iter().map(|drain| (drain.id, drain.state)).collect();
    assert_eq!(ended, [(of_server, State::Cancelled), (of_endpoint, State::Cancelled)]);
    assert_eq!(it.told(), [(None, 0)], "that of the other server stays");
    let of_endpoint = it.weigh("a.2", 250).unwrap().drain.id;
    it.start("a", None).unwrap();
    assert_eq!(it.cancel(&of_endpoint.to_string()).unwrap().len(), 1, "by its id it is one");
    assert_eq!(it.told(), [(None, 0), (None, 0)]);
}

#[test]
fn a_weight_that_falls_to_nothing_is_a_drain_and_one_that_rises_from_it_ends_the_drain() {
    let mut it = Coordinator::new();
    it.attach(1, "r1", "x", 1, &["a", "a.2"]);
    let id = it.weigh("a", 500).unwrap().drain.id;
    let drain = it.weigh("a", 0).unwrap().drain;
    assert!(drain.id == id && drain.state == State::Draining && drain.remaining == TIMEOUT);
    it.count(1, &id, "a", Phase::Closed, [0, 3, 0]);
    assert_eq!(it.sum(), (State::Done, [3, 3, 0, 0, 0]));
    let again = it.weigh("a", 250).unwrap();
    assert!(!again.joined && admin(2, &again.drain.id));
    assert_eq!(it.told(), [(Some(key("a").digest), 250)]);
    it.count(1, &id, "a", Phase::Reopened, [0, 3, 0]);
    assert_eq!(it.core.list(it.now, false).len(), 1, "the cordon is history");
}

#[test]
fn an_endpoint_is_named_by_the_beginning_of_its_digest() {
    let mut it = Coordinator::new();
    it.attach(1, "r1", "x", 1, &["a", "a.2"]);
    let wish = |begins: &str| super::Wanted { endpoint: Some(begins.into()), ..super::tests::wanted("a") };
    let refused = it.wish(wish(""));
    assert!(matches!(refused, Err(StartError::Endpoint { known, .. }) if known.len() == 2), "which of two?");
    assert!(matches!(it.wish(wish("xyz")), Err(StartError::Endpoint { .. })));
    assert!(it.wish(wish(&key("a.2").digest.to_string())).is_ok());
    // The whole server is another thing than one endpoint of it.
    assert!(!it.start("a", None).unwrap().joined);
}

#[test]
fn a_drain_is_not_taken_for_a_server_of_its_name() {
    let mut it = Coordinator::new();
    it.attach(1, "r1", "x", 1, &["a2", "b"]);
    let of_server = it.start("a2", None).unwrap().drain;
    let of_other = it.start("b", None).unwrap().drain;
    assert_eq!((of_server.id.to_string(), of_other.id.to_string()), ("a1".into(), "a2".into()));
    assert_eq!(it.cancel("a2").unwrap()[0].id, of_other.id, "the id comes first");
    // A weight lifts the cordon of its own server.
    let of_other = it.start("b", None).unwrap().drain;
    assert_eq!(of_other.id.to_string(), "a3");
    it.attach(2, "r2", "x", 1, &["a3", "b"]);
    let named = it.start("a3", None).unwrap().drain;
    let weighed = it.wish(super::Wanted { weight: model::Weight::of(500).unwrap(), ..super::tests::wanted("b") });
    assert_eq!(weighed.unwrap().drain.state, State::Weighted);
    let state =
        |id: &DrainId| it.core.list(it.now, true).into_iter().find(|drain| drain.id == *id).map(|drain| drain.state);
    assert_eq!((state(&named.id), state(&of_other.id)), (Some(State::Draining), Some(State::Cancelled)));
}
