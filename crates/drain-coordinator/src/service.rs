//! The gRPC face: routers attach here, operators ask here. It decides nothing and keeps nothing.

use std::pin::Pin;

use drain::ledger::{CancelError, StartError};
use futures_util::{Stream, StreamExt, stream};
use model::BackendId;
use runtime::grpc::{Actor, MESSAGE_BYTES_MAX, refusal};
use runtime::stream::changes;
use runtime::telemetry::sampled;
use runtime::{Tasks, TraceContext};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use wire::pb::drain::v1 as pb;
use wire::pb::drain::v1::drain_service_server::{DrainService, DrainServiceServer};

use crate::command::{Ask, Command};
use crate::metrics;

/// How many messages may wait in one router's stream: an overlay, and an acknowledgement for each departure.
const OUTBOX: usize = 4096;

#[derive(Debug)]
pub struct Service {
    commands: mpsc::Sender<Command>,
    changes: broadcast::Sender<pb::Drain>,
    tasks: Tasks,
}

impl Service {
    pub(crate) fn new(commands: mpsc::Sender<Command>, changes: broadcast::Sender<pb::Drain>, tasks: Tasks) -> Self {
        Self { commands, changes, tasks }
    }

    pub(crate) fn into_server(self) -> DrainServiceServer<Self> {
        DrainServiceServer::new(self)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Asks the owning task and waits for its answer.
    async fn ask<T>(
        &self,
        trace: Option<TraceContext>,
        ask: impl FnOnce(oneshot::Sender<T>) -> Ask,
    ) -> Result<T, Status> {
        let (answer, answered) = oneshot::channel();
        let stopping = || refusal::unavailable("STOPPING", "drain-coordinator is stopping");
        self.commands.send(Command { trace, ask: ask(answer) }).await.map_err(|_| stopping())?;
        answered.await.map_err(|_| stopping())
    }
}

fn trace<T>(request: &Request<T>) -> Option<TraceContext> {
    TraceContext::from_metadata(request.metadata())
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl DrainService for Service {
    type AttachStream = Answers<pb::AttachResponse>;
    type WatchStream = Answers<pb::WatchResponse>;

    async fn attach(
        &self,
        request: Request<Streaming<pb::AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let trace = trace(&request);
        let (outbox, responses) = mpsc::channel(OUTBOX);
        sampled::queue("drain_to_router", &outbox);
        let hung_up = CancellationToken::new();
        let open = hung_up.clone().drop_guard();
        let number = self.ask(trace, |number| Ask::Attach { outbox: outbox.clone(), open, number }).await?;
        let router = Listening { number, commands: self.commands.clone(), outbox };
        let (inbound, stop) = (request.into_inner(), self.tasks.shutdown().token());
        self.tasks.spawn("router stream", async move {
            tokio::select! {
                () = router.listen(inbound) => {}
                () = hung_up.cancelled() => {}
                () = router.outbox.closed() => {}
                () = stop.cancelled() => {}
            }
            let detached = Command { trace, ask: Ask::Detached { connection: router.number } };
            // The owning task may have ended before.
            drop(router.commands.send(detached).await);
        });
        let stop = self.tasks.shutdown().token();
        Ok(Response::new(Box::pin(ReceiverStream::new(responses).take_until(stop.cancelled_owned()))))
    }

    async fn start(&self, request: Request<pb::StartRequest>) -> Result<Response<pb::StartResponse>, Status> {
        let (trace, actor) = (trace(&request), Actor::of(&request)?.0.clone());
        let request = request.into_inner();
        let backend = BackendId::new(&request.server).map_err(|error| refusal::invalid("server", error.to_string()))?;
        let timeout = wire::drain::timeout(request.timeout)?;
        let started = self.ask(trace, |answer| Ask::Start { backend, timeout, actor, answer }).await??;
        let started = started.map_err(|error| match error {
            StartError::NoRouter { .. } | StartError::Silent { .. } => {
                refusal::precondition("NO_ROUTER", "routers", error.to_string())
            }
            StartError::Unknown { ref backend, .. } => {
                refusal::not_found("SERVER_UNKNOWN", "server", backend.as_str(), error.to_string())
            }
        })?;
        let drain = Some(wire::drain::summary_to_pb(&started.drain));
        Ok(Response::new(pb::StartResponse { drain, joined: started.joined }))
    }

    async fn cancel(&self, request: Request<pb::CancelRequest>) -> Result<Response<pb::CancelResponse>, Status> {
        let (trace, actor) = (trace(&request), Actor::of(&request)?.0.clone());
        let id = request.into_inner().id;
        let cancelled = self.ask(trace, |answer| Ask::Cancel { id, actor, answer }).await??;
        let cancelled = cancelled.map_err(|error| match error {
            CancelError::Unknown { ref id } => refusal::not_found("DRAIN_UNKNOWN", "drain", id, error.to_string()),
            CancelError::Removal { ref id, .. } => refusal::precondition("DRAIN_OF_REMOVAL", id, error.to_string()),
        })?;
        Ok(Response::new(pb::CancelResponse { drain: Some(wire::drain::summary_to_pb(&cancelled)) }))
    }

    async fn list(&self, request: Request<pb::ListRequest>) -> Result<Response<pb::ListResponse>, Status> {
        let trace = trace(&request);
        let all = request.into_inner().all;
        let list = self.ask(trace, |answer| Ask::List { all, answer }).await?;
        Ok(Response::new(pb::ListResponse { drains: list.iter().map(wire::drain::summary_to_pb).collect() }))
    }

    /// The drains that run now, then every change. A watcher that is too slow is told how many changes it missed; it
    /// never holds up others.
    async fn watch(&self, request: Request<pb::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        // Before the question, so that nothing falls between the two.
        let changes = changes(self.changes.subscribe(), metrics::missed);
        let changes = changes.map(|(drain, missed)| Ok(response(drain, missed)));
        let running = self.ask(trace(&request), |answer| Ask::List { all: false, answer }).await?;
        let running = running.into_iter().rev();
        let running = running.map(|drain| Ok(response(wire::drain::summary_to_pb(&drain), 0)));
        let stop = self.tasks.shutdown().token();
        Ok(Response::new(Box::pin(stream::iter(running).chain(changes).take_until(stop.cancelled_owned()))))
    }
}

fn response(drain: pb::Drain, missed: u64) -> pb::WatchResponse {
    pb::WatchResponse { drain: Some(drain), missed }
}

/// The listening end of one router's stream.
struct Listening {
    number: u64,
    commands: mpsc::Sender<Command>,
    outbox: crate::command::Outbox,
}

impl Listening {
    /// Reads until the stream ends, breaks, or carries a message that cannot be understood.
    async fn listen(&self, mut inbound: Streaming<pb::AttachRequest>) {
        loop {
            let request = match inbound.message().await {
                Ok(Some(request)) => request,
                Ok(None) => return,
                Err(status) => {
                    tracing::debug!(connection = self.number, %status, "the stream of a router broke");
                    return;
                }
            };
            let trace = request.envelope.and_then(|envelope| envelope.traceparent.parse().ok());
            match wire::drain::count(request.count) {
                Ok(count) => {
                    let ask = Ask::Said { connection: self.number, count };
                    if self.commands.send(Command { trace, ask }).await.is_err() {
                        return;
                    }
                }
                Err(invalid) => {
                    tracing::warn!(connection = self.number, %invalid, "a router is not understood");
                    metrics::hung_up();
                    // The router cannot be told if it hung up meanwhile.
                    drop(self.outbox.try_send(Err(invalid.into())));
                    return;
                }
            }
        }
    }
}
