//! A small MCP server over HTTP that remembers what arrived and misbehaves as planned.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;

#[derive(Clone, Default)]
pub struct Plan {
    /// Calls are answered by an event stream in pieces of so many bytes.
    pub sse: Option<usize>,
    /// The status for a session that the server does not know.
    pub lost: u16,
    /// The error for such a session has the id of the request.
    pub lost_by_id: bool,
    /// A connection is closed after this many calls.
    pub close_after: Option<usize>,
    /// A connection is closed after this time without a request.
    pub idle: Option<Duration>,
    /// This many calls get their connection closed instead of an answer.
    pub hang_up: usize,
    /// Calls are never answered.
    pub silent: bool,
    /// The server offers a GET stream.
    pub announces: bool,
    /// Other than 200.
    pub initialize_status: u16,
    /// What `initialize` is answered with, in a session: media type and body.
    pub greeting: Option<(&'static str, &'static str)>,
    /// Event streams end after their first event; the rest must be asked for.
    pub interrupts: bool,
    /// Bytes added to the answer of a call.
    pub padding: usize,
    /// Calls are executed and then answered with this status and body.
    pub fails: Option<(u16, &'static str)>,
    /// The status for pings, also in good sessions.
    pub ping_status: u16,
    /// The status for notifications, if not 202.
    pub notification_status: u16,
    /// The server knows its sessions again once it has refused to make another one.
    pub remembers: bool,
}

#[derive(Clone, Default)]
pub struct Seen {
    pub connections: usize,
    pub initialized: usize,
    /// Calls that came with a known session.
    pub executed: usize,
    pub requests: Vec<Arrived>,
    sessions: BTreeSet<String>,
    forgotten: BTreeSet<String>,
    refusing: bool,
    /// Calls of `slow` are answered.
    released: bool,
    /// Required in `X-Key`, if set.
    key: Option<String>,
    /// What an interrupted stream did not say.
    rest: Option<String>,
}

#[derive(Clone)]
pub struct Arrived {
    pub method: String,
    pub body: String,
    headers: BTreeMap<String, String>,
}

impl Arrived {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(String::as_str).unwrap_or_default()
    }
}

type Reply = Result<Response<BoxBody<Bytes, Infallible>>, std::io::Error>;

#[derive(Clone)]
struct Shared {
    plan: Plan,
    hang_ups: Arc<Mutex<usize>>,
    seen: watch::Sender<Seen>,
    announcements: broadcast::Sender<()>,
}

pub struct Server {
    address: SocketAddr,
    shared: Shared,
    tasks: JoinSet<()>,
}

impl Server {
    pub fn start(plan: Plan) -> Self {
        let hang_ups = Arc::new(Mutex::new(plan.hang_up));
        let shared = Shared { plan, hang_ups, seen: watch::Sender::default(), announcements: broadcast::channel(4).0 };
        let mut server = Self { address: ([127, 0, 0, 1], 0).into(), shared, tasks: JoinSet::new() };
        server.start_again();
        server
    }

    /// On the same port, with the sessions it had.
    pub fn start_again(&mut self) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        let listener = socket.listen(64).unwrap();
        self.address = listener.local_addr().unwrap();
        self.tasks.spawn(accept(listener, self.shared.clone()));
    }

    pub async fn stop(&mut self) {
        self.tasks.shutdown().await;
    }

    pub fn url(&self) -> String {
        format!("http://{}/mcp?x=1", self.address)
    }

    pub fn seen(&self) -> Seen {
        self.shared.seen.borrow().clone()
    }

    pub async fn until(&self, reached: impl Fn(&Seen) -> bool) {
        let mut seen = self.shared.seen.subscribe();
        let reached = seen.wait_for(|seen| reached(seen));
        tokio::time::timeout(crate::bench::PATIENCE, reached).await.expect("it arrives").unwrap();
    }

    pub fn forget_sessions(&self) {
        self.shared.seen.send_modify(|seen| seen.forgotten = std::mem::take(&mut seen.sessions));
    }

    pub fn release(&self) {
        self.shared.seen.send_modify(|seen| seen.released = true);
    }

    pub fn refuse_initialize(&self) {
        self.shared.seen.send_modify(|seen| seen.refusing = true);
    }

    pub fn change_key(&self, key: &str) {
        self.shared.seen.send_modify(|seen| seen.key = Some(key.to_owned()));
    }

    pub fn announce(&self) {
        self.shared.announcements.send(()).unwrap();
    }
}

