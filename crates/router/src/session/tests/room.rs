//! What is forgotten when there are more sessions than a router remembers.

use std::sync::Arc;

use super::gateway::Gateway;
use super::{BOUNDS, IDLE};
use crate::session::Known;
use crate::session::{Bounds, Sealed, SessionId};

#[test]
fn sessions_have_a_bound_and_those_that_lose_least_make_room() {
    let bounds = Bounds { sessions: 100, ..BOUNDS };
    let mut gateway = Gateway::new(bounds);
    // The session is in use for longer than its seal holds: forgetting it would end it.
    let old = gateway.begin();
    gateway.pass(IDLE - 1);
    assert!(gateway.uses(&old));
    gateway.pass(IDLE - 1);
    assert!(gateway.uses(&old));
    let young = gateway.begin();
    gateway.pass(1000);
    assert!(gateway.uses(&young));
    // A flood of sessions that are begun and never used, then of sessions that are used.
    for used in [false, true] {
        for _ in 0..1000 {
            let one = gateway.begin();
            gateway.elapse(20);
            assert!(!used || gateway.uses(&one));
            gateway.write();
            assert!(gateway.sessions.known() <= 100);
        }
        assert!(gateway.knows(&old));
        assert_eq!(gateway.knows(&young), !used, "of those that live by their seals, the idlest is forgotten");
    }
    gateway.restart(0);
    assert!(gateway.sessions.known() <= 100);
    assert!(gateway.uses(&old) && gateway.uses(&young), "forgotten, it lives on by its seal");
    let size = gateway.text().len();
    assert!(size < 400_000, "the journal is bounded, too: {size}");
}

#[test]
fn a_session_that_was_used_before_a_restart_is_not_forgotten_for_those_that_never_were() {
    let bounds = Bounds { sessions: 100, ..BOUNDS };
    let mut gateway = Gateway::new(bounds);
    let unused = gateway.begin();
    let used = gateway.begin();
    gateway.pass(IDLE / 2);
    assert!(gateway.uses(&used));
    // Longer than the journal counts it as used.
    gateway.restart(IDLE / 4);
    for _ in 0..200 {
        gateway.begin();
        gateway.elapse(1);
        gateway.write();
    }
    assert!(gateway.knows(&used) && !gateway.knows(&unused));
}

#[test]
fn a_session_that_its_seal_does_not_hold_ends_when_it_is_forgotten() {
    let bounds = Bounds { sessions: 100, ..BOUNDS };
    let mut gateway = Gateway::new(bounds);
    let all: Vec<Sealed> = (0..100).map(|_| gateway.begin()).collect();
    for _ in 0..2 {
        gateway.pass(IDLE - 1000);
        assert!(all.iter().all(|one| gateway.uses(one)));
    }
    assert!(all[1..].iter().all(|one| {
        gateway.elapse(20);
        gateway.uses(one)
    }));
    let more = gateway.begin();
    gateway.write();
    assert!(gateway.uses(&more) && !gateway.uses(&all[0]) && gateway.uses(&all[99]));
    gateway.restart(0);
    assert!(gateway.uses(&more) && !gateway.uses(&all[0]) && gateway.uses(&all[99]));
}

/// A session of another router, or a forgotten session: known by its seal alone.
fn sealed(gateway: &mut Gateway, id: u8) -> Sealed {
    Sealed { id: SessionId::from_bytes([id; 12]), ..gateway.begin() }
}

#[test]
fn a_flood_of_ends_ends_no_other_session_and_none_is_undone() {
    let mut gateway = Gateway::new(Bounds { sessions: 100, ..BOUNDS });
    let (used, other, spared) = (gateway.begin(), sealed(&mut gateway, 7), sealed(&mut gateway, 8));
    assert!(gateway.uses(&used));
    let mut ended = Vec::new();
    for round in 0..5000 {
        let one = gateway.begin();
        gateway.elapse(5);
        if round % 3 != 0 {
            assert!(gateway.ends(&one).is_ok());
            ended.push(one);
        }
    }
    assert!(gateway.sessions.tables.ended.len() <= 100);
    for session in [&other, &spared] {
        assert!(ended.iter().all(|one| !gateway.uses(one)));
        assert!(gateway.uses(&used) && gateway.uses(session), "nothing was done to it");
        gateway.restart(0);
    }
    assert!(ended.iter().all(|one| !gateway.uses(one)));
    let size = gateway.text().len();
    assert!(size < 400_000, "the journal is bounded, too: {size}");
}

