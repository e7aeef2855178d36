//! Which connections are closed and when, and which make room.

use std::sync::Arc;

use super::*;
use crate::budget::Pressure;
use crate::session::{Keys, Known};

fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

fn serving() -> Patience {
    Patience::serving(Duration::from_secs(30))
}

fn under(pressure: Pressure) -> Needed {
    Needed { pressure, room: false, places: false }
}

const ROOM: Needed = Needed { pressure: Pressure::None, room: true, places: false };
const PLACES: Needed = Needed { pressure: Pressure::None, room: false, places: true };

/// As many sweeps later as a request may take to arrive, at `now`.
fn later(clients: &Clients, now: Time) {
    clients.now.set(now);
    clients.sweeps.set(clients.sweeps.get() + ARRIVES);
}

/// A connection that was answered at `now`, and waits for its next request.
fn answered(clients: &Clients, now: Time) -> Rc<Client> {
    clients.now.set(now);
    let client = clients.enter();
    client.asks();
    client.note_answered(Takes::Little);
    client.waits(now);
    client
}

#[test]
fn silence_ends_a_connection_by_what_it_did_before() {
    let clients = Clients::default();
    let (new, asking) = (clients.enter(), clients.enter());
    asking.asks();
    let idle = answered(&clients, at(0));
    let slow = answered(&clients, at(5));
    slow.speaks(at(5));
    // More of the head does not give more time.
    slow.speaks(at(14));
    let streaming = clients.enter();
    streaming.asks();
    streaming.note_answered(Takes::Little);
    let closed = || [&new, &asking, &idle, &slow, &streaming].map(|client| client.closed());
    clients.sweep(at(9), &serving());
    assert_eq!(closed(), [None; 5]);
    clients.sweep(at(10), &serving());
    assert_eq!(closed(), [Some(Closed::Silent), None, None, None, None]);
    clients.sweep(at(15), &serving());
    assert_eq!(closed()[3], Some(Closed::SlowHead));
    clients.sweep(at(600), &serving());
    assert_eq!(closed()[2], Some(Closed::Idle));
    clients.sweep(at(1_000_000), &serving());
    assert_eq!((closed()[1], closed()[4]), (None, None), "it is the gateway's turn");
}

#[test]
fn who_does_not_read_has_until_the_limit() {
    let clients = Clients::default();
    let (stalled, moving) = (answered(&clients, at(0)), answered(&clients, at(0)));
    for client in [&stalled, &moving] {
        client.asks();
        clients.stalls(client);
    }
    clients.sweep(at(29), &serving());
    moving.moves(1);
    clients.stalls(&moving);
    clients.sweep(at(30), &serving());
    assert_eq!((stalled.closed(), moving.closed()), (Some(Closed::Unread), None));
    // A core that drains waits less, from when it began to drain.
    let draining = Patience::draining(Duration::from_secs(30), at(40));
    clients.sweep(at(40), &draining);
    assert_eq!(moving.closed(), None);
    clients.sweep(at(41), &draining);
    assert_eq!(moving.closed(), Some(Closed::Unread));
    clients.leave(&stalled);
    clients.leave(&moving);
    assert_eq!((clients.len(), clients.unread.get()), (0, 0));
}

#[test]
fn room_is_made_by_who_uses_it_least() {
    let clients = Clients::default();
    let (idlest, idle) = (answered(&clients, at(1)), answered(&clients, at(2)));
    let asking = clients.enter();
    asking.asks();
    clients.now.set(at(3));
    let (first, second, unseen) = (clients.enter(), clients.enter(), clients.enter());
    second.since.set(at(4));
    first.waits(at(4));
    second.waits(at(4));
    later(&clients, at(5));
    let just = answered(&clients, at(5));
    for victim in [&first, &second, &idlest, &idle] {
        assert!(clients.displace());
        assert_eq!(victim.closed(), Some(Closed::Displaced));
    }
    assert!(!clients.displace(), "one is served, one was served just now, and one may have asked already");
    assert_eq!([&asking, &just, &unseen].map(|client| client.closed()), [None; 3]);
}

/// A new client must not lose its place to the end of a burst that came before it.
#[test]
fn of_many_that_came_at_once_and_never_asked_the_one_that_came_first_makes_room() {
    let clients = Clients::default();
    let burst: Vec<_> = (0..5).map(|_| clients.enter()).collect();
    burst.iter().for_each(|client| client.waits(at(0)));
    later(&clients, at(1));
    // The last one takes the place of the first in the list.
    clients.leave(&burst[0]);
    for victim in &burst[1..] {
        assert!(clients.displace());
        assert_eq!(victim.closed(), Some(Closed::Displaced));
    }
}

