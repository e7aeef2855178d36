//! Opening: the identity of the log, the epoch of this start, and the revision to begin with.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::RwLock;

use model::{AttemptId, Diff, Digest, HistoryPolicy, LogId, Owner, Revision, WallTime};

use super::append::Written;
use super::fault::Faults;
use super::file::{self, Lost};
use super::store::Store;
use super::table::{AUDIT, CONTENTS, CURSORS, FORMAT, LAYERS, META, REVISIONS, cursor, number};
use super::{Cursor, Entry, Kept, Log, LogError, Place, RevisionRecord, Unavailable, audit};

/// How much of the audit chain is checked at each start.
const AUDIT_LINKS_CHECKED: u64 = 10_000;

/// A log, and its content at the start.
#[derive(Debug)]
pub struct Opened {
    pub log: Log,
    pub head: Option<Restored>,
    pub cursors: BTreeMap<Owner, Cursor>,
    /// What is wrong with the log although it can be used.
    pub fault: Option<String>,
}

/// The revision that is live by decision.
#[derive(Debug)]
pub struct Restored {
    pub kept: Kept,
    /// Present when the newest revision could not be read: this is an older content under a new number.
    pub instead_of: Option<(Revision, String)>,
}

impl Log {
    /// Opens the log at that path, or begins a new one. The epoch is on the disk before this returns.
    pub fn open(path: &Path, now: WallTime) -> Result<Opened, LogError> {
        let lost = Lost::default();
        // Follows symlinks, so that no copy takes the place of a symlink.
        let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let ((store, (id, epoch)), copy_fault) =
            if is_absent(path) { (begin(path, &lost)?, None) } else { start(path, &lost)? };
        let place = RwLock::new(Place { store: Some(store), lost, raised: None });
        let log = Self { path: path.to_owned(), place, id, epoch: epoch.into(), faults: Faults::none() };
        let fault = audit::verify(&log.read()?, AUDIT_LINKS_CHECKED).err();
        let head = log.restore(now)?;
        let cursors = log.cursors()?;
        let fault = fault.map(|fault| fault.to_string()).or(copy_fault);
        Ok(Opened { log, head, cursors, fault })
    }

    fn cursors(&self) -> Result<BTreeMap<Owner, Cursor>, LogError> {
        let rows = self.read()?.named(CURSORS)?;
        rows.into_iter().map(|(owner, row)| Ok((Owner(owner), cursor(&row)?))).collect()
    }

    /// The newest revision, or the newest one that can still be read, under a number above all.
    fn restore(&self, now: WallTime) -> Result<Option<Restored>, LogError> {
        let numbers = self.numbers()?;
        let Some(newest) = numbers.last().copied() else { return Ok(None) };
        let fault = match self.kept(newest) {
            Ok(kept) => return Ok(Some(Restored { kept, instead_of: None })),
            Err(Unavailable::Log(error @ (LogError::Storage(_) | LogError::Open { .. } | LogError::Renew { .. }))) => {
                return Err(error);
            }
            Err(fault) => fault.to_string(),
        };
        let older = numbers.iter().rev().skip(1).find_map(|revision| self.kept(*revision).ok());
        let Some(good) = older else {
            return Err(LogError::Damaged { what: format!("{fault}, and no older content can be read") });
        };
        let record = RevisionRecord {
            revision: newest.next(),
            parent: good.record.revision,
            digest: good.record.digest,
            actor: "config-manager".into(),
            source: RevisionRecord::rollback(good.record.revision),
            time: now,
            attempt: AttemptId { epoch: self.epoch(), sequence: 0 },
            diff: Diff::default(),
            reason: fault.clone(),
            without: Vec::new(),
        };
        // If the file has the content that cannot be read any more, it is proposed again.
        let file = good.layers.get(&Owner::file()).map_or("", |layer| &layer.text);
        let entry = Entry {
            record: record.clone(),
            content: Some((good.bytes.clone(), good.layers.clone())),
            cursors: BTreeMap::from([(Owner::file(), Digest::of_bytes(file.as_bytes()))]),
            history: HistoryPolicy { max_snapshots: Some(u32::MAX), retention: std::time::Duration::MAX },
        };
        match self.append(&entry) {
            Written::Durable => {
                let kept = Kept { record, ..good };
                Ok(Some(Restored { kept, instead_of: Some((newest, fault)) }))
            }
            Written::Not(error) => Err(error),
        }
    }

    fn numbers(&self) -> Result<Vec<Revision>, LogError> {
        Ok(self.read()?.numbers(REVISIONS)?.into_iter().map(Revision).collect())
    }
}

/// A file without content is no log: an older release that was killed at once left it.
fn is_absent(path: &Path) -> bool {
    match fs::metadata(path) {
        Ok(metadata) => metadata.len() == 0,
        Err(error) => error.kind() == ErrorKind::NotFound,
    }
}

/// Begins a new log. It gets its name once it is complete: a log that was only begun could never be opened again.
fn begin(path: &Path, lost: &Lost) -> Result<(Store, (LogId, u64)), LogError> {
    let begun = file::begun(path);
    drop(fs::remove_file(&begun));
    let store = file::create(&begun, lost)?;
    let identity = identify(&store, &begun)?;
    file::complete(&begun, path)?;
    Ok((store, identity))
}

/// Returns also what is wrong although the log could be opened.
fn start(path: &Path, lost: &Lost) -> Result<((Store, (LogId, u64)), Option<String>), LogError> {
    let (store, fault) = file::open_at_start(path, lost)?;
    let identity = identify(&store, path)?;
    Ok(((store, identity), fault))
}

/// The epoch in the file that `identify` opened; `None` for any other one, which may have its name by now.
pub(super) fn epoch_of(store: &Store, id: &LogId) -> Result<Option<u64>, LogError> {
    let reading = store.read()?;
    let same = reading.row(META, "log_id")?.is_some_and(|row| row == id.0.as_bytes());
    let epoch = reading.row(META, "epoch")?.map(|row| number(&row, "the epoch")).transpose()?;
    Ok(epoch.filter(|_| same))
}

/// Reads or mints the identity, and begins a new epoch.
fn identify(store: &Store, path: &Path) -> Result<(LogId, u64), LogError> {
    let writing = store.write()?;
    let value = |key| writing.row(META, key);
    let format = value("format")?.map_or(Ok(FORMAT), |bytes| number(&bytes, "the format"))?;
    if format != FORMAT {
        return Err(LogError::Format { path: PathBuf::from(path), found: format, known: FORMAT });
    }
    let id = value("log_id")?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let id = id.unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
    let epoch = value("epoch")?.map_or(Ok(0), |bytes| number(&bytes, "the epoch"))? + 1;
    writing.put(META, "format", &FORMAT.to_be_bytes())?;
    writing.put(META, "log_id", id.as_bytes())?;
    writing.put(META, "epoch", &epoch.to_be_bytes())?;
    for rows in [REVISIONS, CONTENTS, LAYERS, AUDIT] {
        writing.begin(rows)?;
    }
    writing.begin(CURSORS)?;
    writing.commit()?;
    Ok((LogId(id), epoch))
}
