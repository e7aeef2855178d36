//! The queue of proposals: their order, and which proposal gives way to which.

use std::collections::BTreeSet;

use model::{Change, Diff, NodeId, Revision, Snapshot, Time};

use crate::{Kind, Outcome, Proposal, ProposalId, Reason, Votes};

use super::{Notice, Rollout};

#[derive(Debug)]
pub(super) struct Waiting<P> {
    pub(super) proposal: Proposal<P>,
    pub(super) since: Time,
    rank: Rank,
    /// Its turn came, and no router was there to vote.
    voterless: bool,
}

/// Ranks in the order of turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Rollback,
    /// Removes servers and changes nothing else.
    Removal,
    Other,
    Trial,
}

impl<P> Waiting<P> {
    pub(super) fn gives_way_to_rollback(&self) -> bool {
        self.rank != Rank::Rollback
    }
}

impl<P> Rollout<P> {
    pub(super) fn propose(&mut self, now: Time, proposal: Proposal<P>) {
        let rank = self.rank(&proposal);
        let by = proposal.id;
        let supersedes = |old: &Waiting<P>| {
            old.proposal.source.owner == proposal.source.owner && (old.rank != Rank::Rollback || rank == Rank::Rollback)
        };
        let (old, keep): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiting).into_iter().partition(supersedes);
        self.waiting = keep;
        let preparing = self.attempt.as_ref().and_then(|attempt| attempt.preparing());
        let gives_way = match preparing {
            Some(running) if supersedes(running) => Some(Reason::Superseded { by }),
            Some(running) if rank < Rank::Other && rank < running.rank => Some(Reason::Overtaken { by }),
            Some(_) | None => None,
        };
        for old in old {
            self.resolve(old.proposal.id, Outcome::Refused(Reason::Superseded { by }));
        }
        if let Some(reason) = gives_way {
            self.abandon(reason);
        }
        self.enqueue(Waiting { proposal, since: now, rank, voterless: false });
    }

    /// Puts a proposal behind all others of its rank.
    fn enqueue(&mut self, waiting: Waiting<P>) {
        let at = self.waiting.partition_point(|other| other.rank <= waiting.rank);
        self.waiting.insert(at, waiting);
    }

    /// Puts a proposal before all others of its rank: its attempt was dropped.
    pub(super) fn requeue(&mut self, waiting: Waiting<P>) {
        let at = self.waiting.partition_point(|other| other.rank < waiting.rank);
        self.waiting.insert(at, waiting);
    }

    fn rank(&self, proposal: &Proposal<P>) -> Rank {
        match (&proposal.kind, &self.head) {
            _ if proposal.trial => Rank::Trial,
            (Kind::Rollback { .. }, _) => Rank::Rollback,
            (Kind::Change | Kind::Restore, Some(head)) if removes_only(&head.content.snapshot, proposal) => {
                Rank::Removal
            }
            (Kind::Change | Kind::Restore, _) => Rank::Other,
        }
    }

    /// Adds a caller to a proposal. A router that this caller does not exclude may vote if no other router can.
    pub(super) fn join(&mut self, proposal: ProposalId, without: &BTreeSet<NodeId>) {
        let running = self.attempt.as_mut().and_then(|attempt| attempt.preparing_mut());
        let undecided = self.waiting.iter_mut().chain(running);
        for waiting in undecided.filter(|waiting| waiting.proposal.id == proposal) {
            waiting.proposal.without.hear(without);
        }
    }

    pub(super) fn withdraw(&mut self, proposal: ProposalId) {
        let running = self.attempt.as_ref().and_then(|attempt| attempt.preparing());
        if running.is_some_and(|running| running.proposal.id == proposal) {
            self.abandon(Reason::Withdrawn);
        } else if let Some(at) = self.waiting.iter().position(|waiting| waiting.proposal.id == proposal) {
            self.waiting.remove(at);
            self.resolve(proposal, Outcome::Refused(Reason::Withdrawn));
        }
    }

    /// Starts the next proposal whose turn has come.
    pub(super) fn advance(&mut self, now: Time) {
        self.end_trial_for_a_change();
        let rollback_waits = self.waiting.first().is_some_and(|first| !first.gives_way_to_rollback());
        if rollback_waits && self.attempt.as_ref().is_some_and(|attempt| attempt.is_swapping()) {
            self.finish_swap(now);
        }
        if self.attempt.is_some() || self.raising {
            return;
        }
        if self.renumber(now) {
            return;
        }
        let mut at = 0;
        while self.attempt.is_none() && at < self.waiting.len() {
            if let Some(outcome) = self.settled_already(&self.waiting[at].proposal) {
                let waiting = self.waiting.remove(at);
                self.resolve(waiting.proposal.id, outcome);
                continue;
            }
            let voters = self.voters(&self.waiting[at].proposal);
            if self.waiting[at].rank == Rank::Trial && voters.as_ref().is_none_or(BTreeSet::is_empty) {
                let waiting = self.waiting.remove(at);
                self.resolve(waiting.proposal.id, Outcome::Tried(Votes::new()));
                continue;
            }
            if voters.as_ref().is_some_and(|voters| voters.is_empty()) {
                self.wait_for_voter(at);
                at += 1;
                continue;
            }
            let waiting = self.waiting.remove(at);
            self.start(now, waiting, voters);
        }
    }

    /// A trial that is under way holds up no change whose turn it would be.
    fn end_trial_for_a_change(&mut self) {
        let running = self.attempt.as_ref().and_then(|attempt| attempt.preparing());
        if running.is_none_or(|running| running.rank != Rank::Trial) {
            return;
        }
        let changes = self.waiting.iter().map(|waiting| &waiting.proposal).filter(|proposal| !proposal.trial);
        let by = changes.filter(|change| self.voters(change).is_none_or(|voters| !voters.is_empty())).map(|by| by.id);
        if let Some(by) = by.min() {
            self.abandon(Reason::Overtaken { by });
        }
    }

    fn wait_for_voter(&mut self, at: usize) {
        let waiting = &mut self.waiting[at];
        if !waiting.voterless {
            waiting.voterless = true;
            let proposal = waiting.proposal.id;
            self.notice(Notice::Waiting { proposal });
        }
    }

    /// The outcome, if it is known without asking any router.
    fn settled_already(&self, proposal: &Proposal<P>) -> Option<Outcome> {
        let head: Revision = self.head_revision();
        if let Some(base) = proposal.base.filter(|base| *base != head) {
            return Some(Outcome::Refused(Reason::StaleBase { base, head }));
        }
        let wanted = (proposal.content.digest, proposal.layers);
        let same = self.head.as_ref().is_some_and(|head| (head.content.digest, head.layers) == wanted);
        same.then_some(Outcome::NoChange { revision: head })
    }

    pub(super) fn waiting_ids(&self) -> impl Iterator<Item = (ProposalId, bool)> {
        self.waiting.iter().map(|waiting| (waiting.proposal.id, waiting.voterless))
    }
}

fn removes_only<P>(live: &Snapshot, proposal: &Proposal<P>) -> bool {
    // The usual case is cheap to rule out: a removal leaves fewer servers, none of them new.
    let new = &proposal.content.snapshot;
    if new.backends.len() >= live.backends.len() {
        return false;
    }
    let diff = Diff::between(live, new);
    !diff.policy && diff.backends.iter().all(|entry| entry.change == Change::Removed)
}
