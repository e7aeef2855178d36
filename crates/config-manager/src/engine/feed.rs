//! The file's side: what is seen of it goes to the desk; what the desk says of it goes to callers and to the status.

use model::{Digest, EventKind, Owner, Time, Violation};
use rollout::cursor::{Event as Sight, State, Write};
use rollout::desk::{Event, FileAnswer};

use super::{Engine, Text};
use crate::command::Caller;
use crate::outcome::{self, Outcome, Refused};
use crate::source::FromSource;
use crate::status::{NodeRefusal, SourceState, SourceStatus};

/// The last refusal of the file.
#[derive(Debug, Default)]
pub(super) struct Refusal {
    digest: Option<Digest>,
    violations: Vec<Violation>,
    refusals: Vec<NodeRefusal>,
}

impl Refusal {
    pub(super) fn is_of(&mut self, refused: &Refused, digest: Digest) {
        let violations = outcome::violations(refused).to_vec();
        *self = Self { digest: Some(digest), violations, refusals: outcome::refusals(refused) };
    }
}

impl Engine {
    pub(super) fn source_said(&mut self, said: FromSource) {
        match said {
            FromSource::Event(event) => {
                if let Sight::Noticed {
                    write: Write::Complete | Write::Open | Write::Closed | Write::InPlace, ..
                } = event
                {
                    self.written_at = Some(self.clock.now_nanos());
                }
                self.tell(Event::Source { event, text: None });
            }
            FromSource::Read { event, text } => {
                let layer = text.map(|text| self.origin.layer(text));
                let beside = self.layers.values().map(|layer| layer.text.len()).sum();
                let text = layer.map(|layer| Text { layer: Some(layer), beside, ..Text::default() });
                self.tell(Event::Source { event, text });
            }
            FromSource::Method(method) => {
                self.method = Some(method);
                self.changed = true;
            }
        }
    }

    pub(super) fn source_changed(&mut self) {
        self.changed = true;
        // Each judgement is told by its own events.
        if let Some(State::Judging { .. }) = self.desk.source().map(rollout::SourceCore::state) {
            return;
        }
        let status = self.source_status();
        let before = std::mem::replace(&mut self.source_told, status.state);
        if status.state == before || status.state == SourceState::Refused {
            return;
        }
        let mut message = format!("{} {}", status.name, status.state.in_words());
        if status.state == SourceState::Missing {
            message.extend(status.violations.first().map(|violation| format!(": {violation}")));
            tracing::warn!(live = %self.head_revision(), "{message}; what is live stays live");
        }
        self.event(EventKind::Source, None, None, &message, None);
    }

    /// The file was read, and there is nothing to judge.
    pub(super) fn answer(&self, callers: Vec<Caller>, answer: &FileAnswer) {
        let live = self.head_revision();
        let (result, said) = match answer {
            FileAnswer::Unchanged { undone: false } => ("no_change", Outcome::new(outcome::Result::NoChange, live)),
            // For its caller, who wants what the file says; nothing was decided anew that would be counted as refused.
            FileAnswer::Unchanged { undone: true } => {
                let refused = Outcome::new(outcome::Result::Refused, live);
                let undone = NodeRefusal { node: None, reason: format!("{UNDONE} until it changes") };
                ("no_change", Outcome { refusals: vec![undone], ..refused })
            }
            FileAnswer::Missing => {
                ("refused", Outcome::unreadable(live, &format!("{}: there is no such file", self.origin.name())))
            }
            FileAnswer::Unreadable(reason) => ("refused", Outcome::unreadable(live, reason)),
        };
        for Caller { handle: asker, .. } in callers {
            outcome::count(result);
            let mut span = self.asked_change(&asker, Owner::file().0);
            span.set("only1mcp.result", result);
            if let FileAnswer::Unreadable(reason) = answer {
                span.fail(reason.clone());
            }
            asker.tell(Ok(said.clone()));
        }
    }

    /// When the refused content of the file is judged again, in case what was wrong has healed.
    pub(super) fn next_try(&self) -> Option<Time> {
        match self.desk.source()?.state() {
            State::Refused { next_attempt, .. } => next_attempt,
            State::Unread
            | State::Followed { .. }
            | State::Settling { .. }
            | State::Judging { .. }
            | State::Missing { .. }
            | State::Unreadable { .. } => None,
        }
    }

    pub(super) fn source_status(&self) -> SourceStatus {
        let (mut violations, mut refusals) = (Vec::new(), Vec::new());
        let refused = self.desk.refused().is_some();
        if self.desk.refused() == self.refusal.digest {
            violations.clone_from(&self.refusal.violations);
            refusals.clone_from(&self.refusal.refusals);
        }
        let state = match self.desk.source().map(rollout::SourceCore::state) {
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
            // Also while the next content is being written.
            Some(State::Refused { .. }) => SourceState::Refused,
            Some(_) if refused => SourceState::Refused,
            Some(State::Settling { .. }) => SourceState::Settling,
            Some(_) if self.desk.undone().is_some() => SourceState::RolledBack,
            Some(_) if !self.desk.follows_file() => SourceState::Disabled,
            Some(State::Unread) => SourceState::Starting,
            Some(State::Judging { .. }) if self.desk.reconciler().head().is_none() => SourceState::Starting,
            Some(State::Judging { .. } | State::Followed { .. }) => SourceState::Following,
        };
        // A file that is gone says nothing.
        if self.desk.undone().is_some() && state != SourceState::Missing {
            let reason = format!("{UNDONE} until it changes, or by `only1mcp reload --force`");
            refusals.push(NodeRefusal { node: None, reason });
        }
        SourceStatus {
            name: self.origin.name(),
            state,
            cursor: self.desk.source().and_then(rollout::SourceCore::cursor),
            violations,
            refusals,
            next_try: self.next_try(),
            method: self.method,
        }
    }
}

/// Why what the file says is not live.
const UNDONE: &str = "what the file says was undone by a rollback; it is not judged again";

/// After a rollback: that the file says something else than what is live, and what to do about that. `undoes_file`: what
/// it says was live until then.
pub(super) fn not_live(name: &str, undoes_file: bool) -> String {
    let says = if undoes_file { "still says what was undone" } else { "does not say what is live" };
    format!(
        "{name} {says}; that has no effect until it changes. To write back what is live, change in it what `only1mcp \
         diff {name}` shows. Do not write `only1mcp show` over it: that has marks in place of values that are written out"
    )
}
