//! The messages between health-monitor and a router.

use std::time::Duration;

use model::{EndpointKey, HealthPolicy, NodeId, Verdict};

/// From a router to health-monitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// The first message on a stream.
    Hello { node: NodeId, boot: String },
    /// All endpoints of this router, and the policy that holds; replaces the message before.
    Endpoints { endpoints: Vec<EndpointKey>, policy: HealthPolicy },
    /// What differs from the endpoints said before on this stream, and the policy that holds.
    Change { come: Vec<EndpointKey>, gone: Vec<EndpointKey>, policy: HealthPolicy },
    /// The answer to a [`Request::Probe`].
    Probed { endpoint: EndpointKey, probe: u64, outcome: Outcome },
    /// What real traffic, or the state of a child process, showed.
    Seen { endpoint: EndpointKey, outcome: Outcome },
}

/// From health-monitor to a router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Send a ping on the live connection (never a new one) and report the outcome.
    Probe {
        endpoint: EndpointKey,
        probe: u64,
        timeout: Duration,
        /// When the probe after this one will come; none where it is not said.
        next: Option<Duration>,
    },
    /// The present verdict on that endpoint of this router.
    Verdict { endpoint: EndpointKey, verdict: Verdict },
}

/// What one probe, call or glance at a child found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Ok {
        latency: Duration,
    },
    Failed {
        reason: String,
    },
    /// Connecting or waiting for its next attempt: no failure, and nothing to route to either.
    Starting {
        reason: String,
        /// After several attempts in a row that failed or did not last.
        failing: bool,
    },
}

impl Outcome {
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Ok { .. } => "ok",
            Self::Failed { .. } => "failed",
            Self::Starting { .. } => "starting",
        }
    }
}
