//! The gRPC face: routers attach here, operators ask here. It decides nothing and keeps nothing.

use std::pin::Pin;

use futures_util::{Stream, StreamExt};
use runtime::grpc::{MESSAGE_BYTES_MAX, refusal};
use runtime::stream::changes;
use runtime::telemetry::sampled;
use runtime::{Tasks, TraceContext};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use wire::pb::health::v1 as pb;
use wire::pb::health::v1::health_service_server::{HealthService, HealthServiceServer};

use crate::command::{Ask, Command, Outbox};
use crate::metrics;

/// How many messages may wait in one router's stream: a probe and a verdict for each of thousands of endpoints.
const OUTBOX: usize = 8192;

#[derive(Debug)]
pub struct Service {
    commands: mpsc::Sender<Command>,
    changes: broadcast::Sender<pb::EndpointVerdict>,
    tasks: Tasks,
}

impl Service {
    pub(crate) fn new(
        commands: mpsc::Sender<Command>,
        changes: broadcast::Sender<pb::EndpointVerdict>,
        tasks: Tasks,
    ) -> Self {
        Self { commands, changes, tasks }
    }

    pub(crate) fn into_server(self) -> HealthServiceServer<Self> {
        HealthServiceServer::new(self)
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
        let stopping = || refusal::unavailable("STOPPING", "health-monitor is stopping");
        self.commands.send(Command { trace, ask: ask(answer) }).await.map_err(|_| stopping())?;
        answered.await.map_err(|_| stopping())
    }
}

fn trace<T>(request: &Request<T>) -> Option<TraceContext> {
    TraceContext::from_metadata(request.metadata())
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl HealthService for Service {
    type AttachStream = Answers<pb::AttachResponse>;
    type WatchStream = Answers<pb::WatchResponse>;

    async fn attach(
        &self,
        request: Request<Streaming<pb::AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let trace = trace(&request);
        let (outbox, responses) = mpsc::channel(OUTBOX);
        sampled::queue("health_to_router", &outbox);
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

    async fn list_verdicts(
        &self,
        request: Request<pb::ListVerdictsRequest>,
    ) -> Result<Response<pb::ListVerdictsResponse>, Status> {
        let opinions = self.ask(trace(&request), |answer| Ask::List { answer }).await?;
        let verdicts = opinions.iter().map(wire::health::opinion_to_pb).collect();
        Ok(Response::new(pb::ListVerdictsResponse { verdicts }))
    }

    /// Every change. A watcher that is too slow is told how many changes it missed; it never holds up others.
    async fn watch(&self, _: Request<pb::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let changes = changes(self.changes.subscribe(), metrics::missed);
        let changes = changes.map(|(change, missed)| Ok(pb::WatchResponse { change: Some(change), missed }));
        let stop = self.tasks.shutdown().token();
        Ok(Response::new(Box::pin(changes.take_until(stop.cancelled_owned()))))
    }
}

/// The listening end of one router's stream.
struct Listening {
    number: u64,
    commands: mpsc::Sender<Command>,
    outbox: Outbox,
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
            match wire::health::observation(request.observation) {
                Ok(observation) => {
                    let ask = Ask::Said { connection: self.number, observation };
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
