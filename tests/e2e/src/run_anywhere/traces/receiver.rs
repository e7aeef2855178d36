//! The receiver that takes the traces and can be asked for them: at full size a third-party program, else our own
//! collector.

use std::{
    cell::Cell,
    collections::BTreeSet,
    net::{SocketAddr, TcpListener},
    process::{Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use data_encoding::HEXLOWER;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{AnyValue, any_value},
    resource::v1::Resource,
    trace::v1::ResourceSpans,
};
use serde_json::Value;
use testkit::{Fault, Scratch, Supervised, binaries, client::http_get, fault, services::Service, wait};

use tokio::runtime::{self, Runtime};
use tonic::{
    Request, Response, Status,
    service::InterceptorLayer,
    transport::{Server, server::TcpIncoming},
};

use super::{STORED, Span, Trace};
use crate::Size;

/// How spans are to come, where the receiver takes both.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    Http,
    Grpc,
}

pub(super) enum Receiver {
    Otelite(Otelite),
    /// Takes gRPC only.
    Ours(Collector),
}

impl Receiver {
    pub(super) fn start(size: Size, scratch: &Scratch) -> Result<Self, Fault> {
        match size {
            Size::Full => Otelite::start(scratch).map(Self::Otelite),
            Size::Short => Collector::start().map(Self::Ours),
        }
    }

    /// Has `service` send its spans here from its next start on.
    pub(super) fn takes_from(&self, service: &mut Service, wire: Wire) {
        let (protocol, endpoint) = match (self, wire) {
            (Self::Otelite(otelite), Wire::Grpc) => ("grpc", format!("http://{}", otelite.grpc)),
            (Self::Otelite(otelite), Wire::Http) => ("http/protobuf", format!("http://{}", otelite.http)),
            (Self::Ours(collector), _) => ("grpc", format!("http://{}", collector.address)),
        };
        service.set_env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol);
        service.set_env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint);
        service.set_env("OTEL_BSP_SCHEDULE_DELAY", "100");
    }

    pub(super) fn trace(&self, id: &str) -> Result<Trace, Fault> {
        match self {
            Self::Otelite(otelite) => otelite.trace(id),
            Self::Ours(collector) => Ok(Trace(collector.spans().into_iter().filter(|span| span.trace == id).collect())),
        }
    }

    /// A trace with such a root that is not among `seen`.
    pub(super) fn newest(&self, root: &str, seen: &BTreeSet<String>) -> Result<Option<Trace>, Fault> {
        let id = match self {
            Self::Otelite(otelite) => otelite.newest(root, seen)?,
            Self::Ours(collector) => {
                let is_one = |span: &Span| span.name == root && span.parent.is_none() && !seen.contains(&span.trace);
                collector.spans().into_iter().find(is_one).map(|span| span.trace)
            }
        };
        id.map(|id| self.trace(&id)).transpose()
    }
}

/// With an API of its own for what it has stored.
pub(super) struct Otelite {
    _process: Supervised,
    grpc: SocketAddr,
    http: SocketAddr,
    asked: SocketAddr,
    questions: Cell<u64>,
}

impl Otelite {
    /// Installs it if it is not there.
    fn start(scratch: &Scratch) -> Result<Self, Fault> {
        let installed =
            Command::new(binaries::checkout().join("scripts/otlp-receiver")).stderr(Stdio::inherit()).output()?;
        if !installed.status.success() {
            return Err(fault("the receiver cannot be installed, see above"));
        }
        let free = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0"));
        let mut addresses = Vec::new();
        for listener in free {
            addresses.push(listener?.local_addr()?);
        }
        let [grpc, http, asked] = addresses[..] else { return Err(fault("three ports were asked for")) };
        let mut command = Command::new(String::from_utf8_lossy(&installed.stdout).trim());
        command.args(["serve", "--addr", &asked.to_string(), "--storage-path"]).arg(scratch.folder("otlp")?);
        command.env("HOME", scratch.folder("receiver")?).env("OTELITE_OTLP_GRPC_PORT", grpc.port().to_string());
        command.env("OTELITE_OTLP_HTTP_PORT", http.port().to_string());
        let process = Supervised::start("receiver", &mut command, &scratch.folder("logs")?)?;
        wait::until_true("the receiver", STORED, || {
            http_get(asked, "/api/traces").is_ok_and(|(status, _)| status == 200)
        })?;
        Ok(Self { _process: process, grpc, http, asked, questions: Cell::new(0) })
    }

