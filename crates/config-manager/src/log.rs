//! The revision log: one file that says what was decided, by whom, and what may be brought back.
//!
//! A revision, its audit record and the cursors that move with it are one durable transaction: it is the point of
//! decision. Contents are kept as the bytes their digest is of, so what is brought back is what was live. All
//! functions block on the disk.

mod append;
mod audit;
mod open;
mod read;
mod record;
mod table;

#[cfg(test)]
pub(crate) mod tests;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use model::{LogId, Revision};
use redb::{Database, ReadTransaction, ReadableDatabase as _, WriteTransaction};
use runtime::state_dir::PrivateFileError;

pub use append::{Entry, Written};
pub use open::{Opened, Restored};
pub use read::{Kept, Unavailable};
pub use record::{AuditRecord, Cursor, Ended, Judged, Layer, Layers, RevisionRecord};
pub(crate) use record::{is_undone, layers_digest};

/// The open file. Its directory is locked by the process, so nobody else has it.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    /// Nothing, from when a database that had failed was closed until the file is open again. Nothing else may stand
    /// here: what is written into it would be taken for durable.
    database: RwLock<Option<Database>>,
    id: LogId,
    epoch: AtomicU64,
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
    Open { path: PathBuf, source: Box<redb::DatabaseError> },
    #[error(
        "{path} is not the revision log that this process has opened; put that one back, or restart config-manager to \
         go on with this one"
    )]
    Another { path: PathBuf },
    #[error("the revision log {path} has format {found}, this release knows format {known}")]
    Format { path: PathBuf, found: u64, known: u64 },
    #[error("the revision log is damaged: {what}")]
    Damaged { what: String },
    #[error("the revision log cannot be read or written")]
    Storage(#[source] Box<redb::Error>),
    /// Only in the build for crash tests.
    #[error("failed on purpose at {point}")]
    Failpoint { point: &'static str },
}

macro_rules! from_redb {
    ($($error:ty),*) => {$(
        impl From<$error> for LogError {
            fn from(error: $error) -> Self {
                Self::Storage(Box::new(error.into()))
            }
        }
    )*};
}

from_redb!(redb::StorageError, redb::TableError, redb::TransactionError, redb::CommitError);

impl Log {
    pub fn id(&self) -> &LogId {
        &self.id
    }

    /// More than at any start before.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    fn begin_read(&self) -> Result<ReadTransaction, LogError> {
        self.with_database(|database| Ok(database.begin_read()?))
    }

    /// One at a time, as the engine writes.
    fn begin_write(&self) -> Result<WriteTransaction, LogError> {
        self.with_database(|database| Ok(database.begin_write()?))
    }

    /// Opens the file first if that failed the last time it was tried.
    fn with_database<T>(&self, begin: impl FnOnce(&Database) -> Result<T, LogError>) -> Result<T, LogError> {
        if let Some(database) = &*self.database.read().unwrap_or_else(PoisonError::into_inner) {
            return begin(database);
        }
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        let database = match &mut *database {
            Some(database) => database,
            none => none.insert(open::again(&self.path, &self.id, self.epoch())?),
        };
        begin(database)
    }

    /// After a failed commit a database refuses to be written until it is opened again.
    fn reopen(&self) -> Result<(), LogError> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // The file is locked while it is open, so it is closed first.
        drop(database.take());
        *database = Some(open::again(&self.path, &self.id, self.epoch())?);
        Ok(())
    }

    fn has(&self, revision: Revision) -> Result<bool, LogError> {
        let table = self.begin_read()?.open_table(table::REVISIONS)?;
        Ok(table.get(revision.0)?.is_some())
    }
}
