//! From a request to a snapshot: layers are merged and judged off this task, and what a rollback brings back is looked
//! up.

use std::sync::Arc;
use std::time::Duration;

use model::{Digest, Owner, Revision, Violation};
use rollout::ProposalId;
use rollout::desk::{Event, Want};
use runtime::{Kind as Side, Span};

use super::candidate::source_of;
use super::{Done, Engine, Merged, Open, Timing, merge, with_layer};
use crate::command::Asker;
use crate::log::{Kept, Layer, Log, RevisionRecord, Unavailable};
use crate::outcome::Fault;
use crate::source::text_of;

/// How long to wait for a read of the file, which may lie on a network: after that the rollback does without it.
const LOOK_MAX: Duration = Duration::from_millis(250);
/// Lines in the log about one content of the file.
const ADVICE_LOGGED: usize = 20;

impl Engine {
    /// Begins what is kept of a change. Its span begins at the time of the request, or of the write.
    pub(super) fn open(&self, want: &Want, asker: Option<&Asker>, written_at: Option<u64>) -> Open {
        let source = source_of(want);
        let (actor, span) = match asker {
            Some(asker) => (asker.actor.clone(), self.asked_change(asker, source)),
            None => {
                let mut span = self.spans.change(None, source.clone(), source.clone());
                span.began_before(written_at.map_or(Duration::ZERO, |written_at| self.since(written_at)));
                (source, span)
            }
        };
        Open {
            actor,
            span,
            judging: None,
            written_at,
            read_at: self.clock.now_nanos(),
            timing: Timing::default(),
            advice: Vec::new(),
            layers: None,
            over: None,
            undoes_file: false,
        }
    }

    /// Starts the span of a change that a caller asked for.
    pub(super) fn asked_change(&self, asker: &Asker, source: String) -> Span {
        let mut span = self.spans.change(asker.trace, source, asker.actor.clone());
        span.began_before(self.since(asker.asked_at));
        span
    }

    fn since(&self, then: u64) -> Duration {
        Duration::from_nanos(self.clock.now_nanos().saturating_sub(then))
    }

    pub(super) fn entered(&mut self, proposal: ProposalId, by: Option<usize>, retry: bool) {
        self.changed = true;
        let Some(candidate) = self.desk.candidate(proposal) else { return };
        let of_file = matches!(candidate.want, Want::File { .. });
        let written_at = self.written_at.take_if(|_| of_file);
        let asker = by.and_then(|by| candidate.callers.get(by)).map(|caller| &caller.handle);
        let mut open = self.open(&candidate.want, asker, written_at);
        if let (Want::Trial { .. }, Some(asker)) = (&candidate.want, asker) {
            let gone = asker.gone.clone().cancelled_owned();
            self.work.spawn(async move {
                gone.await;
                Done::Left(proposal)
            });
        }
        if retry {
            open.span.set("only1mcp.retry", true);
        }
        self.open.insert(proposal, open);
    }

    pub(super) fn merge(&mut self, id: ProposalId) {
        let (Some(candidate), Some(open)) = (self.desk.candidate(id), self.open.get_mut(&id)) else { return };
        open.layers = None;
        open.judging = Some(open.span.child("config.judge", Side::Internal));
        let (clock, live, recorded) = (self.clock, self.live_digest(), self.layers.clone());
        if let Want::Rollback { to, .. } = candidate.want {
            return self.bring_back(id, to, self.head_revision());
        }
        let owner = match &candidate.want {
            Want::Trial { of, .. } => of.clone(),
            Want::File { .. } | Want::Layer { .. } | Want::Rollback { .. } => candidate.want.owner(),
        };
        let layers = with_layer(&recorded, owner, candidate.text.layer.clone());
        let known = Arc::clone(&self.known);
        let head = self.desk.reconciler().head().map(|head| Arc::clone(&head.content.snapshot));
        self.work.spawn_blocking(move || {
            // A text that makes the parser panic is a fault of ours, and must not end the process.
            let judge = || {
                let merged = merge(layers, &recorded, &known, head.as_deref(), clock)?;
                Ok(merged.with_recorded(live, &recorded))
            };
            let merged = std::panic::catch_unwind(judge);
            let merged = merged.unwrap_or_else(|_| Err(vec![parser_panicked()]));
            Done::Merged(id, merged.map(Box::new).map_err(Fault::Violations))
        });
    }

