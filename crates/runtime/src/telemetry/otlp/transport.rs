//! The one request of OTLP, as gRPC and as protobuf over HTTP, over one kind of connection.

use std::{io, pin::Pin, time::Duration};

use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioTimer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse, trace_service_client::TraceServiceClient,
};
use prost::Message;
use tonic::{Code, body::Body, metadata::MetadataMap};

use crate::{
    Tasks,
    fault::chain,
    shutdown::Phase,
    telemetry::otlp_settings::{Export, Protocol},
};

type HttpClient = Client<HttpsConnector<HttpConnector>, Body>;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
/// A collector's answer is short.
const ANSWER_BYTES_MAX: usize = 64 << 10;
const AGENT: &str = concat!("only1mcp/", env!("CARGO_PKG_VERSION"));

/// Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub(super) struct Transport {
    client: HttpClient,
    protocol: Protocol,
    endpoint: Uri,
    headers: http::HeaderMap,
}

/// It is not known whether the spans of a request have arrived.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub(super) struct SendError {
    why: String,
    /// The same request may succeed later.
    pub(super) can_heal: bool,
    /// How long the collector asks us to wait.
    pub(super) retry_after: Option<Duration>,
}

impl SendError {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), can_heal: false, retry_after: None }
    }

    pub(super) fn timed_out() -> Self {
        Self { can_heal: true, ..Self::new("the collector did not answer in time") }
    }
}

impl Transport {
    /// Connects at the first request; connections end with `tasks`.
    pub(super) fn new(export: &Export, tasks: &Tasks) -> io::Result<Self> {
        let mut tcp = HttpConnector::new();
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        let is_grpc = export.protocol == Protocol::Grpc;
        let secure = export.endpoint.scheme() == Some(&http::uri::Scheme::HTTPS);
        let connector = HttpsConnectorBuilder::new();
        // Root certificates are read only for a secure endpoint.
        let connector = if secure {
            connector.with_provider_and_native_roots(rustls::crypto::ring::default_provider())?
        } else {
            connector.with_tls_config(without_roots()?)
        };
        let connector = connector.https_or_http();
        let connector = if is_grpc {
            connector.enable_http2().wrap_connector(tcp)
        } else {
            connector.enable_http1().wrap_connector(tcp)
        };
        let mut builder = Client::builder(OnTasks(tasks.clone()));
        builder
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .http2_only(is_grpc);
        let mut headers = export.headers.clone();
        headers.insert(header::USER_AGENT, header::HeaderValue::from_static(AGENT));
        Ok(Self {
            client: builder.build(connector),
            protocol: export.protocol,
            endpoint: export.endpoint.clone(),
            headers,
        })
    }

    /// How many spans the collector rejected.
    pub(super) async fn send(&self, request: &ExportTraceServiceRequest) -> Result<u64, SendError> {
        let answer = match self.protocol {
            Protocol::Grpc => self.call(request).await,
            Protocol::HttpProtobuf => self.post(request).await,
        }?;
        let rejected = answer.partial_success.map_or(0, |partial| partial.rejected_spans);
        Ok(u64::try_from(rejected).unwrap_or(0))
    }

    async fn call(&self, request: &ExportTraceServiceRequest) -> Result<ExportTraceServiceResponse, SendError> {
        let mut call = tonic::Request::new(request.clone());
        *call.metadata_mut() = MetadataMap::from_headers(self.headers.clone());
        let mut client = TraceServiceClient::with_origin(self.client.clone(), self.endpoint.clone());
        let answered = client.export(call).await;
        answered.map(tonic::Response::into_inner).map_err(|status| SendError {
            why: chain(&status),
            can_heal: may_heal(status.code()),
            retry_after: None,
        })
    }

    async fn post(&self, request: &ExportTraceServiceRequest) -> Result<ExportTraceServiceResponse, SendError> {
        let body = Full::new(request.encode_to_vec().into()).map_err(|never| match never {});
        let mut post =
            Request::post(&self.endpoint).body(Body::new(body)).map_err(|error| SendError::new(chain(&error)))?;
        *post.headers_mut() = self.headers.clone();
        post.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/x-protobuf"));
        let answer = self.client.request(post).await;
        let answer = answer.map_err(|error| SendError { can_heal: true, ..SendError::new(chain(&error)) })?;
        let status = answer.status();
        if status != StatusCode::OK {
            let seconds = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            return Err(SendError {
                why: format!("the collector answered {status}"),
                can_heal: [429, 502, 503, 504].contains(&status.as_u16()),
                retry_after: seconds.map(Duration::from_secs),
            });
        }
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| SendError::new(chain(error.as_ref())))?;
        // A success status is enough: not every collector sends the protocol's own message.
        Ok(ExportTraceServiceResponse::decode(body.to_bytes()).unwrap_or_default())
    }
}

/// The codes that the protocol's specification lists as retryable.
fn may_heal(code: Code) -> bool {
    use Code::{Aborted, Cancelled, DataLoss, DeadlineExceeded, OutOfRange, Unavailable};
    // A connection that breaks is reported as unknown.
    [Aborted, Cancelled, DataLoss, DeadlineExceeded, OutOfRange, Unavailable, Code::Unknown].contains(&code)
}

fn without_roots() -> io::Result<rustls::ClientConfig> {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    Ok(config.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}

/// Runs the connections where they are joined.
#[derive(Clone, Debug)]
struct OnTasks(Tasks);

impl hyper::rt::Executor<Pin<Box<dyn Future<Output = ()> + Send>>> for OnTasks {
    fn execute(&self, connection: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let shutdown = self.0.shutdown().clone();
        self.0.spawn("collector connection", async move {
            tokio::select! {
                () = connection => {}
                () = shutdown.reached(Phase::Closing) => {}
            }
        });
    }
}
