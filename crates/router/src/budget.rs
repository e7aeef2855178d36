//! The memory that one process holds for its clients (`limits.buffered_bytes`): the bodies of their requests, and the
//! answers that clients have not taken yet. Each path of bytes charges here what it holds, over all cores. What is
//! small and goes out at once is not charged.
//!
//! Requests get at most half of this memory, so that they leave room for the answers to calls that were executed. Each
//! server and each session has its share of that half.

mod begun;
mod behind;
mod room;
mod uploads;

#[cfg(test)]
mod tests;

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use model::Time;
use tokio::sync::{Notify, oneshot};

pub(crate) use begun::{Begun, Unfinished};
pub(crate) use behind::{Behind, GRACE, RATE};
pub(crate) use room::{LARGE, Room, Share};
use uploads::Uploads;
pub(crate) use uploads::{Owner, Refused, Taken};

/// A message of no more bytes is not charged, unless many of its kind wait for one client.
pub(crate) const SMALL: usize = 64 << 10;
/// One part is an eighth of what may be held. Above one part, clients that do not read are given up, the longest silent
/// first. The room for large answers is one part, and so is what may be held of one server's unfinished answers.
const PART: usize = 8;

/// How much of the memory is held by what waits for clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pressure {
    None,
    Some,
    High,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Budget(Arc<Books>);

#[derive(Debug, Default)]
struct Books {
    answers: AtomicUsize,
    /// The part of `answers` that servers have not finished.
    unfinished: AtomicUsize,
    /// A copy of the sum in `uploads`, to be read without the lock.
    requests: AtomicUsize,
    uploads: Mutex<Uploads>,
    /// Wakes tasks that wait for room among the answers.
    freed: Notify,
    room: Room,
}

/// The charge for some bytes on the way to a client. Dropping it ends the charge.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Budget,
    bytes: usize,
    /// The server has not finished the answer, so no client can take it yet.
    unfinished: bool,
}

/// The charge for the body of a request. Dropping it ends the charge.
#[derive(Debug)]
pub(crate) struct Upload {
    budget: Budget,
    number: u64,
    bytes: usize,
    given_up: oneshot::Receiver<()>,
}

/// The complete body of a request.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) bytes: Bytes,
    /// None if the body is so small that it is not charged.
    number: Option<NonZeroU64>,
}

impl From<Bytes> for Whole {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, number: None }
    }
}

impl Whole {
    pub(crate) fn is_charged(&self) -> bool {
        self.number.is_some()
    }
}

impl Budget {
    /// The room in which large answers wait before they are read.
    pub(crate) fn room(&self) -> &Room {
        &self.0.room
    }

    pub(crate) fn bytes(&self) -> usize {
        self.answers() + self.requests()
    }

    fn answers(&self) -> usize {
        self.0.answers.load(Ordering::Relaxed)
    }

    fn requests(&self) -> usize {
        self.0.requests.load(Ordering::Relaxed)
    }

    /// Counts only finished answers, against the memory that the rest leaves: a client that takes its answer makes no
    /// room for requests, and finishes no answer of a server.
    pub(crate) fn pressure(&self, limit: u64) -> Pressure {
        let (unfinished, limit) = (self.0.unfinished.load(Ordering::Relaxed), size(limit));
        let bytes = self.answers().saturating_sub(unfinished);
        if bytes > limit.saturating_sub(self.requests()).saturating_sub(unfinished) / 2 {
            Pressure::High
        } else if bytes > limit / PART {
            Pressure::Some
        } else {
            Pressure::None
        }
    }

    /// A charge for no bytes yet.
    pub(crate) fn nothing(&self) -> Charge {
        Charge { budget: self.clone(), bytes: 0, unfinished: false }
    }

    /// As [`Self::nothing`], for an answer that its server has not finished.
    pub(crate) fn nothing_yet(&self) -> Charge {
        Charge { budget: self.clone(), bytes: 0, unfinished: true }
    }

    /// As [`Charge::try_set`], for a new charge.
    pub(crate) fn try_charge(&self, bytes: usize, limit: u64) -> Option<Charge> {
        let mut charge = self.nothing();
        charge.try_set(bytes, limit).then_some(charge)
    }

    /// Returns `bytes`, charged until they are dropped; none if there is no room for them.
    pub(crate) fn charged(&self, bytes: Bytes, limit: u64) -> Option<Bytes> {
        let charge = self.try_charge(bytes.len(), limit)?;
        Some(Bytes::from_owner(Charged { bytes, _charge: charge }))
    }

