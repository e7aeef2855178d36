//! From a request to a proposal, and from the end of the proposal to the answer.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use model::{NodeId, Owner, Revision};
use rollout::cursor::{self, Judgement};
use rollout::reconciler::Event;
use rollout::{Exclusions, Kind, Outcome, Proposal, ProposalId, Reason, Source};
use runtime::grpc::refusal;
use runtime::{Kind as Side, Span};
use tonic::Status;

use super::candidate::{Candidate, Merged, Timing, Want, merge};
use super::feed::Refusal;
use super::outcome::{self, Refused};
use super::said::{Said, Saying};
use super::write::Ending;
use super::{Done, Engine, Payload};
use crate::command::Asker;
use crate::log::{Layer, layers_digest};

/// The limit for requests that are not decided, or whose refusal is not on record; more are refused at once.
pub(crate) const CANDIDATES_MAX: usize = 256;
/// The limit, in bytes, of the text that they keep together. Each keeps the layers it was made of, and the result.
const CANDIDATES_BYTES_MAX: usize = 64 << 20;
/// How often a candidate is merged anew because another change went first.
const MERGES_MAX: u32 = 16;

fn too_many(asker: Asker) {
    let busy = format!("{CANDIDATES_MAX} changes wait for a decision, or for the disk, already; try again");
    drop(asker.answer.send(Err(refusal::exhausted("CHANGES", "changes that wait", busy))));
}

impl Engine {
    /// Refuses at once a change for another revision than the live one, or any change while the log cannot be written.
    pub(super) fn apply(&mut self, want: Want, asker: Asker) {
        if let Some(away) = self.log_away() {
            drop(asker.answer.send(Err(away)));
            return;
        }
        let head = self.head_revision();
        match want.base().filter(|base| *base != head) {
            Some(_) if self.is_busy() => too_many(asker),
            Some(base) => self.refuse_at_once(want, asker, &Reason::StaleBase { base, head }),
            None => self.wish(want, asker),
        }
    }

    /// Refuses a change that was made for another revision than the live one.
    fn refuse_at_once(&mut self, want: Want, asker: Asker, reason: &Reason) {
        let candidate = self.candidate(want, asker);
        let status = outcome::came_second(reason, self.head_revision());
        let ending =
            Ending { result: "refused", reason: reason.to_string(), plain: reason.plain(), violations: Vec::new() };
        self.finish(candidate, Err(status), ending);
    }

    /// A refused candidate counts until the audit has it.
    fn is_busy(&self) -> bool {
        self.candidates.len() + self.jobs.len() >= CANDIDATES_MAX
    }

    fn wish(&mut self, want: Want, asker: Asker) {
        if self.is_busy() {
            return too_many(asker);
        }
        let present: usize = self.layers.values().map(|layer| layer.text.len()).sum();
        let kept: usize = self.candidates.values().map(|candidate| present + candidate.want.bytes()).sum();
        if kept + present + want.bytes() > CANDIDATES_BYTES_MAX && !self.candidates.is_empty() {
            let busy = format!("the changes that wait for a decision have {kept} bytes already; try again");
            drop(asker.answer.send(Err(refusal::exhausted("CHANGES", "bytes of changes that wait", busy))));
            return;
        }
        let candidate = self.candidate(want, asker);
        self.enter(candidate);
    }

    fn candidate(&self, want: Want, asker: Asker) -> Candidate {
        let span = self.asked_change(&asker, want.source());
        let mut candidate = Candidate::new(want, asker.actor, span);
        candidate.without = Exclusions::of(asker.without);
        candidate.answers.push(asker.answer);
        candidate
    }

    /// Starts the span of a change that a caller asked for. The span begins at the time of the request.
    pub(super) fn asked_change(&self, asker: &Asker, source: String) -> Span {
        let mut span = self.spans.change(asker.trace, source, asker.actor.clone());
        span.began_before(self.since(asker.asked_at));
        span
    }

    pub(super) fn since(&self, then: u64) -> Duration {
        Duration::from_nanos(self.clock.now_nanos().saturating_sub(then))
    }

