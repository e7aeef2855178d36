//! The HTTP listener for the operator: `/livez`, `/readyz`, `/metrics`. It serves nothing that needs a credential, and
//! is closed to web pages. A page can make a browser send requests here under a name of its own (DNS rebinding), so a
//! request under a name must use one that this listener has.

mod names;

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

use crate::{
    escape,
    held::Held,
    inherited::OPS,
    places::{Place, Places, Standing},
    readiness::Readiness,
    shutdown::{Phase, Shutdown},
    tasks::Tasks,
    telemetry::{Metrics, Sparing, openmetrics},
};

pub use names::OpsNames;

/// Connections at once. The next one takes the place of the oldest: a probe or a scrape is over in a moment, and a
/// longer connection must not make an orchestrator believe that the process is dead.
const CONNECTIONS_MAX: usize = 256;
/// A connection is for one request. A client that has not sent it and read the answer within this time is disconnected.
const CONNECTION_TIME: Duration = Duration::from_secs(10);
/// Accepting fails while the process is out of descriptors; retrying at once would only burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
static CANNOT_ACCEPT: Sparing = Sparing::new("cannot_accept", 10, Duration::from_secs(10));

/// A bound listener that does not answer yet.
#[derive(Debug)]
pub struct OpsListener {
    listener: TcpListener,
    address: SocketAddr,
}

/// The address cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for /livez, /readyz and /metrics; choose another address with --ops")]
pub struct OpsBindError {
    pub address: SocketAddr,
    pub source: io::Error,
}

impl OpsListener {
    /// Port 0 takes a free one.
    pub async fn bind(address: SocketAddr) -> Result<Self, OpsBindError> {
        let failed = |source| OpsBindError { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// On a socket that listens already and does not block.
    pub fn on(socket: std::net::TcpListener) -> Result<Self, OpsBindError> {
        let address = socket.local_addr();
        let failed = |source| OpsBindError { address: SocketAddr::from(([0, 0, 0, 0], 0)), source };
        let address = address.map_err(failed)?;
        let listener = TcpListener::from_std(socket).map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Adds the socket to what a successor would get.
    pub(crate) fn hold(&self, held: &Held) -> Result<(), OpsBindError> {
        held.add(OPS, &self.listener).map_err(|source| OpsBindError { address: self.address, source })
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Answers on tasks of `tasks` until the process is `Closing`, so that a load balancer sees it become unready, or
    /// until a successor answers. Also keeps the memory of `metrics` bounded without scrapes.
    pub fn serve(self, names: OpsNames, readiness: Readiness, metrics: Metrics, tasks: &Tasks) {
        let loopback = self.address.ip().is_loopback();
        let state = Arc::new(State { names, loopback, readiness, metrics });
        let own = tasks.clone();
        tasks.spawn("metrics upkeep", state.metrics.clone().upkeep(tasks.shutdown().token()));
        tasks.spawn("ops listener", accept(self.listener, state, own));
    }
}

#[derive(Debug)]
struct State {
    names: OpsNames,
    /// The listener is bound to a loopback address.
    loopback: bool,
    readiness: Readiness,
    metrics: Metrics,
}

async fn accept(listener: TcpListener, state: Arc<State>, tasks: Tasks) {
    let shutdown = tasks.shutdown().clone();
    let places = Places::new("ops_connections", CONNECTIONS_MAX);
    loop {
        let accepted = async {
            let (socket, _) = listener.accept().await?;
            Ok::<_, io::Error>((socket, places.take(Standing::Silent).await))
        };
        let accepted = tokio::select! {
            accepted = accepted => accepted,
            () = shutdown.reached(Phase::Closing) => return,
            () = shutdown.succeeded() => return,
        };
        match accepted {
            Ok((socket, place)) => {
                let (state, shutdown) = (Arc::clone(&state), shutdown.clone());
                tasks.spawn("ops connection", serve_connection(socket, state, shutdown, place));
            }
            Err(error) => {
                if let Some(left_out) = CANNOT_ACCEPT.line() {
                    tracing::warn!(%error, left_out, "cannot accept an ops connection");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection(socket: TcpStream, state: Arc<State>, shutdown: Shutdown, place: Place) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = respond(&request, &state);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(CONNECTION_TIME)
        // One request per connection: a client that sends many and reads no answer cannot occupy the listener.
        .keep_alive(false)
        .serve_connection(TokioIo::new(socket), service);
    tokio::select! {
        ended = connection => if let Err(error) = ended {
            tracing::debug!(%error, "an ops connection ended early");
        },
        () = tokio::time::sleep(CONNECTION_TIME) => {}
        () = place.displaced() => {}
        () = shutdown.reached(Phase::Closing) => {}
    }
}

fn respond<B>(request: &Request<B>, state: &State) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    let method = request.method();
    if method != Method::GET && method != Method::HEAD {
        let mut response = answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n".to_owned());
        response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let path = request.uri().path();
    // Liveness is no secret; load balancers ask for it under any name.
    if path != "/livez"
        && let Err(refusal) = state.names.check(request.headers(), state.loopback)
    {
        return answer(StatusCode::FORBIDDEN, TEXT, format!("{refusal}\n"));
    }
    match path {
        "/livez" => answer(StatusCode::OK, TEXT, "alive\n".to_owned()),
        "/readyz" => {
            let report = state.readiness.report();
            let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            let body = serde_json::to_string(&report).expect("a report has only string keys");
            answer(status, "application/json", escape::json(&body).into_owned() + "\n")
        }
        "/metrics" => {
            show(&state.readiness);
            metrics(request, &state.metrics)
        }
        _ => answer(StatusCode::NOT_FOUND, TEXT, "try /livez, /readyz or /metrics\n".to_owned()),
    }
}

fn show(readiness: &Readiness) {
    let report = readiness.report();
    metrics::gauge!("only1mcp_ready").set(u8::from(report.ready));
    for gate in report.gates {
        metrics::gauge!("only1mcp_gate_open", "gate" => gate.name).set(u8::from(gate.open));
    }
}

/// The metrics, in the richest format that the scraper takes.
fn metrics<B>(request: &Request<B>, metrics: &Metrics) -> Response<Full<Bytes>> {
    let accept = request.headers().get_all(header::ACCEPT);
    let mut response = if accept.iter().filter_map(|accept| accept.to_str().ok()).any(openmetrics::accepted) {
        answer(StatusCode::OK, openmetrics::CONTENT_TYPE, metrics.render_openmetrics())
    } else {
        answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics.render())
    };
    response.headers_mut().insert(header::VARY, header::HeaderValue::from_static("accept"));
    response
}

fn answer(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests;
