//! A router's end of drains: which endpoints leave, why, until when, and what became of their exchanges.
//!
//! A router needs no coordinator for this: it cordons what a swap removed, evicts it at the deadline and closes it. The
//! coordinator only adds what operators want (the overlay) and keeps records.
//!
//! An endpoint that is removed is not cordoned at once if its backend keeps another one beside it, and if it leaves by
//! `progressive` or a weight lies on that very endpoint: it stays, and gets calls by its weight, until it has none or the
//! drain timeout has passed (`strategy.rs`); its calls have that timeout again. Until then the coordinator sees it live.
//!
//! What the shell owes:
//! - right before a swap, when its new endpoints exist, [`Event::Coming`]; right after the swap [`Event::Live`]; and to
//!   carry out the effects of each event before going on;
//! - for [`Effect::Cordon`] and [`Effect::Count`] an [`Event::Counted`] that reads `in_flight` before `evicted`. An
//!   evicted exchange is counted before it leaves: then it is never taken for a finished one;
//! - for [`Effect::TryClose`] an [`Event::Closed`] or an [`Event::Counted`], as the admission word says;
//! - [`Event::LastLeft`] when [`crate::Admission::leave`] said so, and [`Event::Tick`] at the deadline.

mod leaving;
mod moving;
mod overlay;
mod record;
mod report;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use model::{BackendId, DrainPolicy, EndpointKey, Revision, Time, Weight};

use crate::strategy::{Course, Pace, term};
use crate::{Count, Departure, Directive, DrainId, OverlayEntry, Phase};
use leaving::{Cause, Leaving};
pub use moving::Falling;
use overlay::Overlay;

/// The time between two reads of the counters of leaving endpoints, and between two reports of what is not on record.
const ROUND: Duration = Duration::from_millis(500);
/// Ends kept for a coordinator that is away; beyond them the oldest are forgotten.
const ENDED_MAX: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A swap follows at once; these are the endpoints that the generation to come has and the live one has not.
    Coming {
        endpoints: BTreeSet<EndpointKey>,
    },
    /// The swap is done. Each endpoint comes with how it leaves; those that are live already are said again if that has
    /// changed.
    Live {
        revision: Revision,
        come: BTreeMap<EndpointKey, DrainPolicy>,
        gone: Vec<EndpointKey>,
        /// The backends with an endpoint that is gone or stays, whose new endpoints start beside the old ones
        /// (`replace: beside`).
        beside: BTreeSet<BackendId>,
    },
    /// The counters of an endpoint.
    Counted {
        endpoint: EndpointKey,
        seen: Seen,
    },
    /// The last exchange left a cordoned endpoint.
    LastLeft {
        endpoint: EndpointKey,
    },
    /// The endpoint's admission is closed, for ever.
    Closed {
        endpoint: EndpointKey,
    },
    /// Too few of the endpoints that take over from that one are well for its share to fall, or enough are again.
    Strained {
        endpoint: EndpointKey,
        strained: bool,
    },
    /// The coordinator spoke, or the overlay was read back from disk.
    Said(Directive),
    /// A stream to the coordinator is open and knows nothing yet.
    Attached,
    /// The coordinator of the open stream takes what differs in place of all that is live.
    TakesChanges,
    Detached,
    Tick,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    pub in_flight: u64,
    /// Exchanges this endpoint ever evicted: the counter only grows.
    pub evicted: u64,
    /// The oldest exchange in flight, by its tool and as its client named it.
    pub oldest: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Admit no new exchanges; answered by [`Event::Counted`].
    Cordon { endpoint: EndpointKey },
    /// Give the endpoint that share of the calls; never none, which is a cordon.
    Weigh { endpoint: EndpointKey, weight: Weight },
    /// So many more sessions of clients may move away from the endpoint; `None`: none may, from now on.
    LetGo { endpoint: EndpointKey, sessions: Option<u32> },
    /// Open the endpoint again. Never asked of an endpoint that was reported closed.
    Uncordon { endpoint: EndpointKey },
    /// Read the counters; answered by [`Event::Counted`].
    Count { endpoint: EndpointKey },
    /// End what is in flight now.
    Evict { endpoint: EndpointKey },
    /// Nothing was in flight: close the endpoint for ever.
    TryClose { endpoint: EndpointKey },
    /// Say this to the coordinator.
    Report(Count),
}

