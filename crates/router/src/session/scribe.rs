//! The scribe writes the journal of sessions, and removes ended sessions from the tables. It has a thread of its own,
//! since a disk may be slow.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use metrics::counter;
use tokio::sync::{mpsc, oneshot};

use super::SessionId;
use super::ends::{EndError, row_of};
use super::journal::Journal;
use super::known::{Known, Swept};
use super::life::{Bounds, Idler, Loss, idlest};
use super::record::Record;
use super::table::Tables;

/// What cores tell the scribe. Times are those of [`super::own_time`], not stamps; `issued` is a stamp.
#[derive(Debug)]
pub(super) enum Word {
    Used {
        id: SessionId,
        issued: u64,
        now: u64,
        until: u64,
    },
    Expired {
        id: SessionId,
        now: u64,
        bounds: Bounds,
    },
    End {
        id: SessionId,
        issued: u64,
        now: u64,
        bounds: Bounds,
        done: oneshot::Sender<Result<(), EndError>>,
    },
    Crowded {
        now: u64,
        bounds: Bounds,
    },
    Sweep {
        now: u64,
        bounds: Bounds,
    },
    ClockSet {
        now: u64,
    },
    /// Another process is going to write the journal as well. Until [`Word::Unshare`] both only append to it.
    Share {
        done: oneshot::Sender<()>,
    },
    /// That process, or one with which the journal was shared before, has ended: what it wrote counts.
    Unshare,
    Stop,
}

/// This many spare records are not worth a new file.
const SPARE: usize = 1024;
/// How many words are taken down in one write.
const AT_ONCE: usize = 1024;

#[derive(Debug)]
pub(super) struct Scribe<J> {
    tables: Arc<Tables>,
    journal: J,
    /// How many records the journal has.
    records: usize,
    /// The journal lacks a record, or has stamps of before the clock was set.
    stale: bool,
    /// How many other processes write the journal as well.
    shared: usize,
    /// The latest time that a word named.
    now: u64,
    /// When a row of ends last began.
    row_begun: u64,
}

/// The records to write for some words, and the ends that are promised once they are written.
#[derive(Debug, Default)]
struct Page {
    lines: String,
    records: usize,
    ends: Vec<End>,
}

#[derive(Debug)]
struct End {
    id: SessionId,
    issued: u64,
    done: oneshot::Sender<Result<(), EndError>>,
}

impl Page {
    fn add(&mut self, record: Record) {
        record.write(&mut self.lines);
        self.records += 1;
    }
}

impl<J: Journal> Scribe<J> {
    pub(super) fn new(tables: Arc<Tables>, journal: J, records: usize) -> Self {
        Self { tables, journal, records, stale: false, shared: 0, now: 0, row_begun: 0 }
    }

    /// Takes down several words with one write.
    pub(super) fn take_down(&mut self, words: impl IntoIterator<Item = Word>) {
        let mut page = Page::default();
        let mut again = false;
        for word in words {
            match word {
                Word::Used { id, .. } if !self.tables.known.contains_key(&id) => {}
                Word::Used { id, issued, now, until } => {
                    self.now = self.now.max(now);
                    let (at, until) = (self.tables.time.stamp(now), self.tables.time.stamp(until));
                    page.add(Record::Used { id, issued, at, until });
                }
                Word::Expired { id, now, bounds } => {
                    self.raise_floor(now, bounds, &mut page);
                    self.expire(id, now, bounds, &mut page);
                }
                // Another request has ended the session meanwhile.
                Word::End { id, done, .. } if self.tables.has_ended(&id) => {
                    self.leaves(&id);
                    drop(done.send(Ok(())));
                }
                Word::End { id, now, bounds, done, .. } if !self.takes_place(&id, now, bounds) => {
                    counter!("only1mcp_router_session_ends_refused_total").increment(1);
                    drop(done.send(Err(EndError::Crowded)));
                }
                Word::End { id, issued, done, .. } => {
                    page.add(Record::Ended { id, issued });
                    page.ends.push(End { id, issued, done });
                }
                Word::Crowded { now, bounds } => self.make_room(now, bounds, &mut page),
                Word::Sweep { now, bounds } => {
                    self.sweep(now, bounds, &mut page);
                    again |= self.stale;
                }
                Word::ClockSet { now } => {
                    self.now = self.now.max(now);
                    again = true;
                }
                Word::Share { done } => {
                    self.shared += 1;
                    self.journal.share(true);
                    if done.send(()).is_err() {
                        tracing::debug!("the end of the other process was noticed meanwhile");
                    }
                }
                Word::Unshare => self.unshare(),
                Word::Stop => {}
            }
        }
        self.write(page);
        if self.shared > 0 {
            self.stale |= again;
        } else if again || self.records > 2 * self.needed() + SPARE {
            self.write_anew();
        }
    }

