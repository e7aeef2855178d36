//! What a source proposes, what the log records when the proposal is granted, and what the source is told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::{AttemptId, CandidateResult, Diff, Digest, NodeId, Owner, Revision};

use crate::{Content, Exclusions, Findings, Refusal};

/// One request of one source, numbered by the code that carries it to the reconciler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProposalId(pub u64);

/// The source of a proposal. A newer proposal of the same `owner` supersedes one that is not appended yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub owner: Owner,
    /// Taken from the credential, never from a field of a request.
    pub actor: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Strict: the voting routers must be able to make it live.
    Change,
    /// The live content, under a number above all that routers have shown: lenient, no votes.
    Restore,
    /// A new revision with the content of an older one: lenient, no votes, ahead of everything that waits.
    Rollback { to: Revision },
}

/// `P` is the part of a revision that the log keeps and the rules here do not look at: the layers.
#[derive(Debug, Clone)]
pub struct Proposal<P> {
    pub id: ProposalId,
    pub source: Source,
    pub kind: Kind,
    /// The head from which this content was merged. If the head is another one at its turn, it is refused as stale.
    /// `None` says that the content depends on nothing that was live.
    pub base: Option<Revision>,
    pub content: Content,
    /// The digest of the owners' wishes as they say them: equal contents may come of unequal wishes, and the log keeps
    /// the wishes.
    pub layers: Digest,
    pub payload: P,
    /// Where sources stand once this is appended: `{file: digest of the file}` for a change by the file, and
    /// for a rollback the present digest of every source it rolls back over.
    pub cursors: BTreeMap<Owner, Digest>,
    /// Routers that are not asked (`--without`).
    pub without: Exclusions,
    /// Routers are asked, and that is all: whatever they say, nothing is appended. Everything else goes first.
    pub trial: bool,
}

/// One transaction of the log: the revision and its audit record.
#[derive(Debug, Clone)]
pub struct Record<P> {
    pub attempt: AttemptId,
    /// The number to write, and no other.
    pub revision: Revision,
    pub parent: Revision,
    pub content: Content,
    pub layers: Digest,
    pub source: Source,
    pub kind: Kind,
    pub diff: Diff,
    /// `None`: the same as in the parent.
    pub payload: Option<P>,
    pub cursors: BTreeMap<Owner, Digest>,
    /// Routers that were left out by name.
    pub without: BTreeSet<NodeId>,
    /// What each voter found.
    pub votes: Votes,
}

/// How long each stage took, as the reconciler saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stages {
    /// The wait for its turn and for a voter.
    pub waited: Duration,
    pub prepare: Duration,
    pub append: Duration,
    /// From the commit to the last acknowledgement of a voter.
    pub swap: Duration,
}

/// The end of a proposal. Each proposal gets exactly one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Applied(Applied),
    /// The content and the layers are already those of the live revision.
    NoChange {
        revision: Revision,
    },
    Refused(Reason),
    /// The end of a trial that no router refused; without votes if no router is there.
    Tried(Votes),
}

/// What each voter found.
pub type Votes = BTreeMap<NodeId, Findings>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    pub revision: Revision,
    pub digest: Digest,
    pub diff: Diff,
    pub stages: Stages,
    /// Routers where the revision is live now.
    pub routers: BTreeSet<NodeId>,
    /// Attached routers where the revision is not live yet.
    pub missing: BTreeSet<NodeId>,
    /// What each voter found, including tolerated failures.
    pub votes: Votes,
}

/// The refusal of one router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    pub node: NodeId,
    pub refusal: Refusal,
    pub found: Findings,
}

impl Rejection {
    fn gist(&self) -> String {
        let failed =
            self.found.outcomes.iter().filter(|outcome| matches!(outcome.result, CandidateResult::Failed { .. }));
        let failed: BTreeSet<String> = failed.map(|outcome| outcome.endpoint.to_string()).collect();
        let failed = failed.into_iter().collect::<Vec<_>>().join(", ");
        format!("router {}: {} ({failed})", self.node, self.refusal.plain())
    }
}

/// Why nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    #[error("it was made for revision {base}, and revision {head} is live")]
    StaleBase { base: Revision, head: Revision },
    #[error("a newer proposal of the same source took its place")]
    Superseded { by: ProposalId },
    /// By one whose turn comes before: a rollback, a removal, and, before a trial, any change.
    #[error("another change went first")]
    Overtaken { by: ProposalId },
    /// See [`crate::reconciler::Event::Withdrawn`].
    #[error("its caller has gone")]
    Withdrawn,
    #[error("{}", .0.iter().map(|no| format!("router {}: {}", no.node, no.refusal)).collect::<Vec<_>>().join("; "))]
    Rejected(Vec<Rejection>),
    #[error("the log could not be written: {0}")]
    Append(String),
}

impl Reason {
    /// For traces: see [`crate::message::Refusal::plain`].
    pub fn plain(&self) -> String {
        let Self::Rejected(noes) = self else { return self.to_string() };
        noes.iter().map(|no| format!("router {}: {}", no.node, no.refusal.plain())).collect::<Vec<_>>().join("; ")
    }

    /// What two refusals of one content have in common when they say the same: the routers that refused and the servers
    /// that failed, without the servers' words. Those may differ each time: a reference, a time, a port.
    pub fn gist(&self) -> String {
        let Self::Rejected(noes) = self else { return self.to_string() };
        let mut noes: Vec<_> = noes.iter().map(Rejection::gist).collect();
        noes.sort_unstable();
        noes.join("; ")
    }

    /// Whether the same content may be accepted later without a change to it.
    pub fn heals(&self) -> bool {
        match self {
            Self::StaleBase { .. } | Self::Overtaken { .. } | Self::Append(_) => true,
            Self::Rejected(noes) => noes.iter().all(|no| no.refusal.heals()),
            Self::Superseded { .. } | Self::Withdrawn => false,
        }
    }
}