/// The endpoints of one router that are leaving or kept cordoned.
#[derive(Debug, Default)]
pub struct Departures {
    revision: Revision,
    live: BTreeMap<EndpointKey, DrainPolicy>,
    overlay: Overlay,
    /// The weight that each endpoint was given last, where one was.
    weights: BTreeMap<EndpointKey, Weight>,
    /// Removed, and not cordoned yet.
    staying: BTreeMap<EndpointKey, Staying>,
    next_change: Option<Time>,
    /// Live ones from which not enough takes over while an operator's drain of them falls.
    strained: BTreeSet<EndpointKey>,
    /// Endpoints whose sessions move away.
    moving: BTreeMap<EndpointKey, Pace>,
    /// An endpoint has ceased to stay.
    unsettled: bool,
    leaving: BTreeMap<EndpointKey, Leaving>,
    /// Departures that are over and not on record yet: each is reported until it is on record. Oldest first.
    ended: VecDeque<Departure>,
    attached: bool,
    takes_changes: bool,
    next_round: Option<Time>,
    effects: VecDeque<Effect>,
}

/// An endpoint that the live generation lacks and that still gets calls by its weight.
#[derive(Debug)]
struct Staying {
    /// The one that removed it.
    revision: Revision,
    course: Course,
}

impl Staying {
    fn share(&self, now: Time, endpoint: &EndpointKey, overlay: &Overlay) -> Weight {
        let laid = overlay.weight(endpoint);
        laid.and(self.course.share(now, overlay.lies_on(endpoint)))
    }

    fn is_over(&self, now: Time, endpoint: &EndpointKey, overlay: &Overlay) -> bool {
        self.share(now, endpoint, overlay).is_none()
    }
}

impl Departures {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub fn handle(&mut self, now: Time, event: Event) {
        match event {
            Event::Coming { endpoints } => self.coming(now, &endpoints),
            Event::Live { revision, come, gone, beside } => self.swapped(now, revision, come, gone, &beside),
            Event::Counted { endpoint, seen } => self.counted(now, &endpoint, seen),
            Event::LastLeft { endpoint } => self.count(&endpoint),
            Event::Closed { endpoint } => self.closed(now, &endpoint),
            Event::Strained { endpoint, strained } => self.strain(now, &endpoint, strained),
            Event::Said(Directive::Overlay { entries }) => self.lay(now, entries),
            Event::Said(Directive::Recorded { drain, endpoint }) => self.recorded(&drain, &endpoint),
            Event::Attached => {
                (self.attached, self.takes_changes) = (true, false);
                // A coordinator that took this process for dead has forgotten what was on record of its cordons.
                for cause in self.leaving.values_mut().flat_map(|leaving| leaving.causes.values_mut()) {
                    cause.recorded = false;
                }
                self.report_live(now);
                self.report_all(now);
            }
            Event::TakesChanges => self.takes_changes = self.attached,
            Event::Detached => self.attached = false,
            Event::Tick => {}
        }
        self.pass(now);
    }

    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When the next [`Event::Tick`] is due.
    pub fn next_deadline(&self) -> Option<Time> {
        let deadlines = self.leaving.values().filter_map(Leaving::deadline);
        let moving = self.moving.values().map(Pace::next);
        deadlines.chain(self.next_change).chain(self.next_round).chain(moving).min()
    }

    /// What operators have laid over the endpoints, to be kept on disk with the snapshot.
    pub fn overlay(&self, now: Time) -> Vec<OverlayEntry> {
        self.overlay.entries(now)
    }

    /// The backends that operators have switched off.
    pub fn disabled(&self) -> BTreeSet<BackendId> {
        self.overlay.disabled().cloned().collect()
    }

    /// The removed endpoints that still get calls.
    pub fn staying(&self) -> impl Iterator<Item = &EndpointKey> {
        self.staying.keys()
    }

    /// Whether the endpoint was removed and still gets calls.
    pub fn stays(&self, endpoint: &EndpointKey) -> bool {
        self.staying.contains_key(endpoint)
    }

