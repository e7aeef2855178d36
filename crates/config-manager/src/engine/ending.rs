//! How a candidate ended, for its callers, the record, the log output and the traces.

use std::time::Duration;

use model::units::in_words;
use model::{EventKind, Revision, Time};
use rollout::desk::{Candidate, End, Ended, Refused, Saying, Want};
use rollout::{ProposalId, Reason};
use runtime::Span;
use runtime::grpc::refusal;
use runtime::telemetry::KeyValue;
use tonic::Status;

use super::candidate::source_of;
use super::feed::not_live;
use super::{Engine, Open, Papers};
use crate::command::Asker;
use crate::outcome::{self, Fault, Outcome};

/// The callers of a candidate and their answer, given once it is on record.
#[derive(Debug)]
pub(super) struct Told {
    askers: Vec<Asker>,
    answer: Result<Outcome, Status>,
    pub(super) saying: Option<Saying>,
    /// Ends with the record.
    _span: Span,
}

impl Told {
    /// Answers once, however often it is called.
    pub(super) fn tell(&mut self) {
        for asker in self.askers.drain(..) {
            asker.tell(self.answer.clone());
        }
    }
}

/// How a proposal without a revision ended.
pub(super) struct Ending {
    pub(super) result: &'static str,
    pub(super) reason: String,
    /// The same for traces, without the words of servers.
    plain: String,
    pub(super) violations: Vec<model::Violation>,
}

impl Engine {
    /// One more caller waits for the candidate: the last one.
    pub(super) fn joined(&mut self, proposal: ProposalId) {
        let caller = self.desk.candidate(proposal).and_then(|candidate| candidate.callers.last());
        let context = caller.and_then(|caller| caller.handle.trace).map(|trace| trace.to_string()).unwrap_or_default();
        if let Some(open) = self.open.get_mut(&proposal) {
            open.span.event("asked for as well", vec![KeyValue::new("traceparent", context)]);
        }
    }

    pub(super) fn ended(&mut self, ended: Ended<Papers>) {
        self.changed = true;
        let Ended { proposal, candidate, end, record, saying } = ended;
        let first = candidate.callers.first().map(|caller| &caller.handle);
        let open = self.open.remove(&proposal).unwrap_or_else(|| self.open(&candidate.want, first, None));
        let live = self.head_revision();
        if matches!(candidate.want, Want::Trial { .. }) {
            return tried(&end, live, open, candidate);
        }
        let (answer, ending) = match &end {
            End::Applied(applied) => return self.applied_by(applied, open, candidate),
            End::NoChange { revision } => (
                Ok(Outcome::no_change(*revision, &open, &candidate)),
                Ending { result: "no_change", reason: String::new(), plain: String::new(), violations: Vec::new() },
            ),
            End::Superseded | End::Tried(_) => {
                let reason = "a newer change of the same source took its place".to_owned();
                let answer = Err(refusal::aborted("SUPERSEDED", format!("revision {live}"), reason.clone()));
                let plain = reason.clone();
                (answer, Ending { result: "superseded", reason, plain, violations: Vec::new() })
            }
            End::Refused(refused) => {
                let mut next_try = None;
                if let Want::File { digest, .. } = candidate.want
                    && self.desk.refused() == Some(digest)
                {
                    // What went first says nothing of the content: a refusal from before still holds.
                    if !matches!(refused, Refused::Reason(Reason::Overtaken { .. } | Reason::StaleBase { .. })) {
                        self.refusal.is_of(refused, digest);
                    }
                    next_try = self.next_try().map(|at| at.since(Time::from_nanos(self.clock.now_nanos())));
                }
                let ending = self.refused(refused, &open, &candidate, next_try);
                let answer = Outcome::refused(refused, live, &open, &candidate);
                (answer.map(|outcome| Outcome { next_try, ..outcome }), ending)
            }
        };
        self.conclude(open, candidate, answer, ending, record, saying);
    }

    fn applied_by(&self, applied: &rollout::Applied, mut open: Open, candidate: Candidate<Papers>) {
        let mut outcome = Outcome::applied(applied, &open, &candidate);
        // A file that is gone, or cannot be read, says nothing.
        if open.over.is_some() && open.over == self.desk.undone() {
            outcome.warnings.push(not_live(&self.origin.name(), open.undoes_file));
        }
        let answer = Ok(outcome);
        outcome::record_stages(applied, open.timing);
        outcome::record_whole(&open, self.clock.now_nanos());
        outcome::count("applied");
        open.span.count("only1mcp.revision", applied.revision.0);
        open.concluded(&candidate, "applied", "");
        for caller in candidate.callers {
            caller.handle.tell(answer.clone());
        }
    }

    fn refused(
        &self,
        refused: &outcome::Refused,
        open: &Open,
        candidate: &Candidate<Papers>,
        next_try: Option<Duration>,
    ) -> Ending {
        let reason = refused.to_string();
        let violations = outcome::violations(refused).to_vec();
        let plain = match refused {
            Refused::Reason(reason) => reason.plain(),
            Refused::Unusable(_) => reason.clone(),
        };
        if !candidate.never_entered() {
            let source = source_of(&candidate.want);
            tracing::warn!(
                source,
                actor = open.actor,
                attempt = candidate.attempt.map(tracing::field::display),
                live = %self.head_revision(),
                traceparent = %open.span.context(),
                reason,
                violations = violations.len(),
                "a change was refused; what is live stays live"
            );
            let again = next_try.map(|left| format!("; will be tried again in {}", in_words(left))).unwrap_or_default();
            let message = format!("{source}: {reason}{again}");
            self.event(EventKind::Refused, candidate.attempt, None, &message, Some(open.span.context()));
        }
        Ending { result: "refused", reason, plain, violations }
    }

    /// Counts the end of a candidate, writes it down, and then answers.
    fn conclude(
        &mut self,
        mut open: Open,
        candidate: Candidate<Papers>,
        answer: Result<Outcome, Status>,
        ending: Ending,
        record: bool,
        saying: Option<Saying>,
    ) {
        open.concluded(&candidate, ending.result, &ending.plain);
        outcome::count(ending.result);
        if !record {
            return;
        }
        let entry = self.audit_entry(&open, &candidate, ending);
        // What is still to be reported needs none of the text.
        let askers = candidate.callers.into_iter().map(|caller| caller.handle).collect();
        let mut told = Told { askers, answer, saying, _span: open.span };
        if self.log_away().is_some() {
            // The end goes on record when the log is there again.
            told.tell();
        }
        self.jobs.record(Box::new(entry), Box::new(told));
    }
}

/// A trial leaves nothing but its answer.
fn tried(end: &End<Fault>, live: Revision, mut open: Open, candidate: Candidate<Papers>) {
    let answer = Outcome::tried(end, live);
    open.concluded(&candidate, "tried", "");
    for caller in candidate.callers {
        caller.handle.tell(Ok(answer.clone()));
    }
}
