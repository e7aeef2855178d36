//! The commands to the engine, from operators and from routers.

use model::NodeId;
use rollout::desk::{self, Want};
use rollout::reconciler::Link;
use rollout::{Content, Directive, Report, ServerState};
use runtime::TraceContext;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;

use crate::engine::{Papers, Text};
use crate::outcome::Outcome;

/// A caller gets exactly one answer: how the proposal ended, or that the request was wrong.
pub(crate) type Answer = oneshot::Sender<Result<Outcome, Status>>;

/// An operator at the other end of a call, and the routers whose vote does not count for it.
pub(crate) type Caller = desk::Caller<Papers>;

#[derive(Debug)]
pub(crate) enum Command {
    Reload { force: bool, caller: Caller },
    Change { want: Want, text: Text, caller: Caller },
    Router { node: NodeId, link: Link, said: Said },
}

#[derive(Debug)]
pub(crate) struct Asker {
    /// From the credential.
    pub(crate) actor: String,
    /// The trace of the call, if it is in one.
    pub(crate) trace: Option<TraceContext>,
    /// In nanoseconds of the clock.
    pub(crate) asked_at: u64,
    pub(crate) answer: Answer,
    /// Cancelled once the caller waits no more.
    pub(crate) gone: CancellationToken,
}

impl Asker {
    /// A caller that does not wait any more was told that the change is pending.
    pub(crate) fn tell(self, answer: Result<Outcome, Status>) {
        drop(self.answer.send(answer));
    }
}

#[derive(Debug)]
pub(crate) enum Said {
    /// The first message of a router, and where to answer.
    Hello {
        report: Report,
        stream: Stream,
    },
    Report(Report),
    Observed(Vec<ServerState>),
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
