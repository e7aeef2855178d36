//! Where to dial, and the one client type that results, whatever lies between.

use std::{
    fmt, io,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::{
    Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint, Uri},
};
use tower::service_fn;

use super::{CONNECTION_WINDOW, KEEPALIVE_EVERY, KEEPALIVE_TIMEOUT, STREAM_WINDOW, duplex::DuplexConnector};
use crate::token::AdminToken;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The authority of peers that have no host name; never resolved.
const LOCAL_AUTHORITY: &str = "http://localhost";

/// Give it to a generated client's `new`. It connects at the first call and again after every loss; calls fail with
/// `UNAVAILABLE` meanwhile. Cheap to clone; clones share the connection.
pub type Client = InterceptedService<Channel, Bearer>;

/// A peer of ours.
#[derive(Clone, Debug)]
pub enum Target {
    /// `http://host:port`, and the token that peer wants.
    Url(String, Option<Presented>),
    /// A Unix socket; this process's user is the credential.
    Unix(PathBuf),
    /// A service in this process.
    Duplex(DuplexConnector),
}

/// Where it is, without the token.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url, _) => f.write_str(url),
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Duplex(_) => f.write_str("the service in this process"),
        }
    }
}

/// A token, and how far it may go.
#[derive(Clone, Debug)]
pub struct Presented {
    pub token: AdminToken,
    pub reach: Reach,
}

/// How far a token may go over connections that are not encrypted, as all of ours over TCP are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Not beyond this machine.
    Loopback,
    /// Other machines, too: the operator has stated that no third party can read the network.
    Anywhere,
}

/// Whether a token may leave this machine in clear text.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct InsecureToken {
    /// Send the admin token to other machines although nothing encrypts it on the way; for networks that nobody else
    /// can read, as that of containers or a VPN
    #[arg(long = "insecure-token", env = "ONLY1MCP_INSECURE_TOKEN")]
    pub anywhere: bool,
}

impl InsecureToken {
    pub fn reach(self) -> Reach {
        if self.anywhere { Reach::Anywhere } else { Reach::Loopback }
    }
}

/// The target can never be dialled.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("{url:?} is not a URL; expected http://HOST:PORT")]
    Url { url: String, source: http::uri::InvalidUri },
    /// `place` is the rest of the URL.
    #[error(
        "a service URL has no user and no password: write http://{place}, and name the file of the admin token with \
         --token-file (ONLY1MCP_TOKEN_FILE)"
    )]
    Userinfo { place: String },
    #[error("{url:?} cannot be dialled; expected http://HOST:PORT, without a path")]
    Form { url: String },
    #[error(
        "the admin token is not sent to {url}: the connection leaves this machine and is not encrypted; use a tunnel to a \
         loopback address, or say --insecure-token (ONLY1MCP_INSECURE_TOKEN=true) if nobody else can read that network"
    )]
    ClearText { url: String },
}

/// Attaches the token to each call.
#[derive(Clone, Debug)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

impl Bearer {
    fn new(token: Option<&AdminToken>) -> Self {
        Self(token.map(|token| {
            let value = format!("Bearer {}", token.reveal());
            let mut value = MetadataValue::try_from(value).expect("a token is visible ASCII");
            value.set_sensitive(true);
            value
        }))
    }
}

/// Makes a client without connecting. Must be called within a runtime.
///
/// # Errors
/// When the URL cannot be a service of ours. An unreachable service fails the calls instead.
pub fn connect_lazy(target: &Target) -> Result<Client, DialError> {
    let (channel, token) = match target {
        Target::Url(url, presented) => {
            let (endpoint, presented) = (endpoint(url)?, presented.as_ref());
            if presented.is_some_and(|presented| presented.reach == Reach::Loopback) && !is_loopback(endpoint.uri()) {
                return Err(DialError::ClearText { url: url.clone() });
            }
            (endpoint.connect_lazy(), presented.map(|presented| &presented.token))
        }
        Target::Unix(path) => {
            let path = path.clone();
            let connector = service_fn(move |_: Uri| {
                let path = path.clone();
                async move { connect_unix(&path).await.map(TokioIo::new) }
            });
            (tuned(Endpoint::from_static(LOCAL_AUTHORITY)).connect_with_connector_lazy(connector), None)
        }
        Target::Duplex(connector) => {
            let connector = connector.clone();
            let connector = service_fn(move |_: Uri| {
                let connector = connector.clone();
                async move { connector.connect().await.map(TokioIo::new) }
            });
            (tuned(Endpoint::from_static(LOCAL_AUTHORITY)).connect_with_connector_lazy(connector), None)
        }
    };
    Ok(InterceptedService::new(channel, Bearer::new(token)))
}

/// A socket of another user is not a server of ours, whatever its path; root may connect to all.
async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(path).await?;
    let (server, own) = (stream.peer_cred()?.uid(), nix::unistd::geteuid().as_raw());
    if server == own || server == 0 || own == 0 {
        return Ok(stream);
    }
    let reason = format!("{} is served by uid {server}, not by uid {own} or root", path.display());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, reason))
}

/// The answer to a stream, if a gRPC server gave it. Whatever speaks HTTP/2 answers a request, and an answer of any
/// status looks like the beginning of a stream.
///
/// # Errors
/// `UNAVAILABLE` if no gRPC server is there.
pub fn in_grpc<T>(answer: Response<T>) -> Result<Response<T>, Status> {
    let kind = answer.metadata().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.starts_with("application/grpc") {
        return Ok(answer);
    }
    Err(Status::unavailable("it answers, but not in gRPC: it is another program, or a proxy whose service is away"))
}

fn endpoint(url: &str) -> Result<Endpoint, DialError> {
    // First, since other errors quote the URL. Nothing else in a service URL has this character.
    if let Some((_, place)) = url.rsplit_once('@') {
        return Err(DialError::Userinfo { place: place.to_owned() });
    }
    // Parsed here, because the transport would take `unix:` and schemes it cannot speak.
    let uri: Uri = url.parse().map_err(|source| DialError::Url { url: url.to_owned(), source })?;
    let plain = uri.scheme_str() == Some("http") && uri.host().is_some() && ["", "/"].contains(&uri.path());
    if plain { Ok(tuned(Endpoint::from(uri))) } else { Err(DialError::Form { url: url.to_owned() }) }
}

/// Whether bytes sent to `uri` stay on this machine, judged by the name alone: a resolver's answer may change with each
/// connection.
fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    address.map_or_else(|_| host.eq_ignore_ascii_case("localhost"), |address| address.to_canonical().is_loopback())
}

fn tuned(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_EVERY)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
}
