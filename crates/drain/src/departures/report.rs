//! What a router tells drain-coordinator of its endpoints and departures.

use model::{DrainPolicy, EndpointKey, Time};

use super::{Departures, Effect, Staying};
use crate::{Count, LiveEndpoint};

impl Departures {
    /// An endpoint of the live generation, as it is told.
    pub(super) fn live(&self, (endpoint, policy): (&EndpointKey, &DrainPolicy)) -> LiveEndpoint {
        let strained = self.strained.contains(endpoint);
        LiveEndpoint { endpoint: endpoint.clone(), policy: policy.clone(), strained }
    }

    pub(super) fn report_live(&mut self) {
        if self.attached {
            let staying = self.staying.iter().map(|(endpoint, staying)| (endpoint, &staying.course.policy));
            let endpoints = self.live.iter().chain(staying).map(|one| self.live(one)).collect();
            self.effects.push_back(Effect::Report(Count::Live { revision: self.revision, endpoints }));
        }
    }

    /// Reports what differs from the report before.
    pub(super) fn report_change(&mut self, come: Vec<LiveEndpoint>, gone: &[(EndpointKey, Staying)]) {
        if !self.takes_changes {
            return self.report_live();
        }
        if self.attached {
            let gone = gone.iter().map(|(endpoint, _)| endpoint.clone()).collect();
            self.effects.push_back(Effect::Report(Count::Change { revision: self.revision, come, gone }));
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
