//! What the owning task is asked, by routers' streams and by operators.

use health::monitor::{Connection, Opinion};
use health::{Observation, Request};
use runtime::stream::attached;
use tokio::sync::oneshot;

pub(crate) type Command = attached::Command<Ask>;

#[derive(Debug)]
pub(crate) enum Ask {
    Router { connection: Connection, event: attached::Event<Request, Observation> },
    List { answer: oneshot::Sender<Vec<Opinion>> },
}
