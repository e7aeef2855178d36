//! One attempt, from prepare to the last ack.

use std::collections::{BTreeMap, BTreeSet};

use model::{AttemptId, Diff, Digest, NodeId, Owner, Revision, Snapshot, Time};

use crate::{
    Applied, Content, Directive, Findings, Kind, Outcome, Proposal, ProposalId, Reason, Record, Refusal, Rejection,
    Source, Stages, Votes,
};

use super::queue::Waiting;
use super::{ACK_TIMEOUT, Effect, Head, LEASE, Notice, RETRY, Rollout};

#[derive(Debug)]
pub(super) struct Attempt<P> {
    pub(super) id: AttemptId,
    pub(super) content: Content,
    pub(super) stage: Stage<P>,
    /// Voters of the round that have not left it.
    pub(super) ballots: BTreeMap<NodeId, Ballot>,
    /// When the present stage began.
    since: Time,
    stages: Stages,
}

#[derive(Debug)]
pub(super) enum Ballot {
    Open,
    Yes(Findings),
}

#[derive(Debug)]
pub(super) enum Stage<P> {
    Preparing { waiting: Waiting<P>, deadline: Time, renew_at: Time },
    Appending { decided: Decided, renew_at: Time },
    Swapping { decided: Decided, unanswered: BTreeSet<NodeId>, deadline: Time },
}

/// What is known of the attempt once its record is handed to the log.
#[derive(Debug)]
pub(super) struct Decided {
    proposal: Option<ProposalId>,
    kind: Kind,
    revision: Revision,
    parent: Revision,
    layers: Digest,
    diff: Diff,
    cursors: BTreeMap<Owner, Digest>,
    votes: Votes,
}

impl<P> Attempt<P> {
    pub(super) fn preparing(&self) -> Option<&Waiting<P>> {
        match &self.stage {
            Stage::Preparing { waiting, .. } => Some(waiting),
            Stage::Appending { .. } | Stage::Swapping { .. } => None,
        }
    }

    pub(super) fn preparing_mut(&mut self) -> Option<&mut Waiting<P>> {
        match &mut self.stage {
            Stage::Preparing { waiting, .. } => Some(waiting),
            Stage::Appending { .. } | Stage::Swapping { .. } => None,
        }
    }

    pub(super) fn is_swapping(&self) -> bool {
        matches!(self.stage, Stage::Swapping { .. })
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        match self.stage {
            Stage::Preparing { deadline, renew_at, .. } => Some(deadline.min(renew_at)),
            Stage::Appending { renew_at, .. } => (!self.ballots.is_empty()).then_some(renew_at),
            Stage::Swapping { deadline, .. } => Some(deadline),
        }
    }

    fn all_said_yes(&self) -> bool {
        self.ballots.values().all(|ballot| matches!(ballot, Ballot::Yes(_)))
    }

    fn lap(&mut self, now: Time) -> std::time::Duration {
        let lap = now.since(self.since);
        self.since = now;
        lap
    }
}

impl<P> Rollout<P> {
    /// The routers that must agree to the proposal; `None` when none must.
    ///
    /// Routers that one caller leaves out are not asked as long as another router can vote. If none can, those that
    /// another caller does not leave out are asked.
    pub(super) fn voters(&self, proposal: &Proposal<P>) -> Option<BTreeSet<NodeId>> {
        let head = self.head.as_ref()?;
        let two_phases = proposal.content.snapshot.policy.validation.two_phase_commit;
        let strict = proposal.trial || proposal.kind == Kind::Change && two_phases;
        strict.then(|| {
            let voters = self.voters_without(head, proposal.without.named());
            if voters.is_empty() { self.voters_without(head, proposal.without.barred()) } else { voters }
        })
    }

    /// The routers that have the head. If no router has it because all refused it (it came without votes), the routers
    /// that refused it: otherwise only a rollback could ever lead away from it.
    fn voters_without(&self, head: &Head, without: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
        let asked = self.routers.iter().filter(|(node, _)| !without.contains(*node));
        let (live, others): (Vec<_>, Vec<_>) = asked.partition(|(_, router)| router.has(head));
        let refused = others.into_iter().filter(|(_, router)| router.has_refused());
        let voters = if live.is_empty() { refused.collect() } else { live };
        voters.into_iter().map(|(node, _)| node.clone()).collect()
    }

    fn next_attempt(&mut self) -> AttemptId {
        self.sequence += 1;
        AttemptId { epoch: self.sender.epoch, sequence: self.sequence }
    }

