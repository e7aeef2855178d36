//! Real sockets of every kind, a service that returns its caller's identity, and the end of that service.

mod crowd;
mod raw;
mod spans;
mod surface;

use std::{
    convert::Infallible,
    fs,
    future::{Ready, ready},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::Path,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tonic::{Code, Request, Response, Status, body::Body, server::NamedService, service::Routes};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_prost::ProstCodec;

use super::*;
use crate::{AdminToken, Phase, Readiness, Shutdown, Tasks, Tracer, socket_file::SocketError};

/// Answers every call with the actor it came from.
#[derive(Clone)]
struct WhoAmI;

impl NamedService for WhoAmI {
    const NAME: &'static str = "test.WhoAmI";
}

impl tonic::server::UnaryService<()> for WhoAmI {
    type Response = String;
    type Future = Ready<Result<Response<String>, Status>>;

    fn call(&mut self, request: Request<()>) -> Self::Future {
        ready(Actor::of(&request).map(|actor| Response::new(actor.0.clone())))
    }
}

impl tower::Service<http::Request<Body>> for WhoAmI {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path().ends_with("/Never") {
            return Box::pin(std::future::pending());
        }
        Box::pin(async { Ok(tonic::server::Grpc::new(ProstCodec::<String, ()>::default()).unary(Self, request).await) })
    }
}

async fn who(client: &Client, path: &'static str) -> Result<String, Status> {
    let mut grpc = tonic::client::Grpc::new(client.clone());
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = http::uri::PathAndQuery::from_static(path);
    grpc.unary(Request::new(()), path, ProstCodec::<(), String>::default()).await.map(Response::into_inner)
}

const CALL: &str = "/test.WhoAmI/Call";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const GRACE: Duration = Duration::from_secs(5);
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

fn start(auth: &Auth, listeners: Vec<Listener>) -> Tasks {
    let shutdown = Shutdown::new();
    let readiness = Readiness::new(shutdown.clone());
    start_with(auth, listeners, readiness, shutdown)
}

fn start_with(auth: &Auth, listeners: Vec<Listener>, readiness: Readiness, shutdown: Shutdown) -> Tasks {
    let tasks = Tasks::new(shutdown.clone());
    let service = Service {
        routes: Routes::new(WhoAmI),
        descriptors: &[tonic_health::pb::FILE_DESCRIPTOR_SET],
        offers: vec![(WhoAmI::NAME, Tracer::off())],
        auth: auth.clone(),
        readiness,
    };
    tasks.spawn_component("grpc", serve(service, listeners, shutdown));
    tasks
}

fn token(directory: &Path) -> AdminToken {
    AdminToken::load_or_create(&directory.join("token")).unwrap()
}

fn presented(token: AdminToken) -> Option<Presented> {
    Some(Presented { token, reach: Reach::Loopback })
}

#[tokio::test]
async fn one_server_tells_its_callers_apart() {
    let base = tempfile::tempdir().unwrap();
    let (right, wrong) = (token(base.path()), token(&base.path().join("other")));
    let auth = Auth::new(Some(right.clone()));
    let (pipe, connector) = duplex();
    let tcp = Listener::tcp(LOOPBACK, &auth).await.unwrap();
    let url = format!("http://{}", tcp.local_addr().unwrap());
    let socket = base.path().join("run/admin.sock");
    let unix = Listener::unix(&socket).await.unwrap();
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let tasks = start(&auth, vec![tcp, unix, pipe.into()]);

    let uid = format!("uid:{}", nix::unistd::geteuid());
    let cases = [
        (Target::Duplex(connector), Ok("internal")),
        (Target::Unix(socket.clone()), Ok(uid.as_str())),
        (Target::Url(url.clone(), presented(right)), Ok("token")),
        (Target::Url(url.clone(), presented(wrong)), Err(Code::Unauthenticated)),
        (Target::Url(url.clone(), None), Err(Code::Unauthenticated)),
    ];
    for (target, expected) in cases {
        let client = connect_lazy(&target).unwrap();
        let actor = who(&client, CALL).await.map_err(|status| status.code());
        assert_eq!(actor.as_deref().map_err(|code| *code), expected, "{target:?}");
        let reflected = who(&client, REFLECTION).await.map_err(|status| status.code());
        assert_eq!(reflected == Err(Code::Unauthenticated), expected.is_err(), "{target:?}: {reflected:?}");
        let health = HealthClient::new(client).check(HealthCheckRequest::default()).await.unwrap();
        assert_eq!(health.into_inner().status(), ServingStatus::Serving);
    }
    assert!(tasks.join(GRACE).await.is_clean());
    assert!(!socket.exists(), "the socket file goes with its listener");
}

