//! The router's copy of what is live, for a start without config-manager: snapshot, revision, what each server offered,
//! and what operators had laid over the servers. Written after the swap and off the acknowledgement, so it may be a
//! little older than what was last live; a router that starts from the copy says so.
//!
//! The first JSON value of the file is a whole copy. Each further one is what the next copy differs in, until all of
//! them are as long as the first one: then the file is written anew.

mod change;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use drain::OverlayEntry;
use fleet::{DiskCopy, Offered};
use mcp::{Item, Kind};
use model::{Digest, EndpointKey, LogId, Revision, Snapshot};
use rollout::follower::Saved;
use rollout::{Content, Sender};
use runtime::state_dir::{Maker, PrivateFileError, read_private, set_aside, write_private};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::{mpsc, watch};

use super::Command;

pub(crate) const FILE: &str = "live.json";
/// The format of the file, not of its content. Older formats are read too: 1, in which servers had nothing but tools,
/// and 2, in which a copy is always whole.
const FORMAT: u32 = 3;
const FORMAT_OLDEST: u32 = 1;
/// More than any copy: what one message carries, and what each server offered.
const BYTES_MAX: u64 = 1 << 30;
/// How long after a write that failed the next one is tried, and after many of them.
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_MOST: Duration = Duration::from_secs(5);

/// The copy cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error(transparent)]
    Read(#[from] PrivateFileError),
    #[error("{} is no copy of a configuration", path.display())]
    Malformed { path: PathBuf, source: serde_json::Error },
    #[error("{} has format {found}; this release reads {FORMAT_OLDEST} to {FORMAT}", path.display())]
    Format { path: PathBuf, found: u32 },
    #[error("{} was damaged: its content has digest {}, it says {}", path.display(), found.short(), said.short())]
    Damaged { path: PathBuf, said: Digest, found: Digest },
    #[error("{} was damaged: one of its changes does not lead to what it says", path.display())]
    Change { path: PathBuf },
}

#[derive(Serialize, Deserialize)]
struct File {
    format: u32,
    log: LogId,
    epoch: u64,
    revision: Revision,
    digest: Digest,
    snapshot: Arc<Snapshot>,
    known: Vec<Known>,
    /// Called `cordons` before there were weights.
    #[serde(alias = "cordons")]
    overlay: Vec<OverlayEntry>,
}

#[derive(Serialize, Deserialize)]
struct Known {
    endpoint: EndpointKey,
    /// By the member of a list response that holds the items; each item as its server wrote it.
    #[serde(default)]
    items: BTreeMap<String, Vec<Box<RawValue>>>,
    /// What format 1 has in place of `items`.
    #[serde(default, skip_serializing)]
    tools: Vec<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    instructions: Option<Arc<str>>,
}

/// What `directory` holds, if it can be used. A copy that cannot is set aside, since the next copy is written in its
/// place and operators may want to know what was wrong with the old one.
pub(crate) fn load_or_set_aside(directory: &Path) -> Option<DiskCopy> {
    let error = match load(directory) {
        Ok(copy) => return copy,
        Err(error) => error,
    };
    let kept_as = set_aside(&directory.join(FILE));
    let kept_as = kept_as.map_or_else(|error| format!("its old place ({error})"), |path| path.display().to_string());
    tracing::error!(error = &error as &dyn std::error::Error, kept_as, "the copy of what was live is not used");
    None
}

/// What `directory` holds, if it can be used. Another process writes it still.
pub(crate) fn load_if_good(directory: &Path) -> Option<DiskCopy> {
    let failed = |error: &LoadError| {
        tracing::warn!(error = error as &dyn std::error::Error, "the copy of what is live is not used");
    };
    load(directory).inspect_err(failed).unwrap_or_default()
}

