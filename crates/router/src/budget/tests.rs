//! Which bodies and answers find room, and which make way.

use std::task::Waker;
use std::time::Duration;

use model::BackendId;

use super::*;
use crate::session::SessionId;

const LIMIT: u64 = 1000;

fn at(millis: u64) -> Time {
    Time::ZERO + Duration::from_millis(millis)
}

fn is_given_up(upload: &mut Upload) -> bool {
    upload.poll_given_up(&mut Context::from_waker(Waker::noop())).is_ready()
}

#[test]
fn requests_get_half_and_answers_what_is_left() {
    let budget = Budget::default();
    let mut first = budget.upload(at(0));
    first.grow(500, LIMIT, at(0)).expect("half of it");
    let mut second = budget.upload(at(0));
    assert_eq!(second.grow(1, LIMIT, at(0)), Err(Refused::NoRoom));
    let answer = budget.try_charge(400, LIMIT).expect("requests cannot take it");
    let mut more = budget.try_charge(100, LIMIT).expect("it is full now");
    assert!(budget.try_charge(1, LIMIT).is_none() && !more.try_set(101, LIMIT) && more.try_set(99, LIMIT));
    assert_eq!((budget.bytes(), budget.pressure(LIMIT)), (999, Pressure::High));
    drop(first);
    assert!(more.try_set(600, LIMIT));
    assert_eq!((budget.bytes(), budget.pressure(LIMIT)), (1000, Pressure::High));
    assert_eq!(second.grow(1, LIMIT, at(0)), Ok(()), "one that is alone always fits");
    assert_eq!(budget.upload(at(0)).grow(1, LIMIT, at(0)), Err(Refused::NoRoom), "answers have all of it");
    drop((answer, more, second));
    assert_eq!((budget.bytes(), budget.pressure(LIMIT)), (0, Pressure::None));
    assert!(budget.try_charge(5000, LIMIT).is_some(), "one that is alone always fits");
    let all: Vec<_> = (0..10).map(|_| budget.upload(at(0))).collect();
    drop(all);
    assert_eq!(budget.bytes(), 0);
}

#[test]
fn of_bodies_that_are_not_complete_the_longest_makes_way() {
    let budget = Budget::default();
    let begun = |since: u64, bytes: usize| {
        let mut upload = budget.upload(at(since));
        upload.grow(bytes, LIMIT, at(since)).expect("there is room");
        upload
    };
    let (whole, mut older, mut old, mut young) = (begun(0, 100), begun(1, 100), begun(2, 100), begun(500, 100));
    let whole = whole.whole(Bytes::from_static(b"whole")).expect("it was not given up").bytes;
    let mut new = budget.upload(at(1100));
    assert_eq!(new.grow(400, LIMIT, at(1100)), Err(Refused::NoRoom), "the young one is not given up");
    let all = [&mut older, &mut old, &mut young];
    assert_eq!(all.map(is_given_up), [false; 3], "nothing is given up in vain");
    new.grow(150, LIMIT, at(1100)).expect("one makes way");
    let all = [&mut older, &mut old, &mut young];
    assert_eq!(all.map(is_given_up), [true, false, false]);
    assert_eq!(older.grow(101, LIMIT, at(1100)), Err(Refused::GivenUp));
    assert_eq!(older.whole(Bytes::new()).err(), Some(Refused::GivenUp));
    assert_eq!(old.grow(300, LIMIT, at(1100)), Err(Refused::GivenUp), "it is the longest itself");
    assert_eq!(budget.bytes(), 350);
    drop((old, young, new));
    let piece = whole.slice(1..2);
    drop(whole);
    assert_eq!(budget.bytes(), 100, "for as long as any of it is held");
    drop(piece);
    assert_eq!(budget.bytes(), 0);
}

fn whole(budget: &Budget, bytes: usize) -> Whole {
    let mut upload = budget.upload(at(0));
    upload.grow(bytes, LIMIT, at(0)).expect("there is room");
    upload.whole(Bytes::from_static(b"whole")).expect("it is not given up")
}

/// A body of so many bytes, for a call of the client `session` to `server`; or the owner of the share that is taken.
fn kept(budget: &Budget, session: u8, server: &str, bytes: usize) -> Result<Whole, Taken> {
    let whole = whole(budget, bytes);
    budget.keep(&whole, owner(session, server), LIMIT).map(|()| whole)
}