#[tokio::test]
async fn an_unprotected_address_is_refused_before_it_is_bound() {
    let base = tempfile::tempdir().unwrap();
    let everywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let refused = Listener::tcp(everywhere, &Auth::new(None)).await.unwrap_err();
    assert!(matches!(refused, ListenError::Unprotected { .. }), "{refused}");
    Listener::tcp(LOOPBACK, &Auth::new(None)).await.unwrap();
    Listener::tcp(everywhere, &Auth::new(Some(token(base.path())))).await.unwrap();
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("admin.sock");
    // Dropping a bare listener leaves the file behind, as a killed process does.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let live = Listener::unix(&path).await.unwrap();
    assert!(matches!(Listener::unix(&path).await.unwrap_err(), ListenError::Socket(SocketError::InUse { .. })));
    drop(live);
    fs::write(&path, "precious").unwrap();
    assert!(matches!(Listener::unix(&path).await.unwrap_err(), ListenError::Socket(SocketError::NotASocket { .. })));
}

#[tokio::test]
async fn a_client_survives_the_restart_of_its_server() {
    let base = tempfile::tempdir().unwrap();
    let (auth, path) = (Auth::new(None), base.path().join("admin.sock"));
    let client = connect_lazy(&Target::Unix(path.clone())).unwrap();
    who(&client, CALL).await.unwrap_err();
    for _ in 0..2 {
        let tasks = start(&auth, vec![Listener::unix(&path).await.unwrap()]);
        assert!(who(&client, CALL).await.unwrap().starts_with("uid:"));
        assert!(tasks.join(GRACE).await.is_clean());
        who(&client, CALL).await.unwrap_err();
    }
}

#[tokio::test]
async fn health_follows_readiness_and_open_streams_end_at_closing() {
    let (pipe, connector) = duplex();
    let tasks = start(&Auth::new(None), vec![pipe.into()]);
    let mut health = HealthClient::new(connect_lazy(&Target::Duplex(connector.clone())).unwrap());
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    tasks.shutdown().trigger();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    // The stream never ends by itself, and must not keep the process alive.
    assert_eq!(tasks.running(), ["grpc"]);
    assert!(tasks.join(GRACE).await.is_clean());
    assert_eq!(tasks.shutdown().phase(), Phase::Stopped);
    watch.message().await.unwrap_err();
    who(&connect_lazy(&Target::Duplex(connector)).unwrap(), CALL).await.unwrap_err();
}

#[tokio::test]
async fn only_what_can_be_dialled_is_a_target() {
    for url in ["", "nowhere", "https://host:1", "http://", "http://host:1/path", "unix:/x"] {
        assert!(connect_lazy(&Target::Url(url.to_owned(), None)).is_err(), "{url}");
    }
    for url in
        ["http://user:passw0rd@host:1", "https://passw0rd@host:1", "user:passw0rd@host:1", "http://a@passw0rd:@host:1"]
    {
        let error = connect_lazy(&Target::Url(url.to_owned(), None)).map(drop).unwrap_err().to_string();
        assert!(error.contains("write http://host:1,") && !error.contains("passw0rd"), "{error}");
    }
    for url in ["http://host:1", "http://[::1]:9441/"] {
        assert!(connect_lazy(&Target::Url(url.to_owned(), None)).is_ok(), "{url}");
    }
}

#[tokio::test]
async fn a_token_leaves_the_machine_in_clear_text_only_when_that_was_said() {
    let base = tempfile::tempdir().unwrap();
    let token = token(base.path());
    let dialled = |url: &str, reach| {
        let presented = Presented { token: token.clone(), reach };
        connect_lazy(&Target::Url(url.to_owned(), Some(presented))).map(drop)
    };
    for url in ["127.0.0.1:1", "127.9.9.9:1", "localhost:1", "LOCALHOST:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        dialled(&format!("http://{url}"), Reach::Loopback).unwrap();
    }
    let away = ["10.0.0.7:1", "config-manager:1", "localhost.example.org:1", "127.0.0.1.example.org:1", "[fe80::1]:1"];
    for url in away.map(|url| format!("http://{url}")) {
        let refused = dialled(&url, Reach::Loopback).unwrap_err().to_string();
        assert!(refused.contains(&url) && refused.contains("--insecure-token"), "{refused}");
        dialled(&url, Reach::Anywhere).unwrap();
        // Without a token there is nothing to lose.
        connect_lazy(&Target::Url(url.clone(), None)).unwrap();
    }
}
