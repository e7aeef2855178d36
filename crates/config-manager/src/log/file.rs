//! The file under the log, and how it is opened.
//!
//! The data of a failed sync may be lost although it can still be read: the kernel takes its pages for written, and
//! later syncs succeed without them. The log neither answers from such a file nor adds to it. The file is copied, as
//! it reads, to a new one, which takes its place when all of it is on the disk.

use std::error::Error as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::ops::Bound;
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::backends::FileBackend;
use redb::{BackendError, Builder, Database, DatabaseError, StorageBackend, StorageError};
use runtime::fault::chain;
use runtime::state_dir::{move_into_place, open_private};

use super::LogError;
use super::store::{EngineError, Store};

/// Whether a sync of the file has failed. The value stays the same for as long as the log has a file, however often the
/// file is opened.
pub(super) type Lost = Arc<AtomicBool>;

type Range = Bound<u64>;

/// The file as the database sees it; its syncs are watched.
#[derive(Debug)]
struct Disk {
    file: FileBackend,
    lost: Lost,
    #[cfg(test)]
    probe: probe::Probe,
}

impl Disk {
    fn new(path: &Path, file: File, lost: Lost) -> Result<Self, LogError> {
        #[cfg(test)]
        let probe = probe::Probe::of(path, &file);
        let file = FileBackend::new(file).map_err(|source| opening(path, source))?;
        Ok(Self {
            file,
            lost,
            #[cfg(test)]
            probe,
        })
    }

    fn sync(&self) -> io::Result<()> {
        #[cfg(test)]
        self.probe.sync()?;
        self.file.sync_data()
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync().inspect_err(|_| self.lost.store(true, Ordering::Release))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Range, end: Range) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Range, end: Range) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Range, end: Range) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Range, end: Range) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Range, end: Range) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Range, end: Range) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

/// The limit for what is held in memory of the file, which has many contents that are rarely read.
const CACHE_BYTES: usize = 16 << 20;

fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// Makes an empty database in a file that has nothing in it.
pub(super) fn create(path: &Path, lost: &Lost) -> Result<Store, LogError> {
    // The file holds every configuration as it was written, literal secrets among them.
    open(path, open_private(path)?, lost)
}

/// Opens the file at a start. A process whose last sync failed may have left an unclosed file, so such a file is
/// copied. If that fails, the result says what is wrong.
pub(super) fn open_at_start(path: &Path, lost: &Lost) -> Result<(Store, Option<String>), LogError> {
    // Repairs the mode that an older release or a copy has left.
    drop(open_private(path)?);
    // A killed process may have begun this file.
    drop(fs::remove_file(begun(path)));
    if was_closed(path)? {
        return Ok((open_in_place(path, lost)?, None));
    }
    match renew(path, lost, |_| Ok(())) {
        Ok(renewed) => Ok((renewed, None)),
        // Most often the power failed, and then all that can be read is on the disk: to serve matters more.
        Err(error) if error.is_of_the_copy() => {
            let error = error.source().map_or_else(|| error.to_string(), chain);
            tracing::error!(error, "the revision log was not closed, and cannot be copied");
            // The file is copied before it is opened again.
            lost.store(true, Ordering::Release);
            let fault = format!(
                "it was not closed, so its newest revisions may not be on the disk, and it cannot be copied ({error}); \
                 make room on the disk, or mend it, and restart config-manager"
            );
            Ok((open_in_place(path, lost)?, Some(fault)))
        }
        Err(error) => Err(error),
    }
}

/// Gives a new file its name, now that it is complete.
pub(super) fn complete(begun: &Path, path: &Path) -> Result<(), LogError> {
    Ok(move_into_place(begun, path).map_err(StorageError::Io)?)
}

/// Whether there was no room to open a file.
pub(super) fn is_for_want_of_room(error: &EngineError) -> bool {
    let full = |error: &io::Error| matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
    matches!(error.downcast_ref::<DatabaseError>(), Some(DatabaseError::Storage(StorageError::Io(error))) if full(error))
}

/// The path of a new file until it takes the place of the log.
pub(super) fn begun(path: &Path) -> PathBuf {
    path.with_extension("begun")
}

/// Reads without a change to the file. A file that is no database at all is reported when it is opened.
fn was_closed(path: &Path) -> Result<bool, LogError> {
    let disk = Disk::new(path, existing(path)?, Lost::default())?;
    let opened = builder().open_read_only_with_backend(disk);
    Ok(!matches!(opened, Err(DatabaseError::RepairAborted)))
}

/// Opens the file that there is.
pub(super) fn open_in_place(path: &Path, lost: &Lost) -> Result<Store, LogError> {
    open(path, existing(path)?, lost)
}

