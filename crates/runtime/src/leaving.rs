//! What a process that was replaced still finishes, as those after it see it: a file in the state directory, which the
//! process keeps locked until it has ended, however it ends. A file without a lock was left by a process that is gone.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::Clock;

const PREFIX: &str = "leaving-";
/// How often the number of calls is written, and how often others look whether the process has ended.
const WRITE_EVERY: Duration = Duration::from_millis(250);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// This process, which leaves.
#[derive(Debug)]
pub struct Leaving {
    file: File,
    path: PathBuf,
    /// When what is left is cut off, as Unix time in milliseconds.
    until: u64,
}

/// Another process, which leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    pub pid: u32,
    /// What it still finishes.
    pub calls: u64,
    /// For how long, at most.
    pub within: Duration,
}

impl Leaving {
    /// From now on this process leaves, and has `drain` for `calls` that it still finishes.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn begin(directory: &Path, clock: Clock, drain: Duration, calls: usize) -> io::Result<Self> {
        let path = directory.join(format!("{PREFIX}{}", std::process::id()));
        // Locked before it has its name: others take one without a lock for one that was left behind.
        let unnamed = directory.join(format!(".{PREFIX}{}.tmp", std::process::id()));
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unnamed)?;
        let until = clock.unix_millis().saturating_add(u64::try_from(drain.as_millis()).unwrap_or(u64::MAX));
        file.try_lock()?;
        let leaving = Self { file, path, until };
        leaving.write(calls)?;
        fs::rename(&unnamed, &leaving.path)?;
        Ok(leaving)
    }

    /// Keeps the number of calls up to date.
    pub async fn keep(&self, calls: impl Fn() -> usize) {
        let mut written = None;
        loop {
            let now = calls();
            if written != Some(now) {
                if let Err(error) = self.write(now) {
                    tracing::warn!(path = %self.path.display(), %error, "cannot write how many calls are left");
                }
                written = Some(now);
            }
            tokio::time::sleep(WRITE_EVERY).await;
        }
    }

    /// The lines are equally long, so that a reader sees one of them and not parts of two.
    fn write(&self, calls: usize) -> io::Result<()> {
        self.file.write_all_at(format!("{calls:>20} {:>20}\n", self.until).as_bytes(), 0)
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        // Left behind, it is not locked and says nothing.
        drop(fs::remove_file(&self.path));
    }
}

/// The processes of that state directory that leave. Files of those that are gone are removed.
pub fn look(directory: &Path, now: u64) -> Vec<Left> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    let mut all: Vec<_> = paths.filter_map(|path| left(&path, now)).collect();
    all.sort_by_key(|left| left.pid);
    all
}

fn left(path: &Path, now: u64) -> Option<Left> {
    let pid = path.file_name()?.to_str()?.strip_prefix(PREFIX)?.parse().ok()?;
    let mut file = File::open(path).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(_)) => return None,
        Ok(()) => {
            drop(fs::remove_file(path));
            return None;
        }
    }
    let mut line = String::new();
    file.read_to_string(&mut line).ok()?;
    let mut numbers = line.split_whitespace().map(str::parse::<u64>);
    let (calls, until) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some(Left { pid, calls, within: Duration::from_millis(until.saturating_sub(now)) })
}

/// Returns once none leaves any more.
pub async fn gone(directory: PathBuf, clock: Clock) {
    loop {
        let (looked_at, now) = (directory.clone(), clock.unix_millis());
        let left = tokio::task::spawn_blocking(move || look(&looked_at, now)).await;
        if left.is_ok_and(|left| left.is_empty()) {
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests;
