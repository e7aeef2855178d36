//! Connections to HTTP servers: each core has its own, by endpoint, so that no call takes a lock for one.
//!
//! A connection is used by one exchange at a time. The response body owns the connection and gives it back at the end
//! of the body; a body that is dropped before its end closes the connection.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use model::units::in_words;
use runtime::shutdown::Phase;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::http1::{Connection, Failed, Framing, Head, Headers, Http1Error, READ_MAX, Request, Stream};
use super::target::{Place, Target};
use crate::call::{CallError, Cause};
use crate::endpoint::Endpoint;
use crate::upstream::Upstreams;

/// Idle connections kept per endpoint and core; more are closed when they come back.
const MAX_IDLE: usize = 256;
/// How long a connection may be idle if the server neither announces (`Keep-Alive: timeout=…`) nor shows a limit.
const IDLE: Duration = Duration::from_secs(60);
/// Taken off the server's announced limit, because a server that closes at that limit may do so while a request is on
/// its way.
const MARGIN: Duration = Duration::from_secs(1);
/// Observed limits never go below this, or one restart of the server would cost a new connection for every call.
const LEAST_IDLE: Duration = Duration::from_secs(1);
/// How often idle connections are looked at.
const SWEEP: Duration = Duration::from_secs(1);
/// A connection that was idle for longer may have been closed before the runtime had a chance to see it.
const FRESH: Duration = Duration::from_millis(50);

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { shelves: BTreeMap::new(), swept: false }) };
}

/// How many endpoints have ended in this process.
static ENDED: LazyLock<watch::Sender<u64>> = LazyLock::new(watch::Sender::default);

/// One core's idle connections.
struct Pool {
    /// By number of the endpoint. A shelf exists from an endpoint's first connection until the endpoint ends.
    shelves: BTreeMap<u64, Shelf>,
    /// A task looks after the shelves, for as long as there are any.
    swept: bool,
}

/// One core's idle connections to one endpoint.
struct Shelf {
    /// The most recently used connection is last.
    idle: Vec<Idle>,
    /// The longest idle time that is safe, as far as connections that the server closed have shown.
    longest: Duration,
    ended: CancellationToken,
    /// No idle connection keeps its buffers. So it is on the control thread, where all servers are brought up and
    /// pinged.
    sparing: bool,
}

struct Idle {
    /// Boxed because it is moved several times in each call.
    connection: Box<Connection>,
    place: Arc<Place>,
    since: Instant,
    until: Instant,
}

impl Shelf {
    /// A usable connection to `place`, the most recently used first. A reference in the URL may lead elsewhere than
    /// before: connections to the old place are left to calls that still go there, and to their age.
    fn take(&mut self, place: &Arc<Place>, now: Instant) -> Option<(Box<Connection>, Arc<Place>)> {
        let same = |idle: &Idle| Arc::ptr_eq(&idle.place, place) || idle.place == *place;
        while let Some(at) = self.idle.iter().rposition(same) {
            let mut idle = self.idle.remove(at);
            if idle.until > now && !self.is_spent(&mut idle, now) {
                return Some((idle.connection, idle.place));
            }
        }
        None
    }

    /// Whether the connection is of no use any more. Remembers its idle time if the server has closed it.
    fn is_spent(&mut self, idle: &mut Idle, now: Instant) -> bool {
        let age = now - idle.since;
        let spent = idle.connection.is_spent(age > FRESH);
        if spent && age >= LEAST_IDLE {
            self.longest = self.longest.min(age * 4 / 5).max(LEAST_IDLE);
        }
        spent
    }

    fn sweep(&mut self, now: Instant) {
        let idle = std::mem::take(&mut self.idle);
        self.idle = idle.into_iter().filter_map(|mut idle| self.keeps(&mut idle, now).then_some(idle)).collect();
    }

