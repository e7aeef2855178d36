//! The serving end of the streams that routers keep attached: the task that owns a service's state sees each of them as
//! a sequence of events.

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Status, Streaming};

use super::{Stuck, say};
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

impl<Out> Attached<Out> {
    /// # Errors
    /// When the queue is full.
    pub fn say(&self, trace: Option<TraceContext>, message: Out) -> Result<(), Stuck> {
        say(&self.queue, Ok((trace, message)))
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

/// Serves a stream until it ends, breaks or carries a message that cannot be understood. The owner gets each event as a
/// `command`.
pub fn serve<P, C>(
    incoming: Streaming<P::Request>,
    trace: Option<TraceContext>,
    queue: Queue,
    tasks: &Tasks,
    owner: mpsc::Sender<C>,
    command: impl Fn(Option<TraceContext>, Event<P::Out, P::In>) -> C + Send + Sync + 'static,
) -> BoxStream<'static, Result<P::Response, Status>>
where
    P: Protocol,
    C: Send + 'static,
{
    let (outgoing, told) = mpsc::channel(queue.length);
    sampled::queue(queue.name, &outgoing);
    let (open, stop) = (CancellationToken::new(), tasks.shutdown().token());
    let stopped = stop.clone();
    tasks.spawn("router stream", async move {
        let attached = Attached { queue: outgoing.clone(), _open: open.clone().drop_guard() };
        if owner.send(command(trace, Event::Attached(attached))).await.is_err() {
            return;
        }
        tokio::select! {
            () = listen::<P, _>(incoming, &outgoing, &owner, &command) => {}
            () = open.cancelled() => {}
            () = outgoing.closed() => {}
            () = stop.cancelled() => {}
        }
        // The owner may have ended before.
        drop(owner.send(command(trace, Event::Detached)).await);
    });
    let mut nonce = 0;
    let responses = ReceiverStream::new(told).map(move |told| {
        let (trace, message) = told?;
        nonce += 1;
        Ok(P::write(&message, trace.unwrap_or_else(TraceContext::new_unsampled), nonce))
    });
    responses.take_until(stopped.cancelled_owned()).boxed()
}

async fn listen<P, C>(
    mut incoming: Streaming<P::Request>,
    outgoing: &mpsc::Sender<Result<(Option<TraceContext>, P::Out), Status>>,
    owner: &mpsc::Sender<C>,
    command: &impl Fn(Option<TraceContext>, Event<P::Out, P::In>) -> C,
) where
    P: Protocol,
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
                if owner.send(command(trace, Event::Said(said))).await.is_err() {
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
