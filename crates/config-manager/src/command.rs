//! The commands to the engine, from operators and from routers.

use std::collections::BTreeSet;

use config_file::Format;
use model::{NodeId, Revision};
use rollout::reconciler::Link;
use rollout::{Content, Directive, Report};
use runtime::TraceContext;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::DropGuard;
use tonic::Status;
use wire::pb::config::v1 as pb;

/// A caller gets exactly one answer: how the proposal ended, or that the request was wrong.
pub(crate) type Answer = oneshot::Sender<Result<pb::Outcome, Status>>;

#[derive(Debug)]
pub(crate) enum Command {
    Reload {
        force: bool,
        asker: Asker,
    },
    Apply {
        name: String,
        document: String,
        format: Format,
        base: Option<Revision>,
        asker: Asker,
    },
    /// Without `to`: the revision before the live one.
    Rollback {
        to: Option<Revision>,
        base: Option<Revision>,
        reason: String,
        asker: Asker,
    },
    Router {
        node: NodeId,
        link: Link,
        said: Said,
    },
}

/// An operator at the other end of a call.
#[derive(Debug)]
pub(crate) struct Asker {
    /// From the credential.
    pub(crate) actor: String,
    /// Routers whose vote does not count.
    pub(crate) without: BTreeSet<NodeId>,
    /// The trace of the call, if it is in one.
    pub(crate) trace: Option<TraceContext>,
    /// In nanoseconds of the clock.
    pub(crate) asked_at: u64,
    pub(crate) answer: Answer,
}

#[derive(Debug)]
pub(crate) enum Said {
    /// The first message of a router, and where to answer.
    Hello {
        report: Report,
        stream: Stream,
    },
    Report(Report),
    Observed(pb::Observed),
    Gone,
}

/// The engine's end of a router's stream.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) outbox: mpsc::Sender<Result<Outgoing, Status>>,
    /// Ends the reading half of the stream together with the writing half.
    pub(crate) _open: DropGuard,
}

#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) directive: Directive,
    /// The content that the router is known to hold.
    pub(crate) base: Option<Content>,
    pub(crate) trace: TraceContext,
}