    pub(super) fn start(&mut self, now: Time, waiting: Waiting<P>, voters: Option<BTreeSet<NodeId>>) {
        let id = self.next_attempt();
        let content = waiting.proposal.content.clone();
        self.notice(Notice::AttemptStarted {
            attempt: id,
            proposal: waiting.proposal.id,
            digest: content.digest,
            voters: voters.clone().unwrap_or_default(),
        });
        for node in voters.iter().flatten() {
            self.send(node, Directive::Prepare { attempt: id, content: content.clone(), lease: LEASE });
        }
        let stages = Stages { waited: now.since(waiting.since), ..Stages::default() };
        let deadline = now + content.snapshot.policy.validation.timeout;
        let stage = Stage::Preparing { waiting, deadline, renew_at: now + LEASE / 3 };
        let ballots = voters.into_iter().flatten().map(|node| (node, Ballot::Open)).collect();
        self.attempt = Some(Attempt { id, content, stage, ballots, since: now, stages });
        self.append_if_agreed(now);
    }

    pub(super) fn vote(
        &mut self,
        now: Time,
        node: NodeId,
        id: AttemptId,
        verdict: Result<(), Refusal>,
        found: Findings,
    ) {
        let Some(attempt) = self.attempt.as_mut().filter(|attempt| attempt.id == id && attempt.preparing().is_some())
        else {
            return;
        };
        let Some(ballot) = attempt.ballots.get_mut(&node).filter(|ballot| matches!(ballot, Ballot::Open)) else {
            return;
        };
        if verdict.is_ok() {
            *ballot = Ballot::Yes(found.clone());
            self.obeyed.insert(node.clone());
        } else {
            // The refusing router has already ended what it started.
            attempt.ballots.remove(&node);
        }
        self.notice(Notice::Voted { attempt: id, node: node.clone(), verdict: verdict.clone() });
        match verdict {
            Ok(()) => self.append_if_agreed(now),
            Err(refusal) => {
                if !self.outran(&refusal) {
                    self.note_younger(now, &node, &refusal);
                }
                if self.raising || self.outran(&refusal) {
                    return self.drop_attempt();
                }
                self.abandon(Reason::Rejected(vec![Rejection { node, refusal, found }]));
            }
        }
    }

    /// The router's stream has ended: it neither holds up the round nor counts in it.
    pub(super) fn leave_round(&mut self, now: Time, node: &NodeId) {
        let Some(attempt) = &mut self.attempt else { return };
        let id = attempt.id;
        let was_in = attempt.ballots.remove(node).is_some();
        match &mut attempt.stage {
            Stage::Preparing { .. } if was_in => {
                let empty = attempt.ballots.is_empty();
                self.notice(Notice::LeftRound { attempt: id, node: node.clone() });
                if empty {
                    self.drop_attempt();
                } else {
                    self.append_if_agreed(now);
                }
            }
            Stage::Swapping { .. } => self.answered(now, node),
            Stage::Preparing { .. } | Stage::Appending { .. } => {}
        }
    }

    fn drop_attempt(&mut self) {
        if let Some(Attempt { id, stage: Stage::Preparing { waiting, .. }, ballots, .. }) = self.attempt.take() {
            for node in ballots.keys() {
                self.send(node, Directive::Abort { attempt: id });
            }
            self.notice(Notice::AttemptDropped { attempt: id, proposal: waiting.proposal.id });
            self.requeue(waiting);
        }
    }

    /// Nothing has changed anywhere, and no number was used.
    pub(super) fn abandon(&mut self, reason: Reason) {
        let Some(attempt) = self.attempt.take() else { return };
        for node in attempt.ballots.keys() {
            self.send(node, Directive::Abort { attempt: attempt.id });
        }
        let proposal = match attempt.stage {
            Stage::Preparing { waiting, .. } => Some(waiting.proposal.id),
            Stage::Appending { decided, .. } | Stage::Swapping { decided, .. } => decided.proposal,
        };
        self.notice(Notice::AttemptEnded { attempt: attempt.id, proposal, reason: reason.clone() });
        if let Some(proposal) = proposal {
            self.resolve(proposal, Outcome::Refused(reason));
        }
    }

