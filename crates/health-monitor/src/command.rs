//! What the owning task is asked, by routers' streams and by operators.

use health::monitor::{Connection, Opinion};
use health::{Observation, Request};
use runtime::TraceContext;
use runtime::stream::attached;
use tokio::sync::oneshot;

#[derive(Debug)]
pub(crate) struct Command {
    /// What this belongs to, if it is told; whatever is said because of it carries on.
    pub(crate) trace: Option<TraceContext>,
    pub(crate) ask: Ask,
}

#[derive(Debug)]
pub(crate) enum Ask {
    Router { connection: Connection, event: attached::Event<Request, Observation> },
    List { answer: oneshot::Sender<Vec<Opinion>> },
}
