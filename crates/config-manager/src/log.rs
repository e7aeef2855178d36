//! The revision log: one file that records what was decided, by which actor, and what may be brought back.
//!
//! A revision, its audit record and the cursors that move with it are one durable transaction: it is the point of
//! decision. Contents are kept as the bytes that their digest covers, so a rollback brings back exactly what was live.
//! All functions block on the disk.

mod append;
mod audit;
mod fault;
pub(crate) mod file;
mod open;
mod read;
mod record;
mod store;
mod table;

#[cfg(test)]
pub(crate) mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockWriteGuard};

use model::{LogId, Revision};
use runtime::state_dir::PrivateFileError;
use tokio::sync::watch;

pub(crate) use append::METRICS;
pub use append::{Entry, Written};
pub use fault::Fault;
pub use open::{Opened, Restored};
pub(crate) use read::further_back;
pub use read::{Kept, Unavailable};
pub use record::{AuditRecord, Ended, Layer, Layers, RevisionRecord};
pub(crate) use record::{is_undone, layers_digest};
pub use rollout::cursor::{Cursor, Judged};

use fault::Faults;
use store::{EngineError, Reading, Store, Writing};

/// The open file. The process locks its directory, so no other process has the file.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    place: RwLock<Place>,
    id: LogId,
    epoch: AtomicU64,
    faults: Faults,
}

/// The state of the file's place.
#[derive(Debug)]
struct Place {
    /// Empty from the closing of a failed store until the file is open again. No other store may stand here: what
    /// is written into it would be taken for durable.
    store: Option<Store>,
    lost: file::Lost,
    /// An epoch that was written and may be in the file.
    raised: Option<u64>,
}

/// Why the log cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("cannot open the revision log")]
    File(#[from] PrivateFileError),
    #[error(
        "cannot open the revision log {path}; if it is damaged, move it away to begin a new one: its revisions cannot be \
         brought back then"
    )]
    Open { path: PathBuf, source: EngineError },
    #[error(
        "{path} is not the revision log that this process has opened; put that one back, or restart config-manager to \
         go on with this one"
    )]
    Another { path: PathBuf },
    #[error(
        "a write to the revision log {path} did not reach the disk, and no new copy can be made of it, which is tried again \
         until it succeeds; make room on the disk, or mend it (`df`, `dmesg`)"
    )]
    Renew { path: PathBuf, source: io::Error },
    #[error("the revision log {path} has format {found}, this release knows format {known}")]
    Format { path: PathBuf, found: u64, known: u64 },
    #[error("the revision log is damaged: {what}")]
    Damaged { what: String },
    #[error("the revision log cannot be read or written")]
    Storage(#[source] EngineError),
    /// Only in the build for crash tests.
    #[error("failed on purpose at {point}")]
    Failpoint { point: &'static str },
}

impl Log {
    pub fn id(&self) -> &LogId {
        &self.id
    }

    /// The epoch of this start: higher than that of any start before.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// What is wrong with the log now.
    pub fn fault(&self) -> Option<Fault> {
        self.faults.now()
    }

    /// Reports when the fault changes.
    pub fn faults(&self) -> watch::Receiver<Option<Fault>> {
        self.faults.watch()
    }

    fn read(&self) -> Result<Reading, LogError> {
        self.with_store(Store::read)
    }

    /// Begins a write: one at a time, as the engine writes.
    fn write(&self) -> Result<Writing, LogError> {
        self.with_store(Store::write)
    }

    fn place(&self) -> RwLockWriteGuard<'_, Place> {
        self.place.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the file first if the last try to open it failed.
    fn with_store<T>(&self, begin: impl FnOnce(&Store) -> Result<T, LogError>) -> Result<T, LogError> {
        if let Some(store) = &self.place.read().unwrap_or_else(PoisonError::into_inner).store {
            return begin(store);
        }
        let mut place = self.place();
        let store = match place.store.take() {
            Some(store) => store,
            None => self.open_again(&mut place)?,
        };
        begin(place.store.insert(store))
    }

    /// After a failed commit, a store refuses writes until it is opened again.
    fn reopen(&self) -> Result<(), LogError> {
        let mut place = self.place();
        // The file is locked while it is open, so it is closed first.
        drop(place.store.take());
        place.store = Some(self.open_again(&mut place)?);
        Ok(())
    }

    /// Opens the same log again, in a new file if a sync of the present one has failed.
    fn open_again(&self, place: &mut Place) -> Result<Store, LogError> {
        let renewed = place.lost.load(Ordering::Acquire);
        match self.open_ours(place, renewed) {
            Ok((store, epoch)) => {
                place.raised = None;
                self.epoch.store(epoch, Ordering::Release);
                self.faults.opened(renewed);
                Ok(store)
            }
            Err(error) => {
                self.faults.away(&error);
                Err(error)
            }
        }
    }

    /// Returns the store and the epoch that is in it.
    fn open_ours(&self, place: &Place, renewed: bool) -> Result<(Store, u64), LogError> {
        let another = || LogError::Another { path: self.path.clone() };
        let known = |epoch: &u64| *epoch == self.epoch() || Some(*epoch) == place.raised;
        let ours = |store: &Store| open::epoch_of(store, &self.id)?.filter(known).ok_or_else(another);
        if renewed {
            let mut epoch = self.epoch();
            let sound = |store: &Store| ours(store).map(|found| epoch = found);
            let store = file::renew(&self.path, &place.lost, sound)?;
            return Ok((store, epoch));
        }
        let store = file::open_in_place(&self.path, &place.lost)?;
        let epoch = ours(&store)?;
        Ok((store, epoch))
    }

    fn has(&self, revision: Revision) -> Result<bool, LogError> {
        self.read()?.has(table::REVISIONS, revision.0)
    }
}

impl LogError {
    /// Whether a copy could not be made, which says nothing about the file that was to be copied.
    fn is_of_the_copy(&self) -> bool {
        matches!(self, Self::Renew { .. } | Self::File(_))
            || matches!(self, Self::Open { source, .. } if file::is_for_want_of_room(source))
    }
}
