//! What the owning task is asked, by routers' streams and by operators.

use drain::ledger::{CancelError, Connection, StartError, Started, Summary, Wanted};
use drain::{Count, Directive};
use runtime::stream::attached;
use tokio::sync::oneshot;
use tonic::Status;

pub(crate) type Command = attached::Command<Ask>;

#[derive(Debug)]
pub(crate) enum Ask {
    Router { connection: Connection, event: attached::Event<Directive, Count> },
    Start { wanted: Wanted, answer: Answer<Started, StartError> },
    Cancel { id: String, actor: String, answer: Answer<Vec<Summary>, CancelError> },
    List { all: bool, answer: oneshot::Sender<Vec<Summary>> },
}

/// What was decided and is on disk, or why nothing was: a caller that is gone by then gets none, and wants none.
pub(crate) type Answer<T, E> = oneshot::Sender<Result<Result<T, E>, Status>>;