    /// Sessions that the other process has ended are ended here, too.
    fn unshare(&mut self) {
        self.shared = self.shared.saturating_sub(1);
        self.journal.share(self.shared > 0);
        let past = match self.journal.read() {
            Ok(past) => past,
            Err(error) => {
                return tracing::error!(%error, "the journal of sessions cannot be read; what the other process ended may live on");
            }
        };
        self.tables.floor.fetch_max(past.floor, Ordering::Relaxed);
        for (first, row) in past.ended {
            self.tables.ended.entry(first).or_default().merge(row);
        }
        let ended: Vec<_> =
            self.tables.known.iter().map(|entry| *entry.key()).filter(|id| self.tables.has_ended(id)).collect();
        ended.iter().for_each(|id| self.leaves(id));
        self.records = past.records;
    }

    fn needed(&self) -> usize {
        self.tables.known.len() + self.tables.ended.len()
    }

    fn write(&mut self, page: Page) {
        let Page { lines, records, ends } = page;
        if records == 0 {
            return;
        }
        match self.journal.append(&lines, !ends.is_empty()) {
            Ok(()) => {
                self.records += records;
                ends.into_iter().for_each(|end| self.end(end));
            }
            Err(error) => {
                tracing::error!(%error, "the journal of sessions cannot be written");
                counter!("only1mcp_router_session_writes_failed_total").increment(1);
                self.stale = true;
                for end in ends {
                    let error = io::Error::new(error.kind(), error.to_string());
                    drop(end.done.send(Err(error.into())));
                }
            }
        }
    }

    /// Whether the end of that session can be remembered; if so, its row exists afterwards.
    fn takes_place(&mut self, id: &SessionId, now: u64, bounds: Bounds) -> bool {
        let (ended, row) = (&self.tables.ended, row_of(id));
        if !ended.contains_key(&row) {
            if !bounds.row_may_begin(ended.len(), now.saturating_sub(self.row_begun)) {
                return false;
            }
            self.row_begun = now;
            // The row has no ends until they are written.
            ended.entry(row).or_default();
        }
        true
    }

    /// The end is entered first, so that a core that meets the session now sees that it has ended.
    fn end(&self, end: End) {
        self.tables.ends(&end.id, end.issued);
        self.leaves(&end.id);
        // The session has ended even if the client does not wait for the answer.
        drop(end.done.send(Ok(())));
    }

    fn leaves(&self, id: &SessionId) {
        if let Some((_, known)) = self.tables.known.remove(id) {
            known.end();
        }
    }

    /// Removes an expired session. If its seal still holds by the clock of another router, the end is remembered. That
    /// happens before the session leaves the table, so that no request in between revives it.
    fn expire(&self, id: SessionId, now: u64, bounds: Bounds, page: &mut Page) {
        let issued = self.tables.known.get(&id).filter(|known| known.has_expired()).map(|known| known.issued());
        let Some(issued) = issued else { return };
        let (today, floor) = (self.tables.time.stamp(now), self.tables.floor.load(Ordering::Relaxed));
        if bounds.seal_holds(issued, today, floor) {
            self.tables.ends(&id, issued);
            page.add(Record::Ended { id, issued });
        } else {
            page.add(Record::Forgotten { id });
        }
        self.leaves(&id);
    }

    /// Raises the floor: a session issued before it is dead for good, so its end need not be remembered.
    fn raise_floor(&self, now: u64, bounds: Bounds, page: &mut Page) {
        let at = self.tables.time.stamp(now);
        let floor = bounds.floor(at).max(self.tables.floor.load(Ordering::Relaxed));
        self.tables.floor.fetch_max(floor, Ordering::Relaxed);
        page.add(Record::Floor { floor, at });
    }

