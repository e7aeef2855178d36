//! The operators' requests to the ledger: start, join, hurry, cancel.

use std::collections::BTreeSet;

use model::{BackendId, Digest, DrainOverlay, DrainPolicy, DrainStrategy, NodeId, Time, Weight};

use super::{Effect, Entry, Ledger, Router, Summary};
use crate::DrainId;
use crate::strategy::{asked, term};

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
             (waiting for {})", names(.routers, NodeId::to_string))]
    Silent { backend: BackendId, routers: Vec<NodeId> },
    #[error("no router has a server `{backend}`; there are: {}", names(.known, BackendId::to_string))]
    Unknown { backend: BackendId, known: Vec<BackendId> },
    #[error("no endpoint of `{backend}`, or more than one, begins with `{begins}`; there are: {}",
            names(.known, Digest::short))]
    Endpoint { backend: BackendId, begins: String, known: Vec<Digest> },
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CancelError {
    #[error("there is no drain `{id}`, and no server of that name is being drained")]
    Unknown { id: String },
    #[error("`{id}` was removed by revision {revision}; a rollback or an edit that has it again brings it back")]
    Removal { id: String, revision: model::Revision },
}

fn names<T>(known: &[T], name: fn(&T) -> String) -> String {
    let names: Vec<_> = known.iter().map(name).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

/// What an operator asks of a server, or of one of its endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub backend: BackendId,
    /// How the digest of the endpoint begins; absent for all endpoints.
    pub endpoint: Option<String>,
    /// With [`Weight::NONE`] it gets no new exchanges.
    pub weight: Weight,
    /// It is switched off, not about to leave: shown as such, and otherwise a drain of the whole server.
    pub disable: bool,
    /// How it leaves; a key that is absent is as the configuration says.
    pub policy: DrainOverlay,
    pub actor: String,
}

impl Ledger {
    /// Stops new exchanges for a server, or gives it less of them.
    ///
    /// # Errors
    /// When no router is known to have such a server or endpoint.
    pub fn start(&mut self, now: Time, wanted: Wanted) -> Result<Started, StartError> {
        let started = self.begin(now, wanted);
        self.pass(now);
        started
    }

    /// Ends one drain of an operator, by the id as shown, or all of them that hold a server, by its name. Returns those
    /// that it ended, that of the whole server first.
    ///
    /// # Errors
    /// When there is no such drain, or it is that of a removed server.
    pub fn cancel(&mut self, now: Time, id: &str, actor: &str) -> Result<Vec<Summary>, CancelError> {
        let cancelled = self.open_again(now, id, actor);
        self.pass(now);
        cancelled
    }

    /// Begins a drain, or joins the present one: the earlier deadline holds, the stronger strategy, and the later weight.
    /// If a revision has removed the server, its departure is hurried.
    fn begin(&mut self, now: Time, wanted: Wanted) -> Result<Started, StartError> {
        let Wanted { backend, endpoint, weight, disable, policy: own, actor } = wanted;
        let live = self.routers.values().filter_map(|router| router.live.as_ref()).flatten();
        let live: Vec<_> = live.filter(|(endpoint, _)| endpoint.backend == backend).collect();
        let configured = live.iter().map(|(_, policy)| *policy).max_by_key(|policy| term(policy)).cloned();
        let known: BTreeSet<_> = live.iter().map(|(endpoint, _)| endpoint.digest).collect();
        let endpoint = endpoint.map(|begins| self.one_of(known, &backend, begins)).transpose()?;
        let known_to_be = configured.is_some();
        // What has left has a deadline by its revision; only a time that is asked for can be an earlier one.
        let hurries = own.timeout.is_some() || own.strategy == Some(DrainStrategy::Immediate);
        let said = configured.or_else(|| hurries.then(DrainPolicy::default));
        let (policy, wall) = (said.map(|policy| asked(&own, &policy)), self.wall(now));
        let falls = policy.as_ref().filter(|policy| policy.strategy == DrainStrategy::Progressive);
        let falls = falls.filter(|_| endpoint.is_some_and(|digest| self.takes_over(&backend, digest))).cloned();
        let mut last = None;
        let joinable = self.joinable(&backend, endpoint, weight);
        // What has left cannot be switched off.
        for id in joinable.into_iter().filter(|id| !(disable && id.is_removal())) {
            let before = self.drains.get(&id).map(|entry| self.summary(now, entry));
            let entry = self.drains.get_mut(&id).expect("it was found there");
            let changed = if weight.is_none() {
                entry.join(wall, own.strategy, policy.as_ref(), falls.as_ref())
            } else {
                entry.weigh(weight);
                true
            };
            let switched_off = disable && !std::mem::replace(&mut entry.disabled, true);
            if changed || switched_off {
                entry.actor = Some(actor.clone());
            }
            last = Some(self.decided(now, &id, before));
        }
        if let Some(drain) = last {
            return Ok(Started { drain, joined: true });
        }
        let Some(policy) = policy.filter(|_| known_to_be) else { return Err(self.unknown(&backend)) };
        self.last_number = self.last_number.saturating_add(1);
        let id = DrainId::Admin { number: self.last_number, started: wall };
        let entry = Entry::new(id.clone(), backend.clone(), wall, term(&policy));
        let mut entry = Entry { endpoint, weight, disabled: disable, actor: Some(actor.clone()), ..entry };
        entry.begin(wall, &policy, falls.as_ref());
        self.drains.insert(id.clone(), entry);
        self.lift_cordon(now, &backend, endpoint, weight, &actor);
        Ok(Started { drain: self.decided(now, &id, None), joined: false })
    }

