//! How a proposal ended: the answer for its caller, and numbers.

use std::time::Duration;

use model::{AttemptId, CandidateResult, Revision, Violation};
use rollout::desk::{self, Candidate, End, TurnedAway};
use rollout::{Applied, Reason, Refusal, Votes};
use runtime::grpc::refusal;
use runtime::telemetry::{self, Label, Metric};
use tonic::Status;

use crate::admin::refusals;
use crate::engine::{Open, Papers, Timing};
use crate::log::Unavailable;
use crate::status::NodeRefusal;

/// What a caller is told.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) result: Result,
    /// What is live now.
    pub(crate) revision: Revision,
    pub(crate) violations: Vec<Violation>,
    pub(crate) refusals: Vec<NodeRefusal>,
    pub(crate) warnings: Vec<String>,
    pub(crate) stages: Vec<(&'static str, Duration)>,
    pub(crate) attempt: Option<AttemptId>,
    /// Of a trial: what each router found.
    pub(crate) votes: Votes,
    /// How long until what was refused is tried again by itself.
    pub(crate) next_try: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Result {
    Applied,
    NoChange,
    Refused,
    Pending,
}

/// Why a candidate is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("{}", listed(.0))]
    Violations(Vec<Violation>),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a candidate did not become live.
pub(crate) type Refused = desk::Refused<Fault>;

fn listed(violations: &[Violation]) -> String {
    match violations {
        [] => "the configuration is wrong".to_owned(),
        [only] => only.to_string(),
        [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
    }
}

impl Fault {
    pub(crate) fn violations(&self) -> &[Violation] {
        match self {
            Self::Violations(violations) => violations,
            Self::Unavailable(_) => &[],
        }
    }
}

pub(crate) fn violations(refused: &Refused) -> &[Violation] {
    match refused {
        Refused::Unusable(fault) => fault.violations(),
        Refused::Reason(_) => &[],
    }
}

pub(crate) fn refusals(refused: &Refused) -> Vec<NodeRefusal> {
    match refused {
        Refused::Unusable(Fault::Violations(_)) => Vec::new(),
        Refused::Reason(Reason::Rejected(noes)) => {
            noes.iter().map(|no| NodeRefusal { node: Some(no.node.clone()), reason: no.refusal.to_string() }).collect()
        }
        Refused::Reason(_) | Refused::Unusable(Fault::Unavailable(_)) => {
            vec![NodeRefusal { node: None, reason: refused.to_string() }]
        }
    }
}

impl Outcome {
    pub(crate) fn new(result: Result, revision: Revision) -> Self {
        Self {
            result,
            revision,
            violations: Vec::new(),
            refusals: Vec::new(),
            warnings: Vec::new(),
            stages: Vec::new(),
            attempt: None,
            votes: Votes::new(),
            next_try: None,
        }
    }

    fn of(result: Result, live: Revision, open: &Open, candidate: &Candidate<Papers>) -> Self {
        let Timing { parse, validate } = open.timing;
        Self {
            stages: vec![("parse", parse), ("validate", validate)],
            attempt: candidate.attempt,
            warnings: open.advice.iter().map(ToString::to_string).collect(),
            ..Self::new(result, live)
        }
    }

    pub(crate) fn no_change(live: Revision, open: &Open, candidate: &Candidate<Papers>) -> Self {
        Self::of(Result::NoChange, live, open, candidate)
    }

    pub(crate) fn applied(applied: &Applied, open: &Open, candidate: &Candidate<Papers>) -> Self {
        let mut outcome = Self::of(Result::Applied, applied.revision, open, candidate);
        let stages = &applied.stages;
        outcome.stages.extend([("prepare", stages.prepare), ("append", stages.append), ("swap", stages.swap)]);
        for (node, found) in &applied.votes {
            let failed = found.outcomes.iter().filter_map(|outcome| match &outcome.result {
                CandidateResult::Failed { reason } => Some((&outcome.endpoint.backend, reason)),
                CandidateResult::Ready { .. } | CandidateResult::Unprobed => None,
            });
            let warned =
                failed.map(|(backend, reason)| format!("server {backend} is not up yet on router {node}: {reason}"));
            outcome.warnings.extend(warned);
            let advice = found.advice.iter().filter(|advice| !outcome.warnings.contains(advice)).cloned();
            outcome.warnings.extend(advice.collect::<Vec<_>>());
        }
        let missing = applied.missing.iter().map(|node| format!("router {node} does not have it yet"));
        outcome.warnings.extend(missing);
        outcome
    }

    /// Of a trial: what routers found, also the one that refused it.
    pub(crate) fn tried(end: &End<Fault>, live: Revision) -> Self {
        let (result, votes) = match end {
            End::Tried(votes) => (Result::Applied, votes.clone()),
            End::NoChange { .. } | End::Applied(_) => (Result::NoChange, Votes::new()),
            End::Refused(Refused::Reason(Reason::Rejected(noes))) => {
                (Result::Refused, noes.iter().map(|no| (no.node.clone(), no.found.clone())).collect())
            }
            End::Refused(_) | End::Superseded => (Result::Refused, Votes::new()),
        };
        let (violations, refusals) = match end {
            End::Refused(refused) => (violations(refused).to_vec(), refusals(refused)),
            End::Tried(_) | End::NoChange { .. } | End::Applied(_) | End::Superseded => (Vec::new(), Vec::new()),
        };
        Self { violations, refusals, votes, ..Self::new(result, live) }
    }

    pub(crate) fn unreadable(live: Revision, reason: &str) -> Self {
        Self { violations: vec![Violation::new(None, "", reason)], ..Self::new(Result::Refused, live) }
    }

    /// Of what was refused; another change was first, or what was asked for cannot be had, otherwise.
    pub(crate) fn refused(
        refused: &Refused,
        live: Revision,
        open: &Open,
        candidate: &Candidate<Papers>,
    ) -> std::result::Result<Self, Status> {
        match refused {
            Refused::Unusable(Fault::Unavailable(gone)) => return Err(refusals::unavailable(gone)),
            Refused::Reason(reason @ Reason::StaleBase { .. }) => return Err(came_second("STALE_BASE", reason, live)),
            Refused::Reason(reason @ Reason::Overtaken { .. }) => return Err(came_second("OVERTAKEN", reason, live)),
            Refused::Reason(reason @ Reason::Superseded { .. }) => return Err(came_second("SUPERSEDED", reason, live)),
            Refused::Reason(Reason::Rejected(_) | Reason::Append(_) | Reason::Withdrawn)
            | Refused::Unusable(Fault::Violations(_)) => {}
        }
        Ok(Self {
            violations: violations(refused).to_vec(),
            refusals: refusals(refused),
            ..Self::of(Result::Refused, live, open, candidate)
        })
    }
}

/// Another change was first: all the caller can do is look again.
fn came_second(word: &'static str, reason: &Reason, live: Revision) -> Status {
    let advice = "read what is live now and make the change again";
    refusal::aborted(word, format!("revision {live}"), format!("{reason}; {advice}"))
}

pub(crate) fn turned_away(why: TurnedAway) -> Status {
    match why {
        TurnedAway::NoFile => {
            let message = "no configuration file is followed; start with --config FILE";
            refusal::precondition("NO_FILE", "configuration file", message)
        }
        TurnedAway::Callers => {
            let busy = format!("{} callers wait for the file to be judged already; try again", desk::CALLERS_MAX);
            refusal::exhausted("CALLERS", "callers that wait for the file", busy)
        }
        TurnedAway::Candidates => {
            let most = desk::CANDIDATES_MAX;
            let busy = format!("{most} changes wait for a decision, or for the disk, already; try again");
            refusal::exhausted("CHANGES", "changes that wait", busy)
        }
        TurnedAway::Trials => {
            let busy = format!("{} trials wait already; try again", desk::TRIALS_MAX);
            refusal::exhausted("CHANGES", "trials that wait", busy)
        }
        TurnedAway::Bytes(kept) => {
            let busy = format!("the changes that wait for a decision have {kept} bytes already; try again");
            refusal::exhausted("CHANGES", "bytes of changes that wait", busy)
        }
    }
}

const RESULTS: &[&str] = &["applied", "no_change", "refused", "superseded"];

pub(crate) const METRICS: &[Metric] = &[
    Metric::counter(
        "only1mcp_config_reloads_total",
        &[Label("result", RESULTS)],
        "Changes that were decided, by how they ended.",
    ),
    Metric::histogram(
        "only1mcp_config_apply_seconds",
        &[],
        "Applied changes: from the read of what is wanted until it is live in every router that voted.",
    ),
    Metric::histogram(
        "only1mcp_config_write_to_live_seconds",
        &[],
        "Applied changes: from the end of the write until it is live in every router that voted.",
    ),
    Metric::histogram(
        "only1mcp_config_stage_seconds",
        &[Label("stage", &["parse", "validate", "prepare", "append", "swap"])],
        "Applied changes: the time that each stage took.",
    ),
];

/// Called once per proposal.
pub(crate) fn count(result: &'static str) {
    metrics::counter!("only1mcp_config_reloads_total", "result" => result).increment(1);
}

pub(crate) fn record_stages(applied: &Applied, timing: Timing) {
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
pub(crate) fn record_whole(open: &Open, now: u64) {
    let record = |name: &'static str, then: u64| {
        let took = Duration::from_nanos(now.saturating_sub(then));
        metrics::histogram!(name).record(took);
        if open.span.is_recorded() {
            telemetry::exemplar(name, &[], took.as_secs_f64(), &open.span.context());
        }
    };
    record("only1mcp_config_apply_seconds", open.read_at);
    record("only1mcp_config_write_to_live_seconds", open.written_at.unwrap_or(open.read_at));
}

/// The words of [`refusal_kind`].
pub(crate) const REFUSALS: &[&str] =
    &["too_few_ready", "critical", "secret", "names", "feature", "not_held", "silent", "damaged", "stale"];

/// A label for metrics and one word for logs.
pub(crate) fn refusal_kind(refusal: &Refusal) -> &'static str {
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
