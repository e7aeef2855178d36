//! What a router tells drain-coordinator of its endpoints and departures.

use model::{DrainPolicy, EndpointKey, Time};

use super::{Departures, Effect, Staying};
use crate::{Count, LiveEndpoint, Stay};

impl Departures {
    /// An endpoint of the live generation, as it is told.
    pub(super) fn live(&self, (endpoint, policy): (&EndpointKey, &DrainPolicy)) -> LiveEndpoint {
        let strained = self.strained.contains(endpoint);
        LiveEndpoint { endpoint: endpoint.clone(), policy: policy.clone(), strained, stay: None }
    }

    /// A removed endpoint that still gets calls, as it is told.
    pub(super) fn stay(&self, now: Time, (endpoint, one): (&EndpointKey, &Staying)) -> LiveEndpoint {
        let stay = Stay {
            revision: one.revision,
            weight: one.share(now, endpoint, &self.overlay),
            remaining: one.course.remaining(now),
            strained: one.course.is_strained(),
        };
        let policy = one.course.policy.clone();
        LiveEndpoint { endpoint: endpoint.clone(), policy, strained: false, stay: Some(stay) }
    }

    pub(super) fn report_live(&mut self, now: Time) {
        if self.attached {
            let staying = self.staying.iter().map(|one| self.stay(now, one));
            let endpoints = self.live.iter().map(|one| self.live(one)).chain(staying).collect();
            self.effects.push_back(Effect::Report(Count::Live { revision: self.revision, endpoints }));
        }
    }

    /// Reports what differs from the report before.
    pub(super) fn report_change(&mut self, now: Time, come: Vec<LiveEndpoint>, gone: &[(EndpointKey, Staying)]) {
        if !self.takes_changes {
            return self.report_live(now);
        }
        if self.attached {
            let gone = gone.iter().map(|(endpoint, _)| endpoint.clone()).collect();
            self.effects.push_back(Effect::Report(Count::Change { revision: self.revision, come, gone }));
        }
    }

    /// Reports how far these are. A coordinator that takes no changes is of a release that does not show it.
    pub(super) fn report_stays(&mut self, now: Time, endpoints: &[EndpointKey]) {
        let of_it = endpoints.iter().filter_map(|endpoint| self.staying.get_key_value(endpoint));
        let come: Vec<_> = of_it.map(|one| self.stay(now, one)).collect();
        if self.takes_changes && !come.is_empty() {
            self.report_change(now, come, &[]);
        }
    }

    pub(super) fn report(&mut self, now: Time, endpoint: &EndpointKey) {
        let Some(leaving) = self.leaving.get(endpoint).filter(|_| self.attached) else { return };
        let departures = leaving.causes.iter().filter(|(_, cause)| !cause.recorded);
        let departures = departures.filter_map(|(drain, _)| leaving.departure(drain, endpoint, now));
        self.effects.extend(departures.map(|departure| Effect::Report(Count::Departure(departure))));
    }

    pub(super) fn report_all(&mut self, now: Time) {
        for endpoint in self.leaving.keys().cloned().collect::<Vec<_>>() {
            self.report(now, &endpoint);
        }
        if self.attached {
            let ended = self.ended.iter().cloned();
            self.effects.extend(ended.map(|departure| Effect::Report(Count::Departure(departure))));
        }
    }
}