    /// An operator who gives a cordoned server a weight has opened it again: the drain that cordoned it is history. A
    /// server that was switched off stays so; its weight counts once it is switched on.
    fn lift_cordon(&mut self, now: Time, backend: &BackendId, endpoint: Option<Digest>, weight: Weight, actor: &str) {
        let cordons = |entry: &&Entry| entry.holds() && entry.weight.is_none() && !entry.disabled;
        let same = |entry: &&Entry| cordons(entry) && entry.is_of(backend, endpoint);
        let held: Vec<_> = self.drains.values().filter(same).map(|entry| entry.id.clone()).collect();
        for id in held.into_iter().filter(|_| !weight.is_none()) {
            self.lift(now, &id, actor);
        }
    }

    /// The endpoint whose digest begins like that.
    fn one_of(&self, mut known: BTreeSet<Digest>, backend: &BackendId, begins: String) -> Result<Digest, StartError> {
        let held = self.drains.values().filter(|entry| entry.holds() && entry.backend == *backend);
        known.extend(held.filter_map(|entry| entry.endpoint));
        let mut meant = known.iter().filter(|digest| digest.to_string().starts_with(&begins));
        match (meant.next(), meant.next()) {
            (Some(digest), None) => Ok(*digest),
            _ if known.is_empty() => Err(self.unknown(backend)),
            _ => Err(StartError::Endpoint { backend: backend.clone(), begins, known: known.into_iter().collect() }),
        }
    }

    /// A second call changes nothing. The id of a drain comes before a server of that name.
    fn open_again(&mut self, now: Time, id: &str, actor: &str) -> Result<Vec<Summary>, CancelError> {
        let named = |entry: &&Entry| entry.id.to_string() == id;
        let holding = || self.drains.values().filter(|entry| entry.holds());
        let mut found: Vec<&Entry> = match holding().find(named) {
            Some(one) => vec![one],
            None => holding().filter(|entry| entry.backend.as_str() == id).collect(),
        };
        if found.is_empty() {
            // One that holds nothing any more.
            found.extend(self.drains.values().find(named));
        }
        found.sort_by_key(|entry| entry.endpoint.is_some());
        if let Some(DrainId::Removal { revision, .. }) = found.first().map(|entry| &entry.id) {
            return Err(CancelError::Removal { id: id.into(), revision: *revision });
        }
        let found: Vec<DrainId> = found.into_iter().map(|entry| entry.id.clone()).collect();
        if found.is_empty() {
            return Err(CancelError::Unknown { id: id.into() });
        }
        Ok(found.iter().map(|id| self.lift(now, id, actor)).collect())
    }

    fn lift(&mut self, now: Time, id: &DrainId, actor: &str) -> Summary {
        let (before, wall) = (self.summary(now, &self.drains[id]), self.wall(now));
        let entry = self.drains.get_mut(id).expect("the caller found it there");
        if entry.cancelled.is_some() {
            return before;
        }
        entry.cancelled = Some(wall);
        entry.falling = None;
        entry.actor = Some(actor.to_owned());
        self.decided(now, id, Some(before))
    }

    /// An operator's drain of that server or endpoint, unless it is a cordon that a weight replaces; else, when the
    /// server is in no live generation, the removals that still run. A router that has not reported yet may still have
    /// the server.
    fn joinable(&self, backend: &BackendId, endpoint: Option<Digest>, weight: Weight) -> Vec<DrainId> {
        let mut held = self.drains.values().filter(|entry| entry.holds() && entry.is_of(backend, endpoint));
        if let Some(held) = held.find(|entry| weight.is_none() || !entry.weight.is_none()) {
            return vec![held.id.clone()];
        }
        let maybe = |router: &Router| router.live.is_none() || router.live().any(|live| live.backend == *backend);
        let live = !weight.is_none() || self.routers.values().any(maybe);
        let of_it = self.drains.values().filter(|entry| entry.backend == *backend);
        let leaving = of_it.filter(|entry| !live && entry.id.is_removal() && entry.ended.is_none());
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
    pub(super) fn decided(&mut self, now: Time, id: &DrainId, before: Option<Summary>) -> Summary {
        self.dirty = true;
        self.settle(now, id, before);
        for connection in self.connections.keys().copied().collect::<Vec<_>>() {
            let directive = self.overlay(now);
            self.effects.push_back(Effect::Tell { connection, directive });
        }
        self.summary(now, &self.drains[id])
    }
}
