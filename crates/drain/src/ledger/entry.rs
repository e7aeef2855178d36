//! One drain over all routers, as it is kept on disk, and its totals.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{BackendId, Digest, DrainStrategy, EndpointKey, EventKind, NodeId, Revision, WallTime, Weight};
use serde::{Deserialize, Serialize};

use super::falling::Falling;
use crate::{Departure, DrainId, Phase};

/// What survives a restart of the coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// The number of the last drain that an operator asked for.
    pub last_number: u64,
    /// Routers that are attached or not yet given up: their exchanges in flight are waited for.
    pub routers: Vec<RouterId>,
    pub drains: Vec<Entry>,
}

/// One life of one router.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouterId {
    pub node: NodeId,
    pub boot: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub id: DrainId,
    pub backend: BackendId,
    /// Absent: all endpoints of the backend, or the one of the removal.
    #[serde(default)]
    pub endpoint: Option<Digest>,
    /// Above [`Weight::NONE`], its endpoints stay open and get less than their share.
    #[serde(default = "crate::message::cordon")]
    pub weight: Weight,
    /// The weight falls, step by step, until it is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub falling: Option<Falling>,
    /// How an operator's drain goes; absent for a weight that stays, and for a removal, which goes by its revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<DrainStrategy>,
    /// An operator has switched the server off with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// The operator that asked for this drain, or that hurried this removal.
    pub actor: Option<String>,
    pub started: WallTime,
    pub deadline: WallTime,
    /// Absent in records that are older than this field.
    #[serde(default)]
    pub terms: Option<Terms>,
    /// The time until which routers that are behind are waited for; hurrying leaves it as it was.
    pub awaited: WallTime,
    /// An operator shortened a removal: the routers are told the deadline.
    pub hurried: bool,
    pub cancelled: Option<WallTime>,
    /// When nothing was left to wait for.
    pub ended: Option<WallTime>,
    pub shares: Vec<Share>,
}

/// How much time a drain was given, independent of any clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// The time given when the drain began.
    pub first: Duration,
    /// The time given by the last decision: when it was hurried, or else when it began.
    pub last: Duration,
}

/// The last report of one router on one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    pub node: NodeId,
    pub boot: String,
    pub departure: Departure,
    /// That router process is gone: its exchanges in flight are lost.
    pub gone: bool,
}

/// Always finished + evicted + lost + in flight = total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    pub total: u64,
    pub in_flight: u64,
    pub finished: u64,
    pub evicted: u64,
    /// In flight in a router that is gone.
    pub lost: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Open, with less than its share of the calls.
    Weighted,
    /// Its share falls; or it waits for what is in flight, or for a router to begin.
    Draining,
    /// Past the deadline somewhere.
    Evicting,
    /// Nothing is in flight. The cordon of an operator stays.
    Done,
    /// Open again.
    Cancelled,
}

/// A drain as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    pub id: DrainId,
    pub backend: BackendId,
    pub endpoint: Option<Digest>,
    pub weight: Weight,
    pub strategy: Option<DrainStrategy>,
    /// Too few of the endpoints that take over are well: its share waits to fall.
    pub strained: bool,
    pub disabled: bool,
    pub actor: Option<String>,
    pub state: State,
    pub totals: Totals,
    pub started: WallTime,
    /// When nothing was left to wait for, also for a cancelled drain.
    pub ended: Option<WallTime>,
    pub remaining: Duration,
    /// When nothing will be left to wait for, as it goes so far; absent for what is over.
    pub eta: Option<Duration>,
    pub oldest: Option<String>,
    pub routers: Vec<RouterSummary>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouterSummary {
    pub node: NodeId,
    /// It ended, or was given up, before it said all that it had to.
    pub gone: bool,
    /// The earliest phase of the router's endpoints.
    pub phase: Phase,
    pub totals: Totals,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Weighted => EventKind::Weighted.as_str(),
            Self::Draining => EventKind::Draining.as_str(),
            Self::Evicting => EventKind::Evicting.as_str(),
            Self::Done => EventKind::Done.as_str(),
            Self::Cancelled => EventKind::Cancelled.as_str(),
        }
    }
}

impl Summary {
    /// The revision that removed the backend; none for an operator's drain.
    pub fn revision(&self) -> Option<Revision> {
        match &self.id {
            DrainId::Removal { revision, .. } => Some(*revision),
            DrainId::Admin { .. } => None,
        }
    }
}