    fn keeps(&mut self, idle: &mut Idle, now: Instant) -> bool {
        let keeps = idle.until > now && !self.is_spent(idle, now);
        if keeps && now - idle.since >= SWEEP {
            idle.connection.rest();
        }
        keeps
    }
}

fn with_shelf<T>(number: u64, work: impl FnOnce(&mut Shelf) -> T) -> Option<T> {
    POOL.with(|pool| pool.borrow_mut().shelves.get_mut(&number).map(work))
}

/// A connection in use.
struct Lent {
    connection: Box<Connection>,
    place: Arc<Place>,
    number: u64,
    /// How long the connection may be idle, if it may be used again.
    keep: Option<Duration>,
}

impl Lent {
    /// Called after the end of the response body: only then may the next request be written.
    fn give_back(self) {
        let Self { mut connection, place, number, keep: Some(keep) } = self else { return };
        let since = Instant::now();
        with_shelf(number, |shelf| {
            if shelf.sparing {
                connection.rest();
            }
            if shelf.idle.len() < MAX_IDLE {
                let until = since + keep.min(shelf.longest);
                shelf.idle.push(Idle { connection, place, since, until });
            }
        });
    }
}

/// A response whose head has arrived.
pub(super) struct Response {
    pub(super) status: StatusCode,
    pub(super) headers: Headers,
    pub(super) body: Body,
}

/// The body of a response, as it comes.
pub(super) struct Body {
    /// Held until the end of the body.
    lent: Option<Lent>,
    framing: Framing,
    coding: Option<Box<str>>,
}

/// How long a body that is not needed is still read. Until its end, its connection can serve no other exchange.
const LINGER: Duration = Duration::from_secs(1);
/// How many bytes of such a body are read at most.
const REST: usize = 64 << 10;

impl Body {
    /// The content coding of the body, although every request asks for identity: such a body cannot be read.
    pub(super) fn coding(&self) -> Option<&str> {
        self.coding.as_deref()
    }

    /// No more of the body is needed. Its connection is used again if the end of the body comes soon.
    pub(super) fn leave(mut self, upstreams: &Upstreams) {
        if self.lent.as_ref().is_none_or(|lent| lent.keep.is_none()) {
            return;
        }
        let shutdown = upstreams.tasks.shutdown().clone();
        upstreams.tasks.spawn("end of an upstream answer", async move {
            let rest = async {
                let mut bytes = 0;
                while let Some(Ok(frame)) = self.frame().await {
                    bytes += frame.data_ref().map_or(0, Bytes::len);
                    if bytes > REST {
                        return;
                    }
                }
            };
            // Whether the end came in time does not matter here: the body decides what becomes of its connection.
            tokio::select! {
                _ = tokio::time::timeout(LINGER, rest) => {}
                // Nothing is sent over the connection any more.
                () = shutdown.reached(Phase::Closing) => {}
            }
        });
    }

