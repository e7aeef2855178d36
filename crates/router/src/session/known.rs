//! What is remembered about one session.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mcp::{ByKind, Kind};
use model::Time;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use super::Homes;
use super::life::Bounds;
use super::record::Seen;

/// What this process knows of one session.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// The stamp in its id.
    issued: u64,
    /// When it was entered here, it had only been begun.
    unused: bool,
    /// When it was last used, [`GONE`] once it has expired.
    used: AtomicU64,
    /// Until when the journal counts it as used.
    until: AtomicU64,
    /// Which of its open streams gets notifications, [`NO_STREAM`] or [`ENDED`].
    stream: AtomicU64,
    /// Its open streams, the oldest first: at most [`STREAMS`].
    streams: Mutex<Vec<u64>>,
    /// One more than the turn of the list it last saw; 0 for never.
    listed: ByKind<AtomicU64>,
    /// As `listed`, for the change of which the stream that gets notifications was told.
    told: ByKind<AtomicU64>,
    /// The endpoints that its calls go to.
    pub(crate) homes: Homes,
    /// Wakes the session's streams when another stream gets notifications, and when the session has ended.
    changed: Arc<Notify>,
}

/// Which stream of which session a client listens on.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) known: Arc<Known>,
    pub(crate) stream: u64,
    pub(crate) since: Time,
}

impl Listener {
    /// Whether the session has an older open stream.
    pub(crate) fn is_further(&self) -> bool {
        self.known.is_further(self.stream)
    }
}

/// How many streams a session may have open. A client has one; if its connection breaks unseen, it has another for a
/// while.
const STREAMS: usize = 4;
const GONE: u64 = 0;
const NO_STREAM: u64 = 0;
/// In place of a stream: the client ended the session, or the session has left the table.
const ENDED: u64 = u64::MAX;

/// The outcome of a use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Noted,
    /// The use is to be written down as valid until `until`; so far it was until `before`.
    Write {
        before: u64,
        until: u64,
    },
    Expired,
}

/// The outcome of a sweep for one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Swept {
    Lives,
    /// The session is to be written down as used until `until`.
    Write {
        until: u64,
    },
    Gone,
}

impl Known {
    /// A session that begins now.
    pub(super) fn begun(issued: u64, now: u64) -> Self {
        Self { issued, unused: true, used: now.into(), until: now.into(), ..Self::default() }
    }

    /// A session from before this process. It may have been used until the last moment for which the journal counts it
    /// as used.
    pub(super) fn restored(seen: Seen, now: u64) -> Self {
        Self { unused: seen.until == seen.issued, ..Self::met(seen.issued, seen.until.min(now), seen.until) }
    }

    /// A session from before this process, or one that was forgotten. It counts as having seen a list before, since it
    /// is unknown whether it did.
    pub(super) fn met(issued: u64, used: u64, until: u64) -> Self {
        Self {
            issued,
            used: used.into(),
            until: until.into(),
            listed: ByKind::from_fn(|_| 1.into()),
            ..Self::default()
        }
    }

    pub(super) fn issued(&self) -> u64 {
        self.issued
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn until(&self) -> u64 {
        self.until.load(Ordering::Relaxed)
    }

    pub(super) fn was_never_used(&self) -> bool {
        self.unused && self.used() == self.until()
    }

    /// A client that listens uses its session all the time.
    pub(super) fn listens(&self) -> bool {
        self.stream.load(Ordering::Relaxed) != NO_STREAM
    }

    pub(super) fn has_expired(&self) -> bool {
        self.used() == GONE
    }

    /// If several threads decide at once, one wins, and the others see its decision: no session is used after it was
    /// found expired.
    pub(super) fn touch(&self, now: u64, bounds: Bounds) -> Use {
        let mut used = self.used();
        loop {
            let lives = used != GONE && (self.listens() || !bounds.expired(used, now));
            let next = if lives { used.max(now) } else { GONE };
            match self.used.compare_exchange_weak(used, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) if lives => break,
                Ok(_) => return Use::Expired,
                Err(seen) => used = seen,
            }
        }
        let before = self.until();
        let until = now + bounds.grain().max(1);
        let due = now >= before;
        if due && self.until.compare_exchange(before, until, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            Use::Write { before, until }
        } else {
            Use::Noted
        }
    }

