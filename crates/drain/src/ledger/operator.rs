//! What operators ask of the ledger: start, join, hurry, cancel.

use std::time::Duration;

use model::{BackendId, Time};

use super::{Effect, Entry, Ledger, Router, Summary};
use crate::DrainId;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    pub drain: Summary,
    /// One was there already.
    pub joined: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    #[error("no router is attached, so nobody knows the server `{backend}` or could drain it")]
    NoRouter { backend: BackendId },
    #[error("no router has a server `{backend}`; there are: {}", names(.known))]
    Unknown { backend: BackendId, known: Vec<BackendId> },
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CancelError {
    #[error("there is no drain `{id}`, and no server of that name is being drained")]
    Unknown { id: String },
    #[error("`{id}` was removed by revision {revision}; a rollback or an edit that has it again brings it back")]
    Removal { id: String, revision: model::Revision },
}

fn names(known: &[BackendId]) -> String {
    let names: Vec<_> = known.iter().map(BackendId::as_str).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

impl Ledger {
    /// Begins a drain, or joins the one that is there: the earlier deadline holds. Of a server that a revision has
    /// removed, its departure is hurried.
    pub(super) fn start(
        &mut self,
        now: Time,
        backend: &BackendId,
        timeout: Option<Duration>,
        actor: String,
    ) -> Result<Started, StartError> {
        let joined: Vec<_> = self.joinable(backend).collect();
        let timeouts = self.routers.values().filter_map(|router| router.live.as_ref()).flatten();
        let configured =
            timeouts.filter(|(endpoint, _)| endpoint.backend == *backend).map(|(_, timeout)| *timeout).max();
        if joined.is_empty() {
            let Some(timeout) = timeout.filter(|_| configured.is_some()).or(configured) else {
                return Err(self.unknown(backend));
            };
            self.last_number += 1;
            let id = DrainId::Admin { number: self.last_number };
            let mut entry = Entry::new(id.clone(), backend.clone(), self.wall(now), timeout);
            entry.actor = Some(actor);
            self.drains.insert(id.clone(), entry);
            return Ok(Started { drain: self.decided(now, &id, None), joined: false });
        }
        let deadline = timeout.or(configured).map(|timeout| self.wall(now).after(timeout));
        let mut last = None;
        for id in joined {
            let before = self.drains.get(&id).map(|entry| self.summary(now, entry));
            let entry = self.drains.get_mut(&id).expect("it was found there");
            if let Some(deadline) = deadline.filter(|deadline| *deadline < entry.deadline) {
                entry.deadline = deadline;
                entry.hurried = true;
                entry.actor = Some(actor.clone());
            }
            last = Some(self.decided(now, &id, before));
        }
        Ok(Started { drain: last.expect("at least one was joined"), joined: true })
    }

    /// Opens again what an operator's drain closed. A second time changes nothing.
    pub(super) fn cancel(&mut self, now: Time, id: &str, actor: String) -> Result<Summary, CancelError> {
        let named = |entry: &&Entry| entry.id.to_string() == id;
        let held = |entry: &&Entry| entry.holds() && entry.backend.as_str() == id;
        let found = self.drains.values().find(named).or_else(|| self.drains.values().find(held));
        let entry = found.ok_or_else(|| CancelError::Unknown { id: id.into() })?;
        if let DrainId::Removal { revision, .. } = &entry.id {
            return Err(CancelError::Removal { id: id.into(), revision: *revision });
        }
        let (id, before) = (entry.id.clone(), self.summary(now, entry));
        let wall = self.wall(now);
        let entry = self.drains.get_mut(&id).expect("it was found there");
        if entry.cancelled.is_some() {
            return Ok(before);
        }
        entry.cancelled = Some(wall);
        entry.actor = Some(actor);
        Ok(self.decided(now, &id, Some(before)))
    }

    /// An operator's drain of that server; else, when it is in no live generation, the removals that still run.
    fn joinable(&self, backend: &BackendId) -> impl Iterator<Item = DrainId> + use<> {
        let of_it = || self.drains.values().filter(|entry| entry.backend == *backend);
        let held = of_it().find(|entry| entry.holds()).map(|entry| entry.id.clone());
        let live = self.routers.values().any(|router| router.live().any(|endpoint| endpoint.backend == *backend));
        let leaving = of_it().filter(|entry| !live && entry.id.is_removal() && entry.ended.is_none());
        let leaving: Vec<_> = leaving.map(|entry| entry.id.clone()).collect();
        let leaving = if held.is_some() { Vec::new() } else { leaving };
        held.into_iter().chain(leaving)
    }

    fn unknown(&self, backend: &BackendId) -> StartError {
        if self.connections.is_empty() {
            return StartError::NoRouter { backend: backend.clone() };
        }
        let known = self.routers.values().flat_map(Router::live);
        let mut known: Vec<_> = known.map(|endpoint| endpoint.backend.clone()).collect();
        known.sort_unstable();
        known.dedup();
        StartError::Unknown { backend: backend.clone(), known }
    }

    /// Makes it durable, then known to all routers.
    fn decided(&mut self, now: Time, id: &DrainId, before: Option<Summary>) -> Summary {
        self.dirty = true;
        self.settle(now, id, before);
        for connection in self.connections.keys().copied().collect::<Vec<_>>() {
            let directive = self.overlay(now);
            self.effects.push_back(Effect::Tell { connection, directive });
        }
        self.summary(now, &self.drains[id])
    }
}
