//! What config-manager and a router say to each other about revisions. `wire` spells these as protobuf; both
//! ends decide on these values alone.

use std::sync::Arc;
use std::time::Duration;

use model::{AttemptId, CandidateOutcome, Digest, EndpointKey, LogId, NodeId, Revision, Snapshot, Verdict};

/// The manager that speaks. Every message of a manager carries it, so that a router can tell a stale manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    pub log: LogId,
    /// Grows with every start of a manager on that log. A router never obeys a lower epoch than it has seen.
    pub epoch: u64,
}

/// A snapshot with the digest its bytes were checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    pub snapshot: Arc<Snapshot>,
    pub digest: Digest,
}

impl Content {
    pub fn new(snapshot: Arc<Snapshot>) -> Self {
        let digest = snapshot.digest();
        Self { snapshot, digest }
    }
}

/// From config-manager to one router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Directive {
    /// Make this content ready beside the live one, and vote. Held under a lease; a newer attempt ends it.
    Prepare { attempt: AttemptId, content: Content, lease: Duration },
    /// The lease of that attempt begins anew.
    Renew { attempt: AttemptId, lease: Duration },
    /// End what was started for the attempt.
    Abort { attempt: AttemptId },
    /// The append is done: what was prepared goes live under this number.
    Commit { attempt: AttemptId, revision: Revision, digest: Digest },
    /// Already decided elsewhere (a restore, a rollback, a router that joins or fell back): live at once,
    /// whatever its servers do.
    Offer { revision: Revision, content: Content },
}

/// From one router to config-manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The first message on a stream.
    Hello {
        node: NodeId,
        /// Different at each start of the process.
        boot: String,
        applied: Revision,
        digest: Option<Digest>,
        features: Vec<String>,
    },
    Vote {
        attempt: AttemptId,
        verdict: Result<(), Refusal>,
        found: Found,
    },
    /// That revision is live in this router.
    Ack {
        revision: Revision,
        digest: Digest,
    },
    /// That revision cannot be live in this router; the former one still is.
    Nack {
        revision: Revision,
        refusal: Refusal,
    },
}

/// What a router found when it made a content ready.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// Of the endpoints that the content changes.
    pub outcomes: Vec<CandidateOutcome>,
    /// What is probably not meant.
    pub advice: Vec<String>,
}

/// One endpoint, as its router sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerState {
    pub endpoint: EndpointKey,
    pub verdict: Verdict,
    /// `stdio` or `http`.
    pub transport: String,
    pub tools: u32,
    pub in_flight: u64,
    /// Of the child process.
    pub pid: Option<u32>,
    /// The last failure; empty for none.
    pub error: String,
    pub cordoned: bool,
    /// What an operator should know of it though it may be healthy.
    pub warnings: Vec<String>,
}

/// Why a router refuses a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{ready} of {changed} changed servers came up, at least {minimum_permille}/1000 must: {reasons}")]
    TooFewReady { ready: u32, changed: u32, minimum_permille: u32, reasons: String },
    #[error("critical server `{backend}` did not come up: {reason}")]
    Critical { backend: String, reason: String },
    #[error("a secret cannot be resolved here: {0}")]
    Secret(String),
    #[error("tool names collide: {0}")]
    Names(String),
    #[error("this router lacks {0}, which the snapshot needs")]
    Feature(String),
    #[error("the attempt is not held here (its lease ended, or this router started after it)")]
    NotHeld,
    #[error("no vote arrived in time")]
    Silent,
    #[error("the content does not have the digest it was sent with")]
    Damaged,
    #[error("a config-manager of epoch {epoch} was seen on this log; the one that spoke is older")]
    Stale { epoch: u64 },
}

impl Refusal {
    /// For traces, which leave the gateway: says what happened, without the words of servers.
    pub fn plain(&self) -> String {
        match self {
            Self::TooFewReady { ready, changed, .. } => format!("{ready} of {changed} changed servers came up"),
            Self::Critical { backend, .. } => format!("critical server `{backend}` did not come up"),
            Self::Secret(_)
            | Self::Names(_)
            | Self::Feature(_)
            | Self::NotHeld
            | Self::Silent
            | Self::Damaged
            | Self::Stale { .. } => self.to_string(),
        }
    }

    /// Whether the same content may be accepted later without a change to it: a server comes back, a secret is put in
    /// place, a router answers again. A refusal that cannot heal is not tried again until the content changes.
    pub fn heals(&self) -> bool {
        match self {
            Self::TooFewReady { .. }
            | Self::Critical { .. }
            | Self::Secret(_)
            | Self::NotHeld
            | Self::Silent
            | Self::Damaged
            | Self::Stale { .. } => true,
            Self::Names(_) | Self::Feature(_) => false,
        }
    }
}
