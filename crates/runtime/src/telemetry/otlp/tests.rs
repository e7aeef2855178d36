//! Collectors that accept, refuse, are slow, or are away: which spans arrive, and that each loss is counted.

use std::{convert::Infallible, net::SocketAddr};

use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    trace::v1::Span as Exported,
};
use prost::Message;
use tokio::{io::AsyncReadExt, net::TcpListener};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use super::*;
use crate::telemetry::Kind;

/// What a collector does with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Habit {
    Takes,
    Refuses,
    /// Rejects one span of each request.
    Rejects,
    NeverAnswers,
}

#[derive(Clone)]
struct Collector {
    habit: Habit,
    received: mpsc::Sender<ExportTraceServiceRequest>,
}

impl Collector {
    async fn answer(&self, request: ExportTraceServiceRequest) -> Result<ExportTraceServiceResponse, Status> {
        self.received.send(request).await.unwrap();
        match self.habit {
            Habit::Takes => Ok(ExportTraceServiceResponse::default()),
            Habit::Refuses => Err(Status::invalid_argument("no")),
            Habit::Rejects => {
                let partial_success = ExportTracePartialSuccess { rejected_spans: 1, error_message: "one".into() };
                Ok(ExportTraceServiceResponse { partial_success: Some(partial_success) })
            }
            Habit::NeverAnswers => std::future::pending().await,
        }
    }

    async fn post(&self, request: http::Request<Incoming>) -> http::Response<Full<bytes::Bytes>> {
        let is_right = request.uri().path() == "/v1/traces" && request.headers()["api-key"] == "secret";
        let body = request.into_body().collect().await.unwrap().to_bytes();
        match self.answer(ExportTraceServiceRequest::decode(body).unwrap()).await {
            Ok(answer) if is_right => http::Response::new(Full::new(answer.encode_to_vec().into())),
            Ok(_) | Err(_) => http::Response::builder().status(400).body(Full::default()).unwrap(),
        }
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        assert_eq!(request.metadata().get("api-key").unwrap(), "secret");
        self.answer(request.into_inner()).await.map(Response::new)
    }
}

/// A process with a tracer and its counters.
struct Sending {
    tasks: Tasks,
    traces: Traces,
    tracer: Tracer,
    counted: PrometheusHandle,
    received: mpsc::Receiver<ExportTraceServiceRequest>,
}

impl Sending {
    async fn to(habit: Habit, protocol: &'static str, more: &[(&str, &str)]) -> Self {
        let tasks = Tasks::new(Shutdown::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (received, requests) = mpsc::channel(64);
        let collector = Collector { habit, received };
        if protocol == "grpc" {
            let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(collector));
            let serving = server.serve_with_incoming(TcpListenerStream::new(listener));
            tasks.spawn("collector", async move { serving.await.unwrap() });
        } else {
            let own = tasks.clone();
            tasks.spawn("collector", async move {
                loop {
                    let (socket, _) = listener.accept().await.unwrap();
                    let collector = collector.clone();
                    let service = service_fn(move |request| {
                        let collector = collector.clone();
                        async move { Ok::<_, Infallible>(collector.post(request).await) }
                    });
                    let serving = http1::Builder::new().serve_connection(TokioIo::new(socket), service);
                    own.spawn("connection", async move { drop(serving.await) });
                }
            });
        }
        Self::at(address, requests, tasks, protocol, more)
    }

    fn at(
        address: SocketAddr,
        received: mpsc::Receiver<ExportTraceServiceRequest>,
        tasks: Tasks,
        protocol: &'static str,
        more: &[(&str, &str)],
    ) -> Self {
        let endpoint = format!("http://{address}");
        let fixed = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=secret"),
            ("OTEL_BSP_SCHEDULE_DELAY", "20"),
            ("OTEL_SERVICE_NAME", "named"),
        ];
        let get = |name: &str| {
            let given = more.iter().chain(&fixed).find(|(known, _)| *known == name);
            given.map(|(_, value)| (*value).to_owned())
        };
        let traces = Traces::new(parse(get).unwrap()).unwrap();
        let recorder = PrometheusBuilder::new().build_recorder();
        let tracer = metrics::with_local_recorder(&recorder, || traces.tracer("tested", "1.2.3", "here"));
        Self { tasks, traces, tracer, counted: recorder.handle(), received }
    }

    /// Finishes spans without yielding in between.
    fn finish(&self, spans: usize) {
        for _ in 0..spans {
            drop(self.tracer.start("work", Kind::Internal, None));
        }
    }

    /// Flushes everything, then returns (exported, failed, dropped).
    async fn counts(self) -> (u64, u64, u64) {
        self.traces.flush().await;
        self.tasks.shutdown().trigger();
        let text = self.counted.render();
        let of = |result: &str| {
            let name = format!("only1mcp_spans_total{{result=\"{result}\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or(0)
        };
        (of("exported"), of("failed"), of("dropped"))
    }
}