/// What `directory` holds; nothing when nothing was ever written.
pub(crate) fn load(directory: &Path) -> Result<Option<DiskCopy>, LoadError> {
    let path = directory.join(FILE);
    let Some(bytes) = read_private(&path, Maker::Us, BYTES_MAX)? else { return Ok(None) };
    #[derive(Deserialize)]
    struct Head {
        format: u32,
    }
    // After a crash a system may show bytes that never were written, as zeros.
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    // What servers offer is written as they wrote it, with its line breaks.
    let mut pieces = serde_json::Deserializer::from_slice(&bytes[..end]).into_iter::<&RawValue>();
    let malformed = |source| LoadError::Malformed { path: path.clone(), source };
    let whole = pieces.next().transpose().map_err(malformed)?.map_or("", RawValue::get);
    let head: Head = serde_json::from_str(whole).map_err(malformed)?;
    if !(FORMAT_OLDEST..=FORMAT).contains(&head.format) {
        return Err(LoadError::Format { path, found: head.format });
    }
    let file: File = serde_json::from_str(whole).map_err(malformed)?;
    let content = Content::new(file.snapshot);
    if content.digest != file.digest {
        return Err(LoadError::Damaged { path, said: file.digest, found: content.digest });
    }
    let sender = Sender { log: file.log, epoch: file.epoch };
    let mut copy = DiskCopy {
        saved: Saved { sender, revision: file.revision, content },
        known: file.known.into_iter().map(Known::read).collect(),
        overlay: file.overlay,
    };
    change::apply(&mut copy, pieces).map_err(|change::Damaged| LoadError::Change { path })?;
    Ok(Some(copy))
}

impl Known {
    fn of((endpoint, offered): (&EndpointKey, &Offered)) -> Self {
        let raw = |item: &Arc<Item>| RawValue::from_string(item.json().into()).expect("it was parsed from this JSON");
        let written =
            |(kind, items): (Kind, &Arc<[Arc<Item>]>)| (kind.array().to_owned(), items.iter().map(raw).collect());
        Self {
            endpoint: endpoint.clone(),
            items: offered.items.iter().filter(|(_, items)| !items.is_empty()).map(written).collect(),
            tools: Vec::new(),
            instructions: offered.instructions.clone(),
        }
    }

    fn read(mut self) -> (EndpointKey, Offered) {
        if !self.tools.is_empty() {
            self.items.insert(Kind::Tool.array().to_owned(), self.tools);
        }
        let mut offered = Offered { instructions: self.instructions, ..Offered::default() };
        for kind in Kind::ALL {
            // An item that can no longer be read is missing until its server lists it again.
            let items = self.items.get(kind.array()).into_iter().flatten();
            offered.items[kind] = items.filter_map(|json| Item::parse(kind, json.get()).ok()).map(Arc::new).collect();
        }
        (self.endpoint, offered)
    }
}

/// Writes copies to a directory, and knows what it wrote last.
struct Writer {
    directory: PathBuf,
    last: Option<Last>,
    /// Present while another process writes there: the newest copy, if there was one.
    left_out: Option<Option<Arc<DiskCopy>>>,
}

/// The right to write copies, which only one process has at a time.
#[derive(Clone)]
pub(crate) struct Writing(Arc<Mutex<Writer>>);

impl fmt::Debug for Writing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writing")
    }
}

impl Writing {
    /// Of a process that writes from the start, or once it may.
    pub(crate) fn new(directory: PathBuf, at_once: bool) -> Self {
        let mut writer = Writer::new(directory);
        writer.left_out = (!at_once).then_some(None);
        Self(Arc::new(Mutex::new(writer)))
    }

    /// Returns once nothing is being written. Blocks on the disk.
    pub(crate) fn pause(&self) {
        self.writer().left_out.get_or_insert_default();
    }

