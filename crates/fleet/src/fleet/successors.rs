//! What takes over from an endpoint that leaves step by step: it leaves only as long as enough of that is well.

use drain::departures::{Event, Falling};
use model::EndpointKey;

use super::Fleet;

impl Fleet {
    /// Tells the departures where too few endpoints that take over are well, and where enough are again.
    pub(super) fn judge_successors(&mut self) {
        let judged: Vec<_> = self.departures.falling().filter_map(|one| self.judged(one)).collect();
        for event in judged {
            self.departures.handle(self.now, event);
        }
    }

    /// None where nothing has changed.
    fn judged(&self, Falling { endpoint, least, strained }: Falling<'_>) -> Option<Event> {
        let backend = self.served.as_ref()?.backend(&endpoint.backend)?;
        let members = self.roster.members();
        let is_well = |key: &EndpointKey| {
            let verdict = members.get(key).map(|member| member.verdict());
            verdict.is_some_and(|verdict| verdict.is_routable()) && !self.departures.is_kept_out(key)
        };
        let (mut well, mut all) = (0_u64, 0_u64);
        for key in backend.keys().filter(|key| *key != endpoint) {
            well += u64::from(is_well(key));
            all += 1;
        }
        let now = well * 1000 < u64::from(least) * all;
        (now != strained).then(|| Event::Strained { endpoint: endpoint.clone(), strained: now })
    }
}