    /// Gives the candidate a number and has it merged. An older one of the same owner that is being merged gives way.
    pub(super) fn enter(&mut self, mut candidate: Candidate) {
        candidate.read_at = self.clock.now_nanos();
        self.changed = true;
        self.proposals += 1;
        let id = ProposalId(self.proposals);
        let owner = candidate.want.owner();
        let older = |other: &Candidate| other.layers.is_none() && other.want.owner() == owner;
        let older: Vec<_> = self.candidates.iter().filter(|(_, other)| older(other)).map(|(id, _)| *id).collect();
        for old in older {
            if let Some(mut old) = self.candidates.remove(&old) {
                candidate.takes_over(&mut old);
                self.superseded(old);
            }
        }
        self.candidates.insert(id, candidate);
        self.start_merging(id);
    }

    fn start_merging(&mut self, id: ProposalId) {
        let Some(candidate) = self.candidates.get_mut(&id) else { return };
        candidate.merges += 1;
        candidate.voters.clear();
        candidate.judging = Some(candidate.span.child("config.judge", Side::Internal));
        candidate.layers = None;
        match &candidate.want {
            Want::Rollback { .. } => self.look_before_rollback(id),
            Want::File { .. } | Want::Api { .. } => {
                self.to_merge.push_back(id);
                self.merge_next();
            }
        }
    }

    /// Parses the layers of the next candidate, unless those of another one are being parsed.
    pub(super) fn merge_next(&mut self) {
        while !self.merging
            && let Some(id) = self.to_merge.pop_front()
        {
            // The candidate was superseded, or rolled back over, while it waited.
            let Some(candidate) = self.candidates.get_mut(&id) else { continue };
            let layers = candidate.want.on(&self.layers);
            candidate.base = self.rollout.head().map_or(Revision::NONE, |head| head.revision);
            self.merging = true;
            let (clock, live, recorded) = (self.clock, self.live_digest(), self.layers.clone());
            self.work.spawn_blocking(move || {
                // A text that makes the parser panic is a fault of ours, and must not end the process.
                let judge = || merge(layers, clock).map(|merged| merged.with_recorded(live, &recorded));
                let merged = std::panic::catch_unwind(judge);
                let merged = merged.unwrap_or_else(|_| Err(vec![parser_panicked()]));
                Done::TakenApart(id, merged.map_err(Refused::Violations))
            });
        }
    }

    pub(super) fn merged(&mut self, id: ProposalId, merged: Result<Merged, Refused>) {
        self.changed = true;
        if let Some(mut judging) = self.candidates.get_mut(&id).and_then(|candidate| candidate.judging.take())
            && let Err(refused) = &merged
        {
            judging.count("only1mcp.violations", refused.violations().len() as u64);
            judging.fail(refused.to_string());
        }
        match merged {
            Ok(merged) => self.propose(id, merged),
            Err(refused) => {
                let Some(candidate) = self.candidates.remove(&id) else { return };
                self.refused(candidate, refused);
            }
        }
    }

    fn propose(&mut self, id: ProposalId, merged: Merged) {
        let cursor = self.source.as_ref().and_then(|source| source.rollback_cursor());
        let Some(candidate) = self.candidates.get_mut(&id) else { return };
        candidate.timing = merged.timing;
        candidate.layers = Some(merged.layers.clone());
        candidate.advice = merged.advice;
        candidate.digest = Some(merged.content.digest);
        if let (Want::Rollback { to, .. }, Some(target)) = (&mut candidate.want, merged.revision) {
            *to = target;
        }
        let (kind, base, cursors) = match &candidate.want {
            Want::File { digest, .. } => {
                (Kind::Change, Some(candidate.base), BTreeMap::from([(candidate.want.owner(), *digest)]))
            }
            Want::Api { .. } => (Kind::Change, Some(candidate.base), BTreeMap::new()),
            Want::Rollback { to, base, over, .. } => {
                // Where the file is read at request only, an edit that was not read waits for a request.
                let over = over.filter(|_| merged.content.snapshot.policy.source.enabled);
                let cursors = over.or(cursor).map(|cursor| (Owner::file(), cursor)).into_iter().collect();
                (Kind::Rollback { to: *to }, *base, cursors)
            }
        };
        let proposal = Proposal {
            id,
            source: Source { owner: candidate.want.owner(), actor: candidate.actor.clone() },
            kind,
            base,
            content: merged.content,
            layers: layers_digest(&merged.layers),
            payload: Payload { bytes: merged.bytes, layers: merged.layers, reason: candidate.want.reason() },
            cursors,
            without: candidate.without.clone(),
        };
        let now = self.now();
        self.rollout.handle(now, Event::Proposed(proposal));
    }