    fn ask(&self, path: &str) -> Result<Value, Fault> {
        let (status, body) = http_get(self.asked, path)?;
        if status == 200 { Ok(serde_json::from_str(&body)?) } else { Err(fault(format!("{path}: {status} {body}"))) }
    }

    fn trace(&self, id: &str) -> Result<Trace, Fault> {
        let detail = self.ask(&format!("/api/traces/{id}"))?;
        let spans = detail["spans"].as_array().ok_or_else(|| fault(format!("no spans in {detail}")))?;
        let text = |span: &Value, key: &str| span[key].as_str().unwrap_or_default().to_owned();
        let read = |span: &Value| Span {
            trace: text(span, "trace_id"),
            id: text(span, "span_id"),
            parent: span["parent_span_id"].as_str().filter(|id| !id.is_empty()).map(str::to_owned),
            name: text(span, "name"),
            service: text(&span["resource"]["attributes"], "service.name"),
        };
        Ok(Trace(spans.iter().map(read).collect()))
    }

    fn newest(&self, root: &str, seen: &BTreeSet<String>) -> Result<Option<String>, Fault> {
        // An answer is remembered by its question for a while: no question is asked twice.
        let asked = self.questions.replace(self.questions.get() + 1);
        let list = self.ask(&format!("/api/traces?limit=1000&start_time={asked}"))?;
        let traces = list["traces"].as_array().into_iter().flatten();
        let mut ids = traces.filter(|trace| trace["root_span_name"] == root).filter_map(|one| one["trace_id"].as_str());
        Ok(ids.find(|id| !seen.contains(*id)).map(str::to_owned))
    }
}

/// Keeps everything.
pub(crate) struct Collector {
    address: SocketAddr,
    received: Received,
    credentials: Arc<Mutex<Vec<String>>>,
    _runtime: Runtime,
}

#[derive(Clone, Default)]
struct Received(Arc<Mutex<Vec<ResourceSpans>>>);

impl Received {
    fn lock(&self) -> MutexGuard<'_, Vec<ResourceSpans>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tonic::async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.lock().extend(request.into_inner().resource_spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    pub(crate) fn start() -> Result<Self, Fault> {
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let received = Received::default();
        let entered = runtime.enter();
        let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into())?;
        let address = incoming.local_addr()?;
        let credentials: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = Arc::clone(&credentials);
        let listen = InterceptorLayer::new(move |request: Request<()>| {
            let sent = request
                .metadata()
                .get("authorization")
                .map_or_else(String::new, |sent| String::from_utf8_lossy(sent.as_bytes()).into_owned());
            heard.lock().unwrap_or_else(PoisonError::into_inner).push(sent);
            Ok(request)
        });
        let server = Server::builder().layer(listen).add_service(TraceServiceServer::new(received.clone()));
        runtime.spawn(server.serve_with_incoming(incoming));
        drop(entered);
        Ok(Self { address, received, credentials, _runtime: runtime })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The whole content of all spans, with their senders.
    pub(crate) fn everything(&self) -> String {
        self.received.lock().iter().map(|spans| format!("{spans:?}\n")).collect()
    }

    /// The `authorization` of each call of any service, empty where there was none.
    pub(crate) fn credentials(&self) -> Vec<String> {
        self.credentials.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn spans(&self) -> Vec<Span> {
        let hex = |id: &[u8]| HEXLOWER.encode(id);
        let mut spans = Vec::new();
        for of_service in &*self.received.lock() {
            let service = of_service.resource.as_ref().map(service_name).unwrap_or_default();
            spans.extend(of_service.scope_spans.iter().flat_map(|scope| &scope.spans).map(|span| Span {
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: (!span.parent_span_id.is_empty()).then(|| hex(&span.parent_span_id)),
                name: span.name.clone(),
                service: service.clone(),
            }));
        }
        spans
    }
}

fn service_name(resource: &Resource) -> String {
    let named = resource.attributes.iter().find(|attribute| attribute.key == "service.name");
    match named.and_then(|attribute| attribute.value.clone()) {
        Some(AnyValue { value: Some(any_value::Value::StringValue(name)) }) => name,
        Some(_) | None => String::new(),
    }
}