fn spans(request: &ExportTraceServiceRequest) -> Vec<&Exported> {
    let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
    scopes.flat_map(|scope| &scope.spans).collect()
}

#[tokio::test]
async fn a_collector_gets_what_was_finished_over_either_protocol() {
    for protocol in ["grpc", "http/protobuf"] {
        let mut sending = Sending::to(Habit::Takes, protocol, &[]).await;
        let parent = sending.tracer.start("parent", Kind::Server, None);
        drop(sending.tracer.start("child", Kind::Internal, Some(parent.context())));
        drop(parent);
        let request = sending.received.recv().await.unwrap();
        let [child, parent] = spans(&request)[..] else { panic!("{request:?}") };
        assert_eq!((child.name.as_str(), parent.name.as_str()), ("child", "parent"));
        assert_eq!((&child.trace_id, &child.parent_span_id), (&parent.trace_id, &parent.span_id));
        let resource = format!("{:?}", request.resource_spans[0].resource);
        for value in ["named", "only1mcp", "1.2.3", "here"] {
            assert!(resource.contains(value), "{value}: {resource}");
        }
        assert_eq!(sending.counts().await, (2, 0, 0), "{protocol}");
    }
}

#[tokio::test]
async fn what_a_collector_does_not_take_is_counted() {
    let hurried: &[_] = &[("OTEL_EXPORTER_OTLP_TIMEOUT", "50"), ("OTEL_BSP_EXPORT_TIMEOUT", "120")];
    let cases = [
        (Habit::Refuses, &[][..], (0, 3, 0)),
        (Habit::Rejects, &[], (2, 1, 0)),
        (Habit::NeverAnswers, hurried, (0, 3, 0)),
    ];
    for (habit, patience, expected) in cases {
        for protocol in ["grpc", "http/protobuf"] {
            let sending = Sending::to(habit, protocol, patience).await;
            sending.finish(3);
            assert_eq!(sending.counts().await, expected, "{habit:?} over {protocol}");
        }
    }
}

#[tokio::test]
async fn a_collector_that_is_away_costs_spans_and_nothing_else() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for protocol in ["grpc", "http/protobuf"] {
        let (_, received) = mpsc::channel(1);
        let tasks = Tasks::new(Shutdown::new());
        let sending = Sending::at(address, received, tasks, protocol, &[("OTEL_BSP_EXPORT_TIMEOUT", "300")]);
        sending.finish(3);
        assert_eq!(sending.counts().await, (0, 3, 0), "{protocol}");
    }
}

#[tokio::test]
async fn a_secure_collector_hears_tls_from_the_first_byte() {
    const HANDSHAKE: u8 = 22;
    for protocol in ["grpc", "http/protobuf"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let endpoint = format!("https://{address}");
        let secure = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_BSP_EXPORT_TIMEOUT", "300")];
        let (_, received) = mpsc::channel(1);
        let sending = Sending::at(address, received, Tasks::new(Shutdown::new()), protocol, &secure);
        sending.finish(1);
        let (mut socket, _) = listener.accept().await.unwrap();
        assert_eq!(socket.read_u8().await.unwrap(), HANDSHAKE, "{protocol}");
        drop((socket, listener));
        assert_eq!(sending.counts().await, (0, 1, 0), "{protocol}");
    }
}

#[tokio::test]
async fn a_full_queue_drops_the_newest_and_counts_them() {
    let small = [("OTEL_BSP_MAX_QUEUE_SIZE", "4"), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "3")];
    let sending = Sending::to(Habit::Takes, "grpc", &small).await;
    sending.finish(10);
    assert_eq!(sending.counts().await, (4, 0, 6));
}
