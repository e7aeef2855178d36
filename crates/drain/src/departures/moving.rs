//! Endpoints whose share falls: the sessions of clients that move away from them, and what takes over.

use model::{EndpointKey, Time};

use super::{Departures, Effect};
use crate::OverlayEntry;
use crate::strategy::Pace;

/// An endpoint whose share falls: removed, or drained by an operator.
#[derive(Debug, Clone, Copy)]
pub struct Falling<'a> {
    pub endpoint: &'a EndpointKey,
    /// The least share of the endpoints that take over that must be well, in thousandths.
    pub least: u32,
    /// Too few of them were, as was said last.
    pub strained: bool,
}

impl Departures {
    /// The endpoints whose share falls: for each it must be known what becomes of those that take over.
    pub fn falling(&self) -> impl Iterator<Item = Falling<'_>> {
        let removed = self.staying.iter().filter_map(|(endpoint, one)| Some((endpoint, one, one.course.falls()?)));
        let removed = removed.map(|(endpoint, one, pace)| {
            let (least, strained) = (pace.minimum_health_permille, one.course.is_strained());
            Falling { endpoint, least, strained }
        });
        let drained = self.overlay.falling().filter_map(|(backend, digest)| {
            let mut of_it = self.live.range(EndpointKey::before_all_of(backend)..);
            let (endpoint, policy) = of_it.find(|(key, _)| key.backend != *backend || key.digest == digest)?;
            let (least, strained) = (policy.progressive.minimum_health_permille, self.strained.contains(endpoint));
            (endpoint.backend == *backend).then_some(Falling { endpoint, least, strained })
        });
        removed.chain(drained)
    }

    /// Whether by that overlay the share of an endpoint falls by a step.
    pub fn falls_by(&self, entries: &[OverlayEntry]) -> bool {
        self.overlay.falls_by(entries)
    }

    /// Whether operators keep the endpoint from all calls.
    pub fn is_kept_out(&self, endpoint: &EndpointKey) -> bool {
        self.overlay.weight(endpoint).is_none()
    }

    pub(super) fn strain(&mut self, now: Time, endpoint: &EndpointKey, strained: bool) {
        if let Some(one) = self.staying.get_mut(endpoint) {
            one.course.strain(now, strained);
            self.report_stays(now, std::slice::from_ref(endpoint));
        } else if strained && self.live.contains_key(endpoint) {
            self.strained.insert(endpoint.clone());
            self.tell_strain(now, endpoint);
        } else if self.strained.remove(endpoint) {
            self.tell_strain(now, endpoint);
        }
    }

    /// What falls no more, or was removed, strains nothing.
    pub(super) fn relax(&mut self, now: Time) {
        let over = |endpoint: &EndpointKey| self.overlay.rate(endpoint).is_none();
        for endpoint in self.strained.iter().filter(|one| over(one)).cloned().collect::<Vec<_>>() {
            self.strain(now, &endpoint, false);
        }
    }

    /// The coordinator takes the steps of an operator's drain.
    fn tell_strain(&mut self, now: Time, endpoint: &EndpointKey) {
        let said = self.live.get_key_value(endpoint).map(|one| self.live(one));
        self.report_change(now, said.into_iter().collect(), &[]);
        self.pace(now, endpoint);
    }

    /// Lets sessions move away from the endpoint for as long as it gets calls and its share falls.
    pub(super) fn pace(&mut self, now: Time, endpoint: &EndpointKey) {
        let staying = self.staying.get(endpoint);
        let gets_calls = staying.is_some() || self.live.contains_key(endpoint);
        let rate = staying.and_then(|one| one.course.rate()).or_else(|| self.overlay.rate(endpoint));
        let rate = rate.filter(|_| gets_calls && !self.strained.contains(endpoint));
        let pace = self.moving.get(endpoint);
        if rate.map_or_else(|| pace.is_none(), |rate| pace.is_some_and(|pace| pace.is(rate))) {
            return;
        }
        self.moving.remove(endpoint);
        self.moving.extend(rate.map(|rate| (endpoint.clone(), Pace::new(rate, now))));
        let (endpoint, sessions) = (endpoint.clone(), rate.map(|_| 0));
        self.effects.push_back(Effect::LetGo { endpoint, sessions });
    }

    /// Grants what is due.
    pub(super) fn let_go(&mut self, now: Time) {
        for (endpoint, pace) in self.moving.iter_mut().filter(|(_, pace)| pace.next() <= now) {
            let (endpoint, sessions) = (endpoint.clone(), Some(pace.grant(now)));
            self.effects.push_back(Effect::LetGo { endpoint, sessions });
        }
    }
}