    /// Writes what was left out. Blocks on the disk.
    pub(crate) fn resume(&self) {
        let mut writer = self.writer();
        // The other process may have written.
        writer.last = None;
        if let Some(Some(copy)) = writer.left_out.take()
            && let Err(error) = writer.save(&copy)
        {
            tracing::warn!(%error, "cannot write the copy of what is live; the next one is written");
        }
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is in the file.
struct Last {
    copy: Arc<DiskCopy>,
    /// Bytes of the whole copy at its beginning, and of the changes after it.
    whole: usize,
    changes: usize,
}

impl Writer {
    fn new(directory: PathBuf) -> Self {
        Self { directory, last: None, left_out: None }
    }

    /// Returns whether the copy is in the file: while another process writes there, it is left out. After a failure
    /// nothing is said about what is in the file: the next copy is written whole.
    fn save(&mut self, copy: &Arc<DiskCopy>) -> io::Result<bool> {
        if let Some(left_out) = &mut self.left_out {
            *left_out = Some(Arc::clone(copy));
            return Ok(false);
        }
        let path = self.directory.join(FILE);
        let last = self.last.take().filter(|last| last.changes < last.whole && change::can_follow(&last.copy, copy));
        fail::fail_point!("router-before-copy");
        let (whole, changes) = match last {
            Some(last) => (last.whole, last.changes + change::append(&path, &last.copy, copy)?),
            None => {
                let mut bytes = serde_json::to_vec(&File::of(copy))?;
                bytes.push(b'\n');
                // Configurations name hosts, and headers may have been written without a reference.
                write_private(&path, &bytes)?;
                (bytes.len(), 0)
            }
        };
        self.last = Some(Last { copy: Arc::clone(copy), whole, changes });
        Ok(true)
    }
}

impl File {
    fn of(copy: &DiskCopy) -> Self {
        Self {
            format: FORMAT,
            log: copy.saved.sender.log.clone(),
            epoch: copy.saved.sender.epoch,
            revision: copy.saved.revision,
            digest: copy.saved.content.digest,
            snapshot: Arc::clone(&copy.saved.content.snapshot),
            known: copy.known.iter().map(Known::of).collect(),
            overlay: copy.overlay.clone(),
        }
    }
}

/// Writes the newest copy each time there is another one, until the fleet is gone. Copies that came while another was
/// being written are skipped. The fleet is told of those that were written, unless it is too busy: then it does not wait for
/// that.
pub(super) async fn write_latest(
    writing: Writing,
    copies: watch::Receiver<Option<Arc<DiskCopy>>>,
    commands: mpsc::Sender<Command>,
) {
    let save = move |copy: &Arc<DiskCopy>| {
        if writing.writer().save(copy)? {
            drop(commands.try_send(Command::Copied(Arc::clone(copy))));
        }
        Ok(())
    };
    keep_written(copies, save).await;
}

/// A failed write is tried again until the disk has the newest copy: at once when another copy comes, and a last time
/// when there will be none. Nothing waits for the disk.
async fn keep_written(
    mut copies: watch::Receiver<Option<Arc<DiskCopy>>>,
    save: impl Fn(&Arc<DiskCopy>) -> io::Result<()> + Send + Sync + 'static,
) {
    let save = Arc::new(save);
    let mut pause = RETRY_FIRST;
    let (mut behind, mut going_on) = (false, true);
    while going_on {
        tokio::select! {
            changed = copies.changed() => {
                going_on = changed.is_ok();
                behind |= going_on;
            }
            () = tokio::time::sleep(pause), if behind => {}
        }
        let Some(copy) = copies.borrow_and_update().clone().filter(|_| behind) else { continue };
        behind = !write(copy, Arc::clone(&save)).await;
        pause = if behind { RETRY_MOST.min(2 * pause) } else { RETRY_FIRST };
    }
}

/// Returns whether the copy is on the disk now.
async fn write(
    copy: Arc<DiskCopy>,
    save: Arc<impl Fn(&Arc<DiskCopy>) -> io::Result<()> + Send + Sync + 'static>,
) -> bool {
    let revision = copy.saved.revision;
    let written = tokio::task::spawn_blocking(move || save(&copy)).await;
    let written = written.unwrap_or_else(|panicked| Err(io::Error::other(panicked)));
    let result = if written.is_ok() { "ok" } else { "failed" };
    metrics::counter!("only1mcp_router_disk_copies_total", "result" => result).increment(1);
    if let Err(error) = &written {
        tracing::warn!(%error, revision = revision.0, "cannot write the copy of what is live, trying again; a start without config-manager would use an older one");
    }
    written.is_ok()
}

#[cfg(test)]
mod tests;