async fn accept(listener: TcpListener, shared: Shared) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        shared.seen.send_modify(|seen| seen.connections += 1);
        let shared = shared.clone();
        let mut seen = shared.seen.subscribe();
        let idle = shared.plan.idle;
        // Long enough after anything happened at all.
        let idle = async move {
            let Some(idle) = idle else { return std::future::pending().await };
            while let Ok(change) = tokio::time::timeout(idle, seen.changed()).await {
                change.unwrap();
            }
        };
        connections.spawn(async move {
            let calls = Arc::new(Mutex::new(0));
            let service = service_fn(move |request| answer(shared.clone(), Arc::clone(&calls), request));
            let mut connection = pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            // Connections are broken on purpose here.
            tokio::select! {
                _ = &mut connection => {}
                () = idle => {
                    connection.as_mut().graceful_shutdown();
                    let _broken = connection.await;
                }
            }
        });
    }
}

async fn answer(shared: Shared, calls: Arc<Mutex<usize>>, request: Request<Incoming>) -> Reply {
    let (head, body) = request.into_parts();
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    let headers = head.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    let arrived = Arrived { method: head.method.to_string(), body: body.clone(), headers: headers.collect() };
    let message: Value = serde_json::from_str(&body).unwrap_or_default();
    let method = message["method"].as_str().unwrap_or_default();
    if shared.seen.borrow().key.as_deref().is_some_and(|key| key != arrived.header("x-key")) {
        return Ok(reply(401, &Value::Null));
    }
    let known = shared.seen.borrow().sessions.contains(arrived.header("mcp-session-id"));
    shared.seen.send_modify(|seen| {
        seen.executed += usize::from(known && method == "tools/call");
        seen.requests.push(arrived.clone());
    });
    if method == "initialize" {
        return initialize(&shared, &message["id"]);
    }
    if !known {
        // As some servers do it: with a session id on the refusal, and an error without an id.
        let id = if shared.plan.lost_by_id { message["id"].clone() } else { Value::Null };
        let error = json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32000, "message": "no valid session"}});
        let mut response = reply(shared.plan.lost, &error);
        response.headers_mut().insert("mcp-session-id", "not-yours".parse().unwrap());
        return Ok(response);
    }
    match (arrived.method.as_str(), method) {
        ("GET", _) if arrived.header("last-event-id") == "first" => {
            let rest = shared.seen.borrow().rest.clone().unwrap();
            Ok(events(7, &rest))
        }
        ("GET", _) if shared.plan.announces => Ok(announcements(&shared)),
        ("GET", _) => Ok(reply(405, &Value::Null)),
        ("POST", "tools/list") => Ok(result(&message["id"], r#"{"tools":[{"name":"echo","inputSchema":{}}]}"#)),
        ("POST", "ping") if shared.plan.ping_status != 0 => Ok(reply(shared.plan.ping_status, &Value::Null)),
        ("POST", "ping") => Ok(result(&message["id"], "{}")),
        ("POST", "tools/call") => call(&shared, &calls, &message).await,
        ("POST", _) if shared.plan.notification_status != 0 => Ok(reply(shared.plan.notification_status, &Value::Null)),
        _ => Ok(reply(202, &Value::Null)),
    }
}

fn initialize(shared: &Shared, id: &Value) -> Reply {
    if shared.plan.remembers && shared.seen.borrow().refusing {
        shared.seen.send_modify(|seen| seen.sessions = std::mem::take(&mut seen.forgotten));
    }
    if shared.seen.borrow().refusing || shared.plan.initialize_status != 0 {
        let status = shared.plan.initialize_status.max(if shared.plan.initialize_status == 0 { 503 } else { 0 });
        let mut response = reply(status, &Value::Null);
        *response.body_mut() = Full::from("go\n  away").boxed();
        response.headers_mut().insert("location", "/elsewhere".parse().unwrap());
        return Ok(response);
    }
    let mut session = String::new();
    shared.seen.send_modify(|seen| {
        seen.initialized += 1;
        session = format!("session-{}", seen.initialized);
        seen.sessions.insert(session.clone());
    });
    let tools = json!({"listChanged": shared.plan.announces});
    let text = json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": tools},
        "serverInfo": {"name": "small", "version": "1"}});
    let mut response = result(id, &text.to_string());
    if let Some((media, body)) = shared.plan.greeting {
        *response.body_mut() = Full::from(body).boxed();
        response.headers_mut().insert("content-type", media.parse().unwrap());
    }
    response.headers_mut().insert("mcp-session-id", session.parse().unwrap());
    Ok(response)
}

