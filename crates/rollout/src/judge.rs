//! Whether what a router found at its candidates is good enough to go live.

use std::collections::{BTreeMap, BTreeSet};

use model::{BackendId, CandidateOutcome, CandidateResult, ValidationPolicy};

use crate::Refusal;

#[derive(Default)]
struct Tried<'a> {
    ready: bool,
    failures: Vec<&'a str>,
}

/// A router's verdict on a change, from one outcome per changed endpoint.
///
/// A server counts as ready when at least one of its changed endpoints came up. Endpoints that were not probed
/// (`replace: stop_first`) say nothing either way. No probed server at all passes; exactly at the limit passes.
pub fn judge(
    outcomes: &[CandidateOutcome],
    policy: &ValidationPolicy,
    critical: &BTreeSet<BackendId>,
) -> Result<(), Refusal> {
    let mut servers: BTreeMap<&BackendId, Tried<'_>> = BTreeMap::new();
    for outcome in outcomes {
        match &outcome.result {
            CandidateResult::Ready { .. } => servers.entry(&outcome.endpoint.backend).or_default().ready = true,
            CandidateResult::Failed { reason } => {
                servers.entry(&outcome.endpoint.backend).or_default().failures.push(reason);
            }
            CandidateResult::Unprobed => {}
        }
    }
    let failed = || servers.iter().filter(|(_, tried)| !tried.ready);
    if let Some((backend, tried)) = failed().find(|(backend, _)| critical.contains(**backend)) {
        return Err(Refusal::Critical { backend: backend.to_string(), reason: tried.failures.join(", ") });
    }
    let changed = u32::try_from(servers.len()).unwrap_or(u32::MAX);
    let ready = changed.saturating_sub(u32::try_from(failed().count()).unwrap_or(u32::MAX));
    if u64::from(ready) * 1000 < u64::from(changed) * u64::from(policy.minimum_health_permille) {
        let reason = |(backend, tried): (&&BackendId, &Tried<'_>)| {
            format!("{backend} did not come up: {}", tried.failures.join(", "))
        };
        let reasons: Vec<String> = failed().map(reason).collect();
        return Err(Refusal::TooFewReady {
            ready,
            changed,
            minimum_permille: policy.minimum_health_permille,
            reasons: reasons.join("; "),
        });
    }
    Ok(())
}