    pub(super) fn resolved(&mut self, id: ProposalId, outcome: Outcome) {
        let Some(mut candidate) = self.candidates.remove(&id) else { return };
        self.changed = true;
        match outcome {
            Outcome::Applied(applied) => {
                self.judged(&candidate, Judgement::Applied, None);
                let answer = outcome::applied(&applied, &candidate);
                outcome::record_stages(&applied, candidate.timing);
                outcome::record_whole(&candidate, self.clock.now_nanos());
                outcome::count("applied");
                candidate.span.count("only1mcp.revision", applied.revision.0);
                candidate.concluded("applied", "");
                candidate.answer(&Ok(answer));
            }
            Outcome::NoChange { revision } => {
                self.judged(&candidate, Judgement::NoChange, None);
                let answer = outcome::no_change(revision, &candidate);
                let ending =
                    Ending { result: "no_change", reason: String::new(), plain: String::new(), violations: Vec::new() };
                self.finish(candidate, Ok(answer), ending);
            }
            Outcome::Refused(Reason::Superseded { by }) => self.gives_way(candidate, by),
            Outcome::Refused(Reason::StaleBase { .. } | Reason::Overtaken { .. }) if self.may_follow(&candidate) => {
                match self.newer(id, &candidate) {
                    Some(newer) => self.gives_way(candidate, newer),
                    None => {
                        self.candidates.insert(id, candidate);
                        self.start_merging(id);
                    }
                }
            }
            Outcome::Refused(reason) => self.refused(candidate, Refused::Reason(reason)),
        }
    }

    /// The newer request of the same owner, if it wants something else. It may not have been proposed yet: if the older
    /// candidate were merged anew, it would come after the newer one and take its place.
    fn newer(&self, id: ProposalId, candidate: &Candidate) -> Option<ProposalId> {
        let owner = candidate.want.owner();
        let mut newer = self.candidates.range((Bound::Excluded(id), Bound::Unbounded));
        newer.rfind(|(_, newer)| newer.want.owner() == owner).map(|(id, _)| *id)
    }

    /// Gives way to a newer candidate of the same owner, which also answers the callers, if it can.
    fn gives_way(&mut self, mut candidate: Candidate, newer: ProposalId) {
        if let Some(by) = self.candidates.get_mut(&newer)
            && by.takes_over(&mut candidate)
            && by.layers.is_some()
        {
            let joined = Event::Joined { proposal: newer, without: by.without.barred().clone() };
            let now = self.now();
            self.rollout.handle(now, joined);
        }
        self.superseded(candidate);
    }

    /// Whether a candidate that another change overtook may still be merged anew.
    fn may_follow(&self, candidate: &Candidate) -> bool {
        candidate.want.follows_head() && candidate.merges < MERGES_MAX
    }

    fn superseded(&mut self, candidate: Candidate) {
        self.judged(&candidate, Judgement::Overtaken, None);
        let reason = "a newer change of the same source took its place".to_owned();
        let live = format!("revision {}", self.head_revision());
        let answer = Err(refusal::aborted("SUPERSEDED", live, reason.clone()));
        let plain = reason.clone();
        self.finish(candidate, answer, Ending { result: "superseded", reason, plain, violations: Vec::new() });
    }

    pub(super) fn refused(&mut self, mut candidate: Candidate, refused: Refused) {
        let judgement = match &refused {
            Refused::Reason(Reason::Overtaken { .. } | Reason::StaleBase { .. }) => Judgement::Overtaken,
            Refused::Reason(reason) => Judgement::Refused { heals: reason.heals() },
            Refused::Violations(_) | Refused::Unavailable(_) => Judgement::Refused { heals: false },
        };
        let reason = refused.to_string();
        candidate.saying = candidate.saying_of(&refused);
        let unasked = candidate.answers.is_empty();
        let again = unasked && candidate.saying.as_ref().is_some_and(|saying| !self.said.is_new(saying));
        self.judged(&candidate, judgement, Some(&refused));
        let violations = refused.violations().to_vec();
        let plain = match &refused {
            Refused::Reason(reason) => reason.plain(),
            Refused::Violations(_) | Refused::Unavailable(_) => reason.clone(),
        };
        tracing::warn!(
            source = candidate.want.source(),
            actor = candidate.actor,
            attempt = candidate.attempt.map(tracing::field::display),
            live = %self.head_revision(),
            traceparent = %candidate.span.context(),
            reason,
            violations = violations.len(),
            "a change was refused; what is live stays live"
        );
        self.event("refused", candidate.attempt, None, &reason, Some(candidate.span.context()));
        if again {
            // A retry that no caller asked for and that ends as before adds nothing to the record.
            outcome::count("refused");
            candidate.concluded("refused", &plain);
            return;
        }
        let answer = refused.answer(self.head_revision(), &candidate);
        self.finish(candidate, answer, Ending { result: "refused", reason, plain, violations });
    }

