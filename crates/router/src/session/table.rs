//! What is remembered about sessions in this process: read by all cores, written by the one that serves a request.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

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
    /// Which of its open streams gets notifications; 0 for none.
    stream: AtomicU64,
    /// The turn of the catalog it last saw; 0 for never.
    listed: AtomicU64,
}

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

    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// A session that was just sealed.
    pub(crate) fn begin(&self, id: SessionId, now: u64, listed: u64) {
        self.opened.fetch_add(1, Ordering::Relaxed);
        let known = Known { last_used: now.into(), listed: listed.into(), ..Known::default() };
        self.table.insert(id, Arc::new(known));
    }

    /// What is known of a session whose seal was opened; none when its client ended it or nobody used it for `idle`.
    /// One this process has not seen counts as used now: whoever restarted cannot know.
    pub(crate) fn touch(&self, sealed: &Sealed, now: u64, idle: Duration) -> Option<Arc<Known>> {
        if let Some(known) = self.table.get(&sealed.id) {
            let last = known.last_used.load(Ordering::Relaxed);
            if last != now {
                if now.saturating_sub(last) > idle.as_secs() {
                    return None;
                }
                known.last_used.store(now, Ordering::Relaxed);
            }
            return Some(Arc::clone(&known));
        }
        if self.ended().ids.contains(&sealed.id) {
            return None;
        }
        let known = Known { last_used: now.into(), ..Known::default() };
        Some(Arc::clone(&self.table.entry(sealed.id).or_insert_with(|| Arc::new(known))))
    }

    /// On disk before this returns, so that the id stays dead over a restart.
    pub(crate) fn end(&self, id: SessionId, now: u64) -> std::io::Result<()> {
        let mut ended = self.ended();
        if ended.ids.insert(id) {
            ended.file.write_all(line(id, now).as_bytes())?;
            ended.file.sync_data()?;
        }
        drop(ended);
        self.table.remove(&id);
        Ok(())
    }

    /// Forgets what nobody used for `idle`.
    pub(crate) fn expire(&self, now: u64, idle: Duration) {
        self.table.retain(|_, known| now.saturating_sub(known.last_used.load(Ordering::Relaxed)) <= idle.as_secs());
    }

    fn ended(&self) -> std::sync::MutexGuard<'_, Ended> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Whether `stream` is the one that gets notifications now: a session's streams never get the same one twice.
    pub(crate) fn claims(&self, stream: u64) -> bool {
        match self.stream.compare_exchange(0, stream, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(holder) => holder == stream,
        }
    }

    pub(crate) fn gives_up(&self, stream: u64) {
        // Not held: nothing to give up.
        drop(self.stream.compare_exchange(stream, 0, Ordering::AcqRel, Ordering::Acquire));
    }

    /// The client has seen the list of that turn.
    pub(crate) fn saw_list(&self, turn: u64) {
        self.listed.fetch_max(turn, Ordering::AcqRel);
    }

    /// Whether the client has seen an older list than that of `turn`, and it is told so now (and only now).
    pub(crate) fn to_be_told(&self, turn: u64) -> bool {
        let seen = self.listed.load(Ordering::Acquire);
        seen != 0 && seen < turn && self.listed.fetch_max(turn, Ordering::AcqRel) < turn
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
