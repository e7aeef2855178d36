//! What operators have laid over the endpoints of a router: it holds for every generation.

use std::collections::BTreeMap;

use model::{BackendId, Digest, EndpointKey, Time, Weight};

use crate::{DrainId, OverlayEntry};

/// All entries that hold. Each replaces the one before of the same drain.
#[derive(Debug, Default)]
pub(super) struct Overlay(BTreeMap<DrainId, Laid>);

#[derive(Debug)]
struct Laid {
    entry: OverlayEntry,
    deadline: Time,
}

impl Overlay {
    /// Takes the place of all entries. The deadline of a cordon never moves later: a shortened drain stays short.
    pub(super) fn replace(&mut self, now: Time, entries: Vec<OverlayEntry>) {
        let before = std::mem::take(&mut self.0);
        for entry in entries {
            let said = now + entry.remaining;
            let held = before
                .get(&entry.drain)
                .filter(|held| (held.entry.weight, &held.entry.backend) == (entry.weight, &entry.backend));
            let deadline = held.map_or(said, |held| held.deadline.min(said));
            self.0.insert(entry.drain.clone(), Laid { entry, deadline });
        }
    }

    pub(super) fn entries(&self, now: Time) -> Vec<OverlayEntry> {
        let entry = |laid: &Laid| OverlayEntry { remaining: laid.deadline.since(now), ..laid.entry.clone() };
        self.0.values().map(entry).collect()
    }

    pub(super) fn deadlines(&self) -> impl Iterator<Item = (&DrainId, Time)> {
        self.0.iter().map(|(drain, laid)| (drain, laid.deadline))
    }

    /// Whether that drain keeps the endpoint cordoned.
    pub(super) fn has_cordon(&self, drain: &DrainId, endpoint: &EndpointKey) -> bool {
        self.0.get(drain).is_some_and(|laid| laid.entry.cordons(endpoint))
    }

    /// The cordons on an endpoint, with the deadline of each.
    pub(super) fn cordons<'a>(&'a self, endpoint: &'a EndpointKey) -> impl Iterator<Item = (&'a DrainId, Time)> {
        let cordons = self.0.iter().filter(|(_, laid)| laid.entry.cordons(endpoint));
        cordons.map(|(drain, laid)| (drain, laid.deadline))
    }

    /// The backends that are switched off.
    pub(super) fn disabled(&self) -> impl Iterator<Item = &BackendId> {
        self.0.values().map(|laid| &laid.entry).filter(|entry| entry.disabled).map(|entry| &entry.backend)
    }

    /// Whether something lies on that very endpoint.
    pub(super) fn lies_on(&self, endpoint: &EndpointKey) -> bool {
        let own = |laid: &Laid| laid.entry.endpoint.is_some() && laid.entry.means(endpoint);
        self.0.iter().any(|(drain, laid)| !drain.is_removal() && own(laid))
    }

    /// The endpoints that an operator's drain takes the share from, step by step.
    pub(super) fn falling(&self) -> impl Iterator<Item = (&BackendId, Digest)> {
        let falling = self.0.values().map(|laid| &laid.entry).filter(|entry| entry.rate > 0);
        falling.filter_map(|entry| Some((&entry.backend, entry.endpoint?)))
    }

    /// Whether an entry that takes its place takes more of a share that falls step by step.
    pub(super) fn falls_by(&self, entries: &[OverlayEntry]) -> bool {
        entries.iter().any(|entry| {
            let before = self.0.get(&entry.drain).map(|laid| &laid.entry);
            let falls = entry.rate > 0 || before.is_some_and(|before| before.rate > 0);
            falls && entry.weight < before.map_or(Weight::FULL, |before| before.weight)
        })
    }

    /// How many of the endpoint's sessions may move away per second, where what lies on it falls and is not nothing.
    pub(super) fn rate(&self, endpoint: &EndpointKey) -> Option<u32> {
        let lying = self.0.values().map(|laid| &laid.entry).filter(|entry| entry.rate > 0 && entry.means(endpoint));
        lying.map(|entry| entry.rate).max().filter(|_| !self.weight(endpoint).is_none())
    }

    /// What is left of an endpoint's share by all weights that lie on it.
    pub(super) fn weight(&self, endpoint: &EndpointKey) -> Weight {
        let lying = self.0.values().map(|laid| &laid.entry);
        let lying = lying.filter(|entry| !entry.drain.is_removal() && entry.means(endpoint));
        lying.map(|entry| entry.weight).fold(Weight::FULL, Weight::and)
    }
}
