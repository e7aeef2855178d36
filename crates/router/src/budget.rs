//! The memory of one process for its clients (`limits.buffered_bytes`): what has come of their requests, and what of
//! answers waits until they take it. Each path of bytes charges here what it holds, over all cores. What is small and
//! goes out at once is not charged.
//!
//! Requests get half of it at most, so that they leave room for the answers to calls that were executed. Of that, each
//! server and each session has its share.

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

/// What is no larger is not charged, unless many of its kind wait for one client.
pub(crate) const SMALL: usize = 64 << 10;
/// An eighth of what may be held: from there on what clients do not read is given up, longest first. As much is room for
/// large answers, and as much may be held of what one server has begun and not ended.
const PART: usize = 8;

/// How much of what may be held waits for clients.
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
    /// Of those, what servers have not ended.
    unfinished: AtomicUsize,
    /// As `uploads` has it, for those who only look.
    requests: AtomicUsize,
    uploads: Mutex<Uploads>,
    /// Wakes those that wait for room among the answers.
    freed: Notify,
    room: Room,
}

/// Some bytes on the way to a client. Dropped, they are held no more.
#[derive(Debug)]
pub(crate) struct Weight {
    budget: Budget,
    bytes: usize,
    /// No client can take it yet.
    unfinished: bool,
}

/// The body of a request. Dropped, it is held no more.
#[derive(Debug)]
pub(crate) struct Upload {
    budget: Budget,
    number: u64,
    bytes: usize,
    given_up: oneshot::Receiver<()>,
}

/// The body of a request, all of it.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) bytes: Bytes,
    /// None if it is so small that it is not charged.
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
    /// Where large answers wait before they are read.
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

    /// By what clients can take alone, as far as the rest leaves room for it: a client that takes its answer makes no room
    /// for requests, and ends no answer of a server.
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

    /// Nothing yet.
    pub(crate) fn nothing(&self) -> Weight {
        Weight { budget: self.clone(), bytes: 0, unfinished: false }
    }

    /// As [`Self::nothing`], of what a server has not ended.
    pub(crate) fn nothing_yet(&self) -> Weight {
        Weight { budget: self.clone(), bytes: 0, unfinished: true }
    }

    /// As [`Weight::try_set`], of something new.
    pub(crate) fn weigh(&self, bytes: usize, limit: u64) -> Option<Weight> {
        let mut weight = self.nothing();
        weight.try_set(bytes, limit).then_some(weight)
    }

    /// `bytes`, charged until they are dropped; none if there is no room for them.
    pub(crate) fn charged(&self, bytes: Bytes, limit: u64) -> Option<Bytes> {
        let weight = self.weigh(bytes.len(), limit)?;
        Some(Bytes::from_owner(Charged { bytes, _charge: weight }))
    }

    /// A body that has begun to come.
    pub(crate) fn upload(&self, now: Time) -> Upload {
        let (give_up, given_up) = oneshot::channel();
        let number = self.uploads(|uploads| uploads.begin(now, give_up));
        Upload { budget: self.clone(), number, bytes: 0, given_up }
    }

    /// `body` stays for as long as a call of `owner` needs it, if there is a share for it.
    pub(crate) fn keep(&self, body: &Whole, owner: Owner, limit: u64) -> Result<(), Taken> {
        let Some(number) = body.number else { return Ok(()) };
        let room = self.room_of_requests(limit);
        self.uploads(|uploads| uploads.keep(number.get(), owner, room))
    }

    /// As [`Budget::keep`], of `bytes` that were not charged when they came, because they are few: they are to be kept for
    /// long. They are held until what this returns is dropped.
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

/// Bytes, and what charges them for as long as any of them are held.
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

impl Weight {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whatever the limit says: of what is here already.
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

    /// If with it no more than `limit` is held, or if nothing else waits for clients: one may be as large as it is.
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

impl Drop for Weight {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl Upload {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// It is so large now. Bodies that have been coming for longest make room for it.
    pub(crate) fn grow(&mut self, bytes: usize, limit: u64, now: Time) -> Result<(), Refused> {
        let room = self.budget.room_of_requests(limit);
        self.budget.uploads(|uploads| uploads.grow(self.number, bytes, room, now))?;
        self.bytes = bytes;
        Ok(())
    }

    /// `bytes` are all of it: it is not given up any more, and charged until they are dropped.
    pub(crate) fn whole(self, bytes: Bytes) -> Result<Whole, Refused> {
        let number = self.number;
        self.budget.uploads(|uploads| uploads.is_whole(number))?;
        Ok(Whole { bytes: Bytes::from_owner(Charged { bytes, _charge: self }), number: NonZeroU64::new(number) })
    }

    /// Ready when others needed its room.
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
