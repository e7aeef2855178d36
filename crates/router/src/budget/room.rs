//! Room in the memory of the process for large answers on their way to clients.
//!
//! A large answer is read whole, and stays in memory until its client has taken it. So clients that do not read would
//! fill the memory with what servers send. Therefore a large answer gets its share of the room before it is read; until
//! then its server holds it. Servers take turns, each in the order in which its answers came. A server that has a share
//! already gets more only while it leaves as much free as it has, so that a slow server does not hold up the others.
//!
//! The length of an answer is often not known before its end: then its share grows. Where there is no room to grow, one
//! answer at a time goes on **beyond** the room. That answer waits for nothing, so no two answers wait for each other,
//! and all answers together hold no more than the room and one answer besides. Once that answer is complete, the next
//! one may go on if the room has place for the complete answer by now; otherwise when the client has taken it.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use super::{Charged, PART};

/// An answer of no more bytes needs no share.
pub(crate) const LARGE: usize = 1 << 20;

/// The step by which a share grows.
const STEP: u64 = 1 << 20;

/// An answer that waits to grow leaves this part of the room to others.
const LEFT: u64 = 8;

/// For this many servers the turn they had is remembered, although none of their answers waits.
const REMEMBERED: usize = 256;

/// The room of one process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Room(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queue: Mutex<Queue>,
    /// How many answers wait, to be read without the lock.
    wanted: AtomicUsize,
    /// Wakes answers that wait to grow.
    freed: Notify,
    /// The only permit, which the answer that goes on beyond the room has.
    beyond: Arc<Semaphore>,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            queue: Mutex::default(),
            wanted: AtomicUsize::default(),
            freed: Notify::new(),
            beyond: Arc::new(Semaphore::new(1)),
        }
    }
}

#[derive(Debug, Default)]
struct Queue {
    taken: u64,
    /// Keyed by the number of the endpoint.
    servers: BTreeMap<u64, Line>,
    turns: u64,
    /// How many answers came, and how many of them wait.
    came: u64,
    waiting: usize,
    /// How many answers have a share and wait to grow.
    stuck: usize,
}

/// The answers of one server.
#[derive(Debug, Default)]
struct Line {
    /// The number of the turn that the server had last.
    had: u64,
    /// Bytes of the room that the server holds.
    holds: u64,
    /// The waiting answers, in the order in which they came.
    waiting: BTreeMap<u64, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    bytes: u64,
    all: u64,
    grant: oneshot::Sender<Share>,
}

impl Room {
    /// The returned place is ready once there is room for an answer of `bytes` bytes. An answer larger than half of the
    /// room gets half of it, and has to grow.
    pub(crate) fn share(&self, server: u64, bytes: u64, buffered_bytes: u64) -> Place {
        let all = buffered_bytes / PART as u64;
        let (grant, granted) = oneshot::channel();
        let number = self.with(|queue| queue.push(server, Waiting { bytes: bytes.min(all / 2), all, grant }));
        self.let_in();
        Place { room: self.clone(), server, number, granted }
    }

    /// A share for bytes that are held already, whether there is room or not.
    pub(crate) fn taken(&self, bytes: usize) -> Share {
        let bytes = bytes as u64;
        self.with(|queue| queue.taken += bytes);
        Share { room: self.clone(), server: None, bytes, all: 0, beyond: None }
    }

    /// Whether an answer waits for room.
    pub(crate) fn is_wanted(&self) -> bool {
        self.0.wanted.load(Ordering::Relaxed) > 0
    }

    fn let_in(&self) {
        while let Some((server, Waiting { bytes, all, grant })) = self.with(Queue::next) {
            // If the receiver is gone, the share is dropped here and gives its room back.
            drop(grant.send(Share { room: self.clone(), server: Some(server), bytes, all, beyond: None }));
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Queue) -> T) -> T {
        let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = act(&mut queue);
        self.0.wanted.store(queue.waiting + queue.stuck, Ordering::Relaxed);
        outcome
    }
}

impl Queue {
    fn push(&mut self, server: u64, waiting: Waiting) -> u64 {
        (self.came, self.waiting) = (self.came + 1, self.waiting + 1);
        self.servers.entry(server).or_default().waiting.insert(self.came, waiting);
        self.came
    }

    fn remove(&mut self, server: u64, number: u64) -> Option<Waiting> {
        let removed = self.servers.get_mut(&server)?.waiting.remove(&number)?;
        self.waiting -= 1;
        Some(removed)
    }

    /// Takes the answer whose turn it is off the queue, if there is room for it. Only a server that already has its
    /// part of the room is passed by others.
    fn next(&mut self) -> Option<(u64, Waiting)> {
        if self.servers.len() > REMEMBERED {
            self.servers.retain(|_, line| !line.waiting.is_empty() || line.holds > 0);
        }
        let first = |(server, line): (&u64, &Line)| {
            let (number, waiting) = line.waiting.first_key_value()?;
            line.may_have(waiting.bytes, waiting.all, self.taken).then_some((line.had, *number, *server))
        };
        let (_, number, server) = self.servers.iter().filter_map(first).min()?;
        let taken = self.taken;
        self.servers.get(&server)?.waiting.get(&number).filter(|first| fits(first.bytes, first.all, taken))?;
        let next = self.remove(server, number)?;
        self.turns += 1;
        self.taken += next.bytes;
        let line = self.servers.entry(server).or_default();
        (line.had, line.holds) = (self.turns, line.holds + next.bytes);
        Some((server, next))
    }

