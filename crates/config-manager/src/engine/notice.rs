//! The reconciler's notices as log lines, events and metrics.

use std::sync::Arc;

use model::units::{count, in_words};
use model::{AttemptId, Counts, Diff, Digest, EventKind, NodeId, Revision};
use rollout::desk::{Candidate, Want};
use rollout::reconciler::Notice;
use rollout::{Applied, Kind, ProposalId, Reason, Refusal};
use runtime::telemetry::{Label, Metric};

use super::candidate::source_of;
use super::{Engine, Papers};
use crate::log::is_undone;
use crate::outcome;

/// How many servers a line of the log names; the line counts the rest.
const NAMES_MAX: usize = 8;

pub(crate) const METRICS: &[Metric] = &[
    Metric::counter(
        "only1mcp_config_votes_total",
        &[Label("vote", &["yes", "no"])],
        "Votes of routers on attempts, trials among them, as they arrived.",
    ),
    Metric::counter(
        "only1mcp_config_nacks_total",
        &[Label("reason", outcome::REFUSALS)],
        "Votes of no on changes, by reason; silence until the deadline is one. Those on trials (`validate --try`) are not \
         among them.",
    ),
    Metric::counter(
        "only1mcp_config_behind_total",
        &[Label("reason", outcome::REFUSALS)],
        "How often a router could not hold the live revision, by reason.",
    ),
    Metric::counter(
        "only1mcp_config_deposed_total",
        &[],
        "How often a router said that it obeys a younger config-manager on the same log.",
    ),
];

fn count_nack(refusal: &Refusal) {
    let kind = outcome::refusal_kind(refusal);
    metrics::counter!("only1mcp_config_nacks_total", "reason" => kind).increment(1);
}

impl Engine {
    pub(super) fn noticed(&mut self, notice: Notice) {
        self.changed = true;
        match notice {
            Notice::Waiting { proposal } => self.waits(proposal),
            Notice::AttemptStarted { attempt, proposal, digest, voters } => {
                self.started(attempt, proposal, digest, voters.len());
            }
            Notice::Voted { attempt, node, verdict } => self.voted(attempt, &node, &verdict),
            Notice::LeftRound { attempt, node } => {
                let trace = self.spans.of(attempt);
                self.event(
                    EventKind::Vote,
                    Some(attempt),
                    Some(&node),
                    "its stream ended; the round goes on without it",
                    trace,
                );
            }
            Notice::AttemptEnded { attempt, proposal: _, reason } => self.attempt_ended(attempt, &reason),
            Notice::Tried { attempt, proposal: _ } => {
                self.spans.ended(attempt, "a trial");
                tracing::info!(%attempt, "a trial ended; nothing has changed");
            }
            Notice::AttemptDropped { attempt, proposal } => {
                self.spans.ended(attempt, "dropped");
                tracing::info!(%attempt, "no voter is left, or one has heard a younger manager: the change is tried again");
                self.waits(proposal);
            }
            Notice::Committed { attempt, proposal, revision, parent, diff, kind, cursors: _ } => {
                self.committed(attempt, proposal, (revision, parent), &diff, kind);
            }
            Notice::Applied(applied) => self.applied(&applied),
            Notice::Attached { node, applied } => {
                tracing::info!(router = %node, revision = %applied, "router attached");
                self.event(EventKind::Attached, None, Some(&node), &format!("has revision {applied}"), None);
            }
            Notice::Detached { node } => {
                tracing::info!(router = %node, "router detached");
                self.event(EventKind::Detached, None, Some(&node), "its stream ended", None);
            }
            Notice::Acked { node, revision } => {
                let trace = self.spans.answered(&node, revision, None);
                tracing::debug!(router = %node, %revision, "revision is live on the router");
                self.event(EventKind::Acked, None, Some(&node), &format!("revision {revision} is live there"), trace);
            }
            Notice::Behind { node, revision, refusal, retry_in } => self.behind(&node, revision, &refusal, retry_in),
            Notice::CaughtUp { node, revision } => {
                let trace = self.spans.answered(&node, revision, None);
                tracing::info!(router = %node, %revision, "router caught up");
                self.event(
                    EventKind::CaughtUp,
                    None,
                    Some(&node),
                    &format!("revision {revision} is live there"),
                    trace,
                );
            }
            Notice::NumbersAbove { node, revision } => {
                tracing::warn!(
                    router = %node,
                    %revision,
                    "a router has a revision that this log never gave; the live content gets a number above it"
                );
            }
            Notice::Deposed { epoch, raised } => self.deposed(epoch, raised),
        }
    }

    fn deposed(&self, epoch: u64, raised: bool) {
        metrics::counter!("only1mcp_config_deposed_total").increment(1);
        let own = self.desk.reconciler().sender().epoch;
        if raised {
            tracing::warn!(
                epoch,
                own,
                "a router has obeyed a younger config-manager on this log: if the state directory was put back from a \
                 backup, all is well; if it was copied, end the other config-manager"
            );
        } else {
            tracing::error!(
                epoch,
                own,
                "a router obeys a younger config-manager on this log: the state directory was copied or shared"
            );
        }
    }

    fn waits(&self, proposal: ProposalId) {
        let source = self.desk.candidate(proposal).map(|candidate| source_of(&candidate.want));
        let message = "a change waits: no router that has the live revision is there to vote";
        tracing::info!(source, "{message}");
        self.event(EventKind::Waiting, None, None, message, None);
    }

