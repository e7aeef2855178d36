//! The demo server over Streamable HTTP: sessions for the older revisions, none for the stateless one.

use std::{io, net::SocketAddr, rc::Rc, time::Duration};

use http::{HeaderMap, Method, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::{Request as HttpRequest, body::Incoming as HttpBody, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::{
    message::{self, INTERNAL_ERROR, INVALID_REQUEST, Incoming, Notification, Request},
    modern,
    process::{self, Process},
    reply::{self, Reply},
    script::Script,
    server::{Era, Origin, Outcome, STATELESS, WITH_SESSIONS},
    sessions::{Session, Sessions},
};

pub(crate) const PATH: &str = "/mcp";
const SESSION_HEADER: &str = "mcp-session-id";
const BODY_MAX: usize = 16 << 20;
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The server behind one listener.
#[derive(Debug)]
pub(crate) struct Server {
    process: Rc<Process>,
    sessions: Sessions,
    /// Whether an answer is sent as an event stream even when it is all there is to send.
    always_events: bool,
    /// Bound to loopback: pages from elsewhere have no business here.
    loopback: bool,
}

/// Accepts connections for ever.
pub(crate) async fn serve(process: Rc<Process>, listener: TcpListener, always_events: bool) -> io::Result<()> {
    let loopback = listener.local_addr()?.ip().is_loopback();
    let server = Rc::new(Server { process, sessions: Sessions::default(), always_events, loopback });
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // Out of descriptors, or a client that was gone already. Retrying at once would only burn a core.
            Err(error) => {
                super::complain(&format!("cannot accept a connection: {error}"));
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // A socket that refuses this is about to report its own end.
        drop(stream.set_nodelay(true));
        let (server, number) = (Rc::clone(&server), server.process.number_connection());
        let tasks = server.process.tasks.clone();
        tasks.spawn_local("connection", async move {
            let service = service_fn(|request| server.answer(request, number));
            let connection = http1::Builder::new().pipeline_flush(true).serve_connection(TokioIo::new(stream), service);
            // An error here is a client that went away or spoke no HTTP.
            drop(connection.await);
        });
    }
}

impl Server {
    async fn answer(self: &Rc<Self>, request: HttpRequest<HttpBody>, connection: u64) -> http::Result<Reply> {
        let (head, body) = request.into_parts();
        if self.loopback && !is_local(&head.headers) {
            return reply::refusal(StatusCode::FORBIDDEN, "this server answers local clients only");
        }
        if head.uri.path() != PATH {
            return reply::refusal(StatusCode::NOT_FOUND, "the MCP endpoint is /mcp");
        }
        if head.method == Method::POST {
            return match Limited::new(body, BODY_MAX).collect().await {
                Ok(body) => self.post(&head.headers, &body.to_bytes(), connection).await,
                Err(error) if error.is::<LengthLimitError>() => {
                    reply::refusal(StatusCode::PAYLOAD_TOO_LARGE, "a message may have 16 MiB")
                }
                Err(error) => reply::refusal(StatusCode::BAD_REQUEST, &error.to_string()),
            };
        }
        let stateless = head.headers.get(modern::VERSION_HEADER).is_some_and(|version| version == STATELESS);
        if stateless || (head.method != Method::GET && head.method != Method::DELETE) {
            return reply::method_not_allowed();
        }
        match self.session(&head.headers) {
            Err((status, text)) => reply::refusal(status, text),
            Ok(session) if head.method == Method::DELETE => {
                self.process.cancel_all(&session.id);
                self.sessions.close(&session.id);
                reply::empty(StatusCode::NO_CONTENT)
            }
            Ok(session) => {
                let stop = session.take_stream();
                reply::events(reply::changes(session, self.process.changes(), stop))
            }
        }
    }

    async fn post(self: &Rc<Self>, headers: &HeaderMap, body: &[u8], connection: u64) -> http::Result<Reply> {
        let json = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if !json.is_some_and(|value| value.trim_start().to_ascii_lowercase().starts_with("application/json")) {
            return reply::refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, "expected content-type: application/json");
        }
        match message::parse(body) {
            Ok(Incoming::Request(request)) if modern::is_stateless(headers, &request) => {
                match modern::check(headers, &request) {
                    Err((status, answer)) => reply::json(status, answer, None),
                    Ok(()) => self.request(Era::Stateless, None, &request, connection).await,
                }
            }
            Ok(Incoming::Request(request)) if request.method == "initialize" => {
                self.request(Era::Sessions, None, &request, connection).await
            }
            Ok(Incoming::Request(request)) => match self.session(headers) {
                Ok(session) => self.request(Era::Sessions, Some(session), &request, connection).await,
                Err((status, text)) => {
                    reply::json(status, message::error(Some(request.id), INVALID_REQUEST, text, None), None)
                }
            },
            Ok(Incoming::Notification(notification)) => self.notification(headers, &notification),
            Ok(Incoming::Response) => reply::empty(StatusCode::ACCEPTED),
            Err(malformed) => reply::json(StatusCode::BAD_REQUEST, malformed.answer(), None),
        }
    }

    fn notification(&self, headers: &HeaderMap, notification: &Notification<'_>) -> http::Result<Reply> {
        // The stateless protocol cancels by closing the stream.
        if headers.get(modern::VERSION_HEADER).is_none_or(|version| version != STATELESS) {
            let session = match self.session(headers) {
                Ok(session) => session,
                Err((status, text)) => return reply::refusal(status, text),
            };
            if let Some(id) = notification.params.request_id
                && notification.method == "notifications/cancelled"
            {
                self.process.cancel(&session.id, id.get());
            }
        }
        reply::empty(StatusCode::ACCEPTED)
    }

    async fn request(
        self: &Rc<Self>,
        era: Era,
        session: Option<Rc<Session>>,
        request: &Request<'_>,
        connection: u64,
    ) -> http::Result<Reply> {
        let id = session.as_ref().map(|session| session.id.as_str());
        match self.process.request(Origin { era, session: id, connection }, request) {
            Outcome::Answer(answer) => reply::json(StatusCode::OK, answer, None),
            Outcome::NoSuchMethod(answer) => {
                let status = if era == Era::Stateless { StatusCode::NOT_FOUND } else { StatusCode::OK };
                reply::json(status, answer, None)
            }
            Outcome::Initialized(answer) => {
                let id = self.sessions.open(*self.process.changes().borrow());
                reply::json(StatusCode::OK, answer, Some((SESSION_HEADER, &id)))
            }
            Outcome::Run { script, .. } => self.run(script, id.unwrap_or_default(), request.id).await,
            Outcome::Listen { acknowledgement, changes } => {
                let changes = changes.then(|| self.process.changes());
                reply::events(reply::subscription(acknowledgement, request.id, changes))
            }
            // The connection breaks when the process ends, as it would in a real crash.
            Outcome::Exit { .. } => std::future::pending().await,
        }
    }

    async fn run(self: &Rc<Self>, mut script: Script, session: &str, id: &str) -> http::Result<Reply> {
        let call = self.process.in_flight(session, id);
        if self.always_events || script.has_notifications() {
            return reply::events(reply::script(script, call));
        }
        // Without a token the answer is the only message.
        let answer = process::next(&mut script, &call).await;
        let cancelled = || message::error(Some(id), INTERNAL_ERROR, "cancelled by the client", None);
        reply::json(StatusCode::OK, answer.unwrap_or_else(cancelled), None)
    }

    fn session(&self, headers: &HeaderMap) -> Result<Rc<Session>, (StatusCode, &'static str)> {
        let known = |version: &&[u8]| WITH_SESSIONS.iter().any(|known| known.as_bytes() == *version);
        if headers
            .get(modern::VERSION_HEADER)
            .map(|version| version.as_bytes())
            .filter(|version| !known(version))
            .is_some()
        {
            return Err((StatusCode::BAD_REQUEST, "unsupported MCP-Protocol-Version"));
        }
        let id = headers.get(SESSION_HEADER).ok_or((StatusCode::BAD_REQUEST, "no session: send initialize first"))?;
        let session = id.to_str().ok().and_then(|id| self.sessions.find(id));
        session.ok_or((StatusCode::NOT_FOUND, "unknown session"))
    }
}

/// Keeps web pages away from local servers: a request that has a Host or an Origin must name this machine there.
fn is_local(headers: &HeaderMap) -> bool {
    let host = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let origin = host(header::ORIGIN).map(|origin| origin.split_once("://").map_or(origin, |(_, host)| host));
    host(header::HOST).into_iter().chain(origin).all(|authority| {
        let Ok(authority) = authority.parse::<http::uri::Authority>() else { return false };
        let name = authority.host().trim_matches(['[', ']']);
        name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    })
}

/// Where to listen, as `http://…/mcp`.
pub(crate) fn url(address: SocketAddr) -> String {
    format!("http://{address}{PATH}")
}