impl Entry {
    pub(super) fn new(id: DrainId, backend: BackendId, started: WallTime, remaining: Duration) -> Self {
        Self {
            id,
            backend,
            endpoint: None,
            weight: Weight::NONE,
            falling: None,
            strategy: None,
            disabled: false,
            actor: None,
            started,
            deadline: started.after(remaining),
            terms: Some(Terms { first: remaining, last: remaining }),
            awaited: started.after(remaining),
            hurried: false,
            cancelled: None,
            ended: None,
            shares: Vec::new(),
        }
    }

    /// The entry as a new coordinator process takes it up, whatever the clock says by now.
    pub(super) fn begun_anew(self, wall: WallTime) -> Self {
        // A drain that ended and still holds begins again for a router that has not heard of it.
        if self.ended.is_some() && !self.holds() {
            return self;
        }
        let recorded = || Terms { first: self.awaited.since(self.started), last: self.deadline.since(self.started) };
        let terms = self.terms.unwrap_or_else(recorded);
        let falling = self.falling.map(|falling| falling.begun_anew(wall, terms.last));
        let cordon = wall.after(falling.as_ref().map_or(Duration::ZERO, |falling| falling.lasts(self.weight)));
        let (deadline, awaited) = (cordon.after(terms.last), cordon.after(terms.first));
        // Routers say anew how far a removal is.
        let weight = if self.id.is_removal() { Weight::NONE } else { self.weight };
        Self { deadline, awaited, weight, falling, terms: Some(terms), ..self }
    }

    /// Cordons what had a weight until now: its exchanges have that much time.
    pub(super) fn cordon(&mut self, wall: WallTime, term: Duration) {
        let begun = if self.falling.is_some() { self.started } else { wall };
        let Self { id, backend, endpoint, strategy, actor, .. } = self.clone();
        *self = Self { endpoint, strategy, actor, ..Self::new(id, backend, wall, term) };
        self.started = begun;
    }

    /// The weight is what it is until an operator changes it.
    pub(super) fn weigh(&mut self, weight: Weight) {
        (self.weight, self.falling, self.strategy) = (weight, None, None);
    }

    pub(super) fn is_of(&self, backend: &BackendId, endpoint: Option<Digest>) -> bool {
        self.backend == *backend && self.endpoint == endpoint
    }

    /// Whether it is about that endpoint.
    pub(super) fn means(&self, endpoint: &EndpointKey) -> bool {
        self.backend == endpoint.backend && self.endpoint.is_none_or(|digest| digest == endpoint.digest)
    }

    /// Sets the time that an operator gives the drain.
    pub(super) fn hurry(&mut self, wall: WallTime, term: Duration) {
        self.deadline = wall.after(term);
        self.terms = self.terms.map(|terms| Terms { last: term, ..terms });
        self.hurried = true;
    }

