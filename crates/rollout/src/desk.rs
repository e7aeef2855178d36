//! The desk of config-manager: what becomes of every change that is wanted, from the request to its end.
//!
//! Every owner has at most one change that counts. A newer one takes the place of an older one, wherever that is. A
//! change that another one overtook is merged anew, unless it names the revision it was made from. The desk holds the
//! reconciler and the cursor of the file, which know nothing of each other, and the content that each router holds.
//! The shell merges texts, writes the log and carries messages.

mod bases;
mod candidate;
mod ending;
mod file;
mod merging;
mod said;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::{Debug, Display};

use model::{Digest, NodeId, Owner, Revision, Time};

use crate::cursor::{self, Cursor, Judged, SourceCore};
use crate::reconciler::{self, Head, Link, Notice, Rollout};
use crate::{Content, Directive, Exclusions, Kind, ProposalId, Reason, Record, Sender};

use bases::Bases;
use said::Said;

pub use candidate::{Caller, Candidate, Merged, Want};
pub use ending::{End, Ended, Refused};
pub use file::FileAnswer;
pub use said::Saying;

/// The limit for changes that are not decided, or whose refusal is not on record; more are turned away.
pub const CANDIDATES_MAX: usize = 256;
/// The limit, in bytes, of what they keep together.
pub const CANDIDATES_BYTES_MAX: usize = 64 << 20;
/// The limit for trials among them: each takes as long as its servers take to come up, or its caller waits.
pub const TRIALS_MAX: usize = 4;
/// The limit for callers that wait for the file to be judged; more are turned away.
pub const CALLERS_MAX: usize = 1024;
/// How often a candidate is merged anew because another change went first.
const MERGES_MAX: u32 = 16;

/// Types that the desk keeps for its shell and never reads.
pub trait Papers: Debug {
    /// What a change says.
    type Text: Debug;
    /// How a caller is told the end.
    type Caller: Debug;
    /// What the log keeps with a revision.
    type Payload: Debug + Clone;
    /// Why a text is no configuration.
    type Fault: Debug + Display;

    /// How much memory a change with that text keeps until it ends.
    fn bytes(text: &Self::Text) -> usize;
}

#[derive(Debug)]
pub enum Event<K: Papers> {
    /// A caller wants the file to be read and judged now. `force`: even if it was judged before.
    Reload { force: bool, caller: Caller<K> },
    /// A caller wants a change other than of the file.
    Wanted { want: Want, text: K::Text, caller: Caller<K> },
    /// The caller of a trial has gone, so the trial ends. Any other change goes on without its caller.
    Left { proposal: ProposalId },
    /// The answer to [`Effect::Merge`].
    Merged { proposal: ProposalId, merged: Result<Merged<K::Payload>, K::Fault> },
    /// The end of a candidate is on record, or could not be written.
    Recorded { saying: Option<Saying>, durable: bool },
    /// From the file. The text comes with the digest that was read.
    Source { event: cursor::Event, text: Option<K::Text> },
    /// From routers and from the log.
    Reconciler(reconciler::Event<K::Payload>),
    /// A deadline has come.
    Woke,
}

/// What the desk wants done, in this order.
#[derive(Debug)]
pub enum Effect<K: Papers> {
    /// A change is at the desk from now on. `by`: the caller that asked for it, by its index; none if the file changed
    /// by itself. `retry`: what was refused is tried again.
    Entered {
        proposal: ProposalId,
        by: Option<usize>,
        retry: bool,
    },
    /// Another caller, the last one, waits for that candidate.
    Joined {
        proposal: ProposalId,
    },
    /// Make a snapshot of the present layers and what the candidate wants; report [`Event::Merged`]. One at a time, but
    /// for rollbacks, which find theirs in the log.
    Merge {
        proposal: ProposalId,
    },
    /// The end of a candidate, for its callers and the record.
    Ended(Box<Ended<K>>),
    TurnedAway {
        caller: Caller<K>,
        why: TurnedAway,
    },
    /// The file was read, and there is nothing to judge.
    Answered {
        callers: Vec<Caller<K>>,
        answer: FileAnswer,
    },
    /// See [`cursor::Effect::Look`].
    Look,
    /// See [`cursor::Effect::Read`].
    Read,
    /// Keep where the file stands.
    SaveCursor(Cursor),
    /// The state of the file is another one.
    SourceChanged,
    /// See [`reconciler::Effect::Send`]. `base`: the content that the router holds, for a difference.
    Send {
        node: NodeId,
        link: Link,
        directive: Directive,
        base: Option<Content>,
    },
    /// See [`reconciler::Effect::Append`].
    Append(Box<Record<K::Payload>>),
    /// See [`reconciler::Effect::RaiseEpoch`].
    RaiseEpoch {
        above: u64,
    },
    /// Something has happened to attempts or routers. What follows from it comes after it.
    Notice(Notice),
}

