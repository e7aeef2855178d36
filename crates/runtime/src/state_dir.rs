//! The persistent state of a process: the standard directories, a lock against a second process, and atomic writes.
//! Files for the owner alone are made, opened and read in `private`.

mod private;

use std::{
    env,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

pub use private::{Maker, PrivateFileError, create_private_file, open_private, read_private, set_aside, write_private};

use nix::{errno::Errno, sys::signal::kill, unistd::Pid};

const APPLICATION: &str = "only1mcp";
const LOCK_FILE: &str = "lock";
/// `sun_path` holds 108 bytes on Linux, 104 on macOS, with the final NUL.
const SOCKET_PATH_MAX: usize = 103;

/// `$XDG_STATE_HOME/only1mcp`, else `~/.local/state/only1mcp`. `None` without a home.
pub fn state_home() -> Option<PathBuf> {
    xdg("XDG_STATE_HOME").or_else(|| home(".local/state"))
}

/// `$XDG_CONFIG_HOME/only1mcp`, else `~/.config/only1mcp`. `None` without a home.
pub fn config_home() -> Option<PathBuf> {
    xdg("XDG_CONFIG_HOME").or_else(|| home(".config"))
}

/// `$XDG_RUNTIME_DIR/only1mcp`, else `only1mcp-<uid>` in the temporary directory.
pub fn runtime_dir() -> PathBuf {
    xdg("XDG_RUNTIME_DIR").unwrap_or_else(|| env::temp_dir().join(format!("{APPLICATION}-{}", nix::unistd::geteuid())))
}

/// The directory in `base` that belongs to one absolute path, `<stem>-<hash>`: the same for the same path, for ever.
pub fn for_path(base: &Path, path: &Path) -> PathBuf {
    let stem = path.file_stem().map_or_else(|| "default".into(), |stem| stem.to_string_lossy().into_owned());
    base.join(format!("{stem}-{}", short_hash(path)))
}

/// The path of the Unix socket `name` of the process with this state directory: in that directory, or in the runtime
/// directory when the path would be too long for a socket. Server and client must pass the same absolute path.
pub fn socket_path(state_dir: &Path, name: &str) -> PathBuf {
    let path = state_dir.join(name);
    if path.as_os_str().len() <= SOCKET_PATH_MAX {
        return path;
    }
    runtime_dir().join(format!("{}-{name}", short_hash(state_dir)))
}

fn xdg(variable: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env::var_os(variable)?);
    // Relative ones are to be ignored, says the XDG specification.
    path.is_absolute().then(|| path.join(APPLICATION))
}

fn home(below: &str) -> Option<PathBuf> {
    let home = PathBuf::from(env::var_os("HOME")?);
    home.is_absolute().then(|| home.join(below).join(APPLICATION))
}

fn short_hash(path: &Path) -> String {
    blake3::hash(path.as_os_str().as_bytes()).to_hex()[..12].to_owned()
}