    fn append_if_agreed(&mut self, now: Time) {
        let Some(mut attempt) = self.attempt.take_if(|attempt| attempt.all_said_yes()) else { return };
        match attempt.stage {
            Stage::Preparing { waiting, .. } => {
                attempt.stages.prepare = now.since(attempt.since);
                let diff = self.diff_to(&attempt.content.snapshot);
                let votes = std::mem::take(&mut attempt.ballots).into_iter().map(|(node, ballot)| match ballot {
                    Ballot::Open => (node, Findings::default()),
                    Ballot::Yes(found) => (node, found),
                });
                let votes: Votes = votes.collect();
                let Proposal { id, source, kind, base: _, content, layers, payload, cursors, without, trial } =
                    waiting.proposal;
                if trial {
                    return self.tried(attempt.id, id, votes);
                }
                let without = without.left_out(&votes.keys().cloned().collect());
                let record = self.record(attempt.id, (content, layers), source, kind, diff, votes);
                self.append(
                    now,
                    attempt.stages,
                    Some(id),
                    Record { payload: Some(payload), cursors, without, ..record },
                );
            }
            Stage::Appending { .. } | Stage::Swapping { .. } => self.attempt = Some(attempt),
        }
    }

    /// A trial ends where an append would begin.
    fn tried(&mut self, attempt: AttemptId, proposal: ProposalId, votes: Votes) {
        for node in votes.keys() {
            self.send(node, Directive::Abort { attempt });
        }
        self.notice(Notice::Tried { attempt, proposal });
        self.resolve(proposal, Outcome::Tried(votes));
    }

    fn diff_to(&self, snapshot: &Snapshot) -> Diff {
        match &self.head {
            Some(head) => Diff::between(&head.content.snapshot, snapshot),
            None => Diff::between(&Snapshot::default(), snapshot),
        }
    }

    /// The number is given here, at the last moment: an attempt that fails earlier uses no number.
    fn record(
        &self,
        attempt: AttemptId,
        (content, layers): (Content, Digest),
        source: Source,
        kind: Kind,
        diff: Diff,
        votes: Votes,
    ) -> Record<P> {
        let parent = self.head_revision();
        Record {
            attempt,
            revision: parent.max(self.highest).next(),
            parent,
            content,
            layers,
            source,
            kind,
            diff,
            payload: None,
            cursors: BTreeMap::new(),
            without: BTreeSet::new(),
            votes,
        }
    }

    fn append(&mut self, now: Time, stages: Stages, proposal: Option<ProposalId>, record: Record<P>) {
        let decided = Decided {
            proposal,
            kind: record.kind,
            revision: record.revision,
            parent: record.parent,
            layers: record.layers,
            diff: record.diff.clone(),
            cursors: record.cursors.clone(),
            votes: record.votes.clone(),
        };
        self.attempt = Some(Attempt {
            id: record.attempt,
            content: record.content.clone(),
            stage: Stage::Appending { decided, renew_at: now + LEASE / 3 },
            ballots: record.votes.iter().map(|(node, found)| (node.clone(), Ballot::Yes(found.clone()))).collect(),
            since: now,
            stages,
        });
        self.effects.push_back(Effect::Append(Box::new(record)));
    }

    pub(super) fn append_failed(&mut self, now: Time, id: AttemptId, reason: String) {
        let ours = |attempt: &Attempt<P>| attempt.id == id && matches!(attempt.stage, Stage::Appending { .. });
        if self.attempt.as_ref().is_some_and(ours) {
            self.renumber_after = now + *RETRY.start();
            self.abandon(Reason::Append(reason));
        }
    }

    pub(super) fn appended(&mut self, now: Time, id: AttemptId, revision: Revision) {
        let Some(mut attempt) = self.attempt.take_if(|attempt| attempt.id == id) else { return };
        let Stage::Appending { mut decided, .. } = attempt.stage else {
            self.attempt = Some(attempt);
            return;
        };
        decided.revision = revision;
        attempt.stages.append = now.since(attempt.since);
        self.head = Some(Head { revision, content: attempt.content.clone(), layers: decided.layers });
        self.highest = self.highest.max(revision);
        self.notice(Notice::Committed {
            attempt: id,
            proposal: decided.proposal,
            revision,
            parent: decided.parent,
            diff: decided.diff.clone(),
            kind: decided.kind,
            cursors: decided.cursors.clone(),
        });
        let digest = attempt.content.digest;
        // The voters are waited for. If there was no vote, all routers that were keeping up are.
        let strict = !decided.votes.is_empty();
        let mut unanswered = BTreeSet::new();
        for node in self.routers.keys().cloned().collect::<Vec<_>>() {
            let voted = attempt.ballots.contains_key(&node);
            let router = &self.routers[&node];
            if voted || (!strict && router.behind.is_none()) {
                unanswered.insert(node.clone());
            }
            if voted {
                self.asked(now, &node, revision);
                self.send(&node, Directive::Commit { attempt: id, revision, digest });
            } else if router.applied < revision {
                self.offer(now, &node);
            }
        }
        let everybody = unanswered.is_empty();
        attempt.since = now;
        attempt.stage = Stage::Swapping { decided, unanswered, deadline: now + ACK_TIMEOUT };
        self.attempt = Some(attempt);
        if everybody {
            self.finish_swap(now);
        }
    }

