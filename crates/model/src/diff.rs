//! The difference between two snapshots, for people and for records. Endpoints are compared by digest, so that
//! "changed" says whether anything is reconnected.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Backend, BackendId, FixedBackend, Snapshot};

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Diff {
    /// Whether anything but the list of servers changed.
    pub policy: bool,
    /// In the order of ids.
    pub backends: Vec<BackendChange>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendChange {
    pub id: BackendId,
    pub change: Change,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    Added,
    Removed,
    /// A change that needs new connections.
    Reconnected,
    /// Names, filters, weights, policy: connections stay, or end because the server is switched off.
    Adjusted,
    /// Only the server's place in the file changed.
    Moved,
}

impl Change {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Reconnected => "reconnected",
            Self::Adjusted => "adjusted",
            Self::Moved => "moved",
        }
    }
}

/// How many servers a [`Diff`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    pub added: usize,
    pub removed: usize,
    /// In any way, their place included.
    pub changed: usize,
}

impl Diff {
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for entry in &self.backends {
            match entry.change {
                Change::Added => counts.added += 1,
                Change::Removed => counts.removed += 1,
                Change::Reconnected | Change::Adjusted | Change::Moved => counts.changed += 1,
            }
        }
        counts
    }

    /// `+new -gone ~other and 3 more, policy`: at most so many `names`.
    pub fn summary(&self, names: usize) -> String {
        let sign = |change| match change {
            Change::Added => '+',
            Change::Removed => '-',
            Change::Reconnected | Change::Adjusted | Change::Moved => '~',
        };
        let named = self.backends.iter().take(names).map(|entry| format!("{}{}", sign(entry.change), entry.id));
        let mut text = named.collect::<Vec<_>>().join(" ");
        if self.backends.len() > names {
            text.push_str(&format!(" and {} more", self.backends.len() - names));
        }
        match (self.policy, text.is_empty()) {
            (true, true) => "policy".to_owned(),
            (true, false) => text + ", policy",
            (false, _) => text,
        }
    }

    pub fn between(old: &Snapshot, new: &Snapshot) -> Self {
        let (before, after) = without_common_ends(&old.backends, &new.backends);
        let (before, after) = (by_id(before, after), by_id(after, before));
        let removed = before.keys().filter(|id| !after.contains_key(*id)).map(|id| (*id, Change::Removed));
        let kept = after.iter().filter_map(|(id, (rank, backend))| {
            let change = match before.get(id) {
                None => Change::Added,
                Some((was, same)) if same == backend && was == rank => return None,
                Some((_, same)) if same == backend => Change::Moved,
                Some((_, was)) if needs_nothing_new(was, backend) => Change::Adjusted,
                Some(_) => Change::Reconnected,
            };
            Some((*id, change))
        });
        let mut backends: Vec<_> =
            removed.chain(kept).map(|(id, change)| BackendChange { id: id.clone(), change }).collect();
        backends.sort_by(|a, b| a.id.cmp(&b.id));
        Self { policy: old.policy != new.policy, backends }
    }

    pub fn is_empty(&self) -> bool {
        !self.policy && self.backends.is_empty()
    }

    /// Servers whose endpoints a router has to bring up.
    pub fn changed(&self) -> impl Iterator<Item = &BackendId> {
        self.backends
            .iter()
            .filter(|entry| matches!(entry.change, Change::Added | Change::Reconnected))
            .map(|entry| &entry.id)
    }
}

/// What is left of two lists without the equal servers that both begin with and end with: these have the same rank in
/// both.
fn without_common_ends<'a>(
    mut one: &'a [Arc<FixedBackend>],
    mut other: &'a [Arc<FixedBackend>],
) -> (&'a [Arc<FixedBackend>], &'a [Arc<FixedBackend>]) {
    while let (Some((first, rest)), Some((same, others))) = (one.split_first(), other.split_first())
        && first == same
    {
        (one, other) = (rest, others);
    }
    while let (Some((last, rest)), Some((same, others))) = (one.split_last(), other.split_last())
        && last == same
    {
        (one, other) = (rest, others);
    }
    (one, other)
}

/// Each server with its rank among those that both lists have: a neighbour that came or left moves no server.
fn by_id<'a>(
    one: &'a [Arc<FixedBackend>],
    other: &[Arc<FixedBackend>],
) -> BTreeMap<&'a BackendId, (usize, &'a Arc<FixedBackend>)> {
    let theirs: BTreeSet<&BackendId> = other.iter().map(|backend| &backend.id).collect();
    let mut rank = 0;
    one.iter()
        .map(|backend| {
            let entry = (&backend.id, (rank, backend));
            rank += usize::from(theirs.contains(&backend.id));
            entry
        })
        .collect()
}

/// Whether `new` needs no connection that `old` does not need.
fn needs_nothing_new(old: &Backend, new: &Backend) -> bool {
    let keys = |backend: &Backend| backend.endpoints().map(|(key, ..)| key).collect::<Vec<_>>();
    !new.policy.enabled || old.policy.enabled && keys(old) == keys(new)
}
