//! What is known now, published as one immutable value.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::{
    AttemptId, BackendId, Digest, EventKind, LogId, NodeId, Owner, Revision, Snapshot, Time, Violation, WallTime,
};
use rollout::ServerState;
use rollout::reconciler::{AttemptStage, RouterState, RouterStatus};
use runtime::TraceContext;

use crate::log::{Layers, Log};
use crate::provenance::Provenance;

#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// The revision that should be live everywhere; [`Revision::NONE`] while none was ever good.
    pub revision: Revision,
    pub digest: Option<Digest>,
    /// The content of that revision.
    pub snapshot: Option<Arc<Snapshot>>,
    /// What each owner wants in that revision, as the owner wrote it.
    pub layers: Arc<Layers>,
    pub provenance: Provenance,
    pub log: LogId,
    pub epoch: u64,
    /// What is wrong with the log: with a part of it since the start, or with all of it now.
    pub log_fault: Option<String>,
    pub source: SourceStatus,
    pub routers: Vec<RouterView>,
    /// The attempt in progress.
    pub attempt: Option<AttemptId>,
    /// Changes that are not decided yet.
    pub pending: Vec<Pending>,
}

/// A change that is not decided and has no effect yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// As in the history.
    pub source: String,
    pub actor: String,
    /// Absent until the change is known to be a configuration.
    pub digest: Option<Digest>,
    pub stage: PendingStage,
    /// Routers that do not vote on the change, because its caller leaves them out (`--without`).
    pub left_out: BTreeSet<NodeId>,
    /// It is an edit of the file, which says something else by now.
    pub outdated: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PendingStage {
    Merging,
    /// The change waits for its turn.
    Waiting,
    /// The turn of the change came, and no router was there to vote.
    WithoutVoter,
    Attempt(AttemptStage),
}

impl PendingStage {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Merging => "merging",
            Self::Waiting => "waiting",
            Self::WithoutVoter => "without_voter",
            Self::Attempt(AttemptStage::Preparing) => "preparing",
            Self::Attempt(AttemptStage::Appending) => "appending",
            Self::Attempt(AttemptStage::Swapping) => "swapping",
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct SourceStatus {
    /// A path, or the name of a built-in text; empty without a source.
    pub name: String,
    pub state: SourceState,
    /// Digest of the content last judged.
    pub cursor: Option<Digest>,
    /// Why the content last judged is not live; empty when it is.
    pub violations: Vec<Violation>,
    pub refusals: Vec<NodeRefusal>,
    /// When that content is judged again by itself.
    pub next_try: Option<Time>,
    pub method: Option<crate::source::Method>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceState {
    /// Not read or not judged yet.
    Starting,
    Following,
    /// The file is being written.
    Settling,
    /// The file is missing or unreadable; the live revision stays live.
    Missing,
    /// The content of the file was refused; the live revision stays live.
    Refused,
    /// The content of the file was live, and a rollback undid it. It is judged again if it changes or by force.
    RolledBack,
    /// A change of the file has no effect until an operator requests `reload`.
    Disabled,
    /// There is no file.
    None,
}

impl SourceState {
    pub const ALL: [Self; 8] = [
        Self::Starting,
        Self::Following,
        Self::Settling,
        Self::Missing,
        Self::Refused,
        Self::RolledBack,
        Self::Disabled,
        Self::None,
    ];

    /// What became of the file, for people.
    pub(crate) fn in_words(self) -> &'static str {
        match self {
            Self::Starting => "is not judged yet",
            Self::Following => "is followed",
            Self::Settling => "is being written",
            Self::Missing => "is missing or cannot be read",
            Self::Refused => "was refused",
            Self::RolledBack => "was undone by a rollback",
            Self::Disabled => "is read only when asked for",
            Self::None => "is not there",
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Following => "following",
            Self::Settling => "settling",
            Self::Missing => "source_missing",
            Self::Refused => "refused",
            Self::RolledBack => "rolled_back",
            Self::Disabled => "disabled",
            Self::None => "none",
        }
    }
}

/// The node that refused, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRefusal {
    /// Absent: this process refused.
    pub node: Option<NodeId>,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct RouterView {
    pub router: RouterStatus,
    /// The router's last report on its servers.
    pub servers: Arc<[ServerState]>,
    /// Whether another process calls itself the same, so that each ends the other's stream.
    pub rival: bool,
}

/// Something that happened, for those that watch.
#[derive(Debug, Clone)]
pub struct Happened {
    pub time: WallTime,
    pub kind: EventKind,
    pub attempt: Option<AttemptId>,
    /// What is live.
    pub revision: Revision,
    pub node: Option<NodeId>,
    pub message: String,
    pub trace: Option<TraceContext>,
    /// The servers that a revision changes.
    pub servers: Arc<[BackendId]>,
}

impl Status {
    /// The status of a log that was just opened.
    pub(crate) fn before(log: &Log) -> Self {
        Self {
            revision: Revision::NONE,
            digest: None,
            snapshot: None,
            layers: Arc::default(),
            provenance: Provenance::default(),
            log: log.id().clone(),
            epoch: log.epoch(),
            log_fault: None,
            source: SourceStatus {
                name: String::new(),
                state: SourceState::Starting,
                cursor: None,
                violations: Vec::new(),
                refusals: Vec::new(),
                next_try: None,
                method: None,
            },
            routers: Vec::new(),
            attempt: None,
            pending: Vec::new(),
        }
    }

    /// At a start without any good revision: why the configured source gives none. `None` while that is not known,
    /// or when there is a revision.
    pub fn nothing_good(&self) -> Option<&SourceStatus> {
        let judged = matches!(self.source.state, SourceState::Refused | SourceState::Missing);
        (self.revision == Revision::NONE && judged).then_some(&self.source)
    }
}

impl Pending {
    /// The line for a caller whose wait ran out.
    pub(crate) fn told(&self) -> String {
        let told = format!("pending: {} by {}, {}", self.source, self.actor, self.stage.as_str());
        if self.left_out.is_empty() || self.stage != PendingStage::WithoutVoter {
            return told;
        }
        let left_out = self.left_out.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let verb = if self.source == Owner::file().0 { "reload" } else { "apply" };
        format!("{told}; left out: {left_out}; to let them vote, `{verb}` without leaving them out")
    }
}

impl RouterView {
    /// One word for the state, and the reason for the one that needs it.
    pub(crate) fn state(&self) -> (&'static str, String) {
        match &self.router.state {
            RouterState::Live => ("live", String::new()),
            RouterState::Voting { .. } => ("voting", String::new()),
            RouterState::Joining => ("joining", String::new()),
            RouterState::Behind { refusal, .. } => ("behind", refusal.to_string()),
        }
    }
}
