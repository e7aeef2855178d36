//! Runs one gRPC server over any number of listeners, with health, reflection and the credential check.

use std::time::Duration;

use futures_util::stream::SelectAll;
use tokio_util::sync::CancellationToken;
use tonic::{
    service::Routes,
    transport::{Server, server::Router},
};
use tower::layer::util::{Identity, Stack};

use super::{
    CONNECTION_WINDOW, KEEPALIVE_EVERY, KEEPALIVE_TIMEOUT, STREAM_WINDOW,
    bounds::BoundsLayer,
    calls::CallsLayer,
    credential::{Auth, CredentialLayer, shown},
    health,
    listen::Listener,
};
use crate::{
    readiness::Readiness,
    shutdown::{Phase, Shutdown},
    telemetry::{Tracer, log, trace_context::TRACEPARENT},
};

/// How long calls that are being answered may take after `Closing`.
const CUT_AFTER: Duration = Duration::from_millis(500);
/// Calls and streams of one connection at once; the next one waits at the client.
const STREAMS_MAX: u32 = 256;

/// Headers of one request, with what HTTP/2 counts for each.
const HEADERS_MAX: u32 = 16 << 10;
/// Streams that a peer has reset before they were processed, and streams that we had to reset because of the peer. A
/// peer beyond these numbers does nothing else; its connection ends.
const PEER_RESETS_MAX: usize = 20;
const OWN_RESETS_MAX: usize = 256;

/// A health request is a name. Its buffer is allocated as soon as its length is known, for a caller without credential.
const HEALTH_BYTES: usize = 4096;

/// What every server offers besides its own.
const ALWAYS_OFFERED: [&str; 3] =
    ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];

/// What a server offers, and to which callers.
#[derive(Clone, Debug)]
pub struct Service {
    pub routes: Routes,
    /// Encoded `FileDescriptorSet`s of the routes, for reflection.
    pub descriptors: &'static [&'static [u8]],
    /// Full names of the services among the routes, each with the tracer that records its calls. Reflection and health
    /// know these services; the descriptors may hold others, too.
    pub offers: Vec<(&'static str, Tracer)>,
    pub auth: Auth,
    /// Answers `grpc.health.v1`: for the empty name and those of the services whether the process is ready, for
    /// `only1mcp.dependency/NAME` each gate and dependency by itself.
    pub readiness: Readiness,
}

/// Why a server did not start or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("the descriptors for gRPC reflection are broken")]
    Descriptors(#[source] tonic_reflection::server::Error),
    #[error("the descriptors of the services are broken")]
    Methods(#[from] prost::DecodeError),
    #[error("the gRPC server ended")]
    Server(#[source] tonic::transport::Error),
}

/// Serves until a stop is requested, then lets the calls in flight end: services end their streams when
/// `shutdown.token()` is cancelled. Calls left at `Closing` are cut off.
///
/// # Errors
/// See [`ServeError`]; a single connection's failure is none.
pub async fn serve(service: Service, listeners: Vec<Listener>, shutdown: Shutdown) -> Result<(), ServeError> {
    let (reporter, health_service) = tonic_health::server::health_reporter();
    let readiness = service.readiness.clone();
    let names: Vec<&str> = service.offers.iter().map(|(name, _)| *name).collect();
    let router = router(service)?.add_service(health_service.max_decoding_message_size(HEALTH_BYTES));

    let cut = CancellationToken::new();
    let incoming: SelectAll<_> = listeners.into_iter().map(|listener| listener.into_incoming(cut.clone())).collect();
    let stopped = shutdown.clone();
    let serving = router.serve_with_incoming_shutdown(incoming, async move { stopped.triggered().await });
    let cutting = async {
        shutdown.reached(Phase::Closing).await;
        tokio::time::sleep(CUT_AFTER).await;
        cut.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        served = serving => served.map_err(ServeError::Server),
        () = health::report(&readiness, &names, &reporter) => Ok(()),
        () = log::fall_back() => Ok(()),
        () = cutting => Ok(()),
    }
}

type Layers = Stack<CallsLayer, Stack<CredentialLayer, Stack<BoundsLayer, Identity>>>;

fn router(service: Service) -> Result<Router<Layers>, ServeError> {
    let described = |builder: tonic_reflection::server::Builder<'static>| {
        let register = |builder, set: &&'static [u8]| {
            tonic_reflection::server::Builder::register_encoded_file_descriptor_set(builder, set)
        };
        let name = |builder, name: &&'static str| tonic_reflection::server::Builder::with_service_name(builder, *name);
        let builder = service.descriptors.iter().fold(builder, register);
        let builder = service.offers.iter().map(|(name, _)| name).chain(&ALWAYS_OFFERED).fold(builder, name);
        // Each version of reflection has only its own descriptor, but lists the other version, too.
        builder
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET)
    };
    let configure = tonic_reflection::server::Builder::configure;
    let v1 = described(configure()).build_v1().map_err(ServeError::Descriptors)?;
    let v1alpha = described(configure()).build_v1alpha().map_err(ServeError::Descriptors)?;
    let router = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_EVERY))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_header_list_size(HEADERS_MAX)
        .http2_max_pending_accept_reset_streams(Some(PEER_RESETS_MAX))
        // Without a number here there would be no limit at all.
        .http2_max_local_error_reset_streams(Some(OWN_RESETS_MAX))
        .trace_fn(span)
        .layer(BoundsLayer)
        .layer(CredentialLayer(service.auth))
        .layer(CallsLayer::new(service.descriptors, &service.offers)?)
        .add_routes(service.routes)
        .add_service(v1)
        .add_service(v1alpha);
    Ok(router)
}

fn span(request: &http::Request<()>) -> tracing::Span {
    let traceparent = request.headers().get(TRACEPARENT).and_then(|value| value.to_str().ok());
    tracing::info_span!("grpc", path = shown(request.uri().path()), traceparent = traceparent.map(shown))
}
