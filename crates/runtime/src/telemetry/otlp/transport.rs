//! OpenTelemetry's exporter, with our one kind of TLS.

use std::{io, sync::Arc, time::Duration};

use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::{
    ExporterBuildError, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use tonic::{metadata::MetadataMap, transport::Endpoint};
use tower::ServiceExt;

use super::outcome::Outcome;
use crate::{
    fault::chain,
    telemetry::otlp_settings::{Export, Protocol},
};

pub(super) type Connector = HttpsConnector<HttpConnector>;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// # Errors
/// When the endpoint is secure and the system's root certificates cannot be read.
pub(super) fn connector(export: &Export) -> io::Result<Connector> {
    let mut tcp = HttpConnector::new();
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_nodelay(true);
    tcp.enforce_http(false);
    let secure = export.endpoint.scheme() == Some(&http::uri::Scheme::HTTPS);
    let connector = HttpsConnectorBuilder::new();
    // Root certificates are read only for a secure endpoint.
    let connector = if secure {
        connector.with_provider_and_native_roots(rustls::crypto::ring::default_provider())?
    } else {
        connector.with_tls_config(without_roots()?)
    };
    let connector = connector.https_or_http();
    Ok(match export.protocol {
        Protocol::Grpc => connector.enable_http2().wrap_connector(tcp),
        Protocol::HttpProtobuf => connector.enable_http1().wrap_connector(tcp),
    })
}

/// Connects at the first request, within the present runtime. A request has its own timeout; retries go on until the
/// batch's is over. `outcome` hears of each try that finds no collector.
pub(super) fn exporter(
    export: &Export,
    connector: Connector,
    outcome: Arc<Outcome>,
) -> Result<SpanExporter, ExporterBuildError> {
    let connector = ServiceExt::<Uri>::map_err(connector, move |error| {
        outcome.fails(&chain(&*error));
        error
    });
    let retry = RetryPolicy::recommended().with_max_retries(usize::MAX).with_max_delay(Duration::from_secs(5));
    match export.protocol {
        Protocol::Grpc => {
            let endpoint = Endpoint::from(export.endpoint.clone()).timeout(export.request_timeout);
            // The exporter adds the same headers from the environment: these take their place.
            let headers = MetadataMap::from_headers(export.headers.clone());
            let exporter =
                SpanExporter::builder().with_tonic().with_interceptor(move |mut request: tonic::Request<()>| {
                    request.metadata_mut().clone_from(&headers);
                    Ok(request)
                });
            let exporter = exporter.with_channel(endpoint.connect_with_connector_lazy(connector));
            exporter.with_retry_policy(retry).with_timeout(export.batch_timeout).build()
        }
        Protocol::HttpProtobuf => {
            let headers = export.headers.iter();
            let headers = headers.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
            let exporter = SpanExporter::builder().with_http().with_headers(headers.collect());
            let exporter = exporter.with_http_client(HyperClient::new(connector, export.request_timeout, None));
            let exporter = exporter.with_endpoint(export.endpoint.to_string());
            let exporter = exporter.with_protocol(opentelemetry_otlp::Protocol::HttpBinary);
            exporter.with_retry_policy(retry).with_timeout(export.batch_timeout).build()
        }
    }
}

fn without_roots() -> io::Result<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    Ok(config.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}
