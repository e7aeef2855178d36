//! The serving end of the streams that routers keep attached: the task that owns a service's state sees each of them as
//! a sequence of events.

use std::future::Future;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Status, Streaming};

use crate::telemetry::sampled;
use crate::{Tasks, TraceContext};

/// What happens on one stream.
#[derive(Debug)]
pub enum Event<Out, In> {
    Attached(Attached<Out>),
    Said(In),
    Detached,
}

/// The speaking end of a stream. Dropping it hangs up.
#[derive(Debug)]
pub struct Attached<Out> {
    queue: mpsc::Sender<Result<(Option<TraceContext>, Out), Status>>,
    /// Ends the listening end with this one.
    _open: DropGuard,
}

/// The router takes nothing: hang up.
#[derive(Debug, thiserror::Error)]
#[error("the router does not take what it is told")]
pub struct Stuck;

impl<Out> Attached<Out> {
    /// # Errors
    /// When the queue is full.
    pub fn say(&self, trace: Option<TraceContext>, message: Out) -> Result<(), Stuck> {
        match self.queue.try_send(Ok((trace, message))) {
            // Where the stream is gone, [`Event::Detached`] says so in a moment.
            Ok(()) | Err(TrySendError::Closed(_)) => Ok(()),
            Err(TrySendError::Full(_)) => Err(Stuck),
        }
    }

    /// Hangs up. The router learns the reason if there is room, and the end of its stream in any case.
    pub fn hang_up(self, reason: Status) {
        drop(self.queue.try_send(Err(reason)));
    }
}

/// The messages that wait to be sent on one stream.
#[derive(Debug, Clone, Copy)]
pub struct Queue {
    pub name: &'static str,
    pub length: usize,
}

/// How a service writes and reads the messages of its streams, which carry the trace that each belongs to.
pub trait Protocol: Send + Sync + 'static {
    type Request: Send + 'static;
    type Response: Send + 'static;
    /// What a router says, and is told.
    type In: Send + 'static;
    type Out: Send + 'static;

    /// # Errors
    /// When the message cannot be understood.
    fn read(request: Self::Request) -> (Option<TraceContext>, Result<Self::In, Status>);

    /// The `nonce` counts the messages of one stream.
    fn write(message: &Self::Out, trace: TraceContext, nonce: u64) -> Self::Response;
}

/// Serves a stream until it ends, breaks or carries a message that cannot be understood. `tell` hands each event to the
/// owner, and says whether there is one.
pub fn serve<P, Tell, Told>(
    incoming: Streaming<P::Request>,
    trace: Option<TraceContext>,
    queue: Queue,
    tasks: &Tasks,
    tell: Tell,
) -> BoxStream<'static, Result<P::Response, Status>>
where
    P: Protocol,
    Tell: Fn(Option<TraceContext>, Event<P::Out, P::In>) -> Told + Send + Sync + 'static,
    Told: Future<Output = bool> + Send,
{
    let (outgoing, told) = mpsc::channel(queue.length);
    sampled::queue(queue.name, &outgoing);
    let (open, stop) = (CancellationToken::new(), tasks.shutdown().token());
    let stopped = stop.clone();
    tasks.spawn("router stream", async move {
        let attached = Attached { queue: outgoing.clone(), _open: open.clone().drop_guard() };
        if !tell(trace, Event::Attached(attached)).await {
            return;
        }
        tokio::select! {
            () = listen::<P, _, _>(incoming, &outgoing, &tell) => {}
            () = open.cancelled() => {}
            () = outgoing.closed() => {}
            () = stop.cancelled() => {}
        }
        // The owner may have ended before.
        tell(trace, Event::Detached).await;
    });
    let mut nonce = 0;
    let responses = ReceiverStream::new(told).map(move |told| {
        let (trace, message) = told?;
        nonce += 1;
        Ok(P::write(&message, trace.unwrap_or_else(TraceContext::new_unsampled), nonce))
    });
    responses.take_until(stopped.cancelled_owned()).boxed()
}

async fn listen<P, Tell, Told>(
    mut incoming: Streaming<P::Request>,
    outgoing: &mpsc::Sender<Result<(Option<TraceContext>, P::Out), Status>>,
    tell: &Tell,
) where
    P: Protocol,
    Tell: Fn(Option<TraceContext>, Event<P::Out, P::In>) -> Told,
    Told: Future<Output = bool>,
{
    loop {
        let request = match incoming.message().await {
            Ok(Some(request)) => request,
            Ok(None) => return,
            Err(status) => {
                tracing::debug!(%status, "the stream of a router broke");
                return;
            }
        };
        match P::read(request) {
            (trace, Ok(said)) => {
                if !tell(trace, Event::Said(said)).await {
                    return;
                }
            }
            (_, Err(status)) => {
                tracing::warn!(reason = status.message(), "a router is not understood");
                // The router cannot be told if it hung up meanwhile.
                drop(outgoing.try_send(Err(status)));
                return;
            }
        }
    }
}
