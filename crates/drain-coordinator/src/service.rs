//! The gRPC face: routers attach here, operators ask here. It decides nothing and keeps nothing.

use drain::ledger::{CancelError, StartError, Summary};
use drain::{Count, Directive};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use runtime::TraceContext;
use runtime::grpc::{Actor, MESSAGE_BYTES_MAX, refusal};
use runtime::stream::attached::{Owner, Protocol, Queue};
use runtime::stream::changes;
use tokio::sync::broadcast;
use tonic::{Request, Response, Status, Streaming};
use wire::pb::drain::v1 as pb;
use wire::pb::drain::v1::drain_service_server::{DrainService, DrainServiceServer};

use crate::command::Ask;
use crate::metrics;

/// An overlay, and an acknowledgement for each departure.
const QUEUE: Queue = Queue { name: "drain_to_router", length: 4096 };

#[derive(Debug)]
pub struct Service {
    owner: Owner<Ask>,
    changes: broadcast::Sender<Summary>,
}

impl Service {
    pub(crate) fn new(owner: Owner<Ask>, changes: broadcast::Sender<Summary>) -> Self {
        Self { owner, changes }
    }

    pub(crate) fn into_server(self) -> DrainServiceServer<Self> {
        DrainServiceServer::new(self)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

type Answers<T> = BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl DrainService for Service {
    type AttachStream = Answers<pb::AttachResponse>;
    type WatchStream = Answers<pb::WatchResponse>;

    async fn attach(
        &self,
        request: Request<Streaming<pb::AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let ask = |connection, event| Ask::Router { connection, event };
        Ok(self.owner.attach::<RouterStream>(request, QUEUE, ask))
    }

    async fn start(&self, request: Request<pb::StartRequest>) -> Result<Response<pb::StartResponse>, Status> {
        let (trace, actor) = (TraceContext::of_call(&request), Actor::of(&request)?.0.clone());
        let wanted = wire::drain::wanted(request.into_inner(), actor)?;
        let started = self.owner.ask(trace, |answer| Ask::Start { wanted, answer }).await??;
        let started = started.map_err(|error| match error {
            StartError::NoRouter { .. } | StartError::Silent { .. } => {
                refusal::precondition("NO_ROUTER", "routers", error.to_string())
            }
            StartError::Unknown { ref backend, .. } => {
                refusal::not_found("SERVER_UNKNOWN", "server", backend.as_str(), error.to_string())
            }
            StartError::Endpoint { ref begins, .. } => {
                refusal::not_found("ENDPOINT_UNKNOWN", "endpoint", begins, error.to_string())
            }
        })?;
        let drain = Some(wire::drain::summary_to_pb(&started.drain));
        Ok(Response::new(pb::StartResponse { drain, joined: started.joined }))
    }

    async fn cancel(&self, request: Request<pb::CancelRequest>) -> Result<Response<pb::CancelResponse>, Status> {
        let (trace, actor) = (TraceContext::of_call(&request), Actor::of(&request)?.0.clone());
        let id = request.into_inner().id;
        let cancelled = self.owner.ask(trace, |answer| Ask::Cancel { id, actor, answer }).await??;
        let cancelled = cancelled.map_err(|error| match error {
            CancelError::Unknown { ref id } => refusal::not_found("DRAIN_UNKNOWN", "drain", id, error.to_string()),
            CancelError::Removal { ref id, .. } => refusal::precondition("DRAIN_OF_REMOVAL", id, error.to_string()),
        })?;
        let drains: Vec<_> = cancelled.iter().map(wire::drain::summary_to_pb).collect();
        Ok(Response::new(pb::CancelResponse { drain: drains.first().cloned(), drains }))
    }

    async fn list(&self, request: Request<pb::ListRequest>) -> Result<Response<pb::ListResponse>, Status> {
        let trace = TraceContext::of_call(&request);
        let all = request.into_inner().all;
        let list = self.owner.ask(trace, |answer| Ask::List { all, answer }).await?;
        Ok(Response::new(pb::ListResponse { drains: list.iter().map(wire::drain::summary_to_pb).collect() }))
    }

    /// The drains that run now, then every change. A watcher that is too slow is told how many changes it missed; it
    /// never holds up others.
    async fn watch(&self, request: Request<pb::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        // Before the question, so that nothing falls between the two.
        let changes = changes(self.changes.subscribe(), metrics::missed);
        let changes = changes.map(|(drain, missed)| Ok(response(&drain, missed)));
        let running =
            self.owner.ask(TraceContext::of_call(&request), |answer| Ask::List { all: false, answer }).await?;
        let running = running.into_iter().rev();
        let running = running.map(|drain| Ok(response(&drain, 0)));
        Ok(self.owner.until_stopped(stream::iter(running).chain(changes)))
    }
}

fn response(drain: &Summary, missed: u64) -> pb::WatchResponse {
    pb::WatchResponse { drain: Some(wire::drain::summary_to_pb(drain)), missed }
}

struct RouterStream;

impl Protocol for RouterStream {
    type Request = pb::AttachRequest;
    type Response = pb::AttachResponse;
    type In = Count;
    type Out = Directive;

    fn read(request: pb::AttachRequest) -> (Option<TraceContext>, Result<Count, Status>) {
        let trace = request.envelope.and_then(|envelope| envelope.traceparent.parse().ok());
        let count = wire::drain::count(request.count).inspect_err(|_| metrics::hung_up());
        (trace, count.map_err(Status::from))
    }

    fn write(directive: &Directive, trace: TraceContext, nonce: u64) -> pb::AttachResponse {
        pb::AttachResponse {
            envelope: Some(wire::envelope(None, &trace.to_string(), nonce)),
            directive: Some(wire::drain::directive_to_pb(directive)),
        }
    }
}