    /// The rollback goes over the present content of the file: an edit that was not read yet precedes it, too.
    fn bring_back(&mut self, id: ProposalId, to: Option<Revision>, live: Revision) {
        let (origin, log, digest, recorded) =
            (self.origin.clone(), self.log.clone(), self.live_digest(), self.layers.clone());
        self.work.spawn(async move {
            let text = tokio::task::spawn_blocking(move || text_of(&origin));
            let text = tokio::time::timeout(LOOK_MAX, text).await.ok().and_then(Result::ok).flatten();
            let found = tokio::task::spawn_blocking(move || {
                let kept = to.map_or_else(|| before(&log, live), Ok).and_then(|to| log.kept(to))?;
                // Who names a revision wants its content, whatever texts it was made of.
                let is_live = to.is_some() && digest == Some(kept.content.digest);
                let merged = brought_back(kept, text).with_recorded(digest, &recorded);
                Ok(Box::new(if is_live { Merged { layers: recorded, ..merged } } else { merged }))
            });
            Done::Merged(id, found.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())))
        });
    }

    pub(super) fn merged(&mut self, proposal: ProposalId, mut merged: Result<Box<Merged>, Fault>) {
        self.changed = true;
        if let Some(known) = merged.as_mut().ok().and_then(|merged| merged.known.take()) {
            self.known = Arc::new(known);
        }
        let candidate = self.desk.candidate(proposal);
        let reason = candidate.map(|candidate| candidate.text.reason.clone()).unwrap_or_default();
        let of_file = candidate.is_some_and(|candidate| matches!(candidate.want, Want::File { .. }));
        // Of one that gave way, the desk only wants to know that it is over.
        let mut actor = String::new();
        if let Some(open) = self.open.get_mut(&proposal) {
            actor.clone_from(&open.actor);
            let judging = open.judging.take();
            match &merged {
                Ok(merged) => {
                    if of_file {
                        advise(&merged.advice);
                    }
                    (open.timing, open.advice) = (merged.timing, merged.advice.clone());
                    (open.layers, open.over) = (Some(merged.layers.clone()), merged.over);
                }
                Err(fault) => {
                    if let Some(mut judging) = judging {
                        judging.count("only1mcp.violations", fault.violations().len() as u64);
                        judging.fail(fault.to_string());
                    }
                }
            }
        }
        let merged = merged.map(|merged| merged.proposed(actor, reason));
        self.tell(Event::Merged { proposal, merged });
    }
}

/// A change of the file has no caller that waits for an answer.
fn advise(advice: &[Violation]) {
    for advice in advice.iter().take(ADVICE_LOGGED) {
        tracing::info!("{advice}");
    }
    if let Some(more @ 1..) = advice.len().checked_sub(ADVICE_LOGGED) {
        tracing::info!("{more} more about the file; `only1mcp validate` lists them");
    }
}

fn parser_panicked() -> Violation {
    Violation::new(None, "", "reading this text failed inside the program; please report it with the text")
}

/// A file that differs from its content at that revision only in comments is not undone: its present text is recorded.
fn brought_back(kept: Kept, text: Option<(Digest, Layer)>) -> Merged {
    let mut merged = Merged::from(kept);
    merged.over = text.as_ref().map(|(digest, _)| *digest);
    if let (Some((_, now)), Some(then)) = (text, merged.layers.get(&Owner::file()))
        && now.means(then)
    {
        Arc::make_mut(&mut merged.layers).insert(Owner::file(), now);
    }
    merged
}

/// The record that first made this revision's content live: follows renumberings back to their origin.
fn origin(log: &Log, revision: Revision) -> Result<RevisionRecord, Unavailable> {
    let mut record = log.revision(revision)?.0;
    while record.is_renumbering() && record.parent != Revision::NONE {
        record = log.revision(record.parent)?.0;
    }
    Ok(record)
}

/// What was live before the content that a rollback brought back, if it is kept.
fn further_back(log: &Log, rollback: &RevisionRecord) -> Option<Revision> {
    let mut brought_back = rollback.clone();
    while let Some(to) = brought_back.brought_back() {
        brought_back = origin(log, to).ok()?;
    }
    let before = Some(brought_back.parent).filter(|parent| *parent != Revision::NONE)?;
    log.revision(before).ok()?.1.map(|_| before)
}

/// What was live before the live content. A rollback does not undo another one: that would bring back what is bad.
fn before(log: &Log, live: Revision) -> Result<Revision, Unavailable> {
    if live == Revision::NONE {
        return Err(Unavailable::Unknown { revision: live, oldest: live, newest: live });
    }
    let record = origin(log, live)?;
    match record.parent {
        _ if record.is_rollback() => {
            let further = further_back(log, &record);
            let is_live = [Some(live), Some(record.revision), record.brought_back()];
            let mut others = log.all_kept()?;
            others.retain(|kept| !is_live.contains(&Some(*kept)));
            Err(Unavailable::RolledBack { revision: live, by: record.source, further, others })
        }
        Revision::NONE => Err(Unavailable::First { revision: live }),
        parent => Ok(parent),
    }
}
