//! The serving end of the streams that routers keep attached: the task that owns a service's state sees each of them as
//! a sequence of events, and each question of a caller as one more.

use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status, Streaming};

use super::{Stuck, say};
use crate::grpc::refusal;
use crate::telemetry::sampled;
use crate::{Tasks, TraceContext};

/// Commands that wait for the owning task; more wait in their streams.
const COMMANDS: usize = 1024;

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

/// What the task that owns a service's state is told.
#[derive(Debug)]
pub struct Command<A> {
    /// The trace of the message; what is sent because of it joins that trace.
    pub trace: Option<TraceContext>,
    pub ask: A,
}

/// The way to the task that owns a service's state, for its callers and its routers.
#[derive(Debug)]
pub struct Owner<A> {
    service: &'static str,
    commands: mpsc::Sender<Command<A>>,
    /// Numbers the streams of routers, never the same twice.
    connections: AtomicU64,
    tasks: Tasks,
}

impl<A: Send + 'static> Owner<A> {
    /// The other end is the task's. Callers wait while it is behind; routers wait in their streams.
    pub fn new(service: &'static str, queue: &'static str, tasks: Tasks) -> (Self, mpsc::Receiver<Command<A>>) {
        let (commands, received) = mpsc::channel(COMMANDS);
        sampled::queue(queue, &commands);
        (Self { service, commands, connections: AtomicU64::new(1), tasks }, received)
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// When the service is stopping.
    pub async fn ask<T>(
        &self,
        trace: Option<TraceContext>,
        ask: impl FnOnce(oneshot::Sender<T>) -> A,
    ) -> Result<T, Status> {
        let (answer, answered) = oneshot::channel();
        let stopping = || refusal::unavailable("STOPPING", format!("{} is stopping", self.service));
        self.commands.send(Command { trace, ask: ask(answer) }).await.map_err(|_| stopping())?;
        answered.await.map_err(|_| stopping())
    }

    /// The answers of a stream that ends when the service stops.
    pub fn until_stopped<S>(&self, answers: S) -> Response<BoxStream<'static, S::Item>>
    where
        S: Stream + Send + 'static,
    {
        Response::new(answers.take_until(self.tasks.shutdown().token().cancelled_owned()).boxed())
    }

    /// Serves the stream of a router until it ends, breaks or carries a message that cannot be understood. The owner
    /// gets each event as what `ask` makes of it.
    pub fn attach<P: Protocol>(
        &self,
        request: Request<Streaming<P::Request>>,
        queue: Queue,
        ask: impl Fn(u64, Event<P::Out, P::In>) -> A + Send + Sync + 'static,
    ) -> Response<BoxStream<'static, Result<P::Response, Status>>> {
        let trace = TraceContext::of_call(&request);
        let connection = self.connections.fetch_add(1, Ordering::Relaxed);
        let command = move |trace, event| Command { trace, ask: ask(connection, event) };
        let (outgoing, told) = mpsc::channel(queue.length);
        sampled::queue(queue.name, &outgoing);
        let (owner, open, stop) = (self.commands.clone(), CancellationToken::new(), self.tasks.shutdown().token());
        self.tasks.spawn("router stream", async move {
            let attached = Attached { queue: outgoing.clone(), _open: open.clone().drop_guard() };
            if owner.send(command(trace, Event::Attached(attached))).await.is_err() {
                return;
            }
            tokio::select! {
                () = listen::<P, _>(request.into_inner(), &outgoing, &owner, &command) => {}
                () = open.cancelled() => {}
                () = outgoing.closed() => {}
                () = stop.cancelled() => {}
            }
            // The owner may have ended before.
            drop(owner.send(command(trace, Event::Detached)).await);
        });
        let mut nonce = 0;
        self.until_stopped(ReceiverStream::new(told).map(move |told| {
            let (trace, message) = told?;
            nonce += 1;
            Ok(P::write(&message, trace.unwrap_or_else(TraceContext::new_unsampled), nonce))
        }))
    }
}

async fn listen<P, A>(
    mut incoming: Streaming<P::Request>,
    outgoing: &mpsc::Sender<Result<(Option<TraceContext>, P::Out), Status>>,
    owner: &mpsc::Sender<Command<A>>,
    command: &impl Fn(Option<TraceContext>, Event<P::Out, P::In>) -> Command<A>,
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
