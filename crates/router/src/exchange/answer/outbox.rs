//! The events of one exchange on their way to a client that may not read them. A small queue connects the exchange,
//! which runs by the router's clock, and the body of the answer, which runs as fast as its client reads.
//!
//! Both ends live on one core, so nothing here locks.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use mcp::sse::Frame;

use crate::beside::held;
use crate::budget::{Budget, Charge, LARGE, Room, SMALL, Share};
use crate::core::clients::{Client, Takes};

/// How many events may wait for a client, besides the last one; and from how many waiting bytes on no other is added.
const EVENTS: usize = 16;
const BYTES: usize = 256 << 10;

/// The largest frame: hyper copies each frame, and holds the copy until the client has taken it.
pub(crate) const FRAME: usize = 64 << 10;

#[derive(Debug)]
struct Queue {
    events: VecDeque<Bytes>,
    bytes: usize,
    /// How many bytes of the first event were taken already: the event's memory is held until all of it is taken.
    taken: usize,
    charge: Charge,
    /// The share of the room, if the queue is large: while the client does not take it, other answers stay with their
    /// servers.
    share: Option<Share>,
    room: Room,
    /// The event that waits to be added is large, and has a share of the room.
    large_waits: bool,
    client: Option<Rc<Client>>,
    /// No more events will be added.
    over: bool,
    /// The body is gone: nothing takes the events.
    unread: bool,
    taker: Option<Waker>,
    giver: Option<Waker>,
}

impl Queue {
    fn has_room(&self) -> bool {
        self.unread || (self.events.len() < EVENTS && self.bytes < BYTES)
    }

    fn holds(&mut self, bytes: usize) {
        self.bytes = bytes;
        self.charge.set(if bytes > SMALL { bytes } else { 0 });
        if bytes > LARGE || self.share.is_some() {
            self.share = (bytes > LARGE).then(|| self.room.taken(bytes));
        }
        self.tell_client();
    }

    fn tell_client(&self) {
        if let Some(client) = &self.client {
            client.takes(if self.large_waits || self.share.is_some() { Takes::Large } else { Takes::Little });
        }
    }
}

/// The exchange's end of the queue. Dropping it ends the stream after the events that wait.
#[derive(Debug)]
pub(crate) struct Outbox(Rc<RefCell<Queue>>);

/// The body's end of the queue. After it is dropped, the exchange goes on without a reader.
#[derive(Debug)]
pub(crate) struct Outlet(Rc<RefCell<Queue>>);

pub(crate) fn new(budget: &Budget) -> (Outbox, Outlet) {
    let queue = Rc::new(RefCell::new(Queue {
        events: VecDeque::new(),
        bytes: 0,
        taken: 0,
        charge: budget.nothing(),
        share: None,
        room: budget.room().clone(),
        large_waits: false,
        client: None,
        over: false,
        unread: false,
        taker: None,
        giver: None,
    }));
    (Outbox(Rc::clone(&queue)), Outlet(queue))
}

impl Outbox {
    /// Whether another event may be added; always true when the body is gone.
    pub(crate) fn has_room(&self) -> bool {
        self.0.borrow().has_room()
    }

    /// Returns once there is room.
    pub(crate) fn poll_room(&self, context: &Context<'_>) -> Poll<()> {
        let mut queue = self.0.borrow_mut();
        if queue.has_room() {
            return Poll::Ready(());
        }
        match &mut queue.giver {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// An event of `bytes` bytes waits for [`Self::poll_room`].
    pub(crate) fn is_waited_for(&self, bytes: usize) {
        let mut queue = self.0.borrow_mut();
        queue.large_waits = bytes > LARGE;
        queue.tell_client();
    }

    /// Adds an event where there is room; the last event always has its place. Returns whether the event was taken: a
    /// large one is refused when all clients hold as much as they may (`limit`).
    #[must_use]
    pub(crate) fn put(&self, event: Bytes, limit: impl FnOnce() -> u64) -> bool {
        let mut queue = self.0.borrow_mut();
        if queue.unread {
            return true;
        }
        queue.large_waits = false;
        let bytes = queue.bytes + event.len();
        if event.len() > SMALL && !queue.charge.try_set(bytes, limit()) {
            return false;
        }
        queue.holds(bytes);
        queue.events.push_back(event);
        wake(&mut queue.taker);
        true
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let mut queue = self.0.borrow_mut();
        queue.over = true;
        if let Some(client) = &queue.client {
            client.waits_no_more();
        }
        wake(&mut queue.taker);
    }
}

impl Outlet {
    pub(crate) fn is_taken_by(&self, client: &Rc<Client>) {
        let mut queue = self.0.borrow_mut();
        queue.client = Some(Rc::clone(client));
        queue.tell_client();
    }

    /// The next event, or a part of it; `None` when the exchange is over.
    pub(crate) fn poll_event(&self, context: &Context<'_>) -> Poll<Option<Bytes>> {
        let mut queue = self.0.borrow_mut();
        if let Some(mut event) = queue.events.pop_front() {
            let frame = event.split_to(event.len().min(FRAME));
            queue.taken += frame.len();
            if event.is_empty() {
                let bytes = queue.bytes - std::mem::take(&mut queue.taken);
                queue.holds(bytes);
            } else {
                queue.events.push_front(event);
            }
            wake(&mut queue.giver);
            return Poll::Ready(Some(frame));
        }
        if queue.over {
            return Poll::Ready(None);
        }
        match &mut queue.taker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        let mut queue = self.0.borrow_mut();
        queue.unread = true;
        queue.client = None;
        queue.events.clear();
        queue.holds(0);
        wake(&mut queue.giver);
    }
}

/// One message as a server-sent event.
pub(crate) fn event(message: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(message.len() + 24);
    Frame { event: Some("message"), ..Frame::message(message) }.write(&mut out);
    held(out)
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

#[cfg(test)]
mod tests;