    /// The next piece, for which up to `ahead` bytes are read at once.
    pub(super) fn poll_piece(
        &mut self,
        ahead: usize,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Http1Error>>> {
        let Self { lent: Some(lent), framing, .. } = self else { return Poll::Ready(None) };
        // A server may make a piece of each byte: thousands of them come out of one reading.
        if matches!(framing, Framing::Chunked(_)) {
            ready!(tokio::task::coop::poll_proceed(context)).made_progress();
        }
        let piece = ready!(lent.connection.poll_body(framing, ahead, context));
        if piece.is_err() {
            self.lent = None;
        }
        self.over();
        Poll::Ready(piece.transpose())
    }

    /// See [`Connection::rest`].
    pub(super) fn rest(&mut self) {
        if let Some(lent) = &mut self.lent {
            lent.connection.rest();
        }
    }

    fn over(&mut self) {
        if let Some(lent) = self.lent.take_if(|_| self.framing == Framing::Done) {
            lent.give_back();
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Http1Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Http1Error>>> {
        self.poll_piece(READ_MAX, context).map_ok(Frame::data)
    }

    fn is_end_stream(&self) -> bool {
        self.lent.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.framing {
            Framing::Length(left) => SizeHint::with_exact(left),
            Framing::Done => SizeHint::with_exact(0),
            Framing::Chunked(_) | Framing::UntilClose => SizeHint::default(),
        }
    }
}

/// Sends one request and returns with the head of its response. Retries over other connections for as long as nothing
/// of the request was written.
pub(super) async fn send(
    endpoint: &Endpoint,
    target: &Target,
    request: &mut Request<'_>,
) -> Result<Response, CallError> {
    let number = endpoint.number;
    let take = |shelf: &mut Shelf| shelf.take(&target.place, Instant::now());
    while let Some((mut connection, place)) = with_shelf(number, take).flatten() {
        match connection.exchange(request).await {
            Ok(head) => return Ok(response(head, connection, place, number)),
            Err(Failed { sent: false, .. }) => {}
            Err(Failed { error, sent: true }) => return Err(broken(endpoint, &error, true)),
        }
    }
    let mut connection = Box::pin(connect(endpoint, target)).await?;
    match connection.exchange(request).await {
        Ok(head) => Ok(response(head, connection, Arc::clone(&target.place), number)),
        Err(Failed { error, sent }) => Err(broken(endpoint, &error, sent)),
    }
}

fn response(head: Head, connection: Box<Connection>, place: Arc<Place>, number: u64) -> Response {
    let keep = head.headers.keep_alive.map_or(IDLE, |said| said.saturating_sub(MARGIN).min(IDLE));
    let lent = Lent { connection, place, number, keep: head.reusable.then_some(keep) };
    let mut body = Body { lent: Some(lent), framing: head.framing, coding: head.coding };
    body.over();
    Response { status: head.status, headers: head.headers, body }
}

fn broken(endpoint: &Endpoint, error: &Http1Error, sent: bool) -> CallError {
    let message = format!("the connection to server `{}` broke: {error}", endpoint.key.backend);
    if sent { CallError::sent(Cause::Lost, message) } else { CallError::unsent(Cause::Lost, message) }
}

async fn connect(endpoint: &Endpoint, target: &Target) -> Result<Box<Connection>, CallError> {
    let limit = endpoint.limits().connect;
    let failed = |reason: String| {
        let server = &endpoint.key.backend;
        // An address that comes from a reference is not shown.
        let place =
            endpoint.shown.address.as_ref().map_or_else(String::new, |(host, port)| format!(" at {host}:{port}"));
        CallError::unsent(Cause::Connect, format!("server `{server}` cannot be reached{place}: {reason}"))
    };
    let opened = tokio::time::timeout(limit, open(endpoint, target)).await;
    let result = if matches!(opened, Ok(Ok(_))) { "ok" } else { "failed" };
    metrics::counter!("only1mcp_router_connects_total", "result" => result).increment(1);
    let stream = match opened {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(_) => return Err(failed(format!("no connection within {}", in_words(limit)))),
    };
    endpoint.reached();
    shelve(endpoint);
    Ok(Box::new(Connection::new(stream)))
}

async fn open(endpoint: &Endpoint, target: &Target) -> io::Result<Stream> {
    let (upstreams, host, port) = (&endpoint.upstreams, target.place.host.as_str(), target.place.port);
    let ends = Instant::now() + endpoint.limits().connect;
    let addresses = upstreams.names.addresses(host, port, &upstreams.tasks, &upstreams.control).await?;
    let stream = match reach(&addresses, ends).await {
        Ok(stream) => stream,
        Err(error) => {
            upstreams.names.forget(host, port);
            return Err(error);
        }
    };
    stream.set_nodelay(true)?;
    if !target.place.tls {
        return Ok(Stream::Plain(stream));
    }
    let name = ServerName::try_from(target.place.host.clone()).map_err(io::Error::other)?;
    Ok(Stream::Tls(Box::new(endpoint.upstreams.tls().connect(name, stream).await?)))
}

/// The first of the addresses that can be reached. Each has its share of the time that is left, so that a silent one
/// leaves some to the others; the caller ends the last one.
async fn reach(addresses: &[SocketAddr], ends: Instant) -> io::Result<TcpStream> {
    let Some((last, others)) = addresses.split_last() else { return Err(io::ErrorKind::AddrNotAvailable.into()) };
    for (address, behind) in others.iter().zip((1..=others.len()).rev()) {
        let left = ends.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(behind + 1).unwrap_or(u32::MAX);
        if let Ok(Ok(stream)) = tokio::time::timeout(share, TcpStream::connect(address)).await {
            return Ok(stream);
        }
    }
    TcpStream::connect(last).await
}

/// Makes a place for the idle connections of an endpoint, unless this core has one.
fn shelve(endpoint: &Endpoint) {
    if endpoint.ended.is_cancelled() {
        return;
    }
    let swept = POOL.with_borrow_mut(|pool| {
        let sparing = Handle::current().id() == endpoint.upstreams.control.id();
        let shelf = || Shelf { idle: Vec::new(), longest: IDLE, ended: endpoint.ended.clone(), sparing };
        pool.shelves.entry(endpoint.number).or_insert_with(shelf);
        std::mem::replace(&mut pool.swept, true)
    });
    if !swept {
        endpoint.upstreams.tasks.spawn("idle upstream connections", look_after(Sweeper, ENDED.subscribe()));
    }
}

/// An endpoint has ended: its connections are closed now, on all cores.
pub(crate) fn endpoint_ended() {
    ENDED.send_modify(|count| *count += 1);
}

/// The one task of a core that looks after its shelves. If it ends early, with its runtime, the connections end with
/// it.
struct Sweeper;

impl Sweeper {
    /// Closes everything of endpoints that have ended. Returns whether a shelf is left.
    fn clear(&self) -> bool {
        POOL.with_borrow_mut(|pool| {
            pool.shelves.retain(|_, shelf| !shelf.ended.is_cancelled());
            !pool.shelves.is_empty()
        })
    }

    /// Closes what has been idle for too long.
    fn sweep(&self, now: Instant) {
        POOL.with_borrow_mut(|pool| pool.shelves.values_mut().for_each(|shelf| shelf.sweep(now)));
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        // An error says that the thread ends.
        drop(POOL.try_with(|pool| pool.replace(Pool { shelves: BTreeMap::new(), swept: false })));
    }
}

async fn look_after(sweeper: Sweeper, mut ended: watch::Receiver<u64>) {
    let mut ticks = tokio::time::interval(SWEEP);
    while sweeper.clear() {
        tokio::select! {
            now = ticks.tick() => sweeper.sweep(now),
            // The sender is never dropped.
            _ = ended.changed() => {}
        }
    }
}

/// Trusts what the system trusts.
pub(crate) fn tls_connector() -> tokio_rustls::TlsConnector {
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

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_silent_address_leaves_time_for_the_others() {
        let here = SocketAddr::from(([127, 0, 0, 1], 0));
        let good = TcpListener::bind(here).await.unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(here).unwrap();
        let silent = socket.listen(1).unwrap();
        // The listener never accepts: once its queue is full, the system answers no more.
        let mut queued = Vec::new();
        while let Ok(stream) =
            timeout(Duration::from_millis(300), TcpStream::connect(silent.local_addr().unwrap())).await
        {
            queued.push(stream.unwrap());
            assert!(queued.len() < 10, "the queue has an end");
        }
        let addresses = [&silent, &silent, &good].map(|listener| listener.local_addr().unwrap());
        let limit = Duration::from_secs(3);
        let reached = timeout(limit, reach(&addresses, Instant::now() + limit)).await.expect("in time").unwrap();
        assert_eq!(reached.peer_addr().unwrap(), addresses[2]);
        assert!(reach(&[], Instant::now() + limit).await.is_err());
    }
}