    /// When nothing will be left to wait for, if exchanges go on to end as they have since the cordon.
    pub(super) fn eta(&self, wall: WallTime, totals: &Totals) -> Duration {
        let remaining = self.deadline.since(wall);
        let ended = totals.total - totals.in_flight;
        let Some(terms) = self.terms.filter(|_| self.falling.is_none() && totals.in_flight > 0 && ended > 0) else {
            return remaining;
        };
        // Hurrying moves neither end of this.
        let since = (terms.first + wall.since(self.awaited)).saturating_sub(self.awaited.since(wall));
        let millis = since.as_millis().saturating_mul(totals.in_flight.into()) / u128::from(ended);
        remaining.min(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)))
    }

    /// In an operator's drain, a router never has less time left than was decided, so its report is at least as near to
    /// the truth. Routers may have begun a removal at different times, each with the time that its revision gave.
    pub(super) fn correct(&mut self, wall: WallTime, departure: &Departure) {
        if !self.id.is_removal() && !departure.phase.is_ended() {
            self.deadline = self.deadline.min(wall.after(departure.remaining));
        }
    }

    /// Whether the drain keeps an endpoint cordoned, or at a weight, that would be open without it.
    pub(super) fn holds(&self) -> bool {
        !self.id.is_removal() && self.cancelled.is_none()
    }

    pub(super) fn share(&self, node: &NodeId, boot: &str, endpoint: &EndpointKey) -> Option<&Share> {
        self.shares.iter().find(|share| share.is(node, boot, endpoint))
    }

    /// Takes a router's report. Returns whether something worth keeping happened: exchanges to account for, or an end.
    ///
    /// A report older than the last is ignored, except that its arrival shows that the router is not gone.
    pub(super) fn merge(&mut self, node: &NodeId, boot: &str, departure: Departure) -> bool {
        let known = self.shares.iter_mut().find(|share| share.is(node, boot, &departure.endpoint));
        let Some(share) = known else {
            let worth = departure.total > 0 || departure.phase.is_ended();
            self.shares.push(Share { node: node.clone(), boot: boot.into(), departure, gone: false });
            return worth;
        };
        let came_back = std::mem::take(&mut share.gone);
        if progress(&departure) < progress(&share.departure) {
            return came_back;
        }
        let over = departure.phase.is_ended() && departure.phase != share.departure.phase;
        share.departure = departure;
        came_back || over
    }

    /// Records that this process is gone. Returns whether anything was still open in it.
    ///
    /// A cordon may outlive any number of processes, so it keeps only the processes that had something in flight.
    pub(super) fn lose(&mut self, node: &NodeId, boot: &str) -> bool {
        let lost = |share: &Share| share.node == *node && share.boot == boot;
        let open = self.shares.iter_mut().filter(|share| lost(share) && !share.is_over());
        let open = open.map(|share| share.gone = true).count() > 0;
        if !self.id.is_removal() {
            self.shares.retain(|share| !lost(share) || share.departure.total > 0);
        }
        open
    }

    /// Notes that a process is gone that had the endpoint and never said what was in flight there.
    pub(super) fn never_counted(&mut self, node: &NodeId, boot: &str, endpoint: EndpointKey) {
        let (drain, phase, remaining) = (self.id.clone(), Phase::Cordoned, Duration::ZERO);
        let (total, in_flight, finished, evicted, oldest) = (0, 0, 0, 0, None);
        let departure = Departure { drain, endpoint, total, in_flight, finished, evicted, phase, remaining, oldest };
        self.shares.push(Share { node: node.clone(), boot: boot.into(), departure, gone: true });
    }

    pub(super) fn totals(&self) -> Totals {
        let totals = self.shares.iter().fold(Totals::default(), |sum, share| sum + share.totals());
        assert_eq!(totals.finished + totals.evicted + totals.lost + totals.in_flight, totals.total, "of {}", self.id);
        totals
    }

    pub(super) fn routers(&self) -> Vec<RouterSummary> {
        let mut routers: BTreeMap<&NodeId, RouterSummary> = BTreeMap::new();
        for share in &self.shares {
            let (node, phase, totals) = (share.node.clone(), Phase::Reopened, Totals::default());
            let new = || RouterSummary { node, gone: true, phase, totals };
            let router = routers.entry(&share.node).or_insert_with(new);
            router.gone &= share.gone;
            router.phase = share.phase().min(router.phase);
            router.totals = router.totals + share.totals();
        }
        routers.into_values().collect()
    }
}

/// Grows with every report of a router on one endpoint.
fn progress(departure: &Departure) -> (Phase, u64) {
    (departure.phase, departure.finished + departure.evicted)
}

impl Share {
    fn is(&self, node: &NodeId, boot: &str, endpoint: &EndpointKey) -> bool {
        self.node == *node && self.boot == boot && self.departure.endpoint == *endpoint
    }

    /// Whether the numbers of this share are final, as far as can be known.
    pub(super) fn is_over(&self) -> bool {
        self.gone || self.departure.phase.is_ended()
    }

    /// An endpoint of a dead process has nothing in flight and admits nothing.
    pub(super) fn phase(&self) -> Phase {
        if self.gone { self.departure.phase.max(Phase::Closed) } else { self.departure.phase }
    }

    fn totals(&self) -> Totals {
        let Departure { total, in_flight, finished, evicted, .. } = self.departure;
        let (in_flight, lost) = if self.gone { (0, in_flight) } else { (in_flight, 0) };
        Totals { total, in_flight, finished, evicted, lost }
    }
}

impl std::ops::Add for Totals {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            total: self.total + other.total,
            in_flight: self.in_flight + other.in_flight,
            finished: self.finished + other.finished,
            evicted: self.evicted + other.evicted,
            lost: self.lost + other.lost,
        }
    }
}
