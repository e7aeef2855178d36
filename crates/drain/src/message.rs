//! What drain-coordinator and a router say to each other.

use std::fmt;
use std::time::Duration;

use model::{BackendId, Digest, EndpointKey, NodeId, Revision, WallTime};
use serde::{Deserialize, Serialize};

/// One departure over the whole fleet of routers: what left, by which decision.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DrainId {
    /// A revision no longer has that endpoint.
    Removal { endpoint: EndpointKey, revision: Revision },
    /// An operator asked. Numbers begin again when the coordinator loses its record; with the moment it began, a drain
    /// is never taken for another one.
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
    /// All endpoints of the live generation; replaces what was said before. By it the coordinator knows which
    /// servers there are, and who has still to cordon something.
    Live { revision: Revision, endpoints: Vec<LiveEndpoint> },
    /// Counters since the cordon; they only grow, `in_flight` aside.
    Departure(Departure),
}

/// An endpoint that exchanges may go to, unless a cordon says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveEndpoint {
    pub endpoint: EndpointKey,
    /// How long its exchanges have when it leaves, as the live snapshot says.
    pub timeout: Duration,
}

/// Always finished + evicted + in flight = total.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Departure {
    pub drain: DrainId,
    pub endpoint: EndpointKey,
    /// Exchanges in flight when admission ended. Of a reopened one: those of them seen to end meanwhile.
    pub total: u64,
    pub in_flight: u64,
    pub finished: u64,
    pub evicted: u64,
    pub phase: Phase,
    /// Until the deadline; zero when it has passed.
    pub remaining: Duration,
    /// The oldest exchange still in flight, as clients named it.
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
    /// Nothing is in flight and nothing comes.
    Closed,
    /// Open again: cancelled, or a later revision has it again.
    Reopened,
}

impl Phase {
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Closed | Self::Reopened)
    }
}

/// From drain-coordinator to a router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Directive {
    /// All cordons that hold; replaces what was said before, and is laid over every generation.
    Overlay { cordons: Vec<Cordon> },
    /// The end of that departure is on record; it need not be reported any more.
    Recorded { drain: DrainId, endpoint: EndpointKey },
}

/// An operator's wish that something gets no new exchanges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cordon {
    pub drain: DrainId,
    pub backend: BackendId,
    /// Absent: whatever endpoints the backend has.
    pub endpoint: Option<Digest>,
    /// What is left of the time before the rest is evicted.
    pub remaining: Duration,
}