    /// Whether an endpoint ceased to stay since the last call. The caller makes a generation without it before it takes
    /// the next effect.
    pub fn take_unsettled(&mut self) -> bool {
        std::mem::take(&mut self.unsettled)
    }

    /// Every departure that is not over or not on record, in the form of its report.
    pub fn departures(&self, now: Time) -> Vec<Departure> {
        let leaving = self.leaving.iter();
        let running = leaving.flat_map(|(endpoint, leaving)| {
            leaving.causes.keys().filter_map(move |drain| leaving.departure(drain, endpoint, now))
        });
        running.chain(self.ended.iter().cloned()).collect()
    }

    /// Before the swap: a returning endpoint is opened, unless an operator's cordon lies on it. A new endpoint under
    /// such a cordon is cordoned before the first exchange can reach it.
    fn coming(&mut self, now: Time, endpoints: &BTreeSet<EndpointKey>) {
        for endpoint in endpoints {
            let removals: Vec<_> = self.leaving.get(endpoint).map_or_else(Vec::new, |leaving| {
                leaving.causes.keys().filter(|drain| drain.is_removal()).cloned().collect()
            });
            self.staying.remove(endpoint);
            self.weigh(now, endpoint);
            for drain in removals {
                self.lift(now, endpoint, &drain);
            }
            self.lay_on(now, endpoint);
        }
    }

    /// After the swap: endpoints that the live generation lacks leave, by the policy of the last generation with them.
    fn swapped(
        &mut self,
        now: Time,
        revision: Revision,
        come: BTreeMap<EndpointKey, DrainPolicy>,
        gone: Vec<EndpointKey>,
        beside: &BTreeSet<BackendId>,
    ) {
        // The generation that is live by now still has those whose time is up.
        self.pass_stays(now);
        self.revision = revision;
        for endpoint in gone {
            self.strained.remove(&endpoint);
            if let Some(policy) = self.live.remove(&endpoint) {
                self.staying.insert(endpoint, Staying { revision, course: Course::new(policy, now) });
            }
        }
        let new = come.keys().cloned().collect();
        let mut reported: Vec<_> = come.iter().map(|one| self.live(one)).collect();
        self.live.extend(come);
        let (overlay, live) = (&self.overlay, &self.live);
        let has_other = |id: &BackendId| {
            let first = live.range(EndpointKey::before_all_of(id)..).next();
            first.is_some_and(|(key, _)| key.backend == *id)
        };
        let replaced = |id: &BackendId| beside.contains(id) && has_other(id);
        let over = |key: &EndpointKey, one: &Staying| !replaced(&key.backend) || one.is_over(now, key, overlay);
        let gone: Vec<_> = self.staying.extract_if(.., |key, one| over(key, one)).collect();
        let stay = self.staying.iter().filter(|(_, one)| one.revision == revision);
        reported.extend(stay.map(|one| self.stay(now, one)));
        self.report_change(now, reported, &gone);
        // The generation that is live already lacks them.
        self.leave(now, gone);
        // This does nothing if the shell announced what was coming. A live endpoint must never be closed.
        self.coming(now, &new);
    }

    /// The overlay replaces the one before. What rises to a weight gets it before it is open again.
    fn lay(&mut self, now: Time, entries: Vec<OverlayEntry>) {
        self.overlay.replace(now, entries);
        for (drain, deadline) in self.overlay.deadlines() {
            for cause in self.leaving.values_mut().filter_map(|leaving| leaving.causes.get_mut(drain)) {
                cause.deadline = cause.deadline.min(deadline);
            }
        }
        self.pass_stays(now);
        for endpoint in self.live.keys().cloned().collect::<Vec<_>>() {
            self.weigh(now, &endpoint);
        }
        let lifted =
            |endpoint: &EndpointKey, drain: &DrainId| !drain.is_removal() && !self.overlay.has_cordon(drain, endpoint);
        let lifts: Vec<_> = self
            .leaving
            .iter()
            .flat_map(|(endpoint, leaving)| leaving.causes.keys().map(move |drain| (endpoint.clone(), drain.clone())))
            .filter(|(endpoint, drain)| lifted(endpoint, drain))
            .collect();
        for (endpoint, drain) in lifts {
            self.lift(now, &endpoint, &drain);
        }
        for endpoint in self.live.keys().cloned().collect::<Vec<_>>() {
            self.lay_on(now, &endpoint);
        }
        self.relax(now);
    }

