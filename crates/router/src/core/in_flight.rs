//! The exchanges in flight on one data core, and how they are ended from outside.
//!
//! One registry per core, touched by that core alone, so that it needs no lock. A client's cancellation, a
//! drain at its deadline or a time limit marks the exchange here and wakes it. The exchange itself then drops the
//! future that it was waiting for, which gives up the call upstream.

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use mcp::Item;
use model::Time;

use crate::call::TimeLimits;
use crate::call::life::{self, Sign};
use crate::session::SessionId;

/// Why an exchange was ended before its answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndedBy {
    /// The client sent `notifications/cancelled`.
    Cancelled,
    /// Its client was gone, and either no server had it yet or other calls needed its place at the server.
    Abandoned,
    /// A drain reached its deadline.
    Evicted,
    /// The gateway stops, and waits no longer.
    Stopped,
    /// The server gave no sign of life for that long.
    Idle(Duration),
    /// The exchange took that long altogether.
    Total(Duration),
}

impl EndedBy {
    /// Whether the client gets an answer. A client that cancels expects none: an answer to a cancelled request would be
    /// one too many.
    pub(crate) fn is_told(self) -> bool {
        self != Self::Cancelled
    }
}

#[derive(Debug, Default)]
pub(crate) struct InFlight(RefCell<Slots>);

#[derive(Debug, Default)]
struct Slots {
    entries: Vec<Option<Entry>>,
    free: Vec<usize>,
    /// An exchange that enters from now on ends at once.
    stopped: bool,
}

#[derive(Debug)]
struct Entry {
    session: SessionId,
    /// The raw id as the client wrote it: a slice of its message.
    request: Bytes,
    place: Place,
    /// What it asks its endpoint for.
    item: Option<Arc<Item>>,
    started: Time,
    /// When its server last gave a sign of life.
    seen: Time,
    /// The server has sent bytes since the last sweep that are not a message.
    alive: bool,
    /// Whether a sign of life would be noticed.
    listening: bool,
    limits: TimeLimits,
    presence: Presence,
    ended: Option<EndedBy>,
    waker: Option<Waker>,
}

/// How far an exchange has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The exchange is being routed, and waits for nothing.
    Door,
    /// The exchange waits to be routed. Nothing of it was sent to any server.
    Queue,
    /// Number of the endpoint.
    Endpoint(u64),
}

/// The shortest duration after which an exchange is shown as the longest at its endpoint.
const A_WHILE: Duration = Duration::from_secs(1);

/// The exchange that has been at an endpoint longest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Longest {
    pub(crate) endpoint: u64,
    /// Its raw id, as its client wrote it.
    pub(crate) request: Bytes,
    /// What it asks for, by its server's own name.
    pub(crate) item: Option<Arc<Item>>,
    pub(crate) started: Time,
}

/// The lowest presence of a client among the exchanges at an endpoint that are abandoned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Abandoned {
    pub(crate) endpoint: u64,
    pub(crate) presence: Presence,
}

/// Whether the client of an exchange is there to take its answer, the lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Presence {
    Gone,
    /// The client has closed its side of the connection, and may still read.
    Ended,
    Here,
}

/// The index of a ticket's entry, valid while the ticket lives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot(usize);

/// An exchange's place in the registry. Dropping the ticket leaves it.
#[derive(Debug)]
pub(crate) struct Ticket {
    registry: Rc<InFlight>,
    slot: usize,
}

impl InFlight {
    pub(crate) fn enter(self: &Rc<Self>, session: SessionId, request: Bytes, limits: TimeLimits, now: Time) -> Ticket {
        let mut slots = self.0.borrow_mut();
        let entry = Entry {
            session,
            request,
            place: Place::Door,
            item: None,
            started: now,
            seen: now,
            alive: false,
            listening: true,
            limits,
            presence: Presence::Here,
            ended: slots.stopped.then_some(EndedBy::Stopped),
            waker: None,
        };
        let slot = slots.free.pop().unwrap_or(slots.entries.len());
        if slot == slots.entries.len() {
            slots.entries.push(None);
        }
        slots.entries[slot] = Some(entry);
        drop(slots);
        Ticket { registry: Rc::clone(self), slot }
    }

