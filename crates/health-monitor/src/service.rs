//! The gRPC face: routers attach here, operators ask here. It decides nothing and keeps nothing.

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use health::Observation;
use health::monitor::Opinion;
use runtime::TraceContext;
use runtime::grpc::MESSAGE_BYTES_MAX;
use runtime::stream::attached::{Owner, Protocol, Queue};
use runtime::stream::changes;
use tokio::sync::broadcast;
use tonic::{Request, Response, Status, Streaming};
use wire::pb::health::v1 as pb;
use wire::pb::health::v1::health_service_server::{HealthService, HealthServiceServer};

use crate::command::Ask;
use crate::metrics;

/// A probe and a verdict for each of thousands of endpoints.
const QUEUE: Queue = Queue { name: "health_to_router", length: 8192 };

#[derive(Debug)]
pub struct Service {
    owner: Owner<Ask>,
    changes: broadcast::Sender<Opinion>,
}

impl Service {
    pub(crate) fn new(owner: Owner<Ask>, changes: broadcast::Sender<Opinion>) -> Self {
        Self { owner, changes }
    }

    pub(crate) fn into_server(self) -> HealthServiceServer<Self> {
        HealthServiceServer::new(self)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

type Answers<T> = BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl HealthService for Service {
    type AttachStream = Answers<pb::AttachResponse>;
    type WatchStream = Answers<pb::WatchResponse>;

    async fn attach(
        &self,
        request: Request<Streaming<pb::AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let ask = |connection, event| Ask::Router { connection, event };
        Ok(self.owner.attach::<RouterStream>(request, QUEUE, ask))
    }

    async fn list_verdicts(
        &self,
        request: Request<pb::ListVerdictsRequest>,
    ) -> Result<Response<pb::ListVerdictsResponse>, Status> {
        let opinions = self.owner.ask(TraceContext::of_call(&request), |answer| Ask::List { answer }).await?;
        let verdicts = opinions.iter().map(wire::health::opinion_to_pb).collect();
        Ok(Response::new(pb::ListVerdictsResponse { verdicts }))
    }

    /// Every change. A watcher that is too slow is told how many changes it missed; it never holds up others.
    async fn watch(&self, _: Request<pb::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let changes = changes(self.changes.subscribe(), metrics::missed);
        let changes = changes.map(|(change, missed)| {
            Ok(pb::WatchResponse { change: Some(wire::health::opinion_to_pb(&change)), missed })
        });
        Ok(self.owner.until_stopped(changes))
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
