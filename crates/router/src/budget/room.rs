//! Room in the memory of the process for large answers on their way to clients.
//!
//! A large answer is read whole, and stays in memory until its client has taken it. Clients that do not read would so
//! fill the memory with what servers send. So a large answer gets its share of the room before it is read; until then its
//! server holds it. Servers take turns, each in the order in which its answers came.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
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
    /// By serial of the endpoint.
    servers: BTreeMap<u64, Line>,
    turns: u64,
    /// How many came, and how many of them wait.
    came: u64,
    waiting: usize,
}

/// The answers of one server.
#[derive(Debug, Default)]
struct Line {
    /// Which turn it had last.
    had: u64,
    /// In the order in which they came.
    waiting: BTreeMap<u64, Waiting>,
}

#[derive(Debug)]
struct Waiting {
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
        let number = self.with(|queue| queue.push(server, Waiting { bytes: bytes.min(all), all, grant }));
        self.let_in();
        Place { room: self.clone(), server, number, granted }
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
        self.0.wanted.store(queue.waiting, Ordering::Relaxed);
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

    /// Takes the one whose turn it is off the queue, if there is room for it.
    fn next(&mut self) -> Option<Waiting> {
        if self.servers.len() > REMEMBERED {
            self.servers.retain(|_, line| !line.waiting.is_empty());
        }
        let first = |(server, line): (&u64, &Line)| Some((line.had, *line.waiting.keys().next()?, *server));
        let (_, number, server) = self.servers.iter().filter_map(first).min()?;
        self.servers.get(&server)?.waiting.get(&number).filter(|first| first.fits(self.taken))?;
        let next = self.remove(server, number)?;
        self.turns += 1;
        self.taken += next.bytes;
        self.servers.entry(server).or_default().had = self.turns;
        Some(next)
    }
}

/// A place in the queue for room. Dropped, it is left.
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
            // It may have been what the others waited behind.
            self.room.let_in();
        }
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