async fn call(shared: &Shared, calls: &Mutex<usize>, message: &Value) -> Reply {
    if shared.plan.silent {
        std::future::pending::<()>().await;
    }
    let failing = (message["params"]["name"] == "fail").then_some((400, "no card"));
    if let Some((status, body)) = shared.plan.fails.or(failing) {
        let mut response = reply(status, &Value::Null);
        *response.body_mut() = Full::from(body).boxed();
        return Ok(response);
    }
    if message["params"]["name"] == "slow" {
        shared.seen.subscribe().wait_for(|seen| seen.released).await.unwrap();
    }
    let hang_up = {
        let mut left = shared.hang_ups.lock().unwrap();
        let hang_up = *left > 0;
        *left = left.saturating_sub(1);
        hang_up
    };
    if hang_up {
        return Err(std::io::Error::other("hung up"));
    }
    let (id, params) = (&message["id"], &message["params"]);
    let text = json!({"tool": params["name"]}).to_string();
    let padding = " ".repeat(shared.plan.padding);
    let mut response = match shared.plan.sse {
        None => result(id, &format!("{text}{padding}")),
        Some(piece) => {
            let token = &params["_meta"]["progressToken"];
            let text = format!(
                "retry: 10\r\nid: first\r\n\r\n: hello\r\n\r\n\
                 data: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{{\"progressToken\":{token},\"progress\":1}}}}\r\n\r\n\
                 event: message\r\ndata: {{\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"roots/list\"}}\r\n\r\n\
                 data: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{{}}}}\r\n\r\n\
                 id: 1\r\ndata: {{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{text}}}\r\n\r\n"
            );
            if shared.plan.interrupts {
                let (first, rest) = text.split_once("\r\n\r\n").unwrap();
                shared.seen.send_modify(|seen| seen.rest = Some(rest.to_owned()));
                events(piece, &format!("{first}\r\n\r\n"))
            } else {
                events(piece, &text)
            }
        }
    };
    let mut calls = calls.lock().unwrap();
    *calls += 1;
    if shared.plan.close_after.is_some_and(|limit| *calls >= limit) {
        response.headers_mut().insert("connection", "close".parse().unwrap());
    }
    Ok(response)
}

fn result(id: &Value, result: &str) -> Response<BoxBody<Bytes, Infallible>> {
    let mut response = reply(200, &Value::Null);
    *response.body_mut() = Full::from(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)).boxed();
    response
}

fn reply(status: u16, body: &Value) -> Response<BoxBody<Bytes, Infallible>> {
    let body = if body.is_null() { Full::default() } else { Full::from(body.to_string()) };
    let mut response = Response::new(body.boxed());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    *response.headers_mut() =
        HeaderMap::from_iter([("content-type".parse().unwrap(), "application/json".parse().unwrap())]);
    response
}

fn events(piece: usize, text: &str) -> Response<BoxBody<Bytes, Infallible>> {
    let pieces: Vec<_> =
        text.as_bytes().chunks(piece).map(|chunk| Ok(Frame::data(Bytes::copy_from_slice(chunk)))).collect();
    stream_of(BodyExt::boxed(StreamBody::new(stream::iter(pieces))))
}

fn announcements(shared: &Shared) -> Response<BoxBody<Bytes, Infallible>> {
    let text = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\n\n";
    let said = stream::unfold(shared.announcements.subscribe(), |mut said| async move {
        said.recv().await.ok().map(|()| ((), said))
    });
    let body = said.map(move |()| Ok(Frame::data(Bytes::from_static(text.as_bytes()))));
    stream_of(BodyExt::boxed(StreamBody::new(body)))
}

fn stream_of(body: BoxBody<Bytes, Infallible>) -> Response<BoxBody<Bytes, Infallible>> {
    let mut response = Response::new(body);
    response.headers_mut().insert("content-type", "text/event-stream; charset=utf-8".parse().unwrap());
    response
}
