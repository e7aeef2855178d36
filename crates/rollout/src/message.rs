//! What config-manager and a router say to each other about revisions. `wire` spells these as protobuf; both
//! ends decide on these values alone.

use std::sync::Arc;
use std::time::Duration;

use model::{AttemptId, CandidateOutcome, Digest, EndpointKey, LogId, NodeId, Revision, Snapshot, Verdict, Weight};

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
        found: Findings,
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
pub struct Findings {
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
    /// An operator has switched it off.
    pub disabled: bool,
    /// What an operator should know of it though it may be healthy.
    pub warnings: Vec<String>,
}

/// Why a router refuses a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `reasons` says of each server that it did not come up, and why.
    #[error("{reasons} ({ready} of {changed} changed servers came up, at least {} must)", share(*.minimum_permille))]
    TooFewReady { ready: u32, changed: u32, minimum_permille: u32, reasons: String },
    #[error("{backend} did not come up, and is critical: {reason}")]
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

/// A share for people, of one in thousandths.
fn share(permille: u32) -> String {
    u16::try_from(permille).ok().and_then(Weight::of).unwrap_or(Weight::FULL).to_string()
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

#[cfg(test)]
mod tests {
    use super::Refusal;

    #[test]
    fn refusals_are_said_in_words() {
        let few = |minimum_permille| Refusal::TooFewReady {
            ready: 1,
            changed: 2,
            minimum_permille,
            reasons: "later did not come up: no answer within 10 s (limits.connect)".into(),
        };
        let said = [
            few(1000),
            few(667),
            Refusal::Critical { backend: "crm".into(), reason: "its process exited with status 127".into() },
            Refusal::Secret("${env:KEY} is not set".into()),
            Refusal::Names("`add` of `a` and of `b`".into()),
            Refusal::Feature("weights".into()),
            Refusal::NotHeld,
            Refusal::Silent,
            Refusal::Damaged,
            Refusal::Stale { epoch: 4 },
        ]
        .map(|refusal| refusal.to_string());
        let expected = [
            "later did not come up: no answer within 10 s (limits.connect) (1 of 2 changed servers came up, at least 100% must)",
            "later did not come up: no answer within 10 s (limits.connect) (1 of 2 changed servers came up, at least 66.7% must)",
            "crm did not come up, and is critical: its process exited with status 127",
            "a secret cannot be resolved here: ${env:KEY} is not set",
            "tool names collide: `add` of `a` and of `b`",
            "this router lacks weights, which the snapshot needs",
            "the attempt is not held here (its lease ended, or this router started after it)",
            "no vote arrived in time",
            "the content does not have the digest it was sent with",
            "a config-manager of epoch 4 was seen on this log; the one that spoke is older",
        ];
        assert_eq!(said, expected);
    }
}