/// Why a request was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnedAway {
    /// There is no file to reload.
    NoFile,
    /// See [`CALLERS_MAX`].
    Callers,
    /// See [`CANDIDATES_MAX`].
    Candidates,
    /// See [`TRIALS_MAX`].
    Trials,
    /// See [`CANDIDATES_BYTES_MAX`]: so much is kept already.
    Bytes(usize),
}

/// What a desk begins with: what the log says.
#[derive(Debug)]
pub struct Start {
    pub sender: Sender,
    pub head: Option<Head>,
    /// There is a file to follow.
    pub file: bool,
    /// The last judgement of the file.
    pub cursor: Option<Cursor>,
}

/// The one desk: value in, value out.
#[derive(Debug)]
pub struct Desk<K: Papers> {
    rollout: Rollout<K::Payload>,
    source: Option<SourceCore>,
    /// What was read last from the file, until it is proposed.
    text: Option<(Digest, K::Text)>,
    /// The content of the file that was judged last, if it was refused.
    refused: Option<Digest>,
    said: Said,
    /// The content of the file when a rollback moved the cursor over it.
    undone: Option<Digest>,
    /// Callers of reload: for the next read of the file, and for the one under way.
    asked: Vec<Caller<K>>,
    asking: Vec<Caller<K>>,
    /// Callers whose request waits for the end of the present judgement.
    later: Vec<Caller<K>>,
    candidates: BTreeMap<ProposalId, Candidate<K>>,
    /// Candidates that wait to be merged, which is done for one at a time: a text of some megabytes takes hundreds of
    /// milliseconds.
    to_merge: VecDeque<ProposalId>,
    merging: Option<ProposalId>,
    proposals: u64,
    /// Ends that are not on record yet.
    unrecorded: usize,
    bases: Bases,
    /// The time of the last event: its consequences are drawn at that time.
    now: Time,
    effects: VecDeque<Effect<K>>,
}

impl<K: Papers> Desk<K> {
    pub fn new(now: Time, start: Start) -> Self {
        let Start { sender, head, file, cursor } = start;
        let policy = head.as_ref().map(|head| head.content.snapshot.policy.source.clone()).unwrap_or_default();
        let undone = cursor.filter(|cursor| cursor.judged == Judged::RolledBack).map(|cursor| cursor.digest);
        // While nothing is live, what is found serves at once, whatever was refused before.
        let cursor = cursor.filter(|_| head.is_some());
        let source = file.then(|| SourceCore::new(now, policy, cursor));
        Self {
            bases: Bases::new(head.as_ref().map(|head| head.content.clone())),
            rollout: Rollout::new(sender, head),
            source,
            text: None,
            refused: None,
            said: Said::default(),
            undone,
            asked: Vec::new(),
            asking: Vec::new(),
            later: Vec::new(),
            candidates: BTreeMap::new(),
            to_merge: VecDeque::new(),
            merging: None,
            proposals: 0,
            unrecorded: 0,
            now,
            effects: VecDeque::new(),
        }
    }

    pub fn handle(&mut self, now: Time, event: Event<K>) {
        self.now = now;
        match event {
            Event::Reload { force, caller } => self.reload(force, caller),
            Event::Wanted { want, text, caller } => self.wanted(want, text, caller),
            Event::Left { proposal } => self.left(proposal),
            Event::Merged { proposal, merged } => self.merged(proposal, merged),
            Event::Recorded { saying, durable } => {
                self.unrecorded -= 1;
                if let Some(saying) = saying.filter(|_| !durable) {
                    self.said.take_back(&saying);
                }
            }
            Event::Source { event, text } => {
                if let (cursor::Event::Read { found: cursor::Found::Digest(digest), .. }, Some(text)) = (&event, text) {
                    self.text = Some((*digest, text));
                }
                self.tell_source(event);
            }
            Event::Reconciler(event) => {
                self.bases.hear(&event);
                self.rollout.handle(now, event);
            }
            Event::Woke => {
                self.rollout.handle(now, reconciler::Event::Woke);
                self.tell_source(cursor::Event::Woke);
            }
        }
    }