/// Creates `directory` and its parents, readable by the owner only, if it is not there.
pub fn create_private(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// A state directory that belongs to this process until this is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    /// The lock lives in the open file, not in its existence: nothing is stale after a crash. None once this process
    /// has left the directory.
    lock: Option<File>,
}

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("cannot create the state directory {path}")]
    Create { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Open(#[from] PrivateFileError),
    #[error("the state directory {path} is in use by {}; stop that process or choose another with --state-dir", holder(.pid))]
    Held { path: PathBuf, pid: Option<u32> },
    #[error("cannot lock {path}")]
    Lock { path: PathBuf, source: io::Error },
    #[error("cannot write this process's id to {path}")]
    Write { path: PathBuf, source: io::Error },
}

fn holder(pid: &Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

impl StateDir {
    /// Creates the directory if needed and locks it. Does not wait for the lock of a live process. Waits a moment for
    /// the lock of a killed one, since a child that it was just starting may hold the lock a little longer.
    ///
    /// # Errors
    /// [`LockError::Held`] names the process that has it.
    pub fn lock(path: impl Into<PathBuf>) -> Result<Self, LockError> {
        Self::lock_between(path.into(), || thread::sleep(LOOK_EVERY))
    }

    /// Shares the lock of the process that has the directory: `lock` is a duplicate of [`StateDir::held`]. The lock is
    /// free once both have let go of it.
    #[must_use]
    pub fn share(path: impl Into<PathBuf>, lock: OwnedFd) -> Self {
        Self { path: path.into(), lock: Some(lock.into()) }
    }

    /// What another process needs in order to share the lock; none once this process has left.
    pub fn held(&self) -> Option<BorrowedFd<'_>> {
        self.lock.as_ref().map(AsFd::as_fd)
    }

    /// Lets go of the lock: another process may have the directory, unless a third one shares the lock.
    pub fn leave(&mut self) {
        self.lock = None;
    }

    /// From now on this is the process that has the directory, as errors of others say.
    pub fn sign(&self) {
        if let Some(lock) = &self.lock
            && let Err(error) = write_pid(lock)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot write this process's id to the lock");
        }
    }

    /// `pause` runs between two tries for a lock that may soon be free.
    fn lock_between(path: PathBuf, mut pause: impl FnMut()) -> Result<Self, LockError> {
        create_private(&path).map_err(|source| LockError::Create { path: path.clone(), source })?;
        let file_path = path.join(LOCK_FILE);
        // Until the lock is ours, the content belongs to the holder.
        let mut lock = open_private(&file_path)?;
        let mut looks_left = LOOKS;
        while let Err(refused) = lock.try_lock() {
            match refused {
                TryLockError::WouldBlock => {}
                TryLockError::Error(source) => return Err(LockError::Lock { path: file_path, source }),
            }
            let pid = read_pid(&mut lock);
            if looks_left == 0 || pid.is_none_or(lives) {
                return Err(LockError::Held { path, pid });
            }
            looks_left -= 1;
            pause();
        }
        write_pid(&lock).map_err(|source| LockError::Write { path: file_path, source })?;
        Ok(Self { path, lock: Some(lock) })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// The interval and the number of further tries for the lock of a dead process: one second in total.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const LOOKS: u32 = 50;

/// Whether the process exists and has not ended, as far as can be told. This cannot be told of a process of another
/// machine or container: its id may equal that of this very process.
fn lives(pid: u32) -> bool {
    if pid == std::process::id() {
        return false;
    }
    let there = i32::try_from(pid).is_ok_and(|pid| !matches!(kill(Pid::from_raw(pid), None), Err(Errno::ESRCH)));
    // The state follows the name, which is in brackets and may hold anything.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let dead = stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X']));
    there && !dead
}

fn read_pid(lock: &mut File) -> Option<u32> {
    lock.rewind().ok()?;
    let mut text = String::new();
    lock.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn write_pid(mut lock: &File) -> io::Result<()> {
    let text = format!("{}\n", std::process::id());
    lock.rewind()?;
    // Overwrites the old content: on a full disk there may be no room for a new file.
    lock.write_all(text.as_bytes())?;
    lock.set_len(text.len() as u64)
}

/// Replaces `path` by `content`: after a crash at any point it is the old file or the new one. Blocks on the disk.
///
/// # Errors
/// As the operating system says; then `path` is untouched, unless only the last flush of the directory failed.
pub fn write_atomic(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let temporary = temporary_file(path, content, mode)?;
    move_into_place(&temporary, path).inspect_err(|_| discard(&temporary))
}

/// Renames the complete, flushed file to `path`, durably, replacing any file there. Blocks on the disk.
pub fn move_into_place(complete: &Path, path: &Path) -> io::Result<()> {
    fs::rename(complete, path)?;
    sync_parent(path)
}

/// Creates `path` with `content`, both or neither; `false` when `path` exists already, which is left as it is.
pub fn create_atomic(path: &Path, content: &[u8], mode: u32) -> io::Result<bool> {
    let temporary = temporary_file(path, content, mode)?;
    // A hard link, unlike a rename, fails when the name is taken.
    let linked = fs::hard_link(&temporary, path);
    discard(&temporary);
    match linked {
        Ok(()) => sync_parent(path).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// A flushed file beside `path`, so that a rename stays on one file system.
fn temporary_file(path: &Path, content: &[u8], mode: u32) -> io::Result<PathBuf> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let unique = NEXT.fetch_add(1, Ordering::Relaxed);
    let temporary = parent(path).join(format!(".{name}.{}-{unique}.tmp", std::process::id()));
    // A file left by a killed process of the same id has no owner any more.
    discard(&temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    written.inspect_err(|_| discard(&temporary))?;
    Ok(temporary)
}

/// Best effort: a leftover costs a directory entry, and the failure that led here is the one worth reporting.
fn discard(temporary: &Path) {
    drop(fs::remove_file(temporary));
}

/// Makes the new directory entry durable.
fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(parent(path))?.sync_all()
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests;
