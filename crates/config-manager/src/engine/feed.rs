//! The file's side: carries out what the cursor of the file decides.

use std::time::Duration;

use model::{Digest, Violation};
use rollout::cursor::{Answer, Effect, Event, Found, Judgement, State, Write};
use rollout::{Exclusions, ProposalId, reconciler};
use runtime::grpc::refusal;
use runtime::telemetry::KeyValue;
use wire::pb::config::v1 as pb;

use super::Engine;
use super::candidate::{Candidate, Want};
use super::outcome::{self, Refused};
use crate::command::Asker;
use crate::log::{Cursor, Judged};
use crate::source::FromSource;
use crate::status::{NodeRefusal, SourceState, SourceStatus};

/// The limit for waiting callers of reload; more are refused at once.
const ASKERS_MAX: usize = 1024;

/// Why the file's content is not live.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) digest: Digest,
    violations: Vec<Violation>,
    refusals: Vec<NodeRefusal>,
}

impl Refusal {
    pub(super) fn of(refused: &Refused, digest: Digest) -> Self {
        Self { digest, violations: refused.violations().to_vec(), refusals: refused.refusals() }
    }
}

impl Engine {
    pub(super) fn reload(&mut self, force: bool, asker: Asker) {
        if self.source.is_none() {
            let message = "no configuration file is followed; start with --config FILE";
            let status = refusal::precondition("NO_FILE", "configuration file", message);
            drop(asker.answer.send(Err(status)));
            return;
        }
        if let Some(away) = self.log_away() {
            drop(asker.answer.send(Err(away)));
            return;
        }
        if self.callers() >= ASKERS_MAX {
            let busy = format!("{ASKERS_MAX} callers wait for the file to be judged already; try again");
            drop(asker.answer.send(Err(refusal::exhausted("CALLERS", "callers that wait for the file", busy))));
            return;
        }
        self.asked.push(asker);
        self.tell_source(Event::Asked { force });
    }

    /// The number of callers that still wait for the result of the file.
    fn callers(&mut self) -> usize {
        let mut joined = 0;
        for candidate in self.candidates.values_mut() {
            candidate.answers.retain(|answer| !answer.is_closed());
            joined += candidate.answers.len();
        }
        self.asked.len() + self.asking.len() + self.later.len() + joined
    }

    fn ask_again(&mut self, force: bool) {
        for asker in std::mem::take(&mut self.asking) {
            self.reload(force, asker);
        }
    }

    pub(super) fn tell_source(&mut self, event: Event) {
        let now = self.now();
        if let Some(source) = &mut self.source {
            source.handle(now, event);
        }
    }

    pub(super) fn source_said(&mut self, said: FromSource) {
        match said {
            FromSource::Event(event) => {
                if let Event::Noticed {
                    write: Write::Complete | Write::Open | Write::Closed | Write::InPlace, ..
                } = event
                {
                    self.written_at = Some(self.clock.now_nanos());
                }
                self.tell_source(event);
            }
            FromSource::Read { event, text } => {
                if let (Event::Read { found: Found::Digest(digest), .. }, Some(text)) = (&event, text) {
                    self.text = Some((*digest, self.origin.layer(text)));
                }
                self.tell_source(event);
            }
            FromSource::Method(method) => {
                self.method = Some(method);
                self.changed = true;
            }
        }
    }

    pub(super) fn carry_out_source(&mut self, effect: Effect) {
        match effect {
            Effect::Look => self.signals.look(),
            Effect::Read => {
                self.asking.append(&mut self.asked);
                self.signals.read();
            }
            Effect::Propose { turn, digest, retry } => {
                // Another text is judged for itself.
                self.undone = self.undone.filter(|undone| *undone == digest);
                match self.text.take_if(|(read, _)| *read == digest) {
                    Some((_, layer)) => self.propose_file(Want::File { turn, digest, layer }, retry),
                    // The text is not the one that was judged: the file is read again.
                    None => self.tell_source(Event::Judged { turn, judgement: Judgement::Overtaken }),
                }
            }
            Effect::SaveCursor { digest } => {
                let refused = self.refusal.as_ref().is_some_and(|refusal| refusal.digest == digest);
                self.undone = None;
                let judged = if refused { Judged::Refused } else { Judged::Live };
                self.jobs.save_cursor(Cursor { digest, judged });
            }
            Effect::Answer(answer) => self.answer_askers(&answer),
            Effect::StateChanged => self.source_changed(),
        }
    }

    fn source_changed(&mut self) {
        self.changed = true;
        let status = self.source_status();
        // Each judgement is told by its own events; until the next one, the last holds.
        if status.state == self.status.borrow().source.state || status.state == SourceState::Refused {
            return;
        }
        let mut message = format!("{} is {}", status.name, status.state.as_str());
        if status.state == SourceState::Missing {
            message.extend(status.violations.first().map(|violation| format!(": {violation}")));
            tracing::warn!(live = %self.head_revision(), "{message}; what is live stays live");
        }
        self.event("source", None, None, &message, None);
    }