fn owner(session: u8, server: &str) -> Owner {
    let server = (!server.is_empty()).then(|| BackendId::new(server).expect("a good id"));
    Owner { session: SessionId::from_bytes([session; 12]), server }
}

/// As many bodies of 10 bytes as are let in, each of another client.
fn fill(budget: &Budget, server: &str) -> Vec<Whole> {
    (0..=u8::MAX).map_while(|session| kept(budget, session, server, 10).ok()).collect()
}

#[test]
fn what_is_kept_for_one_server_leaves_as_much_for_the_others() {
    let budget = Budget::default();
    let first = fill(&budget, "slow");
    assert_eq!(first.len(), 25, "half of what requests get");
    assert_eq!(kept(&budget, 99, "slow", 1).err(), Some(Taken::Server));
    let second = fill(&budget, "slow-too");
    assert_eq!(second.len(), 12, "half of what is left");
    let third = fill(&budget, "");
    assert_eq!(third.len(), 6, "those whose server is not known have one share");
    assert_eq!(budget.bytes(), 430, "what was refused is not held");
    kept(&budget, 99, "quick", 60).expect("the first one of a server always fits");
    drop((second, third));
    assert!(kept(&budget, 99, "quick", 100).is_ok(), "a call that ended gives back what it had");
    let again = budget.keep(&first[0], owner(0, "slow"), LIMIT);
    assert_eq!((again, fill(&budget, "slow").len()), (Ok(()), 0), "one that is routed anew is not counted twice");
}

#[test]
fn what_is_kept_for_one_client_leaves_a_share_for_the_others() {
    let budget = Budget::default();
    let of = |session: u8, server: &str| -> Vec<_> {
        std::iter::from_fn(|| kept(&budget, session, server, 10).ok()).take(100).collect()
    };
    let first = of(1, "slow");
    assert_eq!(first.len(), 16, "a third of what requests get");
    assert_eq!(kept(&budget, 1, "slow", 10).err(), Some(Taken::Session));
    let elsewhere = of(1, "quick");
    assert_eq!(elsewhere.len(), 0, "wherever they go");
    assert!(!of(2, "slow").is_empty() && !of(2, "quick").is_empty(), "another client has its share at both");
}

#[tokio::test]
async fn who_waits_gets_what_is_freed_or_gives_up_in_time() {
    let budget = Budget::default();
    let held = budget.try_charge(900, LIMIT).expect("all is free");
    let mut waiting = Begun::of(&Unfinished::default(), &budget);
    assert!(!waiting.set_within(Duration::ZERO, 200, LIMIT).await, "there is none");
    let (got, ()) = tokio::join!(waiting.set_within(Duration::from_secs(30), 200, LIMIT), async { drop(held) });
    assert!(got && budget.bytes() == 200);
    let charged = budget.charged(Bytes::from_static(&[7; 300]), LIMIT).expect("there is room");
    let piece = charged.slice(1..2);
    drop((charged, waiting));
    assert_eq!(budget.bytes(), 300, "for as long as any of it is held");
    drop(piece);
    assert_eq!(budget.bytes(), 0);
}

#[tokio::test]
async fn what_one_server_has_begun_takes_no_room_from_the_others() {
    let (budget, greedy, modest) = (Budget::default(), Unfinished::default(), Unfinished::default());
    let begin = |server: &Unfinished, bytes| {
        let mut begun = Begun::of(server, &budget);
        begun.try_set(bytes, LIMIT).then_some(begun)
    };
    let mut first = begin(&greedy, 100).expect("there is room");
    assert!(begin(&greedy, 26).is_none(), "an eighth in all");
    assert!(first.try_set(500, LIMIT), "one that is alone always fits");
    assert!(first.try_set(100, LIMIT));
    let second = begin(&greedy, 25).expect("that is just an eighth");
    assert!(!first.try_set(101, LIMIT) && begin(&modest, 125).is_some());
    assert!(begin(&greedy, 1).is_none(), "though all have room");
    drop((first, second));
    assert_eq!((budget.bytes(), greedy.bytes()), (0, 0));
}

