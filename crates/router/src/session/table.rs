//! What this process knows about sessions. All cores read and write it at once, and tell the scribe what is to outlive
//! the process.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use model::Time;
use tokio::sync::{mpsc, oneshot};

use super::ends::{EndError, Row, row_of};
use super::journal::{self, Journal};
use super::known::{Known, Use};
use super::life::Bounds;
use super::own_time::OwnTime;
use super::record::Past;
use super::scribe::{Scribe, Thread, Word};
use super::{Sealed, SessionId};

#[expect(clippy::disallowed_types, reason = "written by all cores at once; no single owner could keep up with calls")]
type Table<T> = dashmap::DashMap<SessionId, T, ahash::RandomState>;

/// A use within this time after another use need not be noted.
const EXACT: u64 = 16;
/// How many words wait for the scribe at most. A core that finds no room tries again at the session's next use.
const WORDS: usize = 4096;

/// What the cores share with the scribe.
#[derive(Debug)]
pub(super) struct Tables {
    /// Changed by the cores; sessions leave it by the scribe.
    pub(super) known: Table<Arc<Known>>,
    /// Keyed by row; changed by the scribe alone.
    pub(super) ended: Table<Row>,
    /// No unknown session lives if it was issued before this stamp.
    pub(super) floor: AtomicU64,
    pub(super) time: OwnTime,
    /// The table is full, and the scribe was told.
    pub(super) crowded: AtomicBool,
}

impl Tables {
    pub(super) fn has_ended(&self, id: &SessionId) -> bool {
        self.ended.get(&row_of(id)).is_some_and(|row| row.has(id))
    }

    pub(super) fn ends(&self, id: &SessionId, issued: u64) {
        self.ended.entry(row_of(id)).or_default().add(id, issued);
    }
}

/// Sessions, as a core sees them.
#[derive(Debug)]
pub(crate) struct Sessions {
    pub(super) tables: Arc<Tables>,
    words: mpsc::Sender<Word>,
    opened: AtomicU64,
    swept: AtomicU64,
    /// The clock was set, and the scribe has not been told yet.
    clock_set: AtomicBool,
}

impl Sessions {
    /// Reads the journal, or begins one, and starts the thread that writes it.
    ///
    /// # Errors
    /// When the journal cannot be read or written. Nothing of it is overwritten then: it says which sessions are dead.
    pub(crate) fn open(path: PathBuf, clock: runtime::Clock) -> io::Result<(Self, Thread)> {
        let (file, past) = journal::open(path)?;
        let time = OwnTime::after(past.latest, clock.unix_millis(), clock);
        let (sessions, scribe, words) = Self::with(past, file, time);
        let thread = Thread::start(scribe, words, sessions.words.clone())?;
        Ok((sessions, thread))
    }

    pub(super) fn with<J: Journal>(past: Past, journal: J, time: OwnTime) -> (Self, Scribe<J>, mpsc::Receiver<Word>) {
        let (now, records) = (time.now(), past.records);
        let met = past.used.into_iter().map(|(id, seen)| (id, Arc::new(Known::restored(seen, now))));
        let tables = Arc::new(Tables {
            known: met.collect(),
            ended: past.ended.into_iter().collect(),
            floor: past.floor.into(),
            time,
            crowded: false.into(),
        });
        let (words, queue) = mpsc::channel(WORDS);
        let scribe = Scribe::new(Arc::clone(&tables), journal, records);
        (Self { tables, words, opened: 0.into(), swept: now.into(), clock_set: AtomicBool::new(false) }, scribe, queue)
    }

    pub(crate) fn known(&self) -> usize {
        self.tables.known.len()
    }

    pub(crate) fn ended(&self) -> usize {
        self.tables.ended.iter().map(|row| row.count()).sum()
    }

    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// Milliseconds of the time by which sessions live.
    pub(crate) fn now(&self) -> u64 {
        self.tables.time.now()
    }

    /// What [`Self::now`] is at `time` of the process's clock.
    pub(crate) fn at(&self, time: Time) -> u64 {
        self.tables.time.at(time.as_nanos())
    }

    /// The stamp with which a session that begins now is sealed.
    pub(crate) fn stamp(&self, now: u64) -> u64 {
        self.tables.time.stamp(now)
    }

    /// Enters a session that was just sealed. If the table is full, the session lives by its seal.
    pub(crate) fn begin(&self, id: SessionId, now: u64, bounds: Bounds) {
        self.opened.fetch_add(1, Ordering::Relaxed);
        if self.has_room(now, bounds) {
            let issued = self.stamp(now);
            self.tables.known.insert(id, Arc::new(Known::begun(issued, now)));
            // If the queue is full, the session's seal says as much, unless the clock is set before its first use.
            drop(self.words.try_send(Word::Used { id, issued, now, until: now }));
        }
    }

