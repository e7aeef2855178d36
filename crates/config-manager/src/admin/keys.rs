//! Which keys a revision changed, for those who read the history.

use config_file::{Difference, differences};
use model::{Change, Mask, Revision, Snapshot};
use wire::pb::config::v1 as pb;

use crate::log::Log;

/// Two contents of thousands of servers are compared within some tens of milliseconds.
const COMPARED: usize = 20;

/// Adds the keys to the newest of the revisions, which stand newest first. Contents that are not kept cannot be
/// compared.
pub(super) fn add(log: &Log, mask: &Mask, revisions: &mut [pb::Revision]) {
    let shown = |number: u64| match number {
        0 => Some(Snapshot::default()),
        number => {
            let bytes = log.revision(Revision(number)).ok()?.1?;
            Some(mask.snapshot(&serde_json::from_slice(&bytes).ok()?))
        }
    };
    let mut last: Option<(u64, Snapshot)> = None;
    for revision in revisions.iter_mut().filter(|revision| revision.revision != 0).take(COMPARED) {
        let known = last.take().filter(|(number, _)| *number == revision.revision);
        let Some(new) = known.map(|(_, snapshot)| snapshot).or_else(|| shown(revision.revision)) else { continue };
        let Some(old) = shown(revision.parent) else { continue };
        let mut keys = differences(&old, &new);
        let mut of = |server: &str| keys.remove(server).into_iter().flatten().map(key_change).collect();
        revision.policy_keys = of("");
        let whole = [Change::Added, Change::Removed, Change::Moved].map(Change::as_str);
        for change in revision.diff.iter_mut().filter(|change| !whole.contains(&change.change.as_str())) {
            change.keys = of(&change.server);
        }
        last = Some((revision.parent, old));
    }
}

fn key_change(difference: Difference) -> pb::KeyChange {
    let json = |value: Option<serde_json::Value>| value.map(|value| value.to_string()).unwrap_or_default();
    pb::KeyChange { key: difference.key, old: json(difference.old), new: json(difference.new) }
}