#[tokio::test]
async fn answers_of_one_server_that_wait_for_each_other_go_on_one_after_the_other() {
    let (budget, server) = (Budget::default(), Unfinished::default());
    let begin = || Begun::of(&server, &budget);
    let (mut first, mut second, mut third) = (begin(), begin(), begin());
    assert!(first.try_set(50, LIMIT) && second.try_set(40, LIMIT) && third.try_set(30, LIMIT));
    assert!(first.set_within(Duration::ZERO, 100, LIMIT).await, "none is complete unless one may go on");
    assert!(first.set_within(Duration::ZERO, 150, LIMIT).await, "until its end");
    assert!(!second.set_within(Duration::ZERO, 100, LIMIT).await, "one at a time");
    let patience = Duration::from_secs(30);
    let (got, ()) = tokio::join!(second.set_within(patience, 100, LIMIT), async { drop(first) });
    assert!(got && !third.set_within(Duration::ZERO, 40, LIMIT).await);
    let (got, ()) = tokio::join!(third.set_within(patience, 100, LIMIT), async { drop(second) });
    assert!(got && begin().try_set(20, LIMIT));
}

#[test]
fn answers_are_pressed_by_what_requests_leave_for_them() {
    let budget = Budget::default();
    let pressures = |budget: &Budget| {
        [125, 126, 250, 251, 500, 501].map(|bytes| {
            let _answers = budget.try_charge(bytes, LIMIT).expect("there is room");
            budget.pressure(LIMIT)
        })
    };
    let (none, some, high) = (Pressure::None, Pressure::Some, Pressure::High);
    assert_eq!(pressures(&budget), [none, some, some, some, some, high]);
    let mut requests = budget.upload(at(0));
    requests.grow(499, LIMIT, at(0)).expect("half of it");
    assert_eq!(pressures(&budget), [none, some, some, high, high, high]);
    drop(requests);
    let mut half_read = budget.nothing_yet();
    half_read.set(499);
    assert_eq!(pressures(&budget), [none, some, some, high, high, high], "no client can end what a server has begun");
}

#[test]
fn one_that_is_slow_while_others_wait_falls_behind() {
    let second = Duration::from_secs(1);
    let rate = u64::from(RATE);
    let looks = |bytes: u64, others_wait: bool| {
        let mut one = Behind::default();
        (1..=100).find(|_| one.is_too_far(bytes, second, others_wait))
    };
    assert_eq!(looks(0, false), None, "others do not need its room");
    assert_eq!(looks(rate, true), None, "it is as fast as it must be");
    assert_eq!((looks(1, true), looks(rate / 2, true)), (Some(6), Some(11)));
    let mut burst = Behind::default();
    assert!(!burst.is_too_far(100 * rate, second, true) && !burst.is_too_far(0, GRACE, true));
    assert!(burst.is_too_far(0, second, true), "what was fast does not speak for it");
    let mut often = Behind::default();
    assert!(!often.is_too_far(0, GRACE, true) && !often.is_too_far(0, second, false));
    assert!(often.is_too_far(0, second, true), "the next one that waits does not wait as long again");
    assert!(!often.is_too_far(3 * rate, second, false) && !often.is_too_far(0, second, true), "it has caught up");
}

#[test]
fn what_waits_is_held_within_the_share_of_its_client_however_small_it_is() {
    let budget = Budget::default();
    let hold = |client: u8, bytes: usize| {
        let owner = Owner { session: SessionId::from_bytes([client; 12]), server: None };
        budget.hold(bytes, owner, LIMIT, at(0))
    };
    let mine: Vec<_> = std::iter::repeat_with(|| hold(1, 10)).map_while(Result::ok).collect();
    assert!((10..=17).contains(&mine.len()), "a third of 500 bytes, not {}", mine.len());
    assert_eq!(
        (hold(1, 10).err(), budget.bytes()),
        (Some(Taken::Session), 10 * mine.len()),
        "refused ones hold nothing"
    );
    let other = hold(2, 50).expect("another client has its own share");
    let mut body = budget.upload(at(0));
    body.grow(500 - budget.bytes(), LIMIT, at(0)).expect("a body that comes has what is left");
    assert_eq!(hold(3, 10).err(), Some(Taken::All));
    drop((mine, other, body));
    assert_eq!(budget.bytes(), 0);
}
