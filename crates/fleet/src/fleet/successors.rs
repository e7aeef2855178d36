//! What takes over from an endpoint that leaves step by step: it leaves only as long as enough of that is well.
//! An endpoint whose calls fail is not, whatever its pings say.

use drain::departures::{Event, Falling};
use model::{EndpointKey, Standing, Verdict};

use super::Fleet;

impl Fleet {
    pub(super) fn stands(&mut self, endpoint: EndpointKey, standing: Standing) {
        if matches!(standing, Standing::Ejected | Standing::OnTrial) {
            self.ejected.insert(endpoint);
        } else {
            self.ejected.remove(&endpoint);
        }
    }

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
        // An operator's drain outlives this process: that its servers are only coming up says nothing about them.
        let outlives = !self.departures.stays(endpoint);
        let is_well = |key: &EndpointKey| {
            let works = members.get(key).is_some_and(|member| {
                let verdict = member.verdict();
                verdict.is_routable() || outlives && member.ups == 0 && verdict == Verdict::Starting
            });
            works && !self.departures.is_kept_out(key) && !self.ejected.contains(key)
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
