//! config-manager's end: one writer, to which every source proposes and every router reports.
//!
//! One attempt at a time: prepare on the voting routers, votes, append, commit, acks. The append decides: before
//! it nothing has changed anywhere; after it nothing is undone, and a router that cannot hold the revision is behind.

mod attempt;
mod fleet;
mod queue;
mod status;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use model::{AttemptId, Diff, Digest, NodeId, Owner, Revision, Time};

use crate::{
    Applied, Content, Directive, Kind, Outcome, Proposal, ProposalId, Reason, Record, Refusal, Report, Sender,
};

use attempt::Attempt;
use fleet::Router;
use queue::Waiting;

pub use status::{AttemptStage, AttemptStatus, RouterState, RouterStatus, Status};

/// How long a router holds an attempt without hearing about it. The reconciler renews it each third of that time, until
/// the attempt is on record.
pub const LEASE: Duration = Duration::from_secs(10);
/// How long a router may take to make a decided revision live, before it is called behind.
pub const ACK_TIMEOUT: Duration = Duration::from_secs(10);
/// The wait between offers to a router that is behind: doubled from the first to the last.
pub const RETRY: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);

/// What is live by decision: the newest record of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub revision: Revision,
    pub content: Content,
    /// See [`Proposal::layers`].
    pub layers: Digest,
}

/// One stream of one router. The shell never reuses its number. The number tells a router's new stream from the end
/// of its old one, whichever is noticed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link(pub u64);

#[derive(Debug, Clone)]
pub enum Event<P> {
    Proposed(Proposal<P>),
    /// Another caller also waits for the proposal, and would leave these routers out.
    Joined {
        proposal: ProposalId,
        without: BTreeSet<NodeId>,
    },
    /// The proposal is not wanted any more. It ends, unless it is decided already.
    Withdrawn {
        proposal: ProposalId,
    },
    /// A message of a router. Its hello attaches the router, and the shell closes the stream that spoke for it before.
    /// If a dead process was heard last, the living one dials again.
    Report {
        node: NodeId,
        link: Link,
        report: Report,
    },
    RouterDetached {
        node: NodeId,
        link: Link,
    },
    /// [`Effect::Append`] is durable.
    Appended {
        attempt: AttemptId,
        revision: Revision,
    },
    /// [`Effect::Append`] is known not to be in the log, now or after a restart.
    AppendFailed {
        attempt: AttemptId,
        reason: String,
    },
    /// [`Effect::RaiseEpoch`] is durable, or could not be made so.
    EpochRaised {
        epoch: Option<u64>,
    },
    /// A deadline has come.
    Woke,
}

#[derive(Debug, Clone)]
pub enum Effect<P> {
    /// Send over that stream; do nothing if the stream has ended.
    Send {
        node: NodeId,
        link: Link,
        directive: Directive,
    },
    /// Write the record in one durable transaction and report the result. At most one append is under way.
    Append(Box<Record<P>>),
    /// Take an epoch above that one, durably, and report it. At most one is under way.
    RaiseEpoch {
        above: u64,
    },
    Resolve {
        proposal: ProposalId,
        outcome: Outcome,
    },
    Notice(Notice),
}

/// For events, logs and metrics. [`Notice::Committed`] of a rollback also moves the cursors of sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// No router is there to vote.
    Waiting {
        proposal: ProposalId,
    },
    AttemptStarted {
        attempt: AttemptId,
        proposal: ProposalId,
        digest: Digest,
        voters: BTreeSet<NodeId>,
    },
    Voted {
        attempt: AttemptId,
        node: NodeId,
        verdict: Result<(), Refusal>,
    },
    /// A voter's stream ended; the round goes on without it.
    LeftRound {
        attempt: AttemptId,
        node: NodeId,
    },
    AttemptEnded {
        attempt: AttemptId,
        proposal: Option<ProposalId>,
        reason: Reason,
    },
    /// All voters left, or one has heard a younger manager and this one raises its epoch: the proposal is tried again.
    AttemptDropped {
        attempt: AttemptId,
        proposal: ProposalId,
    },
    /// All voters agreed to a trial, and were told that this is all.
    Tried {
        attempt: AttemptId,
        proposal: ProposalId,
    },
    /// The append is durable. This notice comes before anything that follows from it.
    Committed {
        attempt: AttemptId,
        /// Absent when the reconciler numbered its head anew.
        proposal: Option<ProposalId>,
        revision: Revision,
        parent: Revision,
        diff: Diff,
        kind: Kind,
        cursors: BTreeMap<Owner, Digest>,
    },
    /// The revision is live in every router that voted (or that router has left, or was given up on).
    Applied(Box<Applied>),
    Attached {
        node: NodeId,
        applied: Revision,
    },
    Detached {
        node: NodeId,
    },
    Acked {
        node: NodeId,
        revision: Revision,
    },
    /// The router cannot hold the live revision. It serves what it had and is asked again.
    Behind {
        node: NodeId,
        revision: Revision,
        refusal: Refusal,
        retry_in: Duration,
    },
    CaughtUp {
        node: NodeId,
        revision: Revision,
    },
    /// A router has a revision that the log never had; numbering goes on above it.
    NumbersAbove {
        node: NodeId,
        revision: Revision,
    },
    /// A router has seen a younger manager on this log. A router that never obeyed this manager may remember one that
    /// is gone, whose log was restored from a backup: then this manager takes a higher epoch.
    Deposed {
        epoch: u64,
        raised: bool,
    },
}