    fn propose_file(&mut self, want: Want, retry: bool) {
        let written_at = self.written_at.take();
        let asking = std::mem::take(&mut self.asking);
        let without = Exclusions::of_all(asking.iter().map(|asker| &asker.without));
        // Of several callers at once, the one whose exclusions the proposal has is its actor; else the file itself is.
        let (actor, mut span) = match asking.iter().find(|asker| asker.without == *without.named()) {
            Some(asker) => (asker.actor.clone(), self.asked_change(asker, want.source())),
            None => {
                let mut span = self.spans.change(None, want.source(), want.source());
                span.began_before(written_at.map_or(Duration::ZERO, |written_at| self.since(written_at)));
                (want.source(), span)
            }
        };
        if retry {
            span.set("only1mcp.retry", true);
        }
        let mut candidate = Candidate::new(want, actor, span);
        candidate.written_at = written_at;
        candidate.without = without;
        for asker in asking {
            if candidate.serves(&asker) {
                candidate.answers.push(asker.answer);
            } else {
                self.later.push(asker);
            }
        }
        self.enter(candidate);
    }

    fn answer_askers(&mut self, answer: &Answer) {
        let live = self.head_revision();
        let said: pb::Outcome = match answer {
            Answer::UnderWay { turn } => {
                let under_way =
                    |candidate: &Candidate| matches!(candidate.want, Want::File { turn: of, .. } if of == *turn);
                // Without a candidate, the content was judged while this read was under way.
                let candidate = self.candidates.iter().find(|(_, candidate)| under_way(candidate));
                return match candidate {
                    Some((id, _)) => self.join(*id),
                    None => self.ask_again(false),
                };
            }
            Answer::Unchanged { digest } if self.refused_before.take_if(|refused| refused == digest).is_some() => {
                return self.ask_again(true);
            }
            Answer::Unchanged { digest } => {
                let hint = "what the file says was rolled back; use force to judge it again";
                let undone = self.undone == Some(*digest);
                outcome::nothing_to_do(live, undone.then(|| hint.to_owned()))
            }
            Answer::Missing => outcome::unreadable(live, &format!("{}: there is no such file", self.origin.name())),
            Answer::Unreadable(reason) => outcome::unreadable(live, reason),
        };
        let result = if matches!(answer, Answer::Missing | Answer::Unreadable(_)) { "refused" } else { "no_change" };
        for asker in std::mem::take(&mut self.asking) {
            outcome::count(result);
            let mut span = self.asked_change(&asker, model::Owner::file().0);
            span.set("only1mcp.result", result);
            if let Answer::Unreadable(reason) = answer {
                span.fail(reason.clone());
            }
            drop(asker.answer.send(Ok(said.clone())));
        }
    }

    /// Joins the callers to the candidate: the content they ask for is being judged already.
    fn join(&mut self, id: ProposalId) {
        let now = self.now();
        let Some(candidate) = self.candidates.get_mut(&id) else { return };
        for asker in std::mem::take(&mut self.asking) {
            // A caller that this candidate does not serve also waits for its end, and then the file is asked for again.
            candidate.without.hear(&asker.without);
            let joined = reconciler::Event::Joined { proposal: id, without: asker.without.clone() };
            if candidate.serves(&asker) {
                let context = asker.trace.map(|trace| trace.to_string()).unwrap_or_default();
                candidate.span.event("asked for as well", vec![KeyValue::new("traceparent", context)]);
                candidate.answers.push(asker.answer);
            } else {
                self.later.push(asker);
            }
            self.rollout.handle(now, joined);
        }
    }

    pub(super) fn source_status(&self) -> SourceStatus {
        let (mut violations, mut refusals) = (Vec::new(), Vec::new());
        if let Some(refusal) = &self.refusal {
            violations.clone_from(&refusal.violations);
            refusals.clone_from(&refusal.refusals);
        }
        if self.undone.is_some() {
            let reason = "what the file says was rolled back, until it changes or is reloaded by force";
            refusals.push(NodeRefusal { node: None, reason: reason.into() });
        }
        let state = match self.source.as_ref().map(rollout::SourceCore::state) {
            None => SourceState::None,
            Some(State::Missing { .. }) => {
                let message = format!("{}: there is no such file", self.origin.name());
                violations = vec![Violation::new(None, "", message)];
                SourceState::Missing
            }
            Some(State::Unreadable { reason, .. }) => {
                violations = vec![Violation::new(None, "", reason)];
                SourceState::Missing
            }
            Some(State::Settling { .. }) => SourceState::Settling,
            Some(State::Refused { .. }) => SourceState::Refused,
            Some(_) if self.refusal.is_some() => SourceState::Refused,
            Some(_) if !self.follows_file() => SourceState::Disabled,
            Some(State::Unread) => SourceState::Starting,
            Some(State::Judging { .. }) if self.rollout.head().is_none() => SourceState::Starting,
            Some(State::Judging { .. } | State::Followed { .. }) => SourceState::Following,
        };
        SourceStatus {
            name: self.origin.name(),
            state,
            cursor: self.source.as_ref().and_then(rollout::SourceCore::cursor),
            violations,
            refusals,
            method: self.method,
        }
    }

    fn follows_file(&self) -> bool {
        self.rollout.head().is_none_or(|head| head.content.snapshot.policy.source.enabled)
    }
}