    fn started(&mut self, attempt: AttemptId, proposal: ProposalId, digest: Digest, voters: usize) {
        let (Some(candidate), Some(open)) = (self.desk.candidate(proposal), self.open.get(&proposal)) else { return };
        let (source, trace) = (source_of(&candidate.want), open.span.context());
        self.spans.started(attempt, trace);
        tracing::info!(%attempt, source, digest = digest.short(), voters, traceparent = %trace, "attempt started");
        let message = format!("{source} with {}", count(voters, "voting router"));
        self.event(EventKind::AttemptStarted, Some(attempt), None, &message, Some(trace));
    }

    fn voted(&mut self, attempt: AttemptId, node: &NodeId, verdict: &Result<(), Refusal>) {
        self.spans.voted(attempt, node, verdict);
        let trace = self.spans.of(attempt);
        let vote = if verdict.is_ok() { "yes" } else { "no" };
        metrics::counter!("only1mcp_config_votes_total", "vote" => vote).increment(1);
        match verdict {
            Ok(()) => {
                tracing::debug!(%attempt, router = %node, "yes");
                self.event(EventKind::Vote, Some(attempt), Some(node), "yes", trace);
            }
            Err(refusal) => {
                let traceparent = trace.map(tracing::field::display);
                if self.is_trial(attempt) {
                    tracing::info!(%attempt, router = %node, reason = %refusal, traceparent, "no, to a trial");
                } else {
                    count_nack(refusal);
                    tracing::warn!(%attempt, router = %node, reason = %refusal, traceparent, "no");
                }
                self.event(EventKind::Vote, Some(attempt), Some(node), &format!("no: {refusal}"), trace);
            }
        }
    }

    fn is_trial(&self, attempt: AttemptId) -> bool {
        let is_it = |candidate: &Candidate<Papers>| candidate.attempt == Some(attempt);
        let candidate = self.desk.candidates().find(|(_, candidate)| is_it(candidate));
        candidate.is_some_and(|(_, candidate)| matches!(candidate.want, Want::Trial { .. }))
    }

    fn attempt_ended(&mut self, attempt: AttemptId, reason: &Reason) {
        self.spans.ended(attempt, &reason.plain());
        if let Reason::Rejected(noes) = reason
            && !self.is_trial(attempt)
        {
            // Any other no was counted as it came.
            noes.iter().map(|no| &no.refusal).filter(|refusal| **refusal == Refusal::Silent).for_each(count_nack);
        }
        let traceparent = self.spans.of(attempt).map(tracing::field::display);
        tracing::info!(%attempt, %reason, live = %self.head_revision(), traceparent, "attempt ended; nothing has changed");
    }

    fn committed(
        &mut self,
        attempt: AttemptId,
        proposal: Option<ProposalId>,
        (revision, parent): (Revision, Revision),
        diff: &Diff,
        kind: Kind,
    ) {
        self.spans.committed(attempt, revision);
        let trace = self.spans.of(attempt);
        if let Some(open) = proposal.and_then(|proposal| self.open.get_mut(&proposal)) {
            open.undoes_file = open.over.is_some_and(|said| !is_undone(&self.layers, said));
        }
        let candidate = proposal.and_then(|proposal| self.desk.candidate(proposal));
        let open = proposal.and_then(|proposal| self.open.get(&proposal));
        let source = candidate.map_or_else(|| "config-manager".to_owned(), |candidate| source_of(&candidate.want));
        let actor = open.map_or_else(|| "config-manager".to_owned(), |open| open.actor.clone());
        let layers = open.and_then(|open| open.layers.clone()).unwrap_or_else(|| Arc::clone(&self.layers));
        self.provenance.committed(revision, kind, &self.layers, &layers);
        self.layers = layers;
        let Counts { added, removed, changed } = diff.counts();
        let trace_shown = trace.map(tracing::field::display);
        let changes = diff.summary(NAMES_MAX);
        tracing::info!(%revision, %parent, %attempt, source, actor, added, removed, changed, changes, traceparent = trace_shown, "committed");
        let by = if actor == source { source } else { format!("{source} ({actor})") };
        let changes = if changes.is_empty() { changes } else { format!(": {changes}") };
        let servers = diff.backends.iter().map(|entry| entry.id.clone()).collect();
        let message = format!("revision {revision} by {by}{changes}");
        self.event_about(EventKind::Committed, Some(attempt), None, &message, trace, servers);
    }

    fn applied(&mut self, applied: &Applied) {
        let trace = self.spans.applied(applied.revision);
        let millis = |took: std::time::Duration| took.as_secs_f64() * 1e3;
        tracing::info!(
            revision = %applied.revision,
            digest = applied.digest.short(),
            routers = applied.routers.len(),
            missing = applied.missing.len(),
            prepare_ms = millis(applied.stages.prepare),
            append_ms = millis(applied.stages.append),
            swap_ms = millis(applied.stages.swap),
            traceparent = trace.map(tracing::field::display),
            "applied"
        );
    }

    fn behind(&mut self, node: &NodeId, revision: Revision, refusal: &Refusal, retry_in: std::time::Duration) {
        let trace = self.spans.answered(node, revision, Some(refusal));
        let kind = outcome::refusal_kind(refusal);
        metrics::counter!("only1mcp_config_behind_total", "reason" => kind).increment(1);
        let retry_in = in_words(retry_in);
        tracing::warn!(router = %node, %revision, reason = %refusal, retry_in, "router is behind");
        let message = format!("cannot hold revision {revision}: {refusal}; will be tried again in {retry_in}");
        self.event(EventKind::Behind, None, Some(node), &message, trace);
    }
}