    /// Cordons one endpoint for every operator's drain that covers it.
    fn lay_on(&mut self, now: Time, endpoint: &EndpointKey) {
        let cordons = self.overlay.cordons(endpoint);
        let cordons: Vec<_> = cordons.map(|(drain, deadline)| (drain.clone(), deadline.max(now))).collect();
        for (drain, deadline) in cordons {
            self.cordon(endpoint, drain, deadline);
        }
    }

    /// Gives the endpoint the share that the overlay leaves it; if it stays, the share of its strategy. Returns whether
    /// that is another one than before.
    fn weigh(&mut self, now: Time, endpoint: &EndpointKey) -> bool {
        let laid = || self.overlay.weight(endpoint);
        let weight = self.staying.get(endpoint).map_or_else(laid, |one| one.share(now, endpoint, &self.overlay));
        let before = self.weights.get(endpoint).copied().unwrap_or(Weight::FULL);
        let differs = weight != before && !weight.is_none();
        if differs {
            self.weights.insert(endpoint.clone(), weight);
            self.effects.push_back(Effect::Weigh { endpoint: endpoint.clone(), weight });
        }
        self.pace(now, endpoint);
        differs
    }

    /// Ends the stays of endpoints that have no share any more, and gives the others theirs.
    fn pass_stays(&mut self, now: Time) {
        let overlay = &self.overlay;
        let over: Vec<_> = self.staying.extract_if(.., |key, one| one.is_over(now, key, overlay)).collect();
        if !over.is_empty() {
            self.unsettled = true;
            self.report_change(now, Vec::new(), &over);
            self.leave(now, over);
        }
        let mut staying: Vec<_> = self.staying.keys().cloned().collect();
        staying.retain(|endpoint| self.weigh(now, endpoint));
        self.report_stays(now, &staying);
    }

    /// Cordons removed endpoints. Each got calls until now, which have the whole time.
    fn leave(&mut self, now: Time, gone: Vec<(EndpointKey, Staying)>) {
        for (endpoint, Staying { revision, course }) in gone {
            let deadline = now + term(&course.policy);
            self.pace(now, &endpoint);
            self.cordon(&endpoint, DrainId::Removal { endpoint: endpoint.clone(), revision }, deadline);
            self.lay_on(now, &endpoint);
        }
    }

    fn cordon(&mut self, endpoint: &EndpointKey, drain: DrainId, deadline: Time) {
        let leaving = self.leaving.entry(endpoint.clone()).or_default();
        if let Entry::Vacant(vacant) = leaving.causes.entry(drain) {
            vacant.insert(Cause { deadline, record: None, phase: Phase::Cordoned, recorded: false });
            let cordon = Effect::Cordon { endpoint: endpoint.clone() };
            // Several causes at once need one cordon: its count is for all of them.
            if self.effects.back() != Some(&cordon) {
                self.effects.push_back(cordon);
            }
        }
    }

    /// Lifts one cause. The endpoint opens when its last cause is lifted.
    fn lift(&mut self, now: Time, endpoint: &EndpointKey, drain: &DrainId) {
        let Some(leaving) = self.leaving.get_mut(endpoint) else { return };
        let departure = leaving.departure(drain, endpoint, now);
        let lifted = leaving.causes.remove(drain);
        leaving.inherit(lifted);
        leaving.closing = false;
        if leaving.causes.is_empty() {
            self.leaving.remove(endpoint);
            self.effects.push_back(Effect::Uncordon { endpoint: endpoint.clone() });
        } else {
            // The endpoint may have been empty already, kept open for the lifted cause: then the other causes end now.
            self.effects.push_back(Effect::Count { endpoint: endpoint.clone() });
        }
        if let Some(departure) = departure {
            self.end(Departure {
                total: departure.finished + departure.evicted,
                in_flight: 0,
                phase: Phase::Reopened,
                remaining: Duration::ZERO,
                oldest: None,
                ..departure
            });
        }
    }