    pub(crate) fn len(&self) -> usize {
        let slots = self.0.borrow();
        slots.entries.len() - slots.free.len()
    }

    /// Ends the request that a client no longer wants. Ids are compared as written, which is how clients repeat them.
    pub(crate) fn cancel(&self, session: SessionId, request: &[u8]) {
        self.end_where(|entry| (entry.session == session && entry.request == request).then_some(EndedBy::Cancelled));
    }

    /// Whether the session has an exchange at that endpoint.
    pub(crate) fn has(&self, session: SessionId, endpoint: u64) -> bool {
        let slots = self.0.borrow();
        let mut entries = slots.entries.iter().flatten();
        entries.any(|entry| entry.session == session && entry.endpoint() == Some(endpoint))
    }

    /// Ends all exchanges at an endpoint.
    pub(crate) fn evict(&self, endpoint: u64) {
        self.end_where(|entry| (entry.endpoint() == Some(endpoint)).then_some(EndedBy::Evicted));
    }

    /// Records the presence of the client that waits for the exchange.
    pub(crate) fn note_presence(&self, Slot(slot): Slot, presence: Presence) {
        if let Some(Some(entry)) = self.0.borrow_mut().entries.get_mut(slot) {
            entry.presence = presence;
            if presence == Presence::Gone {
                entry.leave_with_client();
            }
        }
    }

    /// For each endpoint with an abandoned exchange, the lowest presence of a client.
    pub(crate) fn abandoned(&self) -> Vec<Abandoned> {
        let slots = self.0.borrow();
        let mut least: Vec<Abandoned> = Vec::new();
        for entry in slots.entries.iter().flatten().filter(|entry| entry.is_abandoned()) {
            let Some(endpoint) = entry.endpoint() else { continue };
            match least.iter_mut().find(|one| one.endpoint == endpoint) {
                Some(one) => one.presence = one.presence.min(entry.presence),
                None => least.push(Abandoned { endpoint, presence: entry.presence }),
            }
        }
        least
    }

    /// Ends one abandoned exchange at an endpoint whose client's presence is at most `at_most`: the lowest presence
    /// first, then the oldest. Returns whether there was one.
    pub(crate) fn give_up(&self, endpoint: u64, at_most: Presence) -> bool {
        let mut slots = self.0.borrow_mut();
        let there = slots.entries.iter_mut().flatten().filter(|entry| entry.endpoint() == Some(endpoint));
        let abandoned = there.filter(|entry| entry.is_abandoned() && entry.presence <= at_most);
        let oldest = abandoned.min_by_key(|entry| (entry.presence, entry.started));
        oldest.map(|entry| entry.end(EndedBy::Abandoned)).is_some()
    }

    /// How many exchanges are at each endpoint, by its serial; under none, those that are at no endpoint.
    pub(crate) fn counts(&self) -> BTreeMap<Option<u64>, usize> {
        let slots = self.0.borrow();
        let running = slots.entries.iter().flatten().filter(|entry| entry.ended.is_none());
        running.fold(BTreeMap::new(), |mut counts, entry| {
            *counts.entry(entry.endpoint()).or_default() += 1;
            counts
        })
    }

    /// Ends all exchanges, and those that enter later as well.
    pub(crate) fn stop(&self) {
        self.0.borrow_mut().stopped = true;
        self.end_where(|_| Some(EndedBy::Stopped));
    }

    /// Ends the exchanges that are over their limits.
    pub(crate) fn sweep(&self, now: Time) {
        let mut slots = self.0.borrow_mut();
        for entry in slots.entries.iter_mut().flatten().filter(|entry| entry.alive) {
            (entry.seen, entry.alive) = (now, false);
        }
        drop(slots);
        self.end_where(|entry| {
            let TimeLimits { idle, total } = entry.limits;
            if now.since(entry.started) >= total {
                Some(EndedBy::Total(total))
            } else if entry.listening && now.since(entry.seen) >= idle {
                Some(EndedBy::Idle(idle))
            } else {
                None
            }
        });
    }

