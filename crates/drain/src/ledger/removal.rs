//! Drains of endpoints that a revision removed: which routers had them, how far each is, and when all are through.

use std::collections::BTreeSet;

use model::{EndpointKey, NodeId, Revision, Time, WallTime, Weight};

use super::{Entry, Ledger, Router};
use crate::{DrainId, Stay};

/// A removed endpoint that still gets calls in one router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Staying {
    /// The one that removed it.
    pub(super) revision: Revision,
    weight: Weight,
    strained: bool,
    /// When its calls are ended, as it goes.
    deadline: WallTime,
}

impl Staying {
    pub(super) fn new(wall: WallTime, stay: &Stay) -> Self {
        let Stay { revision, weight, remaining, strained } = *stay;
        Self { revision, weight, strained, deadline: wall.after(remaining) }
    }
}

impl Router {
    /// Whether the router has the endpoint, or may have it, and has not said yet what became of it by that revision.
    fn owes(&self, endpoint: &EndpointKey, revision: Revision) -> bool {
        let Some(live) = &self.live else { return true };
        let removes = self.revision < revision || self.stays.get(endpoint).is_some_and(|one| one.revision == revision);
        self.owed.get(endpoint).is_some_and(|had| *had <= revision) || removes && live.contains_key(endpoint)
    }
}

impl Ledger {
    /// Whether a router that had the endpoint has still to report what became of it.
    pub(super) fn is_owed(&self, entry: &Entry) -> bool {
        let DrainId::Removal { endpoint, revision } = &entry.id else { return false };
        self.routers.values().any(|router| router.owes(endpoint, *revision))
    }

    /// Whether a router is not known to have the endpoint only since it is behind.
    pub(super) fn may_be_owed(&self, entry: &Entry) -> bool {
        let DrainId::Removal { revision, .. } = &entry.id else { return false };
        self.routers.values().any(|router| router.revision < *revision)
    }

    /// Whether the share of a removed endpoint waits to fall in some router.
    pub(super) fn waits_to_fall(&self, entry: &Entry) -> bool {
        self.stays_of(&entry.id).any(|one| one.strained)
    }

    fn stays_of<'a>(&'a self, id: &'a DrainId) -> impl Iterator<Item = &'a Staying> {
        self.routers.values().filter_map(move |router| match id {
            DrainId::Removal { endpoint, revision } => {
                router.stays.get(endpoint).filter(|one| one.revision == *revision)
            }
            DrainId::Admin { .. } => None,
        })
    }

    /// Shows the removals of which a router has said something else than before: each begins with the first word about
    /// it, and goes as far as in the router that is least far.
    pub(super) fn follow(&mut self, now: Time, removals: BTreeSet<(EndpointKey, Revision)>) {
        let wall = self.wall(now);
        for (endpoint, revision) in removals {
            let backend = endpoint.backend.clone();
            let id = DrainId::Removal { endpoint, revision };
            let weight = self.stays_of(&id).map(|one| one.weight).max();
            let deadline = self.stays_of(&id).map(|one| one.deadline).max();
            let before = self.drains.get(&id).map(|entry| self.summary(now, entry));
            if before.is_none() && deadline.is_none() {
                continue;
            }
            self.dirty |= before.is_none();
            let new = || Entry::new(id.clone(), backend, wall, deadline.unwrap_or(wall).since(wall));
            let entry = self.drains.entry(id.clone()).or_insert_with(new);
            entry.weight = weight.unwrap_or(Weight::NONE);
            if let Some(deadline) = deadline.filter(|_| !entry.hurried) {
                (entry.deadline, entry.awaited) = (deadline, deadline);
            }
            self.settle(now, &id, before);
        }
    }

    /// The router is gone. What it owed a report on has no exchanges of it that are known, and is said to have been there.
    pub(super) fn note_gone(&mut self, node: &NodeId, router: &Router) {
        for entry in self.drains.values_mut().filter(|entry| entry.ended.is_none()) {
            let DrainId::Removal { endpoint, revision } = entry.id.clone() else { continue };
            let known = router.live.is_some() && entry.share(node, &router.boot, &endpoint).is_none();
            if known && router.owes(&endpoint, revision) {
                entry.never_counted(node, &router.boot, endpoint);
            }
        }
    }
}

#[cfg(test)]
mod tests;
