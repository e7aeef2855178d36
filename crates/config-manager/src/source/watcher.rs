//! Events of the file system, reduced to "look again", and whether the file is whole or a writer has it open.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use rollout::cursor::Write;

use super::chain::Chain;
use super::signals::Signals;

/// Watches the directories of a chain; a directory that was gone and is back is watched anew.
#[derive(Debug)]
pub(super) struct Watcher {
    signals: Arc<Signals>,
    armed: Option<Armed>,
}

#[derive(Debug)]
struct Armed {
    chain: Chain,
    /// Each with its inode: a directory of the same name may be another one.
    directories: BTreeMap<PathBuf, Option<u64>>,
    _watcher: RecommendedWatcher,
}

impl Watcher {
    pub(super) fn new(signals: Arc<Signals>) -> Self {
        Self { signals, armed: None }
    }

    /// Watches what the path depends on now, and returns whether that has changed. Blocks on the disk.
    ///
    /// The error says why events cannot be had; a look from time to time must do.
    pub(super) fn arm(&mut self, chain: &Chain) -> Result<bool, notify::Error> {
        let directories = chain.directories().into_iter().map(|path| (path.clone(), inode(&path))).collect();
        // Whether the file exists does not count: to watch anew for that would lose the events meanwhile.
        let same = |armed: &Armed| armed.chain.names == chain.names && armed.directories == directories;
        if self.armed.as_ref().is_some_and(same) {
            return Ok(false);
        }
        self.armed = None;
        let signals = Arc::clone(&self.signals);
        let mut seen = Seen { chain: chain.clone(), created: false };
        let mut watcher = notify::recommended_watcher(move |event| notice(&signals, &mut seen, event))?;
        for directory in directories.keys() {
            watcher.watch(directory, RecursiveMode::NonRecursive)?;
        }
        self.armed = Some(Armed { chain: chain.clone(), directories, _watcher: watcher });
        Ok(true)
    }
}

fn inode(directory: &Path) -> Option<u64> {
    std::fs::metadata(directory).ok().map(|metadata| metadata.ino())
}

/// Runs on a thread of notify: sets a flag and wakes the source's task, and does nothing that could fail or wait.
fn notice(signals: &Signals, seen: &mut Seen, event: notify::Result<notify::Event>) {
    let Ok(event) = event else {
        // The missed events are unknown, so look.
        signals.written(Write::InPlace);
        return;
    };
    if let Some(write) = seen.write(&event) {
        signals.written(write);
    }
}

/// What the events so far said of the file.
#[derive(Debug)]
struct Seen {
    chain: Chain,
    /// A file was created under the name, and no program has opened it yet.
    created: bool,
}

impl Seen {
    /// What this event says of the path; `None` when nothing was written.
    fn write(&mut self, event: &notify::Event) -> Option<Write> {
        if event.need_rescan() {
            return Some(Write::InPlace);
        }
        if !event.paths.iter().any(|path| self.chain.contains(path)) {
            return None;
        }
        let created = std::mem::take(&mut self.created);
        match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(Write::Closed),
            // The program that creates a file opens it in the same call; a hard link appears without an open.
            EventKind::Access(AccessKind::Open(_)) => created.then_some(Write::Open),
            EventKind::Access(_) => None,
            // In a rename with both ends, the second is the new name.
            EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)) => {
                let moved_here = event.paths.last().is_some_and(|path| self.chain.contains(path));
                Some(if moved_here { Write::Complete } else { Write::Closed })
            }
            // A writer that still writes now writes to another name, or to none.
            EventKind::Modify(ModifyKind::Name(_)) | EventKind::Remove(_) => Some(Write::Closed),
            EventKind::Modify(ModifyKind::Data(_)) => Some(Write::Open),
            // A symlink has its target from the start.
            EventKind::Create(_) if event.paths.iter().any(|path| path.is_symlink()) => Some(Write::Complete),
            EventKind::Create(_) => {
                self.created = true;
                Some(Write::InPlace)
            }
            EventKind::Any | EventKind::Modify(_) | EventKind::Other => Some(Write::InPlace),
        }
    }
}