    fn sweep(&mut self, now: u64, bounds: Bounds, page: &mut Page) {
        self.now = self.now.max(now);
        let mut gone = Vec::new();
        for entry in &self.tables.known {
            match entry.sweep(now, bounds) {
                Swept::Lives => {}
                Swept::Write { until } => {
                    let (id, issued) = (*entry.key(), entry.issued());
                    let (at, until) = (self.tables.time.stamp(now), self.tables.time.stamp(until));
                    page.add(Record::Used { id, issued, at, until });
                }
                Swept::Gone => gone.push(*entry.key()),
            }
        }
        self.raise_floor(now, bounds, page);
        for id in gone {
            self.expire(id, now, bounds, page);
        }
        let floor = self.tables.floor.load(Ordering::Relaxed);
        self.tables.ended.retain(|_, row| row.latest >= floor);
    }

    fn make_room(&self, now: u64, bounds: Bounds, page: &mut Page) {
        self.raise_floor(now, bounds, page);
        let (today, floor) = (self.tables.time.stamp(now), self.tables.floor.load(Ordering::Relaxed));
        let idler = |entry: dashmap::mapref::multiple::RefMulti<'_, SessionId, Arc<Known>>| {
            let loss = match () {
                () if entry.has_expired() => Loss::None,
                () if !bounds.seal_holds(entry.issued(), today, floor) => Loss::Ended,
                () if entry.was_never_used() => Loss::None,
                () => Loss::Forgotten,
            };
            Idler { id: *entry.key(), used: entry.used(), listens: entry.listens(), loss }
        };
        let all: Vec<Idler> = self.tables.known.iter().map(idler).collect();
        for idler in idlest(all, bounds.surplus(self.tables.known.len())) {
            // For a session that listens the time of its use says nothing: it is in use all the time.
            let as_seen = |_: &SessionId, known: &Arc<Known>| {
                !known.has_expired()
                    && known.listens() == idler.listens
                    && (idler.listens || known.used() == idler.used)
            };
            let Some((_, known)) = self.tables.known.remove_if(&idler.id, as_seen) else {
                self.expire(idler.id, now, bounds, page);
                continue;
            };
            known.end();
            page.add(Record::Forgotten { id: idler.id });
            let result = if idler.loss == Loss::Ended { "ended" } else { "forgotten" };
            counter!("only1mcp_router_sessions_evicted_total", "result" => result).increment(1);
        }
        self.tables.crowded.store(false, Ordering::Release);
    }

    /// Writes a new journal with only what is known now.
    fn write_anew(&mut self) {
        let time = &self.tables.time;
        let mut page = Page::default();
        let at = time.stamp(self.now);
        page.add(Record::Floor { floor: self.tables.floor.load(Ordering::Relaxed), at });
        for entry in &self.tables.ended {
            page.add(Record::Ends { first: *entry.key(), row: *entry.value() });
        }
        for entry in &self.tables.known {
            // In stamps of the present clock: a clock that was set forward charges no session.
            let until = time.stamp(entry.until());
            page.add(Record::Used { id: *entry.key(), issued: entry.issued(), at, until });
        }
        match self.journal.replace(&page.lines) {
            Ok(()) => (self.records, self.stale) = (page.records, false),
            Err(error) => {
                tracing::error!(%error, "the journal of sessions cannot be written anew");
                self.stale = true;
            }
        }
    }
}

/// The thread in which the scribe works.
#[derive(Debug)]
pub(crate) struct Thread {
    thread: JoinHandle<()>,
    words: mpsc::Sender<Word>,
}

impl Thread {
    pub(super) fn start<J: Journal>(
        mut scribe: Scribe<J>,
        mut queue: mpsc::Receiver<Word>,
        words: mpsc::Sender<Word>,
    ) -> io::Result<Self> {
        let thread = std::thread::Builder::new().name("sessions".into()).spawn(move || {
            let (mut words, mut stopped) = (Vec::new(), false);
            while !stopped && queue.blocking_recv_many(&mut words, AT_ONCE) > 0 {
                stopped = words.iter().any(|word| matches!(word, Word::Stop));
                scribe.take_down(words.drain(..));
            }
        })?;
        Ok(Self { thread, words })
    }

    /// Returns when all earlier words are written; false if the thread failed.
    pub(crate) fn stop(self) -> bool {
        drop(self.words.blocking_send(Word::Stop));
        self.thread.join().is_ok()
    }
}
