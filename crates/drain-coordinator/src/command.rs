//! What the owning task is asked, by routers' streams and by operators.

use std::time::Duration;

use drain::Count;
use drain::ledger::{CancelError, Connection, StartError, Started, Summary};
use model::BackendId;
use runtime::TraceContext;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::DropGuard;
use tonic::Status;
use wire::pb::drain::v1 as pb;

#[derive(Debug)]
pub(crate) struct Command {
    /// What this belongs to, if it is told; whatever is said because of it carries on.
    pub(crate) trace: Option<TraceContext>,
    pub(crate) ask: Ask,
}

#[derive(Debug)]
pub(crate) enum Ask {
    /// A stream is open, until `open` is dropped; it is answered with its number.
    Attach {
        outbox: Outbox,
        open: DropGuard,
        number: oneshot::Sender<Connection>,
    },
    Said {
        connection: Connection,
        count: Count,
    },
    Detached {
        connection: Connection,
    },
    Start {
        backend: BackendId,
        timeout: Option<Duration>,
        actor: String,
        answer: Answer<Started, StartError>,
    },
    Cancel {
        id: String,
        actor: String,
        answer: Answer<Summary, CancelError>,
    },
    List {
        all: bool,
        answer: oneshot::Sender<Vec<Summary>>,
    },
}

/// To one router. Bounded: a router that takes nothing is hung up on.
pub(crate) type Outbox = mpsc::Sender<Result<pb::AttachResponse, Status>>;
/// What was decided and is on disk, or why nothing was: a caller that is gone by then gets none, and wants none.
pub(crate) type Answer<T, E> = oneshot::Sender<Result<Result<T, E>, Status>>;
