//! Which exchanges are ended, and by what.

use std::future::pending;
use std::pin::pin;
use std::task::Waker;

use model::Limits;

use super::*;

fn session(n: u8) -> SessionId {
    SessionId::from_bytes([n; 12])
}

fn enter(registry: &Rc<InFlight>, n: u8, id: &'static str) -> Ticket {
    let limits = Limits { idle: Duration::from_secs(2), total: Duration::from_secs(5), ..Limits::default() };
    registry.enter(session(n), Bytes::from_static(id.as_bytes()), (&limits).into(), Time::ZERO)
}

fn ended(ticket: &Ticket) -> Option<EndedBy> {
    let forever = pin!(pending::<()>());
    let mut run = pin!(ticket.run(forever));
    match run.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Err(cause)) => Some(cause),
        Poll::Ready(Ok(())) => unreachable!("it pends for ever"),
        Poll::Pending => None,
    }
}

#[test]
fn a_client_cancels_only_its_own_request() {
    let registry = Rc::new(InFlight::default());
    let (mine, other_id, other_type, other_session) =
        (enter(&registry, 1, "7"), enter(&registry, 1, "8"), enter(&registry, 1, "\"7\""), enter(&registry, 2, "7"));
    registry.cancel(session(1), b"7");
    assert_eq!(ended(&mine), Some(EndedBy::Cancelled));
    assert_eq!([&other_id, &other_type, &other_session].map(ended), [None; 3]);
}

#[test]
fn an_endpoint_is_emptied_of_what_is_there_and_nothing_else() {
    let registry = Rc::new(InFlight::default());
    let (here, elsewhere, nowhere) = (enter(&registry, 1, "1"), enter(&registry, 1, "2"), enter(&registry, 1, "3"));
    here.admitted(4, (&Limits::default()).into(), None);
    elsewhere.admitted(5, (&Limits::default()).into(), None);
    let at = Time::ZERO + A_WHILE;
    let longest =
        |endpoint, request| Longest { endpoint, request: Bytes::from_static(request), item: None, started: Time::ZERO };
    assert_eq!(registry.longest(at), [longest(4, b"1"), longest(5, b"2")]);
    assert_eq!(registry.longest(Time::ZERO), []);
    registry.evict(4);
    assert_eq!([&here, &elsewhere, &nowhere].map(ended), [Some(EndedBy::Evicted), None, None]);
}

#[test]
fn signs_of_life_extend_the_idle_limit_and_not_the_total() {
    let registry = Rc::new(InFlight::default());
    let ticket = enter(&registry, 1, "1");
    let at = |seconds| Time::ZERO + Duration::from_secs(seconds);
    for second in 1..5 {
        registry.sweep(at(second));
        assert_eq!(ended(&ticket), None, "at {second} s");
        ticket.seen(at(second));
    }
    registry.sweep(at(5));
    assert_eq!(ended(&ticket), Some(EndedBy::Total(Duration::from_secs(5))));
    let silent = enter(&registry, 1, "2");
    registry.sweep(at(2));
    assert_eq!(ended(&silent), Some(EndedBy::Idle(Duration::from_secs(2))));
}

#[test]
fn whatever_comes_is_a_sign_of_life_though_it_is_no_message() {
    let registry = Rc::new(InFlight::default());
    let (ticket, other) = (enter(&registry, 1, "1"), enter(&registry, 1, "2"));
    let at = |seconds: u64| Time::from_nanos(seconds * 1_000_000_000);
    let pending: Poll<()> = Poll::Pending;
    for second in 1..5 {
        assert!(ticket.watch(|| (life::heard(), pending).1).is_pending());
        // The sign of life was heard while `ticket` was polled, and counts for that call alone.
        assert!(other.watch(|| pending).is_pending());
        registry.sweep(at(second));
    }
    assert_eq!((ended(&ticket), ended(&other)), (None, Some(EndedBy::Idle(Duration::from_secs(2)))));
    registry.sweep(at(5));
    assert_eq!(ended(&ticket), Some(EndedBy::Total(Duration::from_secs(5))));
}

#[test]
fn limits_are_those_of_the_revision_that_let_it_in() {
    let registry = Rc::new(InFlight::default());
    let at = |seconds| Time::ZERO + Duration::from_secs(seconds);
    let limits = |idle, total| TimeLimits { idle: Duration::from_secs(idle), total: Duration::from_secs(total) };
    let ticket = enter(&registry, 1, "1");
    ticket.admitted(4, limits(20, 50), None);
    registry.sweep(at(10));
    assert_eq!(ended(&ticket), None, "it came under a limit of 2 s");
    // Routed again, and admitted by a revision with other limits; the total time still counts from the beginning.
    ticket.waits();
    ticket.admitted(5, limits(20, 11), None);
    registry.sweep(at(11));
    assert_eq!(ended(&ticket), Some(EndedBy::Total(Duration::from_secs(11))));
}

