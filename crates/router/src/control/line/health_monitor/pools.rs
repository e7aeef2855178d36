//! What becomes of calls to the endpoints of servers that have several, and what share each gets because of it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use health::Shares;
use health::shares::{Event, Seen, Stands};
use model::{EndpointKey, Standing, Time};

use crate::control::Status;

#[derive(Debug, Default)]
pub(in crate::control) struct Pools {
    shares: Shares,
    /// Of each endpoint, as of the last look.
    known: BTreeMap<u64, Known>,
    /// The fleet was not told of these yet.
    untold: Vec<(EndpointKey, Standing)>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    answered: u64,
    failed: u64,
    /// Since when the call lasts that it is tried with.
    tried: Option<Time>,
}

impl Pools {
    /// Whether any server has several endpoints.
    pub(in crate::control) fn any(&self) -> bool {
        self.shares.endpoints().next().is_some()
    }

    pub(in crate::control) fn handle(&mut self, now: Time, status: &Status, event: Event) {
        if let Event::Change { gone, .. } = &event {
            let stood = gone.iter().filter(|key| self.shares.standing(key) != Standing::Full);
            self.untold.extend(stood.map(|key| (key.clone(), Standing::Full)));
        }
        self.shares.handle(now, event);
        while let Some(stands) = self.shares.poll_effect() {
            self.untold.push((stands.endpoint.clone(), stands.standing));
            carry_out(now, status, stands);
        }
    }

    /// The standings that differ from those taken before; a standing of what is gone is the whole share.
    pub(in crate::control) fn take_untold(&mut self) -> Vec<(EndpointKey, Standing)> {
        std::mem::take(&mut self.untold)
    }

    /// Looks at the counters, and at the time: nothing here is due more exactly.
    pub(in crate::control) fn look(&mut self, now: Time, status: &Status) {
        let mut known = BTreeMap::new();
        let mut seen = Vec::new();
        for one in self.shares.endpoints().filter_map(|key| status.of(key)) {
            let endpoint = &one.endpoint;
            let (answered, failed) = (endpoint.stats.answered(), endpoint.stats.failed.load(Ordering::Relaxed));
            let before = self.known.get(&endpoint.number).copied();
            if before.is_none() {
                // Nothing is known of it but that it is there. It may stand in the place of one of the same key.
                endpoint.set_standing(self.shares.standing(&endpoint.key), None);
            }
            let before = before.unwrap_or(Known { answered, failed, tried: None });
            let mut tried = endpoint.is_tried().then(|| before.tried.unwrap_or(now));
            // A call that lasts so long has heard from its server. It may go on; another one can tell more.
            if tried.is_some_and(|since| now - since > endpoint.limits().idle) {
                endpoint.may_be_tried_again();
                tried = None;
            }
            known.insert(endpoint.number, Known { answered, failed, tried });
            seen.push(Seen {
                endpoint: endpoint.key.clone(),
                verdict: endpoint.verdict(),
                answered: answered.saturating_sub(before.answered),
                failed: failed.saturating_sub(before.failed),
            });
        }
        self.known = known;
        self.handle(now, status, Event::Seen(seen));
    }
}

fn carry_out(now: Time, status: &Status, stands: Stands) {
    let Stands { endpoint: key, standing, ejection } = stands;
    let Some(one) = status.of(&key) else { return };
    if let Some(ejection) = ejection.as_ref().filter(|_| standing == Standing::Ejected) {
        let (why, times, lasts) = (&ejection.why, ejection.times, ejection.until.since(now));
        tracing::warn!(endpoint = %key, why, times, ?lasts, "ejected: it gets no calls, as its server has others");
        let server = key.backend.to_string();
        metrics::counter!("only1mcp_server_ejections_total", "server" => server).increment(1);
    } else {
        tracing::info!(endpoint = %key, standing = standing.as_str(), weight = %standing.weight(), "gets another share");
    }
    one.endpoint.set_standing(standing, ejection);
}
