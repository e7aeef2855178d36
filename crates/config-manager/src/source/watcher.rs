//! Events of the file system, reduced to "look again", and whether what was seen is whole or a writer has it open.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use rollout::cursor::Write;

use super::chain::Chain;
use super::signals::Signals;

/// Watches the directories of a chain; gone and back directories are watched anew.
#[derive(Debug)]
pub(super) struct Watcher {
    signals: Arc<Signals>,
    armed: Option<Armed>,
}

#[derive(Debug)]
struct Armed {
    chain: Chain,
    /// With the inode each had: a directory of the same name may be another one.
    directories: BTreeMap<PathBuf, Option<u64>>,
    _watcher: RecommendedWatcher,
}

impl Watcher {
    pub(super) fn new(signals: Arc<Signals>) -> Self {
        Self { signals, armed: None }
    }

    /// Watches what the path depends on now, and says whether that is something else than before. Blocks on the disk.
    ///
    /// The error says why events cannot be had; looking from time to time has to do.
    pub(super) fn arm(&mut self, chain: &Chain) -> Result<bool, notify::Error> {
        let directories = chain.directories().into_iter().map(|path| (path.clone(), inode(&path))).collect();
        // Not whether the file is there: to watch anew for that would lose what happens meanwhile.
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

/// On a thread of notify's: sets a flag and wakes whoever looks, and does nothing that could fail or wait.
fn notice(signals: &Signals, seen: &mut Seen, event: notify::Result<notify::Event>) {
    let Ok(event) = event else {
        // What was missed is unknown, so look.
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
    /// A file came into being under the name, and nothing has opened it yet.
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
            // The program that creates a file opens it in the same call; a hard link is there without that.
            EventKind::Access(AccessKind::Open(_)) => created.then_some(Write::Open),
            EventKind::Access(_) => None,
            // Of a rename with both ends the second is the new name.
            EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)) => {
                let moved_here = event.paths.last().is_some_and(|path| self.chain.contains(path));
                Some(if moved_here { Write::Complete } else { Write::Closed })
            }
            // Whatever is written on has another name now, or none.
            EventKind::Modify(ModifyKind::Name(_)) | EventKind::Remove(_) => Some(Write::Closed),
            EventKind::Modify(ModifyKind::Data(_)) => Some(Write::Open),
            // A link has its target from the start.
            EventKind::Create(_) if event.paths.iter().any(|path| path.is_symlink()) => Some(Write::Complete),
            EventKind::Create(_) => {
                self.created = true;
                Some(Write::InPlace)
            }
            EventKind::Any | EventKind::Modify(_) | EventKind::Other => Some(Write::InPlace),
        }
    }
}