    /// The charge for a body that has begun to arrive.
    pub(crate) fn upload(&self, now: Time) -> Upload {
        let (give_up, given_up) = oneshot::channel();
        let number = self.uploads(|uploads| uploads.begin(now, give_up));
        Upload { budget: self.clone(), number, bytes: 0, given_up }
    }

    /// Keeps `body` for as long as a call of `owner` needs it, if there is a share for it.
    pub(crate) fn keep(&self, body: &Whole, owner: Owner, limit: u64) -> Result<(), Taken> {
        let Some(number) = body.number else { return Ok(()) };
        let room = self.room_of_requests(limit);
        self.uploads(|uploads| uploads.keep(number.get(), owner, room))
    }

    /// As [`Budget::keep`], for `bytes` that were too few to be charged when they came, but are now kept for long. They
    /// are charged until the returned value is dropped.
    pub(crate) fn hold(&self, bytes: usize, owner: Owner, limit: u64, now: Time) -> Result<Upload, Taken> {
        let mut upload = self.upload(now);
        upload.grow(bytes, limit, now).map_err(|_| Taken::All)?;
        let (number, room) = (upload.number, self.room_of_requests(limit));
        self.uploads(|uploads| {
            uploads.is_whole(number).map_err(|_| Taken::All)?;
            uploads.keep(number, owner, room)
        })?;
        Ok(upload)
    }

    fn room_of_requests(&self, limit: u64) -> usize {
        (size(limit) / 2).min(size(limit).saturating_sub(self.answers()))
    }

    fn uploads<T>(&self, act: impl FnOnce(&mut Uploads) -> T) -> T {
        let mut uploads = self.0.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = act(&mut uploads);
        self.0.requests.store(uploads.taken(), Ordering::Relaxed);
        outcome
    }
}

/// Bytes together with their charge, which lasts as long as any of them are held.
struct Charged<T> {
    bytes: Bytes,
    _charge: T,
}

impl<T> AsRef<[u8]> for Charged<T> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn size(limit: u64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

impl Charge {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sets the charge whatever the limit says: for bytes that are held already.
    pub(crate) fn set(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.budget.0.answers.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else if bytes < self.bytes {
            self.budget.0.answers.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
            self.budget.0.freed.notify_waiters();
        }
        self.is_now(bytes);
    }

    fn is_now(&mut self, bytes: usize) {
        if self.unfinished {
            self.budget.0.unfinished.fetch_add(bytes, Ordering::Relaxed);
            self.budget.0.unfinished.fetch_sub(self.bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }

    /// Sets the charge if no more than `limit` is held with it, or if nothing else waits for clients: a single answer
    /// may have any size.
    pub(crate) fn try_set(&mut self, bytes: usize, limit: u64) -> bool {
        if bytes <= self.bytes {
            self.set(bytes);
            return true;
        }
        let (own, requests) = (self.bytes, self.budget.requests());
        let fits = |before: usize| {
            let others = before - own;
            let all = others.saturating_add(requests).saturating_add(bytes);
            (others == 0 || all <= size(limit)).then_some(others + bytes)
        };
        let set = self.budget.0.answers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        if set {
            self.is_now(bytes);
        }
        set
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl Upload {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Notes that the body has `bytes` bytes now. The bodies that have been arriving for longest make room for it.
    pub(crate) fn grow(&mut self, bytes: usize, limit: u64, now: Time) -> Result<(), Refused> {
        let room = self.budget.room_of_requests(limit);
        self.budget.uploads(|uploads| uploads.grow(self.number, bytes, room, now))?;
        self.bytes = bytes;
        Ok(())
    }

    /// `bytes` are the complete body. It is not given up any more, and is charged until the bytes are dropped.
    pub(crate) fn whole(self, bytes: Bytes) -> Result<Whole, Refused> {
        let number = self.number;
        self.budget.uploads(|uploads| uploads.is_whole(number))?;
        Ok(Whole { bytes: Bytes::from_owner(Charged { bytes, _charge: self }), number: NonZeroU64::new(number) })
    }

    /// Ready when the body was given up because others needed its room.
    pub(crate) fn poll_given_up(&mut self, context: &mut Context<'_>) -> Poll<()> {
        std::pin::Pin::new(&mut self.given_up).poll(context).map(drop)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.budget.uploads(|uploads| uploads.end(self.number));
        self.budget.0.freed.notify_waiters();
    }
}