#[test]
fn a_connection_whose_request_may_be_on_its_way_is_not_given_up_for_a_newer_one() {
    let clients = Clients::default();
    clients.now.set(at(5));
    let new = clients.enter();
    assert!(clients.keeps_waiting(1), "it has not been read");
    new.waits(at(5));
    assert!(clients.keeps_waiting(1) && !clients.displace());
    assert!(!clients.keeps_waiting(2), "there is room");
    clients.now.set(at(50));
    assert!(clients.keeps_waiting(1), "the process may not have run");
    later(&clients, at(50));
    assert!(!clients.keeps_waiting(1));
    assert!(clients.displace());
    assert_eq!(new.closed(), Some(Closed::Displaced));
    let idle = answered(&clients, at(60));
    let another = clients.enter();
    another.waits(at(60));
    assert!(clients.keeps_waiting(2), "one has just come, and one was just served");
    another.asks();
    assert!(!clients.keeps_waiting(2), "nothing is about to make room");
    clients.now.set(at(61));
    clients.enter();
    assert!(!clients.keeps_waiting(3), "who does nothing makes room before who has just come");
    assert!(clients.displace());
    assert_eq!(idle.closed(), Some(Closed::Displaced));
}

#[test]
fn requests_that_do_not_come_to_an_end_make_room_the_oldest_first_and_answers_nobody_waits_for_before_streams() {
    let clients = Clients::default();
    let sends = |since: u64| {
        clients.now.set(at(since));
        let client = clients.enter();
        client.asks();
        client.sends(at(since));
        client
    };
    let idle = answered(&clients, at(0));
    let (older, newer, whole) = (sends(1), sends(2), sends(1));
    whole.note_sent(at(2));
    let ended = clients.enter();
    ended.asks();
    ended.presence.set(Presence::Ended);
    let just = sends(4);
    clients.now.set(at(4));
    for victim in [&idle, &older, &newer, &ended] {
        assert!(clients.displace());
        assert_eq!(victim.closed(), Some(Closed::Displaced));
    }
    assert!(!clients.displace(), "one body has just begun, and one is all here");
    assert_eq!((whole.closed(), just.closed()), (None, None));
}

#[test]
fn who_is_served_for_long_is_looked_at_and_all_are_where_places_are_short() {
    let clients = Clients::default();
    let (served, sending, idle) = (clients.enter(), clients.enter(), answered(&clients, at(0)));
    served.asks();
    sending.asks();
    sending.sends(at(0));
    let looked = || [&served, &sending, &idle].map(|client| client.told.take() == Some(Told::Look));
    clients.sweep(Time::ZERO + Duration::from_millis(600), &serving());
    assert_eq!(looked(), [false; 3]);
    clients.sweep(at(2), &serving());
    assert_eq!(looked(), [true, false, false]);
    served.since.set(at(2));
    clients.crowded.set(Some(at(2)));
    clients.sweep(at(2) + Duration::from_millis(200), &serving());
    assert_eq!(looked(), [true, false, false]);
    served.close(Closed::Displaced);
    clients.sweep(at(3), &serving());
    assert_eq!(served.closed(), Some(Closed::Displaced));
}

#[test]
fn who_listens_makes_room_after_all_others_and_further_streams_of_a_session_first() {
    let clients = Clients::default();
    let listening = |since: u64, known: &Arc<Known>| {
        let client = clients.enter();
        client.asks();
        client.note_answered(Takes::Notifications);
        known.takes(since);
        client.listens(Listener { known: Arc::clone(known), stream: since, since: at(since) });
        client
    };
    let (one, other) = (Arc::<Known>::default(), Arc::<Known>::default());
    let (idlest, first, second, third) =
        (listening(1, &other), listening(2, &one), listening(3, &one), listening(4, &one));
    let idle = answered(&clients, at(5));
    clients.now.set(at(6));
    let just = listening(6, &Arc::default());
    for victim in [&idle, &second, &third, &idlest, &first] {
        assert!(clients.displace());
        assert_eq!(victim.closed(), Some(Closed::Displaced));
    }
    assert!(!clients.displace() && just.is_open(), "it has begun to listen just now");
    assert_eq!(Arc::strong_count(&other), 2, "its connection has not ended yet");
}

#[test]
fn what_a_socket_does_not_take_is_charged_until_it_does() {
    let (clients, budget) = (Clients::default(), Budget::default());
    let (stalled, moving) = (answered(&clients, at(0)), answered(&clients, at(0)));
    for client in [&stalled, &moving] {
        clients.stalls(client);
        client.owes(100, &budget);
    }
    moving.owes(70, &budget);
    assert_eq!(budget.bytes(), 170);
    moving.moves(1);
    assert_eq!(budget.bytes(), 100);
    clients.leave(&stalled);
    assert_eq!(budget.bytes(), 0);
}

#[test]
fn of_those_that_hesitate_the_longest_is_given_up() {
    let clients = Clients::default();
    let (longer, shorter, moving) = (answered(&clients, at(0)), answered(&clients, at(0)), answered(&clients, at(0)));
    clients.stalls(&longer);
    clients.now.set(at(1));
    clients.stalls(&shorter);
    clients.now.set(at(2));
    clients.stalls(&moving);
    assert!(!clients.give_up_unread(under(Pressure::None)));
    assert!(clients.give_up_unread(under(Pressure::Some)));
    assert_eq!(longer.closed(), Some(Closed::Unread));
    assert!(!clients.give_up_unread(under(Pressure::Some)), "a network may have hesitated");
    assert!(clients.give_up_unread(under(Pressure::High)));
    assert_eq!(shorter.closed(), Some(Closed::Unread));
    assert!(!clients.give_up_unread(under(Pressure::High)));
}