#[test]
fn an_end_that_cannot_be_remembered_is_refused_and_ends_nothing() {
    let mut gateway = Gateway::new(Bounds { sessions: 100, ..BOUNDS });
    // No two of these sessions are in one row.
    let all: Vec<Sealed> = (1..=200).map(|id| sealed(&mut gateway, id)).collect();
    let ended = |gateway: &mut Gateway, all: &[Sealed]| all.iter().filter(|one| gateway.ends(one).is_ok()).count();
    assert_eq!(ended(&mut gateway, &all[..90]), 50, "half of the places are there for whatever comes");
    assert!(gateway.uses(&all[60]) && gateway.uses(&all[199]), "it lives");
    let mut beside = all[0].clone();
    beside.id.0[11] += 1;
    assert!(gateway.ends(&beside).is_ok(), "what has a place needs none");
    gateway.elapse(IDLE / 50);
    assert_eq!(ended(&mut gateway, &all[90..110]), 1, "the others become free one by one");
    gateway.restart(0);
    assert!(!gateway.uses(&all[0]) && !gateway.uses(&beside) && !gateway.uses(&all[90]) && gateway.uses(&all[60]));
    gateway.pass(IDLE);
    let later: Vec<Sealed> = (201..=230).map(|id| sealed(&mut gateway, id)).collect();
    assert_eq!((gateway.sessions.ended(), ended(&mut gateway, &later)), (0, 30), "what has expired is not remembered");
}

#[test]
fn who_listens_makes_room_for_a_session_that_would_end() {
    let mut gateway = Gateway::new(Bounds { sessions: 100, ..BOUNDS });
    let old = gateway.begin();
    for _ in 0..2 {
        gateway.pass(IDLE - 1000);
        assert!(gateway.uses(&old));
    }
    let listening = listeners(&mut gateway);
    assert!(gateway.knows(&old) && listening.iter().all(|(session, _)| gateway.uses(session)));
}

/// As many sessions as there may be, all with an open stream, the first one used last.
fn listeners(gateway: &mut Gateway) -> Vec<(Sealed, Arc<Known>)> {
    let all = (0..gateway.bounds.sessions).map(|stream| {
        let session = gateway.begin();
        let known = gateway.touch(&session).unwrap();
        known.takes(stream as u64 + 1);
        (session, known)
    });
    let all: Vec<_> = all.collect();
    gateway.elapse(20);
    gateway.touch(&all[0].0).unwrap();
    all
}

#[test]
fn requests_of_a_session_share_what_is_known_of_it_though_all_others_listen() {
    let mut gateway = Gateway::new(Bounds { sessions: 100, ..BOUNDS });
    let all = listeners(&mut gateway);
    let one = gateway.begin();
    let known = [gateway.touch(&one), gateway.touch(&one), gateway.touch(&one)].map(Option::unwrap);
    assert!(known.iter().all(|again| Arc::ptr_eq(again, &known[0])));
    assert!(gateway.sessions.known() <= 100);
    let ended = |known: &Known| known.has_ended();
    assert!(!ended(&all[0].1), "the idlest make room");
    let gone = all.iter().filter(|(session, _)| !gateway.knows(session)).count();
    assert_eq!(all.iter().filter(|(_, known)| ended(known)).count(), gone, "what is not known hears nothing");
    assert!((1..=8).contains(&gone), "{gone}");
    assert!(all.iter().all(|(session, _)| gateway.uses(session)), "they live on by their seals, and may listen again");
}

#[test]
fn who_listens_makes_room_last() {
    let mut gateway = Gateway::new(Bounds { sessions: 100, ..BOUNDS });
    let all = listeners(&mut gateway);
    for (stream, (_, known)) in (1..).zip(&all).skip(50) {
        known.gives_up(stream, gateway.now());
    }
    for _ in 0..7 {
        let one = gateway.begin();
        assert!(gateway.uses(&one));
    }
    assert!(all[..50].iter().all(|(session, known)| gateway.knows(session) && !known.has_ended()));
}

#[test]
fn a_stream_that_was_asked_for_before_its_session_was_forgotten_ends() {
    let mut gateway = Gateway::new(Bounds { sessions: 100, ..BOUNDS });
    let first = gateway.begin();
    let known = gateway.touch(&first).unwrap();
    while gateway.knows(&first) {
        gateway.elapse(20);
        let one = gateway.begin();
        gateway.uses(&one);
    }
    known.takes(1);
    assert!(known.has_ended());
}

#[test]
fn sessions_have_a_bound_while_the_disk_does_not_answer() {
    let mut gateway = Gateway::new(Bounds { sessions: 100, ..BOUNDS });
    let all: Vec<Sealed> = (0..1000).map(|_| gateway.begin()).collect();
    let bounds = gateway.bounds;
    for one in &all {
        assert!(gateway.sessions.touch(one, gateway.now(), || bounds).is_some());
    }
    assert!(gateway.sessions.known() <= 200);
    gateway.write();
    assert!(gateway.sessions.known() <= 100);
}

#[test]
fn what_has_expired_stays_so_when_it_makes_room() {
    let mut gateway = Gateway::new(Bounds { sessions: 100, ..BOUNDS });
    let ahead = Sealed { issued: super::START + 5000, ..gateway.begin() };
    gateway.sessions.tables.known.clear();
    assert!(gateway.uses(&ahead));
    gateway.elapse(IDLE + 1);
    let bounds = gateway.bounds;
    assert!(gateway.sessions.touch(&ahead, gateway.now(), || bounds).is_none());
    gateway.forget_words();
    for _ in 0..150 {
        let one = gateway.begin();
        gateway.uses(&one);
    }
    assert!(!gateway.knows(&ahead) && !gateway.uses(&ahead));
}