    fn counted(&mut self, now: Time, endpoint: &EndpointKey, seen: Seen) {
        let Some(leaving) = self.leaving.get_mut(endpoint) else { return };
        leaving.observe(seen);
        let (empty, removed) = (leaving.in_flight == 0, leaving.causes.keys().any(DrainId::is_removal));
        // An endpoint that stays in the configuration is only cordoned, so that it can open again: this is its end.
        for cause in leaving.causes.values_mut().filter(|_| empty && !removed) {
            cause.phase = Phase::Closed;
        }
        if empty && removed {
            leaving.closing = true;
            self.effects.push_back(Effect::TryClose { endpoint: endpoint.clone() });
        }
        self.report(now, endpoint);
    }

    /// The admission word says closed: only now is the departure over.
    fn closed(&mut self, now: Time, endpoint: &EndpointKey) {
        self.weights.remove(endpoint);
        let Some(mut leaving) = self.leaving.remove(endpoint) else { return };
        let drains: Vec<_> = leaving.causes.keys().cloned().collect();
        for cause in leaving.causes.values_mut() {
            cause.phase = Phase::Closed;
        }
        for drain in drains {
            let on_record = leaving.causes.get(&drain).is_some_and(|cause| cause.recorded);
            if let Some(departure) = leaving.departure(&drain, endpoint, now).filter(|_| !on_record) {
                self.end(departure);
            }
        }
    }

    fn end(&mut self, departure: Departure) {
        debug_assert!(departure.adds_up(), "{departure:?}");
        if self.attached {
            self.effects.push_back(Effect::Report(Count::Departure(departure.clone())));
        }
        self.ended.push_back(departure);
        if self.ended.len() > ENDED_MAX {
            self.ended.pop_front();
        }
    }

    fn recorded(&mut self, drain: &DrainId, endpoint: &EndpointKey) {
        let cause = self.leaving.get_mut(endpoint).and_then(|leaving| leaving.causes.get_mut(drain));
        if let Some(cause) = cause.filter(|cause| cause.phase.is_ended()) {
            cause.recorded = true;
        }
        self.ended.retain(|departure| departure.drain != *drain || departure.endpoint != *endpoint);
    }

    /// Does what is due by time alone: the round of counts and reports, and evictions at their deadline.
    fn pass(&mut self, now: Time) {
        if self.next_round.is_some_and(|round| round <= now) {
            self.next_round = None;
            for (endpoint, leaving) in self.leaving.iter().filter(|(_, leaving)| leaving.is_busy()) {
                // An exchange that entered before the cordon and was registered after the eviction is caught here.
                if leaving.causes.values().any(|cause| cause.phase == Phase::Evicting) {
                    self.effects.push_back(Effect::Evict { endpoint: endpoint.clone() });
                }
                self.effects.push_back(Effect::Count { endpoint: endpoint.clone() });
            }
            self.report_all(now);
        }
        self.pass_stays(now);
        self.let_go(now);
        self.next_change = self.staying.values().filter_map(|one| one.course.next_change(now)).min();
        for (endpoint, leaving) in &mut self.leaving {
            if leaving.deadline().is_some_and(|deadline| deadline <= now) {
                for cause in leaving.causes.values_mut().filter(|cause| cause.phase == Phase::Cordoned) {
                    cause.phase = Phase::Evicting;
                }
                self.effects.push_back(Effect::Evict { endpoint: endpoint.clone() });
                self.effects.push_back(Effect::Count { endpoint: endpoint.clone() });
            }
        }
        let moving = self.leaving.values().any(|leaving| leaving.is_busy() || leaving.closing);
        let unrecorded = |leaving: &Leaving| leaving.causes.values().any(|cause| !cause.recorded);
        let unheard = self.attached && (!self.ended.is_empty() || self.leaving.values().any(unrecorded));
        if self.next_round.is_none() && (moving || unheard) {
            self.next_round = Some(now + ROUND);
        }
    }

    fn count(&mut self, endpoint: &EndpointKey) {
        if self.leaving.contains_key(endpoint) {
            self.effects.push_back(Effect::Count { endpoint: endpoint.clone() });
        }
    }
}

#[cfg(test)]
mod strategy_tests;
#[cfg(test)]
mod tests;
