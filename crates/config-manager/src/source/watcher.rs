//! Events of the file system, reduced to "look again", and whether what was seen is whole.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

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
        if self.armed.as_ref().is_some_and(|armed| armed.chain == *chain && armed.directories == directories) {
            return Ok(false);
        }
        self.armed = None;
        let (signals, watched) = (Arc::clone(&self.signals), chain.clone());
        let mut watcher = notify::recommended_watcher(move |event| notice(&signals, &watched, event))?;
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
fn notice(signals: &Signals, chain: &Chain, event: notify::Result<notify::Event>) {
    let Ok(event) = event else {
        // What was missed is unknown, so look.
        signals.written(false);
        return;
    };
    let ours = event.need_rescan() || event.paths.iter().any(|path| chain.contains(path));
    if ours && let Some(whole) = whole(&event, chain) {
        signals.written(whole);
    }
}

/// Whether what this event left is complete; `None` when nothing was written.
fn whole(event: &notify::Event, chain: &Chain) -> Option<bool> {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(false),
        EventKind::Access(_) => None,
        // Of a rename with both ends the second is the new name.
        EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)) => {
            Some(event.paths.last().is_some_and(|path| chain.contains(path)))
        }
        // A link has its target from the start.
        EventKind::Create(_) => Some(event.paths.iter().any(|path| path.is_symlink())),
        EventKind::Any | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => Some(false),
    }
}