    /// That router has the head, or cannot have it, or is gone: it is not waited for.
    pub(super) fn answered(&mut self, now: Time, node: &NodeId) {
        let Some(Attempt { stage: Stage::Swapping { unanswered, .. }, .. }) = &mut self.attempt else { return };
        if unanswered.remove(node) && unanswered.is_empty() {
            self.finish_swap(now);
        }
    }

    pub(super) fn finish_swap(&mut self, now: Time) {
        let Some(mut attempt) = self.attempt.take_if(|attempt| attempt.is_swapping()) else { return };
        attempt.stages.swap = attempt.lap(now);
        let Stage::Swapping { decided, .. } = attempt.stage else { return };
        let head = Head { revision: decided.revision, content: attempt.content, layers: decided.layers };
        let (there, not): (Vec<_>, Vec<_>) = self.routers.iter().partition(|(_, router)| router.has(&head));
        let names = |routers: Vec<(&NodeId, _)>| routers.into_iter().map(|(node, _)| node.clone()).collect();
        let applied = Applied {
            revision: decided.revision,
            digest: head.content.digest,
            diff: decided.diff,
            stages: attempt.stages,
            routers: names(there),
            missing: names(not),
            votes: decided.votes,
        };
        self.notice(Notice::Applied(Box::new(applied.clone())));
        if let Some(proposal) = decided.proposal {
            self.resolve(proposal, Outcome::Applied(applied));
        }
    }

    pub(super) fn expire_attempt(&mut self, now: Time) {
        let Some(attempt) = &mut self.attempt else { return };
        let id = attempt.id;
        match &mut attempt.stage {
            Stage::Preparing { deadline, .. } if *deadline <= now => {
                let silent = attempt.ballots.iter().filter(|(_, ballot)| matches!(ballot, Ballot::Open));
                let silent = silent.map(|(node, _)| Rejection {
                    node: node.clone(),
                    refusal: Refusal::Silent,
                    found: Findings::default(),
                });
                let reason = Reason::Rejected(silent.collect());
                self.abandon(reason);
            }
            Stage::Swapping { deadline, .. } if *deadline <= now => self.finish_swap(now),
            Stage::Preparing { renew_at, .. } | Stage::Appending { renew_at, .. } if *renew_at <= now => {
                *renew_at = now + LEASE / 3;
                for node in attempt.ballots.keys().cloned().collect::<Vec<_>>() {
                    self.send(&node, Directive::Renew { attempt: id, lease: LEASE });
                }
            }
            Stage::Preparing { .. } | Stage::Appending { .. } | Stage::Swapping { .. } => {}
        }
    }

    /// A router that shows a number the log never gave, or gave to another content.
    pub(super) fn above_head(&self) -> Option<(&NodeId, Revision)> {
        let head = self.head.as_ref()?;
        let odd = self.routers.iter().find(|(_, router)| {
            router.applied > head.revision || (router.applied == head.revision && !router.has(head))
        })?;
        Some((odd.0, odd.1.applied))
    }

    /// Numbers never go back in a router, so the head takes a number above all of theirs.
    pub(super) fn renumber(&mut self, now: Time) -> bool {
        let Some((node, revision)) = self.above_head().filter(|_| self.renumber_after <= now) else { return false };
        let notice = Notice::NumbersAbove { node: node.clone(), revision };
        let Some(head) = self.head.clone() else { return false };
        self.notice(notice);
        let source = Source { owner: Owner("config-manager".into()), actor: "config-manager".into() };
        let id = self.next_attempt();
        let wanted = (head.content, head.layers);
        let record = self.record(id, wanted, source, Kind::Restore, Diff::default(), BTreeMap::new());
        self.append(now, Stages::default(), None, record);
        true
    }
}
