//! What the owning task is asked, by routers' streams and by operators.

use health::Observation;
use health::monitor::{Connection, Opinion};
use runtime::TraceContext;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::DropGuard;
use tonic::Status;
use wire::pb::health::v1 as pb;

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
        observation: Observation,
    },
    Detached {
        connection: Connection,
    },
    List {
        answer: oneshot::Sender<Vec<Opinion>>,
    },
}

/// To one router. Bounded: a router that takes nothing is hung up on.
pub(crate) type Outbox = mpsc::Sender<Result<pb::AttachResponse, Status>>;