#[test]
fn room_is_taken_from_those_that_have_it_and_do_not_read() {
    let clients = Clients::default();
    let (other, longer, shorter) = (answered(&clients, at(0)), answered(&clients, at(0)), answered(&clients, at(0)));
    for client in [&longer, &shorter] {
        client.note_answered(Takes::Large);
    }
    clients.stalls(&other);
    clients.stalls(&longer);
    clients.now.set(at(1));
    clients.stalls(&shorter);
    assert!(!clients.give_up_unread(ROOM), "a network may have hesitated");
    clients.now.set(at(2));
    assert!(clients.give_up_unread(ROOM) && !clients.give_up_unread(ROOM));
    shorter.moves(1);
    clients.stalls(&shorter);
    clients.now.set(at(3));
    assert!(!clients.give_up_unread(ROOM), "it reads, if slowly");
    assert_eq!([&other, &longer, &shorter].map(|client| client.closed()), [None, Some(Closed::Unread), None]);
}

#[test]
fn who_reads_too_slowly_makes_way_for_those_that_need_what_it_holds() {
    let given_up = |needed: Needed, takes: Takes, bytes_a_second: usize| {
        let clients = Clients::default();
        let client = answered(&clients, at(0));
        client.note_answered(takes);
        clients.stalls(&client);
        (1..100).find(|second| {
            clients.now.set(at(*second));
            client.moves(bytes_a_second);
            clients.stalls(&client);
            clients.give_up_unread(needed)
        })
    };
    for (needed, takes) in
        [(ROOM, Takes::Large), (under(Pressure::High), Takes::Little), (PLACES, Takes::Notifications)]
    {
        assert_eq!(given_up(needed, takes, 1), Some(6), "{needed:?}");
        assert_eq!(given_up(needed, takes, 256 << 10), Some(11), "{needed:?}");
        assert_eq!(given_up(needed, takes, 512 << 10), None, "{needed:?}: it is fast enough");
    }
    for (needed, takes) in [(ROOM, Takes::Little), (under(Pressure::Some), Takes::Large)] {
        assert_eq!(given_up(needed, takes, 1), None, "{needed:?}: no other client needs what it holds");
    }
}

#[test]
fn who_has_caught_up_is_behind_no_more_and_a_crowd_waits_for_places() {
    let clients = Clients::default();
    let client = answered(&clients, at(0));
    client.note_answered(Takes::Large);
    let slow_until = |second| {
        client.moves(1);
        clients.stalls(&client);
        clients.now.set(at(second));
        clients.give_up_unread(ROOM)
    };
    assert!((1..=5).all(|second| !slow_until(second)));
    client.moves(1);
    clients.now.set(at(6));
    assert!(!clients.give_up_unread(ROOM) && clients.unread.get() == 0, "nothing waits for its socket");
    assert!((7..=11).all(|second| !slow_until(second)) && slow_until(12), "its time begins anew");

    let clients = Clients::default();
    let client = answered(&clients, at(0));
    client.note_answered(Takes::Little);
    client.reading.set(false);
    let crowded_until = |second| {
        assert!(!clients.displace());
        clients.stalls(&client);
        clients.now.set(at(second));
        clients.give_up_unread(under(Pressure::None))
    };
    assert!((1..=5).all(|second| !crowded_until(second)));
    clients.now.set(at(8));
    assert!(!clients.give_up_unread(under(Pressure::None)), "who found no place has not come again");
    assert!(crowded_until(9));
}

#[test]
fn places_are_kept_while_others_leave() {
    let clients = Clients::default();
    let all: Vec<_> = (0..5).map(|_| clients.enter()).collect();
    for (left, index) in (0..5).rev().zip([1, 3, 0, 4, 2]) {
        clients.leave(&all[index]);
        assert_eq!(clients.len(), left);
        assert!(clients.all.borrow().iter().enumerate().all(|(place, client)| client.place.get() == place));
    }
}

#[test]
fn the_session_that_a_connection_names_is_the_one_of_its_last_id() {
    let (keys, version) = (Keys::parse(&"7".repeat(64)).unwrap(), mcp::ProtocolVersion::LATEST);
    let [(one, first), (other, second)] = [1, 2].map(|issued| keys.seal(version, issued, "p", ""));
    let client = Clients::default().enter();
    let named = |text: &str| client.remembered.opened(text, &keys).map(|sealed| sealed.id);
    for _ in 0..2 {
        assert_eq!(named(&first), Some(one));
        assert_eq!(named(&first), Some(one));
        assert_eq!(named(&second), Some(other));
        assert_eq!(named(&first[1..]), None);
        assert_eq!(named(""), None);
        assert_eq!(named(&second), Some(other), "what is none leaves the last one");
    }
}