    pub fn poll_effect(&mut self) -> Option<Effect<K>> {
        loop {
            if let Some(effect) = self.effects.pop_front() {
                return Some(effect);
            }
            if let Some(effect) = self.rollout.poll_effect() {
                self.pass_reconcilers(effect);
            } else {
                let effect = self.source.as_mut().and_then(SourceCore::poll_effect)?;
                self.pass_sources(effect);
            }
        }
    }

    /// When to call `handle` with [`Event::Woke`], if nothing else happens before.
    pub fn next_deadline(&self) -> Option<Time> {
        let source = self.source.as_ref().and_then(SourceCore::next_deadline);
        self.rollout.next_deadline().into_iter().chain(source).min()
    }

    pub fn reconciler(&self) -> &Rollout<K::Payload> {
        &self.rollout
    }

    pub fn source(&self) -> Option<&SourceCore> {
        self.source.as_ref()
    }

    pub fn candidate(&self, proposal: ProposalId) -> Option<&Candidate<K>> {
        self.candidates.get(&proposal)
    }

    /// Changes that are not decided, the oldest first.
    pub fn candidates(&self) -> impl Iterator<Item = (ProposalId, &Candidate<K>)> {
        self.candidates.iter().map(|(id, candidate)| (*id, candidate))
    }

    /// The content of the file, if it was refused when it was judged last.
    pub fn refused(&self) -> Option<Digest> {
        self.refused
    }

    /// The content of the file, if a rollback went over it.
    pub fn undone(&self) -> Option<Digest> {
        self.undone
    }

    pub fn head_revision(&self) -> Revision {
        self.rollout.head().map_or(Revision::NONE, |head| head.revision)
    }

    /// A change that names another revision than the live one ends at once.
    fn wanted(&mut self, mut want: Want, text: K::Text, caller: Caller<K>) {
        let head = self.head_revision();
        match &mut want {
            // It undoes the live revision: a request that is sent twice undoes one change.
            Want::Rollback { to: None, base } => {
                base.get_or_insert(head);
            }
            // Trials are independent of each other: each has an owner of its own.
            Want::Trial { number, .. } => *number = self.proposals + 1,
            Want::File { .. } | Want::Layer { .. } | Want::Rollback { to: Some(_), .. } => {}
        }
        if self.candidates.len() + self.unrecorded >= CANDIDATES_MAX {
            return self.turn_away(caller, TurnedAway::Candidates);
        }
        let trials = || self.candidates.values().filter(|candidate| candidate.is_trial()).count();
        if matches!(want, Want::Trial { .. }) && trials() >= TRIALS_MAX {
            return self.turn_away(caller, TurnedAway::Trials);
        }
        let stale = want.base().filter(|base| *base != head);
        let kept: usize = self.candidates.values().map(|candidate| K::bytes(&candidate.text)).sum();
        if stale.is_none() && !self.candidates.is_empty() && kept + K::bytes(&text) > CANDIDATES_BYTES_MAX {
            return self.turn_away(caller, TurnedAway::Bytes(kept));
        }
        let mut candidate = Candidate::new(want, text, Exclusions::of(caller.without.clone()));
        candidate.callers.push(caller);
        match stale {
            Some(base) => {
                let proposal = self.next_proposal();
                self.refuse(proposal, candidate, Refused::Reason(Reason::StaleBase { base, head }));
            }
            None => self.enter(candidate, Some(0), false),
        }
    }

    fn left(&mut self, proposal: ProposalId) {
        let is_trial = |_: &_, candidate: &mut Candidate<K>| candidate.is_trial() && !candidate.is_proposed();
        let undecided = self.candidates.extract_if(proposal..=proposal, is_trial).next();
        if let Some((proposal, candidate)) = undecided {
            self.refuse(proposal, candidate, Refused::Reason(Reason::Withdrawn));
        } else if self.candidates.get(&proposal).is_some_and(Candidate::is_trial) {
            self.rollout.handle(self.now, reconciler::Event::Withdrawn { proposal });
        }
    }

    fn turn_away(&mut self, caller: Caller<K>, why: TurnedAway) {
        self.effects.push_back(Effect::TurnedAway { caller, why });
    }

    fn next_proposal(&mut self) -> ProposalId {
        self.proposals += 1;
        ProposalId(self.proposals)
    }

