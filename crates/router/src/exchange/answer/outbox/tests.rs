//! What fits, and what becomes of it.

use std::pin::pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::task::noop_waker_ref;

use super::{BYTES, EVENTS, FRAME, LARGE, Outlet, SMALL};
use crate::budget::Budget;

/// More than is put anywhere here.
const LIMIT: u64 = 1 << 30;

fn event(byte: u8, length: usize) -> Bytes {
    vec![byte; length].into()
}

/// All that is there.
fn take(outlet: &Outlet) -> Vec<u8> {
    let context = Context::from_waker(noop_waker_ref());
    let mut taken = Vec::new();
    while let Poll::Ready(Some(frame)) = outlet.poll_event(&context) {
        assert!(frame.len() <= FRAME);
        taken.extend_from_slice(&frame);
    }
    taken
}

#[test]
fn what_nobody_takes_is_bounded_and_the_last_event_has_its_place() {
    let held = Budget::default();
    let context = Context::from_waker(noop_waker_ref());
    for (length, fit) in [(1, EVENTS), (BYTES / 4, 4), (BYTES * 3, 1)] {
        let (outbox, outlet) = super::new(&held);
        let mut put = 0;
        while outbox.poll_room(&context).is_ready() {
            assert!(outbox.put(event(0, length), || LIMIT));
            put += 1;
        }
        assert_eq!(put, fit, "events of {length} bytes");
        assert!(outbox.put(event(1, 1), || LIMIT));
        drop(outbox);
        let all = put * length;
        assert_eq!(held.bytes(), if all > SMALL { all + 1 } else { 0 }, "what is held is counted");
        let taken = take(&outlet);
        assert_eq!((taken.len(), taken.last()), (all + 1, Some(&1)));
        assert!(taken[..all].iter().all(|byte| *byte == 0));
        assert_eq!(outlet.poll_event(&context), Poll::Ready(None));
        assert_eq!(held.bytes(), 0);
    }
}

#[test]
fn without_a_reader_there_is_always_room() {
    let held = Budget::default();
    let context = Context::from_waker(noop_waker_ref());
    let (outbox, outlet) = super::new(&held);
    while outbox.poll_room(&context).is_ready() {
        assert!(outbox.put(event(0, BYTES), || LIMIT));
    }
    assert_eq!(take(&outlet).len(), BYTES);
    assert!(outbox.poll_room(&context).is_ready(), "what is taken makes room");
    assert!(outbox.put(event(0, BYTES), || LIMIT));
    assert!(outbox.poll_room(&context).is_pending());
    drop(outlet);
    assert!(outbox.poll_room(&context).is_ready());
    assert!(outbox.put(event(0, BYTES), || LIMIT));
    assert_eq!(outbox.0.borrow().events.len(), 0, "nothing is kept for nobody");
}

#[test]
fn where_all_is_held_for_others_a_small_event_has_its_place_and_a_large_one_has_none() {
    let held = Budget::default();
    let others = held.try_charge(1000, LIMIT);
    let (outbox, outlet) = super::new(&held);
    assert!(!outbox.put(event(0, SMALL + 1), || 1001));
    assert!(outbox.put(event(0, SMALL), || 1001) && outbox.put(event(0, SMALL), || 1001));
    assert_eq!(held.bytes(), 1000 + 2 * SMALL, "small ones add up, and are counted then");
    drop(others);
    assert!(outbox.put(event(1, SMALL + 1), || 1001), "nothing is held for others");
    assert_eq!(take(&outlet).len(), 3 * SMALL + 1);
    assert_eq!(held.bytes(), 0);
}

#[test]
fn an_event_is_held_until_the_last_of_it_was_taken() {
    let held = Budget::default();
    let context = Context::from_waker(noop_waker_ref());
    let (outbox, outlet) = super::new(&held);
    assert!(outbox.put(event(0, 3 * FRAME), || LIMIT));
    for left in [3 * FRAME, 3 * FRAME, 0] {
        assert!(outlet.poll_event(&context).is_ready());
        assert_eq!(held.bytes(), left);
    }
}

#[test]
fn a_large_event_has_its_share_of_the_room_until_it_was_taken_or_is_for_nobody() {
    let held = Budget::default();
    let is_there = |budget: &Budget| {
        let mut context = Context::from_waker(noop_waker_ref());
        // The room is so small that this answer fits only if nothing else is taken.
        let mut place = pin!(budget.room().share(0, LARGE as u64, 8 * (LARGE as u64 + 1)));
        place.as_mut().poll(&mut context).is_ready()
    };
    for takes in [true, false] {
        let (outbox, outlet) = super::new(&held);
        assert!(outbox.put(event(0, LARGE), || LIMIT) && is_there(&held), "it is not large");
        take(&outlet);
        assert!(outbox.put(event(0, LARGE + SMALL + 1), || LIMIT) && !is_there(&held));
        if takes {
            take(&outlet);
        }
        drop(outlet);
        assert!(is_there(&held));
    }
}
