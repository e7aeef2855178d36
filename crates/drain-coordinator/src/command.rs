//! What the owning task is asked, by routers' streams and by operators.

use drain::ledger::{CancelError, Connection, StartError, Started, Summary, Wanted};
use drain::{Count, Directive};
use runtime::TraceContext;
use runtime::stream::attached;
use tokio::sync::oneshot;
use tonic::Status;

#[derive(Debug)]
pub(crate) struct Command {
    /// What this belongs to, if it is told; whatever is said because of it carries on.
    pub(crate) trace: Option<TraceContext>,
    pub(crate) ask: Ask,
}

#[derive(Debug)]
pub(crate) enum Ask {
    Router { connection: Connection, event: attached::Event<Directive, Count> },
    Start { wanted: Wanted, answer: Answer<Started, StartError> },
    Cancel { id: String, actor: String, answer: Answer<Summary, CancelError> },
    List { all: bool, answer: oneshot::Sender<Vec<Summary>> },
}

/// What was decided and is on disk, or why nothing was: a caller that is gone by then gets none, and wants none.
pub(crate) type Answer<T, E> = oneshot::Sender<Result<Result<T, E>, Status>>;
