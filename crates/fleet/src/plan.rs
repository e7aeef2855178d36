//! What a snapshot asks of the fleet, and what to do for it, given the live snapshot: as values, so that it can be read
//! and tested without a socket.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{Backend, BackendId, EndpointKey, EndpointSpec, Limits, ReplaceMode, VariantId};
use rollout::Content;

/// A snapshot with the keys of its endpoints, which cost a hash each and are needed again and again.
#[derive(Debug)]
pub struct Layout {
    pub content: Content,
    /// In the order of the file.
    pub backends: Vec<BackendLayout>,
    specs: BTreeMap<EndpointKey, (usize, EndpointSpec)>,
}

#[derive(Debug)]
pub struct BackendLayout {
    pub backend: Arc<Backend>,
    pub variants: Vec<VariantLayout>,
}

#[derive(Debug)]
pub struct VariantLayout {
    pub id: VariantId,
    pub weight: u32,
    pub endpoints: Vec<EndpointKey>,
}

impl Layout {
    pub fn of(content: Content) -> Self {
        let mut specs = BTreeMap::new();
        let mut backends = Vec::with_capacity(content.snapshot.backends.len());
        for (position, backend) in content.snapshot.backends.iter().enumerate() {
            let mut variants = Vec::with_capacity(backend.variants.len());
            for variant in &backend.variants {
                let mut endpoints = Vec::with_capacity(variant.endpoints.len());
                for spec in &variant.endpoints {
                    let digest = spec.digest();
                    let key = EndpointKey { backend: backend.id.clone(), variant: variant.id.clone(), digest };
                    // The same place named twice is one endpoint.
                    if specs.insert(key.clone(), (position, spec.clone())).is_none() {
                        endpoints.push(key);
                    }
                }
                variants.push(VariantLayout { id: variant.id.clone(), weight: variant.weight, endpoints });
            }
            backends.push(BackendLayout { backend: Arc::clone(backend), variants });
        }
        Self { content, backends, specs }
    }

    pub fn has(&self, key: &EndpointKey) -> bool {
        self.specs.contains_key(key)
    }

    pub fn keys(&self) -> impl Iterator<Item = &EndpointKey> {
        self.specs.keys()
    }

    pub fn spec(&self, key: &EndpointKey) -> Option<&EndpointSpec> {
        self.specs.get(key).map(|(_, spec)| spec)
    }

    pub fn backend_of(&self, key: &EndpointKey) -> Option<&Arc<Backend>> {
        self.specs.get(key).map(|(position, _)| &self.backends[*position].backend)
    }

    /// The limits that hold for an endpoint of this layout.
    pub fn limits_of(&self, key: &EndpointKey) -> Limits {
        let snapshot = &self.content.snapshot;
        self.backend_of(key).map_or_else(|| snapshot.policy.limits.clone(), |backend| snapshot.limits_of(backend))
    }

    /// Endpoints that `live` does not have: an attempt at this layout is judged by them.
    pub fn changed_from<'a>(&'a self, live: Option<&'a Self>) -> impl Iterator<Item = &'a EndpointKey> {
        self.keys().filter(move |key| live.is_none_or(|live| !live.has(key)))
    }
}

/// What is done with each endpoint that is not simply kept.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// To be made and brought up.
    pub(crate) start: Vec<EndpointKey>,
    /// To be made, and brought up when no other endpoint of their backend is left.
    pub(crate) start_after: Vec<EndpointKey>,
    /// To get no new exchanges, and to end.
    pub(crate) depart: Vec<EndpointKey>,
}

impl Plan {
    /// How to make `next` live. `existing` has all present endpoints, those that are leaving too; `ending` are the
    /// backends with an endpoint that is being shut down right now.
    pub(crate) fn toward<M>(
        next: &Layout,
        live: Option<&Layout>,
        existing: &BTreeMap<EndpointKey, M>,
        ending: &BTreeSet<BackendId>,
    ) -> Self {
        let mut plan = Self::default();
        for key in next.keys().filter(|key| !existing.contains_key(*key)) {
            let alone = next.backend_of(key).is_some_and(|backend| backend.replace == ReplaceMode::StopFirst);
            let others = || existing.keys().any(|other| other.backend == key.backend && !next.has(other));
            let waits = alone && (ending.contains(&key.backend) || others());
            let list = if waits { &mut plan.start_after } else { &mut plan.start };
            list.push(key.clone());
        }
        let gone = live.into_iter().flat_map(Layout::keys).filter(|key| !next.has(key));
        plan.depart = gone.filter(|key| existing.contains_key(*key)).cloned().collect();
        plan
    }
}

#[cfg(test)]
pub(crate) mod tests;
