//! Connections to HTTP servers: each core has its own, by endpoint, so that no call takes a lock for one.
//!
//! A connection is used by one exchange at a time and comes back when the body of its response was read to the end. It
//! is driven by a task of its own, which closes it when the endpoint ends or when it has been idle for too long.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::http_target::Target;
use crate::call::{CallError, Cause};
use crate::endpoint::Endpoint;

/// Idle connections kept per endpoint and core; more are closed when they come back.
const MAX_IDLE: usize = 256;
/// How long one may be idle if the server neither says (`Keep-Alive: timeout=…`) nor shows it.
const IDLE: Duration = Duration::from_secs(60);
/// A server that closes at its own limit may do so while a request is on its way: be earlier than what it says, …
const MARGIN: Duration = Duration::from_secs(1);
/// … and than what it shows, but not so early that a server which once restarted gets a new connection for every call.
const LEAST_IDLE: Duration = Duration::from_secs(1);
/// How often a connection looks whether it has been idle for too long.
const SWEEP: Duration = Duration::from_secs(5);
/// One that was idle for longer than this may be closed without its task having had a turn to see it.
const FRESH: Duration = Duration::from_millis(50);

thread_local! {
    /// By serial of the endpoint.
    static POOL: RefCell<BTreeMap<u64, Shelf>> = const { RefCell::new(BTreeMap::new()) };
    static NEXT: Cell<u64> = const { Cell::new(1) };
}

/// What one core has of one endpoint.
struct Shelf {
    /// The latest used is the last.
    idle: Vec<Pooled>,
    /// The longest that is safe, as far as connections which the server closed have shown.
    longest: Duration,
}

impl Default for Shelf {
    fn default() -> Self {
        Self { idle: Vec::new(), longest: IDLE }
    }
}

/// A connection in the pool.
struct Pooled {
    sender: SendRequest<Full<Bytes>>,
    number: u64,
    since: Instant,
    until: Instant,
}

/// A connection in use. Dropped without [`Borrowed::give_back`] it is closed.
pub(super) struct Borrowed {
    sender: SendRequest<Full<Bytes>>,
    serial: u64,
    number: u64,
    keep: Duration,
}

impl Borrowed {
    /// After the end of the response's body: only then may the next request be written.
    pub(super) fn give_back(self) {
        let Self { sender, serial, number, keep } = self;
        if sender.is_closed() {
            return;
        }
        let since = Instant::now();
        with_shelf(serial, |shelf| {
            if shelf.idle.len() < MAX_IDLE {
                let until = since + keep.min(shelf.longest);
                shelf.idle.push(Pooled { sender, number, since, until });
            }
        });
    }
}

fn with_shelf<T>(serial: u64, work: impl FnOnce(&mut Shelf) -> T) -> T {
    POOL.with(|pool| work(pool.borrow_mut().entry(serial).or_default()))
}

/// A connection nothing speaks against, the latest used first.
async fn take(serial: u64) -> Option<Pooled> {
    loop {
        let mut pooled = with_shelf(serial, |shelf| shelf.idle.pop())?;
        let now = Instant::now();
        if pooled.until <= now {
            continue;
        }
        if now - pooled.since > FRESH {
            tokio::task::yield_now().await;
        }
        // Its task may not have seen the end of the last response yet, either.
        if pooled.sender.ready().await.is_ok() {
            return Some(pooled);
        }
    }
}

/// Connection `number` has been idle for too long, or has ended by itself; then what it shows is remembered.
fn sweep(serial: u64, number: u64, now: Instant, ended: bool) {
    with_shelf(serial, |shelf| {
        let found = shelf.idle.iter().position(|pooled| pooled.number == number);
        let Some(at) = found.filter(|at| ended || shelf.idle[*at].until <= now) else { return };
        let age = now - shelf.idle.remove(at).since;
        if ended && age >= LEAST_IDLE {
            shelf.longest = shelf.longest.min(age * 4 / 5).max(LEAST_IDLE);
        }
    });
}

