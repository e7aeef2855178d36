//! What a router found when it tried a changed endpoint: the body of its vote.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::EndpointKey;

/// One candidate endpoint and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateOutcome {
    pub endpoint: EndpointKey,
    pub result: CandidateResult,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CandidateResult {
    /// Connected, initialised and listed. `took`: how long that lasted; none if it was up before it was asked for.
    Ready { tools: u32, took: Duration },
    /// Could not be brought up; the reason names the step, and carries the child's last lines of stderr.
    Failed { reason: String },
    /// Not tried, because it may not run beside its old copy (`replace: stop_first`).
    Unprobed,
}
