//! The gRPC face: routers attach here, operators ask here. It decides nothing and keeps nothing.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{Stream, StreamExt};
use health::Observation;
use health::monitor::Opinion;
use runtime::grpc::{MESSAGE_BYTES_MAX, refusal};
use runtime::stream::attached::{self, Protocol, Queue};
use runtime::stream::changes;
use runtime::{Tasks, TraceContext};
use tokio::sync::{broadcast, mpsc, oneshot};
use tonic::{Request, Response, Status, Streaming};
use wire::pb::health::v1 as pb;
use wire::pb::health::v1::health_service_server::{HealthService, HealthServiceServer};

use crate::command::{Ask, Command};
use crate::metrics;

/// A probe and a verdict for each of thousands of endpoints.
const QUEUE: Queue = Queue { name: "health_to_router", length: 8192 };

#[derive(Debug)]
pub struct Service {
    commands: mpsc::Sender<Command>,
    changes: broadcast::Sender<Opinion>,
    /// Numbers the streams of routers, never the same twice.
    connections: AtomicU64,
    tasks: Tasks,
}

impl Service {
    pub(crate) fn new(commands: mpsc::Sender<Command>, changes: broadcast::Sender<Opinion>, tasks: Tasks) -> Self {
        Self { commands, changes, connections: AtomicU64::new(1), tasks }
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
        let connection = self.connections.fetch_add(1, Ordering::Relaxed);
        let command = move |trace, event| Command { trace, ask: Ask::Router { connection, event } };
        let (incoming, owner) = (request.into_inner(), self.commands.clone());
        Ok(Response::new(attached::serve::<RouterStream, _>(incoming, trace, QUEUE, &self.tasks, owner, command)))
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
        let changes = changes.map(|(change, missed)| {
            Ok(pb::WatchResponse { change: Some(wire::health::opinion_to_pb(&change)), missed })
        });
        let stop = self.tasks.shutdown().token();
        Ok(Response::new(Box::pin(changes.take_until(stop.cancelled_owned()))))
    }
}

struct RouterStream;

impl Protocol for RouterStream {
    type Request = pb::AttachRequest;
    type Response = pb::AttachResponse;
    type In = Observation;
    type Out = health::Request;

    fn read(request: pb::AttachRequest) -> (Option<TraceContext>, Result<Observation, Status>) {
        let trace = request.envelope.and_then(|envelope| envelope.traceparent.parse().ok());
        let observation = wire::health::observation(request.observation).inspect_err(|_| metrics::hung_up());
        (trace, observation.map_err(Status::from))
    }

    fn write(request: &health::Request, trace: TraceContext, nonce: u64) -> pb::AttachResponse {
        pb::AttachResponse {
            envelope: Some(wire::envelope(None, &trace.to_string(), nonce)),
            request: Some(wire::health::request_to_pb(request)),
        }
    }
}