    /// Tells the file's cursor how its content was judged.
    fn judged(&mut self, candidate: &Candidate, judgement: Judgement, refused: Option<&Refused>) {
        let Want::File { turn, digest, .. } = &candidate.want else { return };
        match judgement {
            Judgement::Applied | Judgement::NoChange => {
                self.refusal = None;
                self.said = Said::default();
            }
            Judgement::Refused { .. } => self.refusal = refused.map(|refused| Refusal::of(refused, *digest)),
            Judgement::Overtaken => {}
        }
        self.tell_source(cursor::Event::Judged { turn: *turn, judgement });
        for asker in std::mem::take(&mut self.later) {
            self.reload(false, asker);
        }
    }
}

fn parser_panicked() -> model::Violation {
    model::Violation::new(None, "", "reading this text failed inside the program; please report it with the text")
}

impl Candidate {
    /// The refusal of the file that a retry may repeat.
    fn saying_of(&self, refused: &Refused) -> Option<Saying> {
        let Want::File { digest, .. } = self.want else { return None };
        Some(Saying { digest, gist: refused.gist() })
    }

    /// The candidate is decided: what is still to be reported of it needs none of the text.
    pub(super) fn forget_texts(&mut self) {
        self.layers = None;
        match &mut self.want {
            Want::File { layer, .. } => *layer = Layer::default(),
            Want::Api { document, .. } => *document = String::new(),
            Want::Rollback { .. } => {}
        }
    }

    /// Whether the candidate leaves out every router that this caller does. A caller that leaves out fewer routers is
    /// served as well with the votes of the rest as without them.
    pub(super) fn serves(&self, asker: &Asker) -> bool {
        asker.without.is_subset(&self.left_out())
    }

    /// Routers that were named as left out and are not asked.
    pub(super) fn left_out(&self) -> BTreeSet<NodeId> {
        self.without.left_out(&self.voters)
    }

    /// Takes over the callers of an older candidate of the file, to answer them too. Returns whether there were any.
    fn takes_over(&mut self, older: &mut Self) -> bool {
        let both = matches!((&self.want, &older.want), (Want::File { .. }, Want::File { .. }));
        let some = both && !older.answers.is_empty();
        if some {
            self.answers.append(&mut older.answers);
            self.without.hear(older.without.barred());
        }
        some
    }

    /// Records on the span how the candidate ended; a result other than the wanted one has a reason.
    pub(super) fn concluded(&mut self, result: &'static str, reason: &str) {
        self.span.set("only1mcp.result", result);
        if let Some(digest) = self.digest {
            self.span.set("only1mcp.digest", digest.to_string());
        }
        if let Some(attempt) = self.attempt {
            self.span.set("only1mcp.attempt", attempt.to_string());
        }
        if !reason.is_empty() {
            self.span.fail(reason.to_owned());
        }
    }

    pub(super) fn answer(&mut self, answer: &Result<wire::pb::config::v1::Outcome, Status>) {
        for waiting in self.answers.drain(..) {
            // A caller that does not wait any more was told that the change is pending.
            drop(waiting.send(answer.clone()));
        }
    }

    pub(super) fn new(want: Want, actor: String, span: Span) -> Self {
        Self {
            want,
            actor,
            span,
            judging: None,
            without: Exclusions::default(),
            voters: BTreeSet::new(),
            answers: Vec::new(),
            merges: 0,
            written_at: None,
            read_at: 0,
            base: Revision::NONE,
            timing: Timing::default(),
            layers: None,
            advice: Vec::new(),
            digest: None,
            attempt: None,
            saying: None,
        }
    }
}
