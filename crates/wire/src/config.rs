//! The stream between config-manager and a router.

use std::sync::Arc;

use model::{AttemptId, CandidateOutcome, CandidateResult, Digest, Revision, Snapshot};
use rollout::{Content, Difference, Directive, Findings, NotArrived, Refusal, Report, ServerState};

use crate::content::{difference, difference_to_pb};
use crate::pb::config::v1 as pb;
use crate::words::{
    Invalid, digest, duration, duration_to_pb, endpoint_key, endpoint_key_to_pb, node, optional_digest,
    optional_duration, verdict, verdict_to_pb,
};
use pb::follow_request::Report as PbReport;
use pb::follow_response::Directive as PbDirective;

/// Why a directive cannot be followed as it came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The stream has to begin anew, with a hello that says what is held.
    #[error("a difference from {0}, which is not held here")]
    BaseNotHeld(Digest),
    /// Understood well enough to be refused with this.
    #[error("refused")]
    Answer(Report),
}

/// `base` is what the router is known to hold; a content goes as a difference from it.
pub fn directive_to_pb(directive: &Directive, base: Option<&Content>) -> PbDirective {
    match directive {
        Directive::Prepare { attempt, content, lease } => PbDirective::Prepare(pb::Prepare {
            attempt: Some(attempt_to_pb(*attempt)),
            content: Some(difference_to_pb(Difference::between(content, base))),
            lease: Some(duration_to_pb(*lease)),
        }),
        Directive::Renew { attempt, lease } => PbDirective::Renew(pb::Renew {
            attempt: Some(attempt_to_pb(*attempt)),
            lease: Some(duration_to_pb(*lease)),
        }),
        Directive::Abort { attempt } => PbDirective::Abort(pb::Abort { attempt: Some(attempt_to_pb(*attempt)) }),
        Directive::Commit { attempt, revision, digest } => PbDirective::Commit(pb::Commit {
            attempt: Some(attempt_to_pb(*attempt)),
            revision: revision.0,
            digest: digest.as_bytes().to_vec(),
        }),
        Directive::Offer { revision, content } => PbDirective::Offer(pb::Offer {
            revision: revision.0,
            content: Some(difference_to_pb(Difference::between(content, base))),
        }),
    }
}

/// `held` is asked for the base of a difference.
pub fn directive(
    directive: Option<PbDirective>,
    held: impl Fn(&Digest) -> Option<Arc<Snapshot>>,
) -> Result<Directive, Undecodable> {
    Ok(match directive.ok_or_else(|| Invalid::missing("directive"))? {
        PbDirective::Prepare(prepare) => {
            let attempt = attempt(prepare.attempt)?;
            let no = |refusal| Report::Vote { attempt, verdict: Err(refusal), found: Findings::default() };
            Directive::Prepare {
                attempt,
                content: arrived(prepare.content, held, no)?,
                lease: duration("lease", prepare.lease)?,
            }
        }
        PbDirective::Renew(renew) => {
            Directive::Renew { attempt: attempt(renew.attempt)?, lease: duration("lease", renew.lease)? }
        }
        PbDirective::Abort(abort) => Directive::Abort { attempt: attempt(abort.attempt)? },
        PbDirective::Commit(commit) => Directive::Commit {
            attempt: attempt(commit.attempt)?,
            revision: Revision(commit.revision),
            digest: digest("digest", &commit.digest)?,
        },
        PbDirective::Offer(offer) => {
            let revision = Revision(offer.revision);
            let no = |refusal| Report::Nack { revision, refusal };
            Directive::Offer { revision, content: arrived(offer.content, held, no)? }
        }
    })
}

fn arrived(
    content: Option<pb::Content>,
    held: impl Fn(&Digest) -> Option<Arc<Snapshot>>,
    no: impl FnOnce(Refusal) -> Report,
) -> Result<Content, Undecodable> {
    let arrived = difference(content)?.map_err(NotArrived::Refused).and_then(|difference| difference.on(held));
    arrived.map_err(|error| match error {
        NotArrived::BaseNotHeld(digest) => Undecodable::BaseNotHeld(digest),
        NotArrived::Refused(refusal) => Undecodable::Answer(no(refusal)),
    })
}