    /// Returns what is known of a session whose seal was opened; none when its client ended it or it has expired.
    pub(crate) fn touch(&self, sealed: &Sealed, now: u64, bounds: impl FnOnce() -> Bounds) -> Option<Arc<Known>> {
        let Some(known) = self.tables.known.get(&sealed.id).map(|known| Arc::clone(&known)) else {
            return self.meet(sealed, now, bounds());
        };
        if now.wrapping_sub(known.used()) < EXACT {
            return Some(known);
        }
        self.note(sealed, &known, now, bounds()).then_some(known)
    }

    /// Notes that the session was used now; false if it had expired.
    fn note(&self, sealed: &Sealed, known: &Known, now: u64, bounds: Bounds) -> bool {
        match known.touch(now, bounds) {
            Use::Noted => true,
            Use::Write { before, until } => {
                let word = Word::Used { id: sealed.id, issued: sealed.issued, now, until };
                if self.words.try_send(word).is_err() {
                    known.unwritten(before, until);
                }
                true
            }
            Use::Expired => {
                // If the queue is full, the next sweep finds the session.
                drop(self.words.try_send(Word::Expired { id: sealed.id, now, bounds }));
                false
            }
        }
    }

    /// Enters a session that is not known here: it was begun at another router, or forgotten, or never used before a
    /// restart.
    fn meet(&self, sealed: &Sealed, now: u64, bounds: Bounds) -> Option<Arc<Known>> {
        let Tables { known, floor, .. } = &*self.tables;
        let today = self.stamp(now);
        if self.tables.has_ended(&sealed.id) {
            return None;
        }
        if !bounds.seal_holds(sealed.issued, today, floor.load(Ordering::Relaxed)) {
            // The session stays dead if a longer idle limit is configured later.
            floor.fetch_max(bounds.floor(today), Ordering::Relaxed);
            return None;
        }
        let met = Arc::new(Known::met(sealed.issued, now, 0));
        // The session is entered even without room, or two of its requests would share nothing: the scribe makes room.
        // The bound comes first only when the scribe cannot keep up because the disk does not answer.
        if !self.has_room(now, bounds) && known.len() >= bounds.sessions_max() {
            return Some(met);
        }
        let entered = Arc::clone(&known.entry(sealed.id).or_insert(met));
        // Checked after it was entered: whatever ends the session from now on finds it in the table.
        if self.tables.has_ended(&sealed.id) {
            if let Some((_, known)) = known.remove(&sealed.id) {
                known.end();
            }
            return None;
        }
        self.note(sealed, &entered, now, bounds).then_some(entered)
    }

    fn has_room(&self, now: u64, bounds: Bounds) -> bool {
        if self.tables.known.len() < bounds.sessions {
            return true;
        }
        if !self.tables.crowded.swap(true, Ordering::AcqRel)
            && self.words.try_send(Word::Crowded { now, bounds }).is_err()
        {
            self.tables.crowded.store(false, Ordering::Release);
        }
        false
    }

    /// Ends the session. The end is on disk before this returns, so the id stays dead over a restart.
    ///
    /// # Errors
    /// When the end cannot be written down or remembered. The session lives then.
    pub(crate) async fn end(&self, sealed: &Sealed, now: u64, bounds: Bounds) -> Result<(), EndError> {
        let (done, written) = oneshot::channel();
        let closed = || io::Error::other("the journal is closed");
        let word = Word::End { id: sealed.id, issued: sealed.issued, now, bounds, done };
        self.words.send(word).await.map_err(|_| closed())?;
        written.await.map_err(|_| closed())?
    }

    /// Another process is going to serve sessions from the same journal, or does so already. Returns once this one only
    /// appends to the journal.
    pub(crate) async fn share(&self) {
        let (done, shared) = oneshot::channel();
        if self.words.send(Word::Share { done }).await.is_ok() {
            // An error means that the scribe has ended: it writes nothing then.
            drop(shared.await);
        }
    }

    /// A process with which the journal was shared has ended.
    pub(crate) async fn unshare(&self) {
        drop(self.words.send(Word::Unshare).await);
    }

    /// Checks the clock, and has expired sessions swept when that is due. Called often, by one thread.
    pub(crate) fn tend(&self, bounds: impl FnOnce() -> Bounds) {
        let time = &self.tables.time;
        self.tend_at(time.now(), time.wall(), bounds);
    }

    pub(super) fn tend_at(&self, now: u64, wall: u64, bounds: impl FnOnce() -> Bounds) {
        // Kept until the queue has room for the word: `was_set` reports a change only once.
        if self.tables.time.was_set(now, wall) {
            self.clock_set.store(true, Ordering::Relaxed);
        }
        if self.clock_set.load(Ordering::Relaxed) && self.words.try_send(Word::ClockSet { now }).is_ok() {
            self.clock_set.store(false, Ordering::Relaxed);
        }
        let swept = self.swept.load(Ordering::Relaxed);
        if now.saturating_sub(swept) < super::life::SWEEP_MIN {
            return;
        }
        let bounds = bounds();
        if now.saturating_sub(swept) >= bounds.sweep_every() && self.words.try_send(Word::Sweep { now, bounds }).is_ok()
        {
            self.swept.store(now, Ordering::Relaxed);
        }
    }
}