    /// The write that [`Use::Write`] asked for cannot be done: the next use asks again.
    pub(super) fn unwritten(&self, before: u64, until: u64) {
        // Not if a later use has changed it already.
        let _later = self.until.compare_exchange(until, before, Ordering::Relaxed, Ordering::Relaxed);
    }

    pub(super) fn sweep(&self, now: u64, bounds: Bounds) -> Swept {
        let used = self.used();
        let expired = used == GONE || (!self.listens() && bounds.expired(used, now));
        if expired && self.used.compare_exchange(used, GONE, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            return Swept::Gone;
        }
        if self.listens() {
            self.used.fetch_max(now, Ordering::Relaxed);
        }
        if self.used() <= self.until() {
            return Swept::Lives;
        }
        let until = now + bounds.grain().max(1);
        self.until.fetch_max(until, Ordering::Relaxed);
        Swept::Write { until }
    }

    /// The session has left the table. Its streams end, so that no client listens to a stream that stays silent. A
    /// stream that is opened later by a request from before ends as well.
    pub(super) fn end(&self) {
        self.stream.store(ENDED, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Notifications go to `stream` from now on. Of several streams only the newest is sure to be read: a client that
    /// lost a stream opens another long before the loss shows here. The oldest stream ends where there are too many.
    pub(crate) fn takes(&self, stream: u64) {
        {
            let mut streams = self.streams();
            if streams.len() == STREAMS {
                streams.remove(0);
            }
            streams.push(stream);
        }
        let latest = |held: u64| (held != ENDED).then_some(stream);
        if self.stream.fetch_update(Ordering::AcqRel, Ordering::Acquire, latest).is_ok() {
            self.told_again();
        }
    }

    /// Whether `stream` is still among the streams that the session may have open.
    pub(crate) fn has_stream(&self, stream: u64) -> bool {
        self.streams().contains(&stream)
    }

    /// Whether the session has an open stream older than `stream`.
    pub(crate) fn is_further(&self, stream: u64) -> bool {
        self.streams().first() != Some(&stream)
    }

    fn streams(&self) -> MutexGuard<'_, Vec<u64>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `stream` gets the notifications now: two streams of a session never get the same notification.
    pub(crate) fn claims(&self, stream: u64) -> bool {
        match self.stream.compare_exchange(NO_STREAM, stream, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(holder) => holder == stream,
        }
    }

    /// `stream` is closed; another open stream may claim the notifications that it held.
    pub(crate) fn gives_up(&self, stream: u64, now: u64) {
        self.streams().retain(|open| *open != stream);
        let alive = |used: u64| (used != GONE).then_some(used.max(now));
        let _gone = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, alive);
        if self.stream.compare_exchange(stream, NO_STREAM, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.told_again();
        }
    }

    /// A stream that is gone may not have delivered what it was told: unless the client has listed since, the next
    /// stream is told again.
    fn told_again(&self) {
        for (_, told) in self.told.iter() {
            told.store(0, Ordering::Release);
        }
        self.changed.notify_waiters();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.stream.load(Ordering::Acquire) == ENDED
    }

    /// Ready when another stream may get notifications, or when the session has ended. Counts from when it was made.
    pub(crate) fn changed(&self) -> OwnedNotified {
        Arc::clone(&self.changed).notified_owned()
    }

    /// The client has seen the list of that kind and turn.
    pub(crate) fn saw_list(&self, kind: Kind, turn: u64) {
        self.listed[kind].fetch_max(turn + 1, Ordering::AcqRel);
    }

    /// Whether the client has seen a list of that kind older than that of `turn`, and its stream is told so now for the
    /// first time.
    pub(crate) fn to_be_told(&self, kind: Kind, turn: u64) -> bool {
        let (seen, now) = (self.listed[kind].load(Ordering::Acquire), turn + 1);
        seen != 0 && seen < now && self.told[kind].fetch_max(now, Ordering::AcqRel) < now
    }
}