    /// Gives `more` bytes to an answer of `server` that has a share of `bytes`. Returns whether there was room.
    fn grow(&mut self, server: u64, bytes: u64, more: u64, all: u64, need: Need) -> bool {
        let Some(line) = self.servers.get_mut(&server) else { return false };
        let fits = match need {
            Need::Some => fits(more, all, self.taken) && line.may_have(more, all, self.taken),
            // This answer alone holds room for its server, so it may grow although less is left to others.
            Need::Stuck => line.holds == bytes && self.taken.saturating_add(more) <= all - all / LEFT,
            Need::Complete => self.taken.saturating_add(more) <= all,
        };
        if fits {
            (self.taken, line.holds) = (self.taken + more, line.holds + more);
        }
        fits
    }

    fn give_back(&mut self, server: Option<u64>, bytes: u64) {
        self.taken -= bytes;
        if let Some(line) = server.and_then(|server| self.servers.get_mut(&server)) {
            line.holds -= bytes;
        }
    }
}

/// Why a share grows.
#[derive(Debug, Clone, Copy)]
enum Need {
    Some,
    /// The answer waits, and another one goes on beyond the room.
    Stuck,
    /// The answer is complete: its share covers what is here if there is room.
    Complete,
}

impl Line {
    /// Whether the server would leave as much to others as it holds. A server that holds nothing may have what there
    /// is.
    fn may_have(&self, more: u64, all: u64, taken: u64) -> bool {
        let others = taken - self.holds;
        self.holds == 0 || self.holds.saturating_add(more) <= all.saturating_sub(others) / 2
    }
}

/// An answer always fits when nothing is taken.
fn fits(bytes: u64, all: u64, taken: u64) -> bool {
    taken == 0 || taken.saturating_add(bytes) <= all
}

/// A place in the queue for room. Dropping it leaves the queue.
#[derive(Debug)]
pub(crate) struct Place {
    room: Room,
    server: u64,
    number: u64,
    granted: oneshot::Receiver<Share>,
}

impl Future for Place {
    type Output = Share;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Share> {
        let granted = ready!(Pin::new(&mut self.granted).poll(context));
        Poll::Ready(granted.expect("a place stays in the queue until it is granted or left"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.room.with(|queue| queue.remove(self.server, self.number)).is_some() {
            // The others may have waited behind this answer.
            self.room.let_in();
        }
    }
}

/// A part of the room. Dropping it frees that part.
#[derive(Debug)]
pub(crate) struct Share {
    room: Room,
    server: Option<u64>,
    bytes: u64,
    /// The size of the room when the share was asked for.
    all: u64,
    /// The permit to go on beyond the room.
    beyond: Option<OwnedSemaphorePermit>,
}

impl Share {
    /// Whether the answer may have `bytes` bytes now.
    pub(crate) fn try_grow(&mut self, bytes: usize) -> bool {
        let more = (bytes as u64).saturating_sub(self.bytes);
        if more == 0 || self.beyond.is_some() {
            return true;
        }
        // If a whole step does not fit, less will do.
        let steps = [more.next_multiple_of(STEP), more];
        if steps.into_iter().any(|more| self.takes(more, Need::Some)) {
            return true;
        }
        self.beyond = self.server.and_then(|_| Arc::clone(&self.room.0.beyond).try_acquire_owned().ok());
        self.beyond.is_some()
    }

    /// Tries to grow by `more` bytes, and returns whether the share has grown.
    fn takes(&mut self, more: u64, need: Need) -> bool {
        let Some(server) = self.server else { return false };
        let grown = self.room.with(|queue| queue.grow(server, self.bytes, more, self.all, need));
        self.bytes += if grown { more } else { 0 };
        grown
    }

    /// Returns once the answer may have `bytes` bytes.
    pub(crate) async fn grow(&mut self, bytes: usize) {
        if self.try_grow(bytes) {
            return;
        }
        let room = self.room.clone();
        let _stuck = Stuck::at(&room);
        let mut turn = std::pin::pin!(Arc::clone(&room.0.beyond).acquire_owned());
        loop {
            // Registered before the try, so that no wake-up is missed between the try and the wait.
            let freed = room.0.freed.notified();
            let more = (bytes as u64).saturating_sub(self.bytes);
            if self.try_grow(bytes) || self.takes(more, Need::Stuck) {
                return;
            }
            tokio::select! {
                () = freed => {}
                beyond = &mut turn => {
                    self.beyond = beyond.ok();
                    return;
                }
            }
        }
    }

    /// The answer is complete, and has `bytes` bytes.
    pub(crate) fn complete(&mut self, bytes: u64) {
        let beyond = bytes.saturating_sub(self.bytes);
        if beyond > 0 {
            self.takes(beyond, Need::Complete);
        }
        self.shrink(bytes);
    }

    /// The answer needs no more than `bytes` bytes.
    fn shrink(&mut self, bytes: u64) {
        if bytes <= self.bytes {
            self.beyond = None;
        }
        let spare = self.bytes.saturating_sub(bytes);
        if spare > 0 {
            self.bytes -= spare;
            self.room.with(|queue| queue.give_back(self.server, spare));
            self.room.0.freed.notify_waiters();
            self.room.let_in();
        }
    }

    /// Returns `bytes`, which keep the share until they are dropped.
    pub(crate) fn of(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Charged { bytes, _charge: self })
    }

    /// Whether another answer waits for the room that this one holds.
    pub(crate) fn is_wanted(&self) -> bool {
        self.room.is_wanted()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

/// An answer that cannot go on, counted in the queue until this is dropped.
struct Stuck<'a>(&'a Room);

impl<'a> Stuck<'a> {
    fn at(room: &'a Room) -> Self {
        room.with(|queue| queue.stuck += 1);
        Self(room)
    }
}

impl Drop for Stuck<'_> {
    fn drop(&mut self) {
        self.0.with(|queue| queue.stuck -= 1);
    }
}
