//! What a snapshot asks of the fleet, and what to do for it, given the live snapshot: as values, so that it can be read
//! and tested without a socket.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{
    Backend, BackendId, BackendPolicy, DeadServers, EndpointKey, EndpointSpec, FixedBackend, InForce, Limits,
    ReplaceMode, VariantId,
};
use rollout::Content;

/// A snapshot with the keys of its endpoints, which cost a hash each and are needed again and again.
#[derive(Debug)]
pub struct Layout {
    pub content: Content,
    /// In the order of the file, without those that are switched off.
    pub backends: Vec<Arc<BackendLayout>>,
    positions: BTreeMap<BackendId, usize>,
    /// Of backends without a limit of their own.
    pub(crate) limits: Arc<Limits>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct BackendLayout {
    pub backend: Arc<FixedBackend>,
    pub variants: Vec<VariantLayout>,
    /// In order, each with where it stands in the backend: its variant, and its place there.
    places: Box<[(EndpointKey, (usize, usize))]>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct VariantLayout {
    pub id: VariantId,
    pub weight: u32,
    pub endpoints: Vec<EndpointKey>,
}

impl BackendLayout {
    fn of(backend: &Arc<FixedBackend>) -> Self {
        let mut places = BTreeMap::new();
        let variants = backend.variants.iter().enumerate().map(|(of, variant)| {
            let mut endpoints = Vec::with_capacity(variant.endpoints.len());
            for (at, spec) in variant.endpoints.iter().enumerate() {
                let digest = spec.digest();
                let key = EndpointKey { backend: backend.id.clone(), variant: variant.id.clone(), digest };
                // The same place named twice is one endpoint.
                if places.insert(key.clone(), (of, at)).is_none() {
                    endpoints.push(key);
                }
            }
            VariantLayout { id: variant.id.clone(), weight: variant.weight, endpoints }
        });
        let variants = variants.collect();
        Self { variants, backend: Arc::clone(backend), places: places.into_iter().collect() }
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &EndpointKey> {
        self.places.iter().map(|(key, _)| key)
    }

    fn spec(&self, key: &EndpointKey) -> Option<&EndpointSpec> {
        let at = self.places.binary_search_by(|(other, _)| other.cmp(key)).ok()?;
        let (variant, at) = self.places[at].1;
        self.backend.variants.get(variant)?.endpoints.get(at)
    }
}

impl Layout {
    /// Backends that are as in `like` are taken from there.
    pub fn of(content: Content, like: Option<&Self>) -> Self {
        let backends: Vec<_> = content
            .snapshot
            .backends
            .iter()
            .filter(|backend| backend.policy.enabled)
            .enumerate()
            .map(|(at, backend)| {
                let equal = like.and_then(|like| like.near(at, &backend.id)).filter(|one| one.backend == *backend);
                equal.map_or_else(|| Arc::new(BackendLayout::of(backend)), Arc::clone)
            })
            .collect();
        let positions = backends.iter().enumerate().map(|(at, one)| (one.backend.id.clone(), at)).collect();
        let limits = BackendPolicy::default().over(&content.snapshot.policy).limits_of_endpoints();
        let same = like.map(|like| &like.limits).filter(|like| ***like == limits).map(Arc::clone);
        Self { limits: same.unwrap_or_else(|| Arc::new(limits)), content, backends, positions }
    }

    /// The backend of that id, at once if it stands at that position.
    fn near(&self, at: usize, id: &BackendId) -> Option<&Arc<BackendLayout>> {
        self.backends.get(at).filter(|one| one.backend.id == *id).or_else(|| self.backend(id))
    }

    pub fn backend(&self, id: &BackendId) -> Option<&Arc<BackendLayout>> {
        self.backends.get(*self.positions.get(id)?)
    }

    pub fn has(&self, key: &EndpointKey) -> bool {
        self.spec(key).is_some()
    }

    /// In order.
    pub fn keys(&self) -> impl Iterator<Item = &EndpointKey> {
        self.positions.values().flat_map(|at| self.backends[*at].keys())
    }

    pub fn spec(&self, key: &EndpointKey) -> Option<&EndpointSpec> {
        self.backend(&key.backend)?.spec(key)
    }

    /// Whether the endpoint may not run beside an old copy of it (`replace: stop_first`).
    pub(crate) fn starts_alone(&self, key: &EndpointKey) -> bool {
        self.backend(&key.backend).is_some_and(|one| one.backend.policy.replace == ReplaceMode::StopFirst)
    }

    /// The limits that hold for a backend of this layout.
    pub fn limits_of(&self, backend: &BackendId) -> Arc<Limits> {
        let own = self.backend(backend).map(|one| one.backend.policy.over(&self.content.snapshot.policy));
        let own = own.map(InForce::limits_of_endpoints);
        own.filter(|own| *own != *self.limits).map_or_else(|| Arc::clone(&self.limits), Arc::new)
    }

    /// Whether clients do not see what a backend offers while it is dead.
    pub(crate) fn hides(&self, backend: &Backend) -> bool {
        backend.policy.dead.unwrap_or(self.content.snapshot.policy.dead) == DeadServers::Hide
    }

    /// The keys, in order, of the backends that `other` does not have like this.
    pub fn keys_unlike<'a>(&'a self, other: Option<&'a Self>) -> impl Iterator<Item = &'a EndpointKey> {
        let unlike = move |(id, at): (&'a BackendId, &usize)| {
            let one = &self.backends[*at];
            let same = other.and_then(|other| other.near(*at, id)).is_some_and(|theirs| Arc::ptr_eq(theirs, one));
            (!same).then_some(one)
        };
        self.positions.iter().filter_map(unlike).flat_map(|one| one.keys())
    }

    /// Endpoints that `live` does not have: an attempt at this layout is judged by them.
    pub fn changed_from<'a>(&'a self, live: Option<&'a Self>) -> impl Iterator<Item = &'a EndpointKey> {
        self.keys_unlike(live).filter(move |key| live.is_none_or(|live| !live.has(key)))
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
    /// How to make `next` live. `existing` has all present endpoints, those of `live` and those that are leaving;
    /// `ending` are the backends with an endpoint that is being shut down right now.
    pub(crate) fn toward<M>(
        next: &Layout,
        live: Option<&Layout>,
        existing: &BTreeMap<EndpointKey, M>,
        ending: &BTreeSet<BackendId>,
    ) -> Self {
        let mut plan = Self::default();
        for key in next.keys_unlike(live).filter(|key| !existing.contains_key(*key)) {
            let others = || existing.keys().any(|other| other.backend == key.backend && !next.has(other));
            let waits = next.starts_alone(key) && (ending.contains(&key.backend) || others());
            let list = if waits { &mut plan.start_after } else { &mut plan.start };
            list.push(key.clone());
        }
        let gone = live.into_iter().flat_map(|live| live.keys_unlike(Some(next))).filter(|key| !next.has(key));
        plan.depart = gone.filter(|key| existing.contains_key(*key)).cloned().collect();
        plan
    }
}

#[cfg(test)]
pub(crate) mod tests;