/// Copies the file to a new one, which takes its place once all of it is on the disk and found `sound`. If that fails,
/// nothing of the new file is left.
pub(super) fn renew(
    path: &Path,
    lost: &Lost,
    sound: impl FnOnce(&Store) -> Result<(), LogError>,
) -> Result<Store, LogError> {
    let begun = begun(path);
    drop(fs::remove_file(&begun));
    let renewed = copied(path, &begun, lost, sound);
    if renewed.is_err() {
        drop(fs::remove_file(&begun));
    }
    renewed
}

fn copied(
    path: &Path,
    begun: &Path,
    lost: &Lost,
    sound: impl FnOnce(&Store) -> Result<(), LogError>,
) -> Result<Store, LogError> {
    let failed = |source| LogError::Renew { path: path.to_owned(), source };
    let (from, to) = (existing(path)?, open_private(begun)?);
    let owner = from.metadata().map_err(failed)?;
    // Only a process that may open any file needs this, and can do it.
    drop(fchown(&to, Some(owner.uid()), Some(owner.gid())));
    copy(&from, &to).map_err(failed)?;
    #[cfg(test)]
    probe::Probe::of(begun, &to).sync().map_err(failed)?;
    to.sync_all().map_err(failed)?;
    let mut whole = builder();
    whole.set_check_integrity_on_open(true);
    let disk = Disk::new(begun, to, lost.clone())?;
    // The copy equals the file, so what is wrong with the copy is reported of the file.
    let store = Store(whole.create_with_backend(disk).map_err(|source| opening(path, source))?);
    sound(&store)?;
    move_into_place(begun, path).map_err(failed)?;
    lost.store(false, Ordering::Release);
    Ok(store)
}

fn existing(path: &Path) -> Result<File, LogError> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    let file = file.map_err(|error| opening(path, StorageError::Io(error).into()))?;
    if file.metadata().is_ok_and(|metadata| metadata.len() > 0) {
        return Ok(file);
    }
    // The database would begin a new log in it.
    Err(LogError::Another { path: path.to_owned() })
}

fn open(path: &Path, file: File, lost: &Lost) -> Result<Store, LogError> {
    let disk = Disk::new(path, file, lost.clone())?;
    builder().create_with_backend(disk).map(Store).map_err(|source| opening(path, source))
}

fn opening(path: &Path, source: DatabaseError) -> LogError {
    LogError::Open { path: path.to_owned(), source: Box::new(source) }
}

/// Copies by reading and writing: the kernel's copy may share the data on the disk, which is not the data that is read.
fn copy(mut from: &File, mut to: &File) -> io::Result<()> {
    let mut piece = vec![0; 1 << 16];
    loop {
        match from.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(read) => to.write_all(&piece[..read])?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Syncs that fail, for tests.
#[cfg(test)]
pub(crate) mod probe {
    use std::collections::BTreeMap;
    use std::fs::File;
    use std::io;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::{Path, PathBuf};
    use std::sync::{Mutex, PoisonError};

    /// By the directory.
    static DISKS: Mutex<BTreeMap<PathBuf, Plan>> = Mutex::new(BTreeMap::new());

    /// How syncs end.
    #[derive(Debug, Clone)]
    pub(crate) struct Plan {
        /// The first of them succeed.
        pub(crate) pass: u32,
        /// The next of them fail.
        pub(crate) fail: u32,
        pub(crate) error: io::ErrorKind,
        /// The inodes of the files that were synced since the first failure.
        pub(crate) synced: Vec<u64>,
    }

    impl Plan {
        pub(crate) fn new(pass: u32, fail: u32) -> Self {
            Self { pass, fail, error: io::ErrorKind::Other, synced: Vec::new() }
        }
    }

    pub(crate) fn plan(directory: &Path, plan: Plan) {
        DISKS.lock().unwrap().insert(directory.to_owned(), plan);
    }

    /// The rest of the plan.
    pub(crate) fn planned(directory: &Path) -> Plan {
        DISKS.lock().unwrap()[directory].clone()
    }

    #[derive(Debug)]
    pub(super) struct Probe {
        directory: PathBuf,
        inode: u64,
    }

    impl Probe {
        pub(super) fn of(path: &Path, file: &File) -> Self {
            Self { directory: path.parent().unwrap().to_owned(), inode: file.metadata().unwrap().ino() }
        }

        pub(super) fn sync(&self) -> io::Result<()> {
            let mut disks = DISKS.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(plan) = disks.get_mut(&self.directory) else { return Ok(()) };
            if let Some(left) = plan.pass.checked_sub(1) {
                plan.pass = left;
            } else if let Some(left) = plan.fail.checked_sub(1) {
                plan.fail = left;
                return Err(plan.error.into());
            } else {
                plan.synced.push(self.inode);
            }
            Ok(())
        }
    }
}