#[test]
fn silence_means_nothing_while_nobody_listens() {
    let registry = Rc::new(InFlight::default());
    let ticket = enter(&registry, 1, "1");
    let at = |seconds| Time::ZERO + Duration::from_secs(seconds);
    // Hears something, and then waits for `outcome` in the same poll.
    let wait = |outcome: Poll<()>| {
        let polled = || {
            life::heard();
            life::deaf_until(outcome).is_ready();
            Poll::<()>::Pending
        };
        assert!(ticket.watch(polled).is_pending());
    };
    wait(Poll::Pending);
    registry.sweep(at(4));
    assert_eq!(ended(&ticket), None);
    wait(Poll::Ready(()));
    registry.sweep(at(5));
    assert_eq!(ended(&ticket), Some(EndedBy::Total(Duration::from_secs(5))), "the whole goes on");
}

#[test]
fn what_enters_after_the_stop_is_over_at_once() {
    let registry = Rc::new(InFlight::default());
    let before = enter(&registry, 1, "1");
    registry.stop();
    let after = enter(&registry, 1, "2");
    assert_eq!([&before, &after].map(ended), [Some(EndedBy::Stopped); 2]);
}

#[test]
fn slots_are_used_again() {
    let registry = Rc::new(InFlight::default());
    for _ in 0..3 {
        let tickets: Vec<_> = (0..4).map(|n| enter(&registry, n, "1")).collect();
        assert_eq!(registry.len(), 4);
        drop(tickets);
        assert_eq!(registry.len(), 0);
    }
    assert_eq!(registry.0.borrow().entries.len(), 4);
}

#[test]
fn calls_whose_clients_are_gone_make_way_those_that_may_still_be_read_last() {
    let registry = Rc::new(InFlight::default());
    let [ended, gone, here, elsewhere] = ["1", "2", "3", "4"].map(|id| enter(&registry, 1, id));
    for ticket in [&ended, &gone, &here] {
        ticket.admitted(4, (&Limits::default()).into(), None);
    }
    elsewhere.admitted(5, (&Limits::default()).into(), None);
    registry.note_presence(ended.slot(), Presence::Ended);
    registry.note_presence(gone.slot(), Presence::Gone);
    registry.note_presence(elsewhere.slot(), Presence::Gone);
    let abandoned = |endpoint, presence| Abandoned { endpoint, presence };
    assert_eq!(registry.abandoned(), [abandoned(4, Presence::Gone), abandoned(5, Presence::Gone)]);
    assert!(registry.give_up(4, Presence::Gone) && !registry.give_up(4, Presence::Gone));
    assert_eq!([&ended, &gone].map(self::ended), [None, Some(EndedBy::Abandoned)]);
    assert_eq!(registry.abandoned(), [abandoned(4, Presence::Ended), abandoned(5, Presence::Gone)]);
    assert!(registry.give_up(4, Presence::Ended) && !registry.give_up(4, Presence::Ended));
    assert_eq!([&ended, &here, &elsewhere].map(self::ended), [Some(EndedBy::Abandoned), None, None]);
    let slot = elsewhere.slot();
    drop(elsewhere);
    registry.note_presence(slot, Presence::Gone);
    assert_eq!(registry.abandoned(), []);
}

#[test]
fn what_no_server_has_ends_with_its_client() {
    let registry = Rc::new(InFlight::default());
    let [waits, half, late, runs] = ["1", "2", "3", "4"].map(|id| enter(&registry, 1, id));
    waits.waits();
    half.waits();
    runs.admitted(4, (&Limits::default()).into(), None);
    registry.note_presence(half.slot(), Presence::Ended);
    for gone in [&waits, &late, &runs] {
        registry.note_presence(gone.slot(), Presence::Gone);
    }
    let all = || [&waits, &half, &late, &runs].map(ended);
    assert_eq!(all(), [Some(EndedBy::Abandoned), None, None, None], "one that can be routed at once is sent");
    late.waits();
    // The exchange was refused at its endpoint, and has to wait again.
    runs.waits();
    assert_eq!(all(), [Some(EndedBy::Abandoned), None, Some(EndedBy::Abandoned), Some(EndedBy::Abandoned)]);
    registry.note_presence(half.slot(), Presence::Gone);
    assert_eq!(ended(&half), Some(EndedBy::Abandoned));
}
