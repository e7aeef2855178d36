//! How endpoints leave: carries out and counts what the fleet wants done with cordoned endpoints.

mod drains;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use drain::Count;
use drain::departures::{Effect, Seen};
use fleet::{DiskCopy, Event};
use model::EndpointKey;
use runtime::Tracer;
use tokio::time::Instant;

use super::Task;
use crate::endpoint::Endpoint;
use drains::Drains;

/// The exchanges in flight on the data cores. Endpoints are named by their own number.
pub(crate) trait Exchanges: fmt::Debug + Send + Sync {
    /// Ends what is in flight there now: each exchange answers its client, is counted in the endpoint's `evicted`, and
    /// then leaves. Does not wait for that.
    fn evict(&self, endpoint: u64);

    /// The exchange that has been there longest, by its tool and as its client named it, if it can be found without
    /// waiting.
    fn oldest(&self, endpoint: u64) -> Option<String>;
}

/// The cordoned endpoints, as far as they are shown.
pub(super) struct Leaving {
    exchanges: Arc<dyn Exchanges>,
    tracer: Tracer,
    pub(super) drains: Drains,
    cordoned: BTreeMap<EndpointKey, Cordoned>,
}

/// Since when an endpoint takes no more calls.
#[derive(Debug, Clone, Copy)]
struct Cordoned {
    since: Instant,
    /// How many calls deadlines had ended on the endpoint before.
    evicted: u64,
}

impl Cordoned {
    /// The endpoint is closed; deadlines have ended `evicted` calls on it in its whole life.
    fn closed(self, evicted: u64) {
        let result = if evicted > self.evicted { "evicted" } else { "drained" };
        metrics::counter!("only1mcp_router_endpoints_removed_total", "result" => result).increment(1);
        metrics::histogram!("only1mcp_router_drain_seconds", "result" => result).record(self.since.elapsed());
    }
}

impl Leaving {
    pub(super) fn new(exchanges: Arc<dyn Exchanges>, tracer: Tracer) -> Self {
        Self { exchanges, tracer, drains: Drains::default(), cordoned: BTreeMap::new() }
    }

    /// `in_flight` is read before `evicted`, as the core demands.
    fn look(&self, endpoint: &Endpoint) -> Seen {
        let in_flight = endpoint.admission.in_flight();
        let oldest = if in_flight > 0 { self.exchanges.oldest(endpoint.number) } else { None };
        Seen { in_flight, evicted: endpoint.stats.evicted.load(Ordering::Acquire), oldest }
    }
}

impl Task {
    /// Carries out what is wanted of an endpoint that leaves, or of the record.
    pub(super) fn depart(&mut self, effect: Effect) {
        if !matches!(effect, Effect::Report(_) | Effect::LetGo { .. }) {
            self.publisher.look_anew();
        }
        match effect {
            Effect::Cordon { endpoint } => self.cordon(endpoint),
            Effect::Weigh { endpoint, weight } => {
                if let Some(target) = self.endpoint(&endpoint) {
                    tracing::info!(%endpoint, %weight, "gets another share of the calls");
                    target.set_weight(weight);
                }
            }
            Effect::LetGo { endpoint, sessions } => {
                if let Some(target) = self.endpoint(&endpoint) {
                    target.let_go(sessions);
                }
            }
            Effect::Uncordon { endpoint } => self.uncordon(&endpoint),
            Effect::Count { endpoint } => self.count(endpoint),
            Effect::Evict { endpoint } => {
                if let Some(target) = self.endpoint(&endpoint) {
                    tracing::info!(%endpoint, in_flight = target.admission.in_flight(), "evicting: the deadline has passed");
                    self.leaving.exchanges.evict(target.number);
                    self.leaving.drains.evicting(&endpoint);
                }
            }
            Effect::TryClose { endpoint } => self.try_close(endpoint),
            Effect::Report(count) => self.report(&count),
        }
    }

    /// A step of a share that falls may have waited for that.
    pub(super) fn copied(&mut self, copy: &DiskCopy) {
        if self.fleet.waits_for_disk() {
            self.tell(Event::Copied { overlay: copy.overlay.clone() });
        }
    }

    fn endpoint(&self, key: &EndpointKey) -> Option<Arc<Endpoint>> {
        self.endpoints.by_key(key, self.fleet.roster()).map(Arc::clone)
    }

    fn cordon(&mut self, endpoint: EndpointKey) {
        if let Some(target) = self.endpoint(&endpoint) {
            let cordoned = target.cordon();
            let evicted = target.stats.evicted.load(Ordering::Acquire);
            let Leaving { cordoned: all, drains, tracer, .. } = &mut self.leaving;
            all.entry(endpoint.clone()).or_insert_with(|| Cordoned { since: Instant::now(), evicted });
            tracing::info!(%endpoint, in_flight = cordoned.in_flight, "cordoned");
            drains.begin(tracer, &endpoint, self.fleet.roster().revision(), self.cause);
        }
        self.count(endpoint);
    }

    fn uncordon(&mut self, endpoint: &EndpointKey) {
        self.leaving.cordoned.remove(endpoint);
        let opened = self.endpoint(endpoint).is_some_and(|target| target.uncordon());
        self.leaving.drains.end(endpoint, "reopened", None);
        if opened {
            tracing::info!(%endpoint, "open again");
        } else {
            tracing::error!(%endpoint, "cannot be opened again: it is closed");
        }
    }

    fn count(&mut self, endpoint: EndpointKey) {
        let seen = self.endpoint(&endpoint).map(|target| self.leaving.look(&target)).unwrap_or_default();
        let empty = (seen.in_flight == 0).then(|| endpoint.clone());
        self.tell(Event::Counted { endpoint, seen });
        // What is still configured stays, cordoned: an operator's drain ends here.
        let configured = |endpoint: &EndpointKey| self.fleet.roster().layout().is_some_and(|live| live.has(endpoint));
        if let Some(endpoint) = empty.filter(configured) {
            self.end_drain(&endpoint, "drained");
        }
    }

    fn end_drain(&mut self, endpoint: &EndpointKey, result: &'static str) {
        let totals = self.fleet.departures(self.now()).into_iter().find(|one| one.endpoint == *endpoint);
        self.leaving.drains.end(endpoint, result, totals.as_ref());
    }

    fn try_close(&mut self, endpoint: EndpointKey) {
        let target = self.endpoint(&endpoint);
        if !target.as_ref().is_none_or(|target| target.admission.try_close()) {
            return self.count(endpoint);
        }
        if let Some(target) = target {
            tracing::info!(%endpoint, "closed");
            let evicted = target.stats.evicted.load(Ordering::Acquire);
            if let Some(cordoned) = self.leaving.cordoned.remove(&endpoint) {
                cordoned.closed(evicted);
            }
        }
        self.end_drain(&endpoint, "closed");
        self.tell(Event::Closed { endpoint });
    }

    /// If the coordinator takes no messages, the router hangs up, and says everything again on the next line.
    fn report(&mut self, count: &Count) {
        let trace = match count {
            Count::Departure(departure) => self.leaving.drains.about(&departure.endpoint),
            Count::Live { .. } | Count::Change { .. } => self.cause,
            Count::Hello { .. } => None,
        };
        if self.coordinator.say(count, trace).is_err() {
            self.hang_up_on_coordinator();
        }
    }
}