    /// For each endpoint the exchange that has been there longest, if it has lasted for [`A_WHILE`].
    pub(crate) fn longest(&self, now: Time) -> Vec<Longest> {
        let slots = self.0.borrow();
        let mut longest: Vec<Longest> = Vec::new();
        for entry in slots.entries.iter().flatten().filter(|entry| now.since(entry.started) >= A_WHILE) {
            let Some(endpoint) = entry.endpoint() else { continue };
            let shown = || {
                let Entry { request, item, started, .. } = entry;
                Longest { endpoint, request: request.clone(), item: item.clone(), started: *started }
            };
            match longest.iter_mut().find(|one| one.endpoint == endpoint) {
                Some(one) if one.started <= entry.started => {}
                Some(one) => *one = shown(),
                None => longest.push(shown()),
            }
        }
        longest
    }

    fn end_where(&self, cause: impl Fn(&Entry) -> Option<EndedBy>) {
        let mut slots = self.0.borrow_mut();
        for entry in slots.entries.iter_mut().flatten().filter(|entry| entry.ended.is_none()) {
            if let Some(cause) = cause(entry) {
                entry.end(cause);
            }
        }
    }
}

impl Entry {
    fn endpoint(&self) -> Option<u64> {
        match self.place {
            Place::Endpoint(endpoint) => Some(endpoint),
            Place::Door | Place::Queue => None,
        }
    }

    /// An exchange in the queue holds memory, and nothing else bounds it once its client has given up its connection.
    /// So the exchange ends with its client: nothing was executed, so nothing is lost.
    fn leave_with_client(&mut self) {
        if self.place == Place::Queue && self.presence == Presence::Gone && self.ended.is_none() {
            self.end(EndedBy::Abandoned);
        }
    }

    fn is_abandoned(&self) -> bool {
        self.presence != Presence::Here && self.ended.is_none()
    }

    fn end(&mut self, cause: EndedBy) {
        self.ended = Some(cause);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Ticket {
    pub(crate) fn slot(&self) -> Slot {
        Slot(self.slot)
    }

    /// The exchange is at that endpoint now and asks for `item`, under the limits of the revision that admitted it.
    pub(crate) fn admitted(&self, endpoint: u64, limits: TimeLimits, item: Option<Arc<Item>>) {
        self.with(|entry| (entry.place, entry.limits, entry.item) = (Place::Endpoint(endpoint), limits, item));
    }

    /// The exchange waits to be routed: it cannot be routed yet, or nothing of it reached its endpoint and it is routed
    /// again.
    pub(crate) fn waits(&self) {
        self.with(|entry| {
            entry.place = Place::Queue;
            entry.leave_with_client();
        });
    }

    /// The server gave a sign of life.
    pub(crate) fn seen(&self, now: Time) {
        self.with(|entry| (entry.seen, entry.listening) = (now, true));
    }

    pub(crate) fn poll_ended(&self, context: &Context<'_>) -> Poll<EndedBy> {
        self.with(|entry| {
            if let Some(cause) = entry.ended {
                return Poll::Ready(cause);
            }
            match &mut entry.waker {
                Some(waker) => waker.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            Poll::Pending
        })
    }

    /// Runs `future`, unless the exchange is ended first. The owner of `future` then drops it.
    pub(crate) async fn run<F: Future>(&self, mut future: Pin<&mut F>) -> Result<F::Output, EndedBy> {
        poll_fn(|context| match self.poll_ended(context) {
            Poll::Ready(cause) => Poll::Ready(Err(cause)),
            Poll::Pending => self.watch(|| future.as_mut().poll(context)).map(Ok),
        })
        .await
    }

    /// Runs a poll that may receive from the server. Anything received is a sign of life.
    pub(crate) fn watch<T>(&self, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
        let (outcome, sign) = life::listen(poll);
        if outcome.is_pending() {
            match sign {
                Sign::Nothing => {}
                Sign::Life => self.with(|entry| (entry.alive, entry.listening) = (true, true)),
                Sign::Deaf => self.with(|entry| entry.listening = false),
            }
        }
        outcome
    }

    fn with<R>(&self, act: impl FnOnce(&mut Entry) -> R) -> R {
        let mut slots = self.registry.0.borrow_mut();
        act(slots.entries[self.slot].as_mut().expect("the slot is this ticket's until it is dropped"))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut slots = self.registry.0.borrow_mut();
        slots.entries[self.slot] = None;
        slots.free.push(self.slot);
    }
}
