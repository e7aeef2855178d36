//! What is remembered about sessions in this process: read by all cores, written by the one that serves a request.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use super::{Sealed, SessionId};

#[expect(clippy::disallowed_types, reason = "written by all cores at once; no single owner could keep up with calls")]
type Table = dashmap::DashMap<SessionId, Arc<Known>, ahash::RandomState>;

/// Sessions seen since the process started, and those ended by their clients.
#[derive(Debug)]
pub(crate) struct Sessions {
    table: Table,
    opened: AtomicU64,
    /// Ended ones, one hexadecimal id and issue time a line, appended and synced before the client is told.
    ended: Mutex<Ended>,
}

#[derive(Debug)]
struct Ended {
    ids: BTreeSet<SessionId>,
    file: File,
}

/// One session's memory.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Seconds since 1970.
    last_used: AtomicU64,
    /// Which of its open streams gets notifications, [`NO_STREAM`] or [`ENDED`].
    stream: AtomicU64,
    /// One more than the turn of the list it last saw; 0 for never.
    listed: AtomicU64,
    /// As `listed`, of the change that the stream which gets notifications was told.
    told: AtomicU64,
    /// Wakes its streams when another one gets notifications, and when it has ended.
    changed: Arc<Notify>,
}

const NO_STREAM: u64 = 0;
/// In place of a stream: its client ended the session.
const ENDED: u64 = u64::MAX;

impl Sessions {
    /// Ends recorded before `now - keep` are forgotten: their sessions have expired by themselves.
    pub(crate) fn open(path: &Path, now: u64, keep: Duration) -> std::io::Result<Self> {
        let mut kept = Vec::new();
        if let Ok(file) = File::open(path) {
            let lines = BufReader::new(file).lines().map_while(Result::ok);
            kept.extend(lines.filter_map(|line| ended_line(&line)).filter(|(_, at)| at + keep.as_secs() >= now));
        }
        let text: String = kept.iter().map(|(id, at)| line(*id, *at)).collect();
        runtime::state_dir::write_atomic(path, text.as_bytes(), 0o600)?;
        let file = OpenOptions::new().append(true).open(path)?;
        let ids = kept.into_iter().map(|(id, _)| id).collect();
        Ok(Self { table: Table::default(), opened: AtomicU64::new(0), ended: Mutex::new(Ended { ids, file }) })
    }

    pub(crate) fn known(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// A session that was just sealed.
    pub(crate) fn begin(&self, id: SessionId, now: u64) {
        self.opened.fetch_add(1, Ordering::Relaxed);
        let known = Known { last_used: now.into(), ..Known::default() };
        self.table.insert(id, Arc::new(known));
    }

    /// What is known of a session whose seal was opened; none when its client ended it or nobody used it for `idle`.
    /// One this process has not seen counts as used now, and as having seen a list from before: whoever restarted
    /// cannot know.
    pub(crate) fn touch(&self, sealed: &Sealed, now: u64, idle: Duration) -> Option<Arc<Known>> {
        if let Some(known) = self.table.get(&sealed.id) {
            let last = known.last_used.load(Ordering::Relaxed);
            if last != now {
                if known.is_idle(now, idle) {
                    return None;
                }
                known.last_used.store(now, Ordering::Relaxed);
            }
            return Some(Arc::clone(&known));
        }
        let known = Known { last_used: now.into(), listed: 1.into(), ..Known::default() };
        let known = Arc::clone(&self.table.entry(sealed.id).or_insert_with(|| Arc::new(known)));
        // After it was entered: whoever ends it now finds it there.
        if self.ended().ids.contains(&sealed.id) {
            self.table.remove(&sealed.id);
            return None;
        }
        Some(known)
    }

    /// On disk before this returns, so that the id stays dead over a restart.
    pub(crate) fn end(&self, id: SessionId, now: u64) -> std::io::Result<()> {
        let mut ended = self.ended();
        if ended.ids.insert(id) {
            ended.file.write_all(line(id, now).as_bytes())?;
            ended.file.sync_data()?;
        }
        drop(ended);
        if let Some((_, known)) = self.table.remove(&id) {
            known.stream.store(ENDED, Ordering::Release);
            known.changed.notify_waiters();
        }
        Ok(())
    }

    /// Forgets what nobody used for `idle`.
    pub(crate) fn expire(&self, now: u64, idle: Duration) {
        self.table.retain(|_, known| !known.is_idle(now, idle));
    }

    fn ended(&self) -> std::sync::MutexGuard<'_, Ended> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Nobody used it for `idle`; a client that listens does.
    fn is_idle(&self, now: u64, idle: Duration) -> bool {
        self.stream.load(Ordering::Relaxed) == NO_STREAM
            && now.saturating_sub(self.last_used.load(Ordering::Relaxed)) > idle.as_secs()
    }

    /// Notifications go to `stream` from now on: of several the newest is the one that is surely heard, since a client
    /// that lost one opens another long before the loss shows here.
    pub(crate) fn takes(&self, stream: u64) {
        let latest = |held: u64| (held != ENDED).then_some(stream);
        if self.stream.fetch_update(Ordering::AcqRel, Ordering::Acquire, latest).is_ok() {
            self.told_again();
        }
    }

    /// Whether `stream` is the one that gets notifications now: a session's streams never get the same one twice.
    pub(crate) fn claims(&self, stream: u64) -> bool {
        match self.stream.compare_exchange(NO_STREAM, stream, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(holder) => holder == stream,
        }
    }

    /// It is closed; another open one may claim what it held.
    pub(crate) fn gives_up(&self, stream: u64, now: u64) {
        self.last_used.fetch_max(now, Ordering::Relaxed);
        if self.stream.compare_exchange(stream, NO_STREAM, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.told_again();
        }
    }

    /// What was told to a stream that is gone may not have been heard: unless the client has listed since, the next
    /// stream is told again.
    fn told_again(&self) {
        self.told.store(0, Ordering::Release);
        self.changed.notify_waiters();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.stream.load(Ordering::Acquire) == ENDED
    }

    /// Ready when another stream may get notifications, or none any more. Counts from when it was made.
    pub(crate) fn changed(&self) -> OwnedNotified {
        Arc::clone(&self.changed).notified_owned()
    }

    /// The client has seen the list of that turn.
    pub(crate) fn saw_list(&self, turn: u64) {
        self.listed.fetch_max(turn + 1, Ordering::AcqRel);
    }

    /// Whether the client has seen an older list than that of `turn`, and its stream is told so now (and only now).
    pub(crate) fn to_be_told(&self, turn: u64) -> bool {
        let (seen, now) = (self.listed.load(Ordering::Acquire), turn + 1);
        seen != 0 && seen < now && self.told.fetch_max(now, Ordering::AcqRel) < now
    }
}

fn line(id: SessionId, at: u64) -> String {
    let hex: String = id.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{hex} {at}\n")
}

/// A line cut short by a crash is no line: its client was not told yet.
fn ended_line(line: &str) -> Option<(SessionId, u64)> {
    let (hex, at) = line.split_once(' ')?;
    let mut bytes = [0; 12];
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    Some((SessionId(bytes), at.parse().ok()?))
}
