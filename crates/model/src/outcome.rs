//! What a router found when it tried a changed endpoint: the body of its vote.

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
    /// Connected, initialised and listed.
    Ready { tools: u32 },
    /// Could not be brought up; the reason names the step, and carries the child's last lines of stderr.
    Failed { reason: String },
    /// Not tried, because it may not run beside its old copy (`replace: stop_first`).
    Unprobed,
}