/// The features of a hello travel in its envelope.
pub fn report_to_pb(report: &Report) -> PbReport {
    match report {
        Report::Hello { node, boot, applied, digest, features: _ } => PbReport::Hello(pb::Hello {
            node: node.to_string(),
            boot: boot.clone(),
            applied_revision: applied.0,
            applied_digest: digest.map(|digest| digest.as_bytes().to_vec()).unwrap_or_default(),
        }),
        Report::Vote { attempt, verdict, found } => PbReport::Vote(pb::Vote {
            attempt: Some(attempt_to_pb(*attempt)),
            refusal: verdict.as_ref().err().map(refusal_to_pb),
            outcomes: found.outcomes.iter().map(outcome_to_pb).collect(),
            advice: found.advice.clone(),
        }),
        Report::Ack { revision, digest } => {
            PbReport::Ack(pb::Ack { revision: revision.0, digest: digest.as_bytes().to_vec() })
        }
        Report::Nack { revision, refusal } => {
            PbReport::Nack(pb::Nack { revision: revision.0, refusal: Some(refusal_to_pb(refusal)) })
        }
    }
}

/// What a router said: about revisions, or about its servers.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    Report(Report),
    Observed(Vec<ServerState>),
}

pub fn report(request: pb::FollowRequest) -> Result<Said, Invalid> {
    let features = request.envelope.map(|envelope| envelope.features).unwrap_or_default();
    Ok(Said::Report(match request.report.ok_or_else(|| Invalid::missing("report"))? {
        PbReport::Hello(hello) => Report::Hello {
            node: node(&hello.node)?,
            boot: hello.boot,
            applied: Revision(hello.applied_revision),
            digest: optional_digest("hello.applied_digest", &hello.applied_digest)?,
            features,
        },
        PbReport::Vote(vote) => Report::Vote {
            attempt: attempt(vote.attempt)?,
            verdict: match vote.refusal {
                None => Ok(()),
                Some(no) => Err(refusal(no)?),
            },
            found: Findings {
                outcomes: vote.outcomes.into_iter().map(outcome).collect::<Result<_, _>>()?,
                advice: vote.advice,
            },
        },
        PbReport::Ack(ack) => {
            Report::Ack { revision: Revision(ack.revision), digest: digest("ack.digest", &ack.digest)? }
        }
        PbReport::Nack(nack) => Report::Nack {
            revision: Revision(nack.revision),
            refusal: refusal(nack.refusal.ok_or_else(|| Invalid::missing("nack.refusal"))?)?,
        },
        PbReport::Observed(observed) => {
            let servers = observed.servers.into_iter().map(server_state).collect::<Result<_, _>>()?;
            return Ok(Said::Observed(servers));
        }
    }))
}

fn server_state(state: pb::ServerState) -> Result<ServerState, Invalid> {
    Ok(ServerState {
        endpoint: endpoint_key(state.endpoint)?,
        verdict: verdict(state.verdict),
        transport: state.transport,
        tools: state.tools,
        in_flight: state.in_flight,
        pid: (state.pid != 0).then_some(state.pid),
        error: state.error,
        cordoned: state.cordoned,
        disabled: state.disabled,
        warnings: state.warnings,
    })
}

pub fn server_state_to_pb(state: &ServerState) -> pb::ServerState {
    pb::ServerState {
        endpoint: Some(endpoint_key_to_pb(&state.endpoint)),
        verdict: verdict_to_pb(state.verdict),
        transport: state.transport.clone(),
        tools: state.tools,
        in_flight: state.in_flight,
        pid: state.pid.unwrap_or(0),
        error: state.error.clone(),
        cordoned: state.cordoned,
        disabled: state.disabled,
        warnings: state.warnings.clone(),
    }
}

