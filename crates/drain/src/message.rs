//! The messages between drain-coordinator and a router.

use std::fmt;
use std::time::Duration;

use model::{BackendId, Digest, DrainPolicy, EndpointKey, NodeId, Revision, WallTime, Weight};
use serde::{Deserialize, Serialize};

/// One departure over all routers: what left, and by which decision.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DrainId {
    /// A revision no longer has that endpoint.
    Removal { endpoint: EndpointKey, revision: Revision },
    /// An operator asked. Numbers begin again when the coordinator loses its record. The moment of its beginning keeps
    /// a drain from being taken for another one.
    Admin {
        number: u64,
        #[serde(default)]
        started: WallTime,
    },
}

impl DrainId {
    pub fn is_removal(&self) -> bool {
        matches!(self, Self::Removal { .. })
    }
}

impl fmt::Display for DrainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Removal { endpoint, revision } => write!(f, "r{revision}:{endpoint}"),
            Self::Admin { number, .. } => write!(f, "a{number}"),
        }
    }
}

/// From a router to drain-coordinator. Level-triggered: each departure is reported whole, again and again, until
/// the coordinator says it has the end of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Count {
    /// The first message on a stream.
    Hello { node: NodeId, boot: String },
    /// All endpoints of the live generation; replaces the message before. From it the coordinator knows which servers
    /// there are, and which routers have still to cordon something.
    Live { revision: Revision, endpoints: Vec<LiveEndpoint> },
    /// What differs from the live generation said before on this stream.
    Change { revision: Revision, come: Vec<LiveEndpoint>, gone: Vec<EndpointKey> },
    /// Counters since the cordon. They only grow, except `in_flight`.
    Departure(Departure),
}

/// An endpoint that exchanges may go to, unless a cordon says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveEndpoint {
    pub endpoint: EndpointKey,
    /// How it leaves, as the live snapshot says.
    pub policy: DrainPolicy,
    /// An operator's drain of it falls, and too few of the endpoints that take over are well for that.
    pub strained: bool,
    /// A revision removed it, and it still gets calls.
    pub stay: Option<Stay>,
}

/// How far a removed endpoint is that still gets calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stay {
    /// The one that removed it.
    pub revision: Revision,
    /// What is left of its share.
    pub weight: Weight,
    /// Until the last of its calls is ended, as it goes.
    pub remaining: Duration,
    /// Too few of the endpoints that take over are well for its share to fall.
    pub strained: bool,
}

/// Always finished + evicted + in flight = total.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Departure {
    pub drain: DrainId,
    pub endpoint: EndpointKey,
    /// Exchanges in flight when admission ended. For a reopened endpoint: those of them seen to end meanwhile.
    pub total: u64,
    pub in_flight: u64,
    pub finished: u64,
    pub evicted: u64,
    pub phase: Phase,
    /// Until the deadline; zero when it has passed.
    pub remaining: Duration,
    /// The oldest exchange still in flight, by its tool and as its client named it; of an end with evictions, the oldest of
    /// those, as far as the router had looked.
    pub oldest: Option<String>,
}

impl Departure {
    pub fn adds_up(&self) -> bool {
        let parts = [self.in_flight, self.finished, self.evicted];
        parts.iter().try_fold(0_u64, |sum, part| sum.checked_add(*part)) == Some(self.total)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// No new exchanges.
    Cordoned,
    /// At its deadline: the rest is being ended.
    Evicting,
    /// Nothing is in flight, and no exchange is admitted.
    Closed,
    /// Open again: cancelled, or a later revision has it again.
    Reopened,
}

impl Phase {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cordoned => "cordoned",
            Self::Evicting => "evicting",
            Self::Closed => "closed",
            Self::Reopened => "reopened",
        }
    }

    pub fn is_ended(self) -> bool {
        matches!(self, Self::Closed | Self::Reopened)
    }
}

/// From drain-coordinator to a router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Directive {
    /// All cordons and weights that hold. It replaces the message before, and applies to every generation.
    Overlay { entries: Vec<OverlayEntry> },
    /// The end of that departure is on record; it need not be reported any more.
    Recorded { drain: DrainId, endpoint: EndpointKey },
}

/// What an operator has laid over an endpoint, or over all endpoints of a backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayEntry {
    pub drain: DrainId,
    pub backend: BackendId,
    /// Absent: all endpoints of the backend.
    pub endpoint: Option<Digest>,
    /// With [`Weight::NONE`] it is a cordon.
    #[serde(default = "cordon")]
    pub weight: Weight,
    /// The time left before a cordon evicts the remaining exchanges.
    pub remaining: Duration,
    /// It is the cordon of a backend that is switched off.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// How many sessions of clients may move away per second while the weight falls; 0 where it does not.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rate: u32,
}

fn is_zero(rate: &u32) -> bool {
    *rate == 0
}

/// What was laid before there were weights.
pub(crate) fn cordon() -> Weight {
    Weight::NONE
}

impl OverlayEntry {
    /// Whether it lies on that endpoint.
    pub fn means(&self, endpoint: &EndpointKey) -> bool {
        self.backend == endpoint.backend && self.endpoint.is_none_or(|digest| digest == endpoint.digest)
    }

    /// Whether it keeps that endpoint from new exchanges. A removal is there only to shorten what a router does anyway.
    pub(crate) fn cordons(&self, endpoint: &EndpointKey) -> bool {
        self.weight.is_none() && !self.drain.is_removal() && self.means(endpoint)
    }
}
