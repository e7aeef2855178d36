//! What one copy differs in from the one before it, as one JSON value of the file: a digest of the change, and the
//! change.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use drain::OverlayEntry;
use fleet::DiskCopy;
use model::{BackendId, Digest, EndpointKey, FixedBackend, Policy, Revision};
use rollout::Difference;
use rollout::follower::Saved;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Known;

#[derive(Serialize, Deserialize)]
struct Change {
    epoch: u64,
    revision: Revision,
    /// Of the content that this leads to.
    digest: Digest,
    policy: Policy,
    /// Those that the content before does not have like this.
    backends: Vec<Arc<FixedBackend>>,
    /// All backends; absent: as before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    order: Option<Vec<BackendId>>,
    known: Vec<Known>,
    forgotten: Vec<EndpointKey>,
    overlay: Vec<OverlayEntry>,
}

#[derive(Serialize, Deserialize)]
struct Written<T> {
    digest: Digest,
    change: T,
}

/// A change does not lead to what it says.
#[derive(Debug)]
pub(super) struct Damaged;

/// Whether the difference says all.
pub(super) fn can_follow(before: &DiskCopy, copy: &DiskCopy) -> bool {
    before.saved.sender.log == copy.saved.sender.log
}

/// Returns how many bytes the change has, once they are on the disk.
pub(super) fn append(path: &Path, before: &DiskCopy, copy: &DiskCopy) -> io::Result<usize> {
    let change = serde_json::value::to_raw_value(&Change::between(before, copy))?;
    let digest = Digest::of_bytes(change.get().as_bytes());
    let mut line = serde_json::to_vec(&Written { digest, change })?;
    line.push(b'\n');
    let mut file = fs::File::options().append(true).open(path)?;
    file.write_all(&line)?;
    file.sync_data()?;
    Ok(line.len())
}

/// Applies all `changes`. One that is no JSON was cut off, and is the last, since after a failed write the copy is
/// written whole: it counts as not written.
pub(super) fn apply<'a>(
    copy: &mut DiskCopy,
    changes: impl Iterator<Item = serde_json::Result<&'a RawValue>>,
) -> Result<(), Damaged> {
    for change in changes.map_while(Result::ok) {
        read(change).ok_or(Damaged)?.apply(copy)?;
    }
    Ok(())
}

fn read(change: &RawValue) -> Option<Change> {
    let Written { digest, change } = serde_json::from_str::<Written<&RawValue>>(change.get()).ok()?;
    let sound = Digest::of_bytes(change.get().as_bytes()) == digest;
    sound.then(|| serde_json::from_str(change.get()).ok())?
}

impl Change {
    fn between(before: &DiskCopy, copy: &DiskCopy) -> Self {
        let (was, content) = (&before.saved.content, &copy.saved.content);
        let Difference { digest, policy, backends, order, .. } = Difference::between(content, Some(was));
        let same_order = was.snapshot.backends.iter().map(|backend| &backend.id).eq(&order);
        let known = copy.known.iter().filter(|(key, offered)| before.known.get(*key) != Some(*offered));
        Self {
            epoch: copy.saved.sender.epoch,
            revision: copy.saved.revision,
            digest,
            policy,
            backends,
            order: (!same_order).then_some(order),
            known: known.map(Known::of).collect(),
            forgotten: before.known.keys().filter(|key| !copy.known.contains_key(*key)).cloned().collect(),
            overlay: copy.overlay.clone(),
        }
    }

    fn apply(self, copy: &mut DiskCopy) -> Result<(), Damaged> {
        let Saved { sender, revision, content } = &mut copy.saved;
        let held = Arc::clone(&content.snapshot);
        let before = || held.backends.iter().map(|backend| backend.id.clone()).collect();
        let Self { digest, policy, backends, order, .. } = self;
        let order = order.unwrap_or_else(before);
        let difference = Difference { digest, base: Some(content.digest), policy, backends, order };
        *content = difference.on(|_| Some(Arc::clone(&held))).map_err(|_| Damaged)?;
        (sender.epoch, *revision) = (self.epoch, self.revision);
        for key in &self.forgotten {
            copy.known.remove(key);
        }
        copy.known.extend(self.known.into_iter().map(Known::read));
        copy.overlay = self.overlay;
        Ok(())
    }
}