/// Sends one request and returns with the head of its response. Goes again, over other connections, for as long as
/// nothing of it was written.
pub(super) async fn send(
    endpoint: &Endpoint,
    target: &Target,
    mut request: Request<Full<Bytes>>,
) -> Result<(Response<Incoming>, Borrowed), CallError> {
    let serial = endpoint.serial;
    while let Some(Pooled { mut sender, number, .. }) = take(serial).await {
        match sender.try_send_request(request).await {
            Ok(response) => return Ok(borrowed(response, sender, serial, number)),
            Err(mut error) => match error.take_message() {
                Some(unsent) => request = unsent,
                None => return Err(broken(endpoint, &error.into_error(), true)),
            },
        }
    }
    let (mut sender, number) = Box::pin(connect(endpoint, target)).await?;
    match sender.try_send_request(request).await {
        Ok(response) => Ok(borrowed(response, sender, serial, number)),
        Err(mut error) => {
            let sent = error.take_message().is_none();
            Err(broken(endpoint, &error.into_error(), sent))
        }
    }
}

fn borrowed(
    response: Response<Incoming>,
    sender: SendRequest<Full<Bytes>>,
    serial: u64,
    number: u64,
) -> (Response<Incoming>, Borrowed) {
    let keep = keep_alive(response.headers()).map_or(IDLE, |said| said.saturating_sub(MARGIN).min(IDLE));
    (response, Borrowed { sender, serial, number, keep })
}

/// What the server says about idle connections: `Keep-Alive: timeout=5`.
fn keep_alive(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("keep-alive")?.to_str().ok()?;
    let seconds = text.split(',').find_map(|part| part.trim().strip_prefix("timeout="))?;
    seconds.trim().parse().ok().map(Duration::from_secs)
}

fn broken(endpoint: &Endpoint, error: &hyper::Error, sent: bool) -> CallError {
    let message = format!("the connection to server `{}` broke: {}", endpoint.key.backend, chain(error));
    if sent { CallError::sent(Cause::Lost, message) } else { CallError::unsent(Cause::Lost, message) }
}

/// An error and its sources in one line: hyper's own text alone says little.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

async fn connect(endpoint: &Endpoint, target: &Target) -> Result<(SendRequest<Full<Bytes>>, u64), CallError> {
    let limit = endpoint.limits().connect;
    let failed = |reason: String| {
        let (server, host, port) = (&endpoint.key.backend, &target.host, target.port);
        CallError::unsent(Cause::Connect, format!("server `{server}` cannot be reached at {host}:{port}: {reason}"))
    };
    let connected = tokio::time::timeout(limit, open(endpoint, target)).await;
    let sender = match connected {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(_) => return Err(failed(format!("no connection within {} ms", limit.as_millis()))),
    };
    endpoint.reached();
    Ok(sender)
}

async fn open(endpoint: &Endpoint, target: &Target) -> io::Result<(SendRequest<Full<Bytes>>, u64)> {
    let stream = TcpStream::connect((target.host.as_str(), target.port)).await?;
    stream.set_nodelay(true)?;
    if target.tls {
        let name = ServerName::try_from(target.host.clone()).map_err(io::Error::other)?;
        let stream = endpoint.upstreams.tls().connect(name, stream).await?;
        drive(endpoint, stream).await
    } else {
        drive(endpoint, stream).await
    }
}

async fn drive<S>(endpoint: &Endpoint, stream: S) -> io::Result<(SendRequest<Full<Bytes>>, u64)>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) =
        http1::Builder::new().writev(false).handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    metrics::counter!("router_upstream_connections_total").increment(1);
    let number = NEXT.with(|next| next.replace(next.get() + 1));
    let (serial, ended) = (endpoint.serial, endpoint.ended.clone());
    endpoint.upstreams.tasks.spawn("upstream connection", async move {
        let mut connection = std::pin::pin!(connection);
        let mut ticks = tokio::time::interval_at(Instant::now() + SWEEP, SWEEP);
        let by_itself = loop {
            tokio::select! {
                outcome = &mut connection => {
                    // Whoever was waiting on it has been told; an idle one may end as it likes.
                    if let Err(error) = outcome {
                        tracing::debug!(error = %chain(&error), "an upstream connection ended");
                    }
                    break true;
                }
                () = ended.cancelled() => break false,
                now = ticks.tick() => sweep(serial, number, now, false),
            }
        };
        if by_itself {
            sweep(serial, number, Instant::now(), true);
        } else {
            // The endpoint is gone, and will not be asked for again.
            POOL.with(|pool| drop(pool.borrow_mut().remove(&serial)));
        }
    });
    Ok((sender, number))
}

/// Trusts what the system trusts.
pub(super) fn tls_connector() -> tokio_rustls::TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "a certificate store of the system cannot be read");
    }
    let (added, ignored) = roots.add_parsable_certificates(found.certs);
    tracing::debug!(added, ignored, "certificates of the system loaded");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports the default protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    tokio_rustls::TlsConnector::from(Arc::new(config))
}
