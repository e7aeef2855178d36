//! Room in the memory of the process for large answers on their way to clients.
//!
//! A large answer is read whole, and stays in memory until its client has taken it. Clients that do not read would so
//! fill the memory with what servers send. So a large answer gets its share of the room before it is read; until then its
//! server holds it. Servers take turns, each in the order in which its answers came.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{Charged, PART};

/// An answer of no more bytes needs no share.
pub(crate) const LARGE: usize = 1 << 20;

/// Of so many servers it is known when they had their turn, though they do not wait.
const REMEMBERED: usize = 256;

/// The room of one process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Room(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    queue: Mutex<Queue>,
    /// How many wait, for those who only want to know that.
    wanted: AtomicUsize,
}

#[derive(Debug, Default)]
struct Queue {
    taken: u64,
    waiting: VecDeque<Waiting>,
    /// Which turn each server had last.
    had: BTreeMap<u64, u64>,
    turns: u64,
}

#[derive(Debug)]
struct Waiting {
    /// By serial of its endpoint.
    server: u64,
    bytes: u64,
    all: u64,
    grant: oneshot::Sender<Share>,
}

impl Waiting {
    /// One that is alone always fits.
    fn fits(&self, taken: u64) -> bool {
        taken == 0 || taken.saturating_add(self.bytes) <= self.all
    }
}

impl Room {
    /// Returns once there is room for an answer of so many bytes. One that is larger than the room gets all of it.
    pub(crate) fn share(&self, server: u64, bytes: u64, buffered_bytes: u64) -> Place {
        let all = buffered_bytes / PART as u64;
        let (grant, granted) = oneshot::channel();
        self.with(|queue| queue.waiting.push_back(Waiting { server, bytes: bytes.min(all), all, grant }));
        self.let_in();
        Place { room: self.clone(), granted }
    }

    /// A share for what is here already, whether there is room or not.
    pub(crate) fn taken(&self, bytes: usize) -> Share {
        let bytes = bytes as u64;
        self.with(|queue| queue.taken += bytes);
        Share { room: self.clone(), bytes }
    }

    /// Whether an answer waits for room.
    pub(crate) fn is_wanted(&self) -> bool {
        self.0.wanted.load(Ordering::Relaxed) > 0
    }

    fn let_in(&self) {
        while let Some(Waiting { bytes, grant, .. }) = self.with(Queue::next) {
            // A share that nobody takes any more gives its room back where it is dropped.
            drop(grant.send(Share { room: self.clone(), bytes }));
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Queue) -> T) -> T {
        let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = act(&mut queue);
        self.0.wanted.store(queue.waiting.len(), Ordering::Relaxed);
        outcome
    }
}

impl Queue {
    /// Takes the one whose turn it is off the queue, if there is room for it.
    fn next(&mut self) -> Option<Waiting> {
        self.waiting.retain(|waiting| !waiting.grant.is_closed());
        let Self { waiting, had, .. } = self;
        if had.len() > REMEMBERED {
            had.retain(|server, _| waiting.iter().any(|waiting| waiting.server == *server));
        }
        let turn = |place: &usize| (had.get(&waiting[*place].server).copied().unwrap_or(0), *place);
        let next = (0..waiting.len()).min_by_key(turn).filter(|next| waiting[*next].fits(self.taken))?;
        let next = waiting.remove(next)?;
        self.turns += 1;
        self.taken += next.bytes;
        had.insert(next.server, self.turns);
        Some(next)
    }
}

/// A place in the queue for room. Dropped, it is left.
#[derive(Debug)]
pub(crate) struct Place {
    room: Room,
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
        self.granted.close();
        self.room.let_in();
    }
}

/// Some of the room. Dropped, it is free again.
#[derive(Debug)]
pub(crate) struct Share {
    room: Room,
    bytes: u64,
}

impl Share {
    /// The answer turned out to be shorter.
    pub(crate) fn shrink(&mut self, bytes: u64) {
        let spare = self.bytes.saturating_sub(bytes);
        if spare > 0 {
            self.bytes -= spare;
            self.room.with(|queue| queue.taken -= spare);
            self.room.let_in();
        }
    }

    /// `bytes`, which have it until they are dropped.
    pub(crate) fn of(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Charged { bytes, _charge: self })
    }

    /// Whether an answer waits for the room that this one holds.
    pub(crate) fn is_wanted(&self) -> bool {
        self.room.is_wanted()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink(0);
    }
}
