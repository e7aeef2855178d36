//! What fits, and what becomes of it.

use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::task::noop_waker_ref;

use super::{BYTES, EVENTS, FRAME, Outlet, SMALL};
use crate::downstream::held::Held;

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
    let held = Held::default();
    let context = Context::from_waker(noop_waker_ref());
    for (length, fit) in [(1, EVENTS), (BYTES / 4, 4), (BYTES * 3, 1)] {
        let (outbox, outlet) = super::new(&held);
        let mut put = 0;
        while outbox.poll_room(&context).is_ready() {
            outbox.put(event(0, length));
            put += 1;
        }
        assert_eq!(put, fit, "events of {length} bytes");
        outbox.put(event(1, 1));
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
    let held = Held::default();
    let context = Context::from_waker(noop_waker_ref());
    let (outbox, outlet) = super::new(&held);
    while outbox.poll_room(&context).is_ready() {
        outbox.put(event(0, BYTES));
    }
    assert_eq!(take(&outlet).len(), BYTES);
    assert!(outbox.poll_room(&context).is_ready(), "what is taken makes room");
    outbox.put(event(0, BYTES));
    assert!(outbox.poll_room(&context).is_pending());
    drop(outlet);
    assert!(outbox.poll_room(&context).is_ready());
    outbox.put(event(0, BYTES));
    assert_eq!(outbox.0.borrow().events.len(), 0, "nothing is kept for nobody");
}
