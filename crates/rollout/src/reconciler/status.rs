//! What the status command shows.

use model::{AttemptId, Digest, NodeId, Revision, Time};

use crate::{ProposalId, Refusal};

use super::attempt::{Ballot, Stage};
use super::fleet::Router;
use super::{Head, Rollout};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What should be live everywhere.
    pub target: Option<(Revision, Digest)>,
    pub routers: Vec<RouterStatus>,
    pub attempt: Option<AttemptStatus>,
    /// Proposals in the order of their turns; `true` when the turn came and no router was there to vote.
    pub waiting: Vec<(ProposalId, bool)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouterStatus {
    pub node: NodeId,
    pub boot: String,
    pub applied: Revision,
    pub digest: Option<Digest>,
    pub state: RouterState,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouterState {
    /// Has the target.
    Live,
    /// Has the target, and is asked about the next one.
    Voting {
        voted: bool,
    },
    /// Has been sent the target and has not answered yet.
    Joining,
    Behind {
        refusal: Refusal,
        since: Time,
        retry_at: Time,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptStatus {
    pub attempt: AttemptId,
    pub digest: Digest,
    pub stage: AttemptStage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptStage {
    Preparing,
    Appending,
    Swapping,
}

impl<P> Rollout<P> {
    pub fn status(&self) -> Status {
        Status {
            target: self.head.as_ref().map(|head| (head.revision, head.content.digest)),
            routers: self.routers.iter().map(|(node, router)| self.router_status(node, router)).collect(),
            attempt: self.attempt.as_ref().map(|attempt| AttemptStatus {
                attempt: attempt.id,
                digest: attempt.content.digest,
                stage: match attempt.stage {
                    Stage::Preparing { .. } => AttemptStage::Preparing,
                    Stage::Appending { .. } => AttemptStage::Appending,
                    Stage::Swapping { .. } => AttemptStage::Swapping,
                },
            }),
            waiting: self.waiting_ids().collect(),
        }
    }

    fn router_status(&self, node: &NodeId, router: &Router) -> RouterStatus {
        let preparing = self.attempt.as_ref().filter(|attempt| attempt.preparing().is_some());
        let ballot = preparing.and_then(|attempt| attempt.ballots.get(node));
        let live = |head: &Head| router.has(head);
        let state = match (&router.behind, ballot) {
            (Some(behind), _) => {
                RouterState::Behind { refusal: behind.refusal.clone(), since: behind.since, retry_at: behind.retry_at }
            }
            (None, Some(ballot)) => RouterState::Voting { voted: matches!(ballot, Ballot::Yes(_)) },
            (None, None) if self.head.as_ref().is_some_and(live) => RouterState::Live,
            (None, None) => RouterState::Joining,
        };
        RouterStatus {
            node: node.clone(),
            boot: router.boot.clone(),
            applied: router.applied,
            digest: router.digest,
            state,
        }
    }
}
