//! How a proposal ended: the answer for its caller, and numbers.

use std::time::Duration;

use model::{CandidateResult, Revision, Violation};
use rollout::{Applied, Reason, Refusal};
use runtime::grpc::refusal;
use runtime::telemetry;
use tonic::Status;
use wire::pb::config::v1 as pb;

use super::candidate::{Candidate, Timing};
use crate::admin;
use crate::log::Unavailable;
use crate::status::NodeRefusal;

/// Why a candidate did not become live.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("{}", listed(.0))]
    Violations(Vec<Violation>),
    #[error(transparent)]
    Reason(Reason),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

fn listed(violations: &[Violation]) -> String {
    match violations {
        [] => "the configuration is wrong".to_owned(),
        [only] => only.to_string(),
        [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
    }
}

impl Refused {
    pub(super) fn violations(&self) -> &[Violation] {
        match self {
            Self::Violations(violations) => violations,
            Self::Reason(_) | Self::Unavailable(_) => &[],
        }
    }

    /// See [`Reason::gist`].
    pub(super) fn gist(&self) -> String {
        match self {
            Self::Reason(reason) => reason.gist(),
            Self::Violations(_) | Self::Unavailable(_) => self.to_string(),
        }
    }

    pub(super) fn refusals(&self) -> Vec<NodeRefusal> {
        match self {
            Self::Violations(_) => Vec::new(),
            Self::Reason(Reason::Rejected(noes)) => super::refusals(noes),
            Self::Reason(_) | Self::Unavailable(_) => vec![NodeRefusal { node: None, reason: self.to_string() }],
        }
    }

    pub(super) fn answer(&self, live: Revision, candidate: &Candidate) -> Result<pb::Outcome, Status> {
        match self {
            Self::Unavailable(gone) => return Err(admin::unavailable(gone)),
            Self::Reason(
                reason @ (Reason::StaleBase { .. } | Reason::Overtaken { .. } | Reason::Superseded { .. }),
            ) => {
                return Err(came_second(reason, live));
            }
            Self::Reason(Reason::Rejected(_) | Reason::Append(_)) | Self::Violations(_) => {}
        }
        Ok(pb::Outcome {
            violations: self.violations().iter().map(wire::violation_to_pb).collect(),
            refusals: self.refusals().iter().map(NodeRefusal::to_pb).collect(),
            ..outcome(pb::outcome::Result::Refused, live, candidate)
        })
    }
}

/// Another change was first: all the caller can do is look again.
pub(super) fn came_second(reason: &Reason, live: Revision) -> Status {
    let word = match reason {
        Reason::StaleBase { .. } => "STALE_BASE",
        Reason::Overtaken { .. } => "OVERTAKEN",
        Reason::Superseded { .. } | Reason::Rejected(_) | Reason::Append(_) => "SUPERSEDED",
    };
    let advice = "read what is live now and make the change again";
    refusal::aborted(word, format!("revision {live}"), format!("{reason}; {advice}"))
}

fn outcome(result: pb::outcome::Result, live: Revision, candidate: &Candidate) -> pb::Outcome {
    let Timing { parse, validate } = candidate.timing;
    pb::Outcome {
        result: result.into(),
        revision: live.0,
        stages: vec![stage("parse", parse), stage("validate", validate)],
        attempt: candidate.attempt.map(|attempt| attempt.to_string()).unwrap_or_default(),
        warnings: candidate.advice.iter().map(ToString::to_string).collect(),
        ..pb::Outcome::default()
    }
}

fn stage(name: &str, took: Duration) -> pb::Stage {
    let duration = prost_types::Duration::try_from(took).unwrap_or_default();
    pb::Stage { name: name.into(), duration: Some(duration) }
}

pub(super) fn applied(applied: &Applied, candidate: &Candidate) -> pb::Outcome {
    let mut answer = outcome(pb::outcome::Result::Applied, applied.revision, candidate);
    answer.stages.extend([
        stage("prepare", applied.stages.prepare),
        stage("append", applied.stages.append),
        stage("swap", applied.stages.swap),
    ]);
    for (node, outcomes) in &applied.votes {
        let failed = outcomes.iter().filter_map(|outcome| match &outcome.result {
            CandidateResult::Failed { reason } => Some((&outcome.endpoint.backend, reason)),
            CandidateResult::Ready { .. } | CandidateResult::Unprobed => None,
        });
        let warned =
            failed.map(|(backend, reason)| format!("server {backend} is not up yet on router {node}: {reason}"));
        answer.warnings.extend(warned);
    }
    let missing = applied.missing.iter().map(|node| format!("router {node} does not have it yet"));
    answer.warnings.extend(missing);
    answer
}

pub(super) fn no_change(live: Revision, candidate: &Candidate) -> pb::Outcome {
    outcome(pb::outcome::Result::NoChange, live, candidate)
}

/// The file was read, and it contains nothing to judge.
pub(super) fn nothing_to_do(live: Revision, hint: Option<String>) -> pb::Outcome {
    pb::Outcome {
        result: pb::outcome::Result::NoChange.into(),
        revision: live.0,
        warnings: hint.into_iter().collect(),
        ..pb::Outcome::default()
    }
}

pub(super) fn unreadable(live: Revision, reason: &str) -> pb::Outcome {
    let violation = Violation::new(None, "", reason);
    pb::Outcome {
        result: pb::outcome::Result::Refused.into(),
        revision: live.0,
        violations: vec![wire::violation_to_pb(&violation)],
        ..pb::Outcome::default()
    }
}

/// Called once per proposal.
pub(super) fn count(result: &'static str) {
    metrics::counter!("only1mcp_config_reloads_total", "result" => result).increment(1);
}

pub(super) fn record_stages(applied: &Applied, timing: Timing) {
    let record = |stage: &'static str, took: Duration| {
        metrics::histogram!("only1mcp_config_stage_seconds", "stage" => stage).record(took);
    };
    record("parse", timing.parse);
    record("validate", timing.validate);
    record("prepare", applied.stages.prepare);
    record("append", applied.stages.append);
    record("swap", applied.stages.swap);
}

/// The times from the read, and from the end of the write, until it is live in every router that voted.
pub(super) fn record_whole(candidate: &Candidate, now: u64) {
    let record = |name: &'static str, then: u64| {
        let took = Duration::from_nanos(now.saturating_sub(then));
        metrics::histogram!(name).record(took);
        if candidate.span.is_recorded() {
            telemetry::exemplar(name, &[], took.as_secs_f64(), &candidate.span.context());
        }
    };
    record("only1mcp_config_apply_seconds", candidate.read_at);
    record("only1mcp_config_write_to_live_seconds", candidate.written_at.unwrap_or(candidate.read_at));
}

/// A label for metrics and one word for logs.
pub(super) fn refusal_kind(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::TooFewReady { .. } => "too_few_ready",
        Refusal::Critical { .. } => "critical",
        Refusal::Secret(_) => "secret",
        Refusal::Names(_) => "names",
        Refusal::Feature(_) => "feature",
        Refusal::NotHeld => "not_held",
        Refusal::Silent => "silent",
        Refusal::Damaged => "damaged",
        Refusal::Stale { .. } => "stale",
    }
}
