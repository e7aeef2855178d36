//! What endpoints offered when they were last seen, and for how long that is shown.

use std::collections::BTreeMap;
use std::sync::Arc;

use mcp::Kind;
use model::{EndpointKey, Verdict};

use super::{Roster, State};
use crate::offered::{Offer, Offered};
use crate::plan::BackendLayout;

impl Roster {
    /// What a backend offers, if any of its endpoints was ever listed.
    pub fn offer(&self, backend: &BackendLayout) -> Option<Offer<'_>> {
        // A variant without weight gets no calls, so what only it has cannot be offered.
        let weighed = backend.variants.iter().enumerate().filter(|(_, variant)| variant.weight > 0);
        let said = weighed.flat_map(|(at, variant)| {
            let known = || variant.endpoints.iter().filter_map(|key| Some((key, self.known.get(key)?)));
            let is_up = |key| self.members.get(key).is_some_and(|member| member.state.is_up());
            let up: Vec<_> = known().filter(|(key, _)| is_up(*key)).collect();
            let said = if up.is_empty() { known().take(1).collect() } else { up };
            said.into_iter().map(move |(_, said)| (at, said))
        });
        Offer::new(said.collect()).or_else(|| {
            let mut former = self.known.iter().filter(|(key, _)| key.backend == backend.backend.id);
            former.next().map(|(_, said)| Offer::former(said))
        })
    }

    /// Whether the endpoint, when it was last listed, had an item of that name.
    pub(crate) fn offers(&self, key: &EndpointKey, kind: Kind, name: &str) -> bool {
        self.known.get(key).is_some_and(|offered| offered.items[kind].iter().any(|item| item.name() == name))
    }

    /// Why clients do not see the offer of a backend, if nothing is known of it.
    pub fn missing(&self, backend: &BackendLayout) -> Option<Arc<str>> {
        let keys = || backend.variants.iter().flat_map(|variant| &variant.endpoints);
        let states = || keys().filter_map(|key| self.members.get(key)).map(|member| &member.state);
        if states().any(State::is_up) || self.offer(backend).is_some_and(|offer| !offer.is_empty()) {
            return None;
        }
        if states().any(|state| *state == State::Arriving) {
            return Some("starting".into());
        }
        let reason = states().find_map(State::reason).map(|reason| Arc::clone(&reason.plain));
        Some(reason.unwrap_or_else(|| "waiting for its old copy to end".into()))
    }

    /// What is known of the live snapshot's servers, for the copy on disk.
    pub fn known(&self) -> &BTreeMap<EndpointKey, Offered> {
        &self.known
    }

    /// Whether this is all that is known of a backend whose present endpoints have not been listed yet, but may be.
    pub(super) fn known_for_another(&self, key: &EndpointKey) -> bool {
        let Some(layout) = self.layout() else { return false };
        let Some(backend) = layout.backends.iter().find(|one| one.backend.id == key.backend) else { return false };
        let keys = || backend.variants.iter().flat_map(|variant| &variant.endpoints);
        let failing = |key| self.members.get(key).is_some_and(|member| member.verdict() == Verdict::Failing);
        !keys().any(|key| self.known.contains_key(key)) && !keys().all(failing)
    }

    /// Forgets the lists of former endpoints of the backend of `key`, once `key` was listed itself or is failing: what
    /// a server was before it changed is not shown for ever. Returns whether there was anything.
    pub(super) fn forget_former(&mut self, key: &EndpointKey) -> bool {
        if !self.is_live(key) {
            return false;
        }
        let former = |other: &EndpointKey| {
            other.backend == key.backend
                && !self.is_live(other)
                && !self.members.contains_key(other)
                && !self.known_for_another(other)
        };
        let gone: Vec<_> = self.known.keys().filter(|other| former(other)).cloned().collect();
        gone.iter().for_each(|key| drop(self.known.remove(key)));
        !gone.is_empty()
    }
}