    /// Gives the candidate a number and has it merged. An older one of its owner that is not proposed yet gives way.
    fn enter(&mut self, mut candidate: Candidate<K>, by: Option<usize>, retry: bool) {
        let proposal = self.next_proposal();
        let owner = candidate.want.owner();
        let older = |_: &_, other: &mut Candidate<K>| !other.is_proposed() && other.want.owner() == owner;
        let mut older: Vec<_> = self.candidates.extract_if(.., older).collect();
        for (_, old) in &mut older {
            candidate.take_over(old);
        }
        self.candidates.insert(proposal, candidate);
        self.effects.push_back(Effect::Entered { proposal, by, retry });
        for (id, old) in older {
            self.supersede(id, old);
        }
        self.start_merging(proposal);
    }

    fn pass_reconcilers(&mut self, effect: reconciler::Effect<K::Payload>) {
        let effect = match effect {
            reconciler::Effect::Send { node, link, directive } => {
                let base = self.bases.of(&node, link, &directive);
                Effect::Send { node, link, directive, base }
            }
            reconciler::Effect::Append(record) => Effect::Append(record),
            reconciler::Effect::RaiseEpoch { above } => Effect::RaiseEpoch { above },
            reconciler::Effect::Resolve { proposal, outcome } => return self.resolved(proposal, outcome),
            reconciler::Effect::Notice(notice) => return self.noticed(notice),
        };
        self.effects.push_back(effect);
    }

    fn noticed(&mut self, notice: Notice) {
        match &notice {
            Notice::AttemptStarted { attempt, proposal, voters, .. } => {
                if let Some(candidate) = self.candidates.get_mut(proposal) {
                    candidate.attempt = Some(*attempt);
                    candidate.voters.clone_from(voters);
                }
            }
            Notice::Waiting { proposal } | Notice::AttemptDropped { proposal, .. } => {
                if let Some(candidate) = self.candidates.get_mut(proposal) {
                    candidate.voters.clear();
                }
            }
            Notice::Committed { proposal, kind, cursors, .. } => {
                let (proposal, kind, cursor) = (*proposal, *kind, cursors.get(&Owner::file()).copied());
                self.effects.push_back(Effect::Notice(notice));
                return self.committed(proposal, kind, cursor);
            }
            Notice::Voted { .. }
            | Notice::LeftRound { .. }
            | Notice::AttemptEnded { .. }
            | Notice::Tried { .. }
            | Notice::Applied(_)
            | Notice::Attached { .. }
            | Notice::Detached { .. }
            | Notice::Acked { .. }
            | Notice::Behind { .. }
            | Notice::CaughtUp { .. }
            | Notice::NumbersAbove { .. }
            | Notice::Deposed { .. } => {}
        }
        self.effects.push_back(Effect::Notice(notice));
    }

    /// A rollback ends every candidate of the file: a later refusal of it would be shown although the file is rolled
    /// back, and the file must not bring back by itself what was undone. Of a content that was refused nothing is
    /// undone, since it was not live: it stays refused.
    fn committed(&mut self, proposal: Option<ProposalId>, kind: Kind, cursor: Option<Digest>) {
        if let Some(content) = self.rollout.head().map(|head| head.content.clone()) {
            self.tell_source(cursor::Event::Policy(content.snapshot.policy.source.clone()));
            self.bases.remember(content);
        }
        match (kind, proposal) {
            (Kind::Rollback { .. }, Some(by)) => {
                let live = self.candidates.get(&by).and_then(Candidate::file);
                let over = cursor.filter(|said| live != Some(*said));
                let refused = self.refused.filter(|refused| over == Some(*refused) && self.undone != over);
                self.undone = over.filter(|_| refused.is_none());
                self.refused = refused;
                if let Some(cursor) = cursor {
                    self.tell_source(cursor::Event::RolledBack { cursor, refused: refused.is_some() });
                }
                let of_file = |_: &_, candidate: &mut Candidate<K>| matches!(candidate.want, Want::File { .. });
                for (id, candidate) in self.candidates.extract_if(.., of_file).collect::<Vec<_>>() {
                    self.refuse(id, candidate, Refused::Reason(Reason::Overtaken { by }));
                }
            }
            _ if cursor.is_some() => self.undone = None,
            _ => {}
        }
    }

    fn joined(&mut self, proposal: ProposalId, without: BTreeSet<NodeId>) {
        self.rollout.handle(self.now, reconciler::Event::Joined { proposal, without });
    }
}

#[cfg(test)]
mod tests;