/// The one reconciler: value in, value out.
#[derive(Debug)]
pub struct Rollout<P> {
    sender: Sender,
    head: Option<Head>,
    /// The highest number that any router has shown; equal to the head's unless a log was lost.
    highest: Revision,
    /// Attempts of this epoch so far.
    sequence: u64,
    attempt: Option<Attempt<P>>,
    /// Proposals in the order of their turns.
    waiting: Vec<Waiting<P>>,
    routers: BTreeMap<NodeId, Router>,
    /// After a failed write, the log is not written again unasked before this time.
    renumber_after: Time,
    /// Routers that obeyed this manager: a younger manager that they see later is alive.
    obeyed: BTreeSet<NodeId>,
    /// An epoch is being written; no attempt begins before that is done.
    raising: bool,
    effects: VecDeque<Effect<P>>,
}

impl<P> Rollout<P> {
    /// `head` is the newest record of the log: it is offered to every router that does not have it.
    pub fn new(sender: Sender, head: Option<Head>) -> Self {
        Self {
            sender,
            highest: head.as_ref().map_or(Revision::NONE, |head| head.revision),
            head,
            sequence: 0,
            attempt: None,
            waiting: Vec::new(),
            routers: BTreeMap::new(),
            renumber_after: Time::ZERO,
            obeyed: BTreeSet::new(),
            raising: false,
            effects: VecDeque::new(),
        }
    }

    /// The sender of every directive.
    pub fn sender(&self) -> &Sender {
        &self.sender
    }

    pub fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    pub fn handle(&mut self, now: Time, event: Event<P>) {
        match event {
            Event::Proposed(proposal) => self.propose(now, proposal),
            Event::Joined { proposal, without } => self.join(proposal, &without),
            Event::Withdrawn { proposal } => self.withdraw(proposal),
            Event::Report { node, link, report } => self.report(now, node, link, report),
            Event::RouterDetached { node, link } => self.detach(now, &node, link),
            Event::Appended { attempt, revision } => self.appended(now, attempt, revision),
            Event::AppendFailed { attempt, reason } => self.append_failed(now, attempt, reason),
            Event::EpochRaised { epoch } => self.epoch_raised(now, epoch),
            Event::Woke => {}
        }
        self.expire_attempt(now);
        self.expire_routers(now);
        self.advance(now);
    }

    pub fn poll_effect(&mut self) -> Option<Effect<P>> {
        self.effects.pop_front()
    }

    /// When to call `handle` with [`Event::Woke`], if nothing else happens before.
    pub fn next_deadline(&self) -> Option<Time> {
        let idle = self.attempt.is_none() && !self.raising;
        let renumber = (idle && self.above_head().is_some()).then_some(self.renumber_after);
        let attempt = self.attempt.as_ref().and_then(Attempt::deadline);
        let routers = self.routers.values().filter_map(Router::deadline);
        routers.chain(attempt).chain(renumber).min()
    }

    fn report(&mut self, now: Time, node: NodeId, link: Link, report: Report) {
        if let Report::Hello { node: _, boot, applied, digest, features: _ } = report {
            self.attach(now, node, Router::new(link, boot, applied, digest));
            return;
        }
        if self.routers.get(&node).is_none_or(|router| router.link != link) {
            return;
        }
        match report {
            Report::Hello { .. } => {}
            Report::Vote { attempt, verdict, found } => self.vote(now, node, attempt, verdict, found),
            Report::Ack { revision, digest } => self.ack(now, &node, revision, digest),
            Report::Nack { revision, refusal } => self.nack(now, &node, revision, refusal),
        }
    }

    fn notice(&mut self, notice: Notice) {
        self.effects.push_back(Effect::Notice(notice));
    }

    fn resolve(&mut self, proposal: ProposalId, outcome: Outcome) {
        self.effects.push_back(Effect::Resolve { proposal, outcome });
    }

    /// Sends to the router's present stream; sends nothing to a router that has left.
    fn send(&mut self, node: &NodeId, directive: Directive) {
        if let Some(router) = self.routers.get(node) {
            self.effects.push_back(Effect::Send { node: node.clone(), link: router.link, directive });
        }
    }

    fn head_revision(&self) -> Revision {
        self.head.as_ref().map_or(Revision::NONE, |head| head.revision)
    }
}

#[cfg(test)]
mod tests;
