//! The operators' requests to the ledger: start, join, hurry, cancel.

use std::collections::BTreeSet;
use std::time::Duration;

use model::{BackendId, NodeId, Time};

use super::{Effect, Entry, Ledger, Router, Summary};
use crate::DrainId;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    pub drain: Summary,
    /// There was a drain already.
    pub joined: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    #[error("no router is attached, so nobody knows the server `{backend}` or could drain it")]
    NoRouter { backend: BackendId },
    #[error("routers have not said yet which servers they have, so `{backend}` cannot be drained; try again in a moment \
             (waiting for {})", names(.routers, NodeId::as_str))]
    Silent { backend: BackendId, routers: Vec<NodeId> },
    #[error("no router has a server `{backend}`; there are: {}", names(.known, BackendId::as_str))]
    Unknown { backend: BackendId, known: Vec<BackendId> },
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CancelError {
    #[error("there is no drain `{id}`, and no server of that name is being drained")]
    Unknown { id: String },
    #[error("`{id}` was removed by revision {revision}; a rollback or an edit that has it again brings it back")]
    Removal { id: String, revision: model::Revision },
}

fn names<T>(known: &[T], name: fn(&T) -> &str) -> String {
    let names: Vec<_> = known.iter().map(name).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

impl Ledger {
    /// Stops new exchanges for a server. Without a timeout, the one in the configuration holds.
    ///
    /// # Errors
    /// When no router is known to have such a server.
    pub fn start(
        &mut self,
        now: Time,
        backend: &BackendId,
        timeout: Option<Duration>,
        actor: String,
    ) -> Result<Started, StartError> {
        let started = self.begin(now, backend, timeout, actor);
        self.pass(now);
        started
    }

    /// Opens again what an operator's drain cordoned, by the id as shown, or by the name of a server that is held.
    ///
    /// # Errors
    /// When there is no such drain, or it is that of a removed server.
    pub fn cancel(&mut self, now: Time, id: &str, actor: String) -> Result<Summary, CancelError> {
        let cancelled = self.open_again(now, id, actor);
        self.pass(now);
        cancelled
    }

    /// Begins a drain, or joins the present one: the earlier deadline holds. If a revision has removed the server, its
    /// departure is hurried.
    fn begin(
        &mut self,
        now: Time,
        backend: &BackendId,
        timeout: Option<Duration>,
        actor: String,
    ) -> Result<Started, StartError> {
        let joined = self.joinable(backend);
        let timeouts = self.routers.values().filter_map(|router| router.live.as_ref()).flatten();
        let configured =
            timeouts.filter(|(endpoint, _)| endpoint.backend == *backend).map(|(_, timeout)| *timeout).max();
        if joined.is_empty() {
            let Some(timeout) = timeout.filter(|_| configured.is_some()).or(configured) else {
                return Err(self.unknown(backend));
            };
            self.last_number = self.last_number.saturating_add(1);
            let id = DrainId::Admin { number: self.last_number, started: self.wall(now) };
            let mut entry = Entry::new(id.clone(), backend.clone(), self.wall(now), timeout);
            entry.actor = Some(actor);
            self.drains.insert(id.clone(), entry);
            return Ok(Started { drain: self.decided(now, &id, None), joined: false });
        }
        let (term, wall) = (timeout.or(configured), self.wall(now));
        let mut last = None;
        for id in joined {
            let before = self.drains.get(&id).map(|entry| self.summary(now, entry));
            let entry = self.drains.get_mut(&id).expect("it was found there");
            if let Some(term) = term.filter(|term| wall.after(*term) < entry.deadline) {
                entry.hurry(wall, term, actor.clone());
            }
            last = Some(self.decided(now, &id, before));
        }
        Ok(Started { drain: last.expect("at least one was joined"), joined: true })
    }

    /// Opens the server again. A second call changes nothing.
    fn open_again(&mut self, now: Time, id: &str, actor: String) -> Result<Summary, CancelError> {
        let named = |entry: &&Entry| entry.id.to_string() == id;
        let holding = |entry: &&Entry| entry.holds() && (named(entry) || entry.backend.as_str() == id);
        let found = self.drains.values().find(holding).or_else(|| self.drains.values().find(named));
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

    /// An operator's drain of that server; else, when the server is in no live generation, the removals that still run.
    /// A router that has not reported yet may still have the server.
    fn joinable(&self, backend: &BackendId) -> Vec<DrainId> {
        let of_it = || self.drains.values().filter(|entry| entry.backend == *backend);
        if let Some(held) = of_it().find(|entry| entry.holds()) {
            return vec![held.id.clone()];
        }
        let maybe = |router: &Router| router.live.is_none() || router.live().any(|live| live.backend == *backend);
        let live = self.routers.values().any(maybe);
        let leaving = of_it().filter(|entry| !live && entry.id.is_removal() && entry.ended.is_none());
        leaving.map(|entry| entry.id.clone()).collect()
    }

    fn unknown(&self, backend: &BackendId) -> StartError {
        let backend = backend.clone();
        if self.connections.is_empty() {
            return StartError::NoRouter { backend };
        }
        let silent = self.routers.iter().filter(|(_, router)| router.live.is_none());
        let routers: Vec<_> = silent.map(|(node, _)| node.clone()).collect();
        if !routers.is_empty() {
            return StartError::Silent { backend, routers };
        }
        let known = self.routers.values().flat_map(Router::live);
        let known: BTreeSet<_> = known.map(|endpoint| endpoint.backend.clone()).collect();
        StartError::Unknown { backend, known: known.into_iter().collect() }
    }

    /// Makes the decision durable, then known to all routers.
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