fn attempt(id: Option<pb::AttemptId>) -> Result<AttemptId, Invalid> {
    let id = id.ok_or_else(|| Invalid::missing("attempt"))?;
    Ok(AttemptId { epoch: id.epoch, sequence: id.sequence })
}

fn attempt_to_pb(id: AttemptId) -> pb::AttemptId {
    pb::AttemptId { epoch: id.epoch, sequence: id.sequence }
}

fn outcome(outcome: pb::CandidateOutcome) -> Result<CandidateOutcome, Invalid> {
    use pb::candidate_outcome::Result as Pb;
    let took = optional_duration("outcome.took", outcome.took)?.unwrap_or_default();
    Ok(CandidateOutcome {
        endpoint: endpoint_key(outcome.endpoint)?,
        result: match outcome.result.ok_or_else(|| Invalid::missing("outcome.result"))? {
            Pb::ReadyTools(tools) => CandidateResult::Ready { tools, took },
            Pb::Failed(reason) => CandidateResult::Failed { reason },
            Pb::Unprobed(_) => CandidateResult::Unprobed,
        },
    })
}

pub fn outcome_to_pb(outcome: &CandidateOutcome) -> pb::CandidateOutcome {
    use pb::candidate_outcome::Result as Pb;
    let took = match &outcome.result {
        CandidateResult::Ready { took, .. } => Some(duration_to_pb(*took)),
        CandidateResult::Failed { .. } | CandidateResult::Unprobed => None,
    };
    pb::CandidateOutcome {
        took,
        endpoint: Some(endpoint_key_to_pb(&outcome.endpoint)),
        result: Some(match &outcome.result {
            CandidateResult::Ready { tools, .. } => Pb::ReadyTools(*tools),
            CandidateResult::Failed { reason } => Pb::Failed(reason.clone()),
            CandidateResult::Unprobed => Pb::Unprobed(true),
        }),
    }
}

fn refusal(refusal: pb::Refusal) -> Result<Refusal, Invalid> {
    use pb::refusal::Reason;
    Ok(match refusal.reason.ok_or_else(|| Invalid::missing("refusal.reason"))? {
        Reason::TooFewReady(few) => Refusal::TooFewReady {
            ready: few.ready,
            changed: few.changed,
            minimum_permille: few.minimum_permille,
            reasons: few.reasons,
        },
        Reason::Critical(critical) => Refusal::Critical { backend: critical.backend, reason: critical.reason },
        Reason::Secret(reference) => Refusal::Secret(reference),
        Reason::Names(names) => Refusal::Names(names),
        Reason::Feature(feature) => Refusal::Feature(feature),
        Reason::NotHeld(_) => Refusal::NotHeld,
        Reason::Silent(_) => Refusal::Silent,
        Reason::Damaged(_) => Refusal::Damaged,
        Reason::StaleEpoch(epoch) => Refusal::Stale { epoch },
    })
}

fn refusal_to_pb(refusal: &Refusal) -> pb::Refusal {
    use pb::refusal::Reason;
    let reason = match refusal {
        Refusal::TooFewReady { ready, changed, minimum_permille, reasons } => {
            Reason::TooFewReady(pb::refusal::TooFewReady {
                ready: *ready,
                changed: *changed,
                minimum_permille: *minimum_permille,
                reasons: reasons.clone(),
            })
        }
        Refusal::Critical { backend, reason } => {
            Reason::Critical(pb::refusal::Critical { backend: backend.clone(), reason: reason.clone() })
        }
        Refusal::Secret(reference) => Reason::Secret(reference.clone()),
        Refusal::Names(names) => Reason::Names(names.clone()),
        Refusal::Feature(feature) => Reason::Feature(feature.clone()),
        Refusal::NotHeld => Reason::NotHeld(true),
        Refusal::Silent => Reason::Silent(true),
        Refusal::Damaged => Reason::Damaged(true),
        Refusal::Stale { epoch } => Reason::StaleEpoch(*epoch),
    };
    pb::Refusal { reason: Some(reason) }
}
