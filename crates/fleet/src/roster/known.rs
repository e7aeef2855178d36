//! What endpoints offered when they were last seen, and for how long that is shown.

use std::collections::BTreeMap;
use std::sync::Arc;

use mcp::{ByKind, Kind};
use model::{BackendId, EndpointKey, Verdict};
use routing::{BackendRoutes, VariantRoutes};

use super::{Member, Roster, Serial, State};
use crate::offered::{Offer, Offered};
use crate::plan::BackendLayout;
use crate::turn::Arrival;

/// The endpoints of one backend, as they are now.
#[derive(Debug)]
pub(crate) struct Look<'a> {
    roster: &'a Roster,
    backend: &'a BackendLayout,
    /// In the order of the configuration.
    endpoints: Vec<Seen<'a>>,
}

#[derive(Debug)]
struct Seen<'a> {
    /// The position of its variant.
    variant: usize,
    member: Option<&'a Member>,
    offered: Option<&'a Offered>,
}

impl Seen<'_> {
    fn is_up(&self) -> bool {
        self.member.is_some_and(|member| member.state.is_up())
    }
}

impl<'a> Look<'a> {
    fn of_variant(&self, at: usize) -> impl Iterator<Item = &Seen<'a>> {
        self.endpoints.iter().filter(move |one| one.variant == at)
    }

    /// What the backend offers, if any of its endpoints was ever listed.
    pub(crate) fn offer(&self) -> Option<Offer<'a>> {
        // A variant without weight gets no calls, so what only it has cannot be offered.
        let weighed = self.backend.variants.iter().enumerate().filter(|(_, variant)| variant.weight > 0);
        let said = weighed.flat_map(|(at, _)| {
            let known = move || self.of_variant(at).filter_map(move |one| Some((one.is_up(), at, one.offered?)));
            let any_up = known().any(|(is_up, ..)| is_up);
            let most = if any_up { usize::MAX } else { 1 };
            known().filter(move |(is_up, ..)| *is_up || !any_up).take(most).map(|(_, at, said)| (at, said))
        });
        Offer::new(said.collect()).or_else(|| {
            let mut former = self.roster.known_of(&self.backend.backend.id);
            former.next().map(|(_, said)| Offer::former(said))
        })
    }

    fn states(&self) -> impl Iterator<Item = &'a State> {
        self.endpoints.iter().filter_map(|one| Some(&one.member?.state))
    }

    /// No endpoint of it is up, or none that is up answers; and this is no moment's trouble.
    pub(crate) fn is_dead(&self) -> bool {
        let mut members = self.endpoints.iter().filter_map(|one| one.member).peekable();
        let is_dead = |member: &Member| matches!(member.verdict(), Verdict::Unhealthy | Verdict::Failing);
        members.peek().is_some() && members.all(is_dead)
    }

    /// Why clients do not see the offer of the backend, if nothing is known of it.
    pub(crate) fn missing(&self, offer: Option<&Offer<'_>>) -> Option<Arc<str>> {
        if self.states().any(State::is_up) || offer.is_some_and(|offer| !offer.is_empty()) {
            return None;
        }
        if self.states().any(|state| *state == State::Arriving) {
            return Some("starting".into());
        }
        let reason = self.states().find_map(State::reason).map(|reason| Arc::clone(&reason.plain));
        Some(reason.unwrap_or_else(|| "waiting for its old copy to end".into()))
    }

    pub(crate) fn arrival(&self, offers: bool) -> Arrival {
        // No endpoint is up, and at least one is still arriving.
        if !self.states().any(State::is_arriving) || self.states().any(State::is_up) {
            Arrival::Settled { offers }
        } else if self.states().any(|state| *state == State::Arriving) {
            Arrival::Connecting { offers }
        } else {
            Arrival::AfterOld { offers }
        }
    }

    /// `stays`: endpoints that the configuration lacks and that still get calls, each with its position.
    pub(crate) fn routes<E>(
        &self,
        stays: &[(usize, &EndpointKey)],
        endpoint: impl Fn(Serial) -> Option<E>,
    ) -> BackendRoutes<E> {
        let variants = self.backend.variants.iter().enumerate().map(|(at, variant)| {
            let serials = self.of_variant(at).filter_map(|one| Some(one.member?.serial));
            let endpoints = serials.filter_map(&endpoint).collect();
            // An endpoint that stays though its variant is gone is put under the first variant.
            let all = &self.backend.variants;
            let home = |key: &EndpointKey| all.iter().position(|one| one.id == key.variant).unwrap_or(0);
            let handle = |key| endpoint(self.roster.members.get(key)?.serial);
            let stays = stays.iter().filter(|(_, key)| home(key) == at);
            let stays = stays.filter_map(|(position, key)| Some((*position, handle(*key)?))).collect();
            VariantRoutes { id: variant.id.clone(), weight: variant.weight, endpoints, staying: stays }
        });
        let id = self.backend.backend.id.clone();
        BackendRoutes { id, variants: variants.collect(), having: ByKind::default() }
    }
}

impl Roster {
    pub(crate) fn look<'a>(&'a self, backend: &'a BackendLayout) -> Look<'a> {
        let keys = backend.variants.iter().enumerate();
        let keys = keys.flat_map(|(variant, of)| of.endpoints.iter().map(move |key| (variant, key)));
        let seen = |(variant, key)| Seen { variant, member: self.members.get(key), offered: self.known.get(key) };
        Look { roster: self, backend, endpoints: keys.map(seen).collect() }
    }

    /// What a backend offers, if any of its endpoints was ever listed.
    pub fn offer<'a>(&'a self, backend: &'a BackendLayout) -> Option<Offer<'a>> {
        self.look(backend).offer()
    }

    /// Whether the endpoint, when it was last listed, had an item of that name.
    pub(crate) fn offers(&self, key: &EndpointKey, kind: Kind, name: &str) -> bool {
        self.known.get(key).is_some_and(|offered| offered.items[kind].iter().any(|item| item.name() == name))
    }

    /// What the present and former endpoints of a backend offered.
    pub(super) fn known_of(&self, backend: &BackendId) -> impl Iterator<Item = (&EndpointKey, &Offered)> {
        let all = self.known.range(EndpointKey::before_all_of(backend)..);
        all.take_while(move |(key, _)| key.backend == *backend)
    }

    /// What an endpoint offers from now on. Returns what it offered before.
    pub(super) fn learn(&mut self, key: &EndpointKey, mut offered: Offered) -> Option<Offered> {
        self.lists.share(&mut offered);
        self.known.insert(key.clone(), offered)
    }

    /// What is known of the live snapshot's servers, for the copy on disk.
    pub fn known(&self) -> &BTreeMap<EndpointKey, Offered> {
        &self.known
    }

    /// Whether the backend still needs the list of this former endpoint: no present endpoint is listed, and not all of
    /// them are failing.
    pub(super) fn known_for_another(&self, key: &EndpointKey) -> bool {
        let Some(layout) = self.layout() else { return false };
        let Some(backend) = layout.backend(&key.backend) else { return false };
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
            !self.is_live(other) && !self.members.contains_key(other) && !self.known_for_another(other)
        };
        let gone: Vec<_> =
            self.known_of(&key.backend).map(|(other, _)| other).filter(|other| former(other)).cloned().collect();
        gone.iter().for_each(|key| drop(self.known.remove(key)));
        !gone.is_empty()
    }
}
