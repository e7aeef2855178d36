//! One keep-alive connection with one MCP session.

use std::{fmt, net::SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use runtime::{Shutdown, Tasks};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::events::Events;
use crate::fault::Fault;

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const PROTOCOL: HeaderName = HeaderName::from_static("mcp-protocol-version");
const REVISION: HeaderName = HeaderName::from_static("only1mcp-revision");
/// The revision of the protocol that this client speaks.
const SPOKEN: &str = "2025-11-25";

/// Lives on one thread, within a `LocalSet`.
#[derive(Debug)]
pub struct Connection {
    address: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
    tasks: Tasks,
    session: Option<HeaderValue>,
    /// Headers sent with each request, besides the required ones.
    more: HeaderMap,
    next_id: u64,
    /// The highest revision seen in an answer.
    revision: u64,
    /// Whether the answers come from several routers, each of which swaps at its own moment.
    balanced: bool,
}

/// A well-formed answer: JSON-RPC, with the id of the request.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The gateway's revision that answered; 0 from a server that is no gateway.
    pub revision: u64,
    /// The `result` or the `error`.
    pub content: Result<Value, RpcError>,
    /// The notifications that came before, on a stream.
    pub notifications: Vec<Value>,
}

/// A JSON-RPC error.
#[derive(Clone, Debug, PartialEq)]
pub struct RpcError {
    pub code: i64,
    pub message: String,
    pub data: Value,
}

/// Why there is no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The connection could not be made, or ended before the answer did.
    Broken(String),
    /// The request was refused over HTTP: status and body.
    Status(u16, String),
    /// The answer is malformed.
    Wrong(String),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(why) => write!(f, "connection broken: {why}"),
            Self::Status(status, body) => write!(f, "HTTP status {status}: {body}"),
            Self::Wrong(why) => write!(f, "wrong answer: {why}"),
        }
    }
}

impl std::error::Error for CallError {}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}) {}", self.message, self.code, self.data)
    }
}

impl std::error::Error for RpcError {}

impl Reply {
    /// The text of a tool's answer.
    ///
    /// # Errors
    /// When the answer is an error, of the protocol or of the tool.
    pub fn text(&self) -> Result<&str, Fault> {
        let result = self.content.as_ref().map_err(|error| Fault::from(error.clone()))?;
        let text = result["content"][0]["text"].as_str();
        match text {
            Some(text) if result["isError"] != Value::Bool(true) => Ok(text),
            _ => Err(crate::fault::fault(format!("the tool answered {result}"))),
        }
    }
}

impl Connection {
    /// Connects; no session yet.
    pub async fn open(address: SocketAddr) -> Result<Self, CallError> {
        let tasks = Tasks::new(Shutdown::new());
        let sender = connect(address, &tasks).await?;
        let more = HeaderMap::new();
        Ok(Self { address, sender, tasks, session: None, more, next_id: 1, revision: 0, balanced: false })
    }

    /// Says whether a balancer spreads the requests of this connection over several routers.
    pub fn balanced(mut self, balanced: bool) -> Self {
        self.balanced = balanced;
        self
    }

    /// Opens a session: `initialize` and `notifications/initialized`.
    pub async fn initialize(&mut self) -> Result<Reply, CallError> {
        let params = json!({
            "protocolVersion": SPOKEN,
            "capabilities": {},
            "clientInfo": { "name": "testkit", "version": "1" },
        });
        let id = self.take_id();
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": "initialize", "params": params });
        let response = self.send(Method::POST, message.to_string().into()).await?;
        self.session = response.headers().get(SESSION).cloned();
        let reply = self.read(response, id).await?;
        self.notify("notifications/initialized", &json!({})).await?;
        Ok(reply)
    }

    /// A request and its reply.
    ///
    /// # Errors
    /// See [`CallError`]. A JSON-RPC error is a reply.
    pub async fn request(&mut self, method: &str, params: &Value) -> Result<Reply, CallError> {
        let id = self.take_id();
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        self.request_raw(message.to_string().into(), id).await
    }

    /// As [`Self::request`], with a whole message that has this id.
    pub async fn request_raw(&mut self, message: Bytes, id: u64) -> Result<Reply, CallError> {
        let response = self.send(Method::POST, message).await?;
        self.read(response, id).await
    }

    /// Calls a tool.
    pub async fn call(&mut self, tool: &str, arguments: &Value) -> Result<Reply, CallError> {
        self.request("tools/call", &json!({ "name": tool, "arguments": arguments })).await
    }

    /// A notification, which is answered by a bare status.
    pub async fn notify(&mut self, method: &str, params: &Value) -> Result<(), CallError> {
        let message = json!({ "jsonrpc": "2.0", "method": method, "params": params });
        let response = self.send(Method::POST, message.to_string().into()).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map_err(broken)?.to_bytes();
        if status == 202 { Ok(()) } else { Err(CallError::Status(status, text(&body))) }
    }

    /// Sends any request with the headers of the session, and returns the response as it is.
    pub async fn exchange(&mut self, method: Method, body: Bytes) -> Result<(u16, HeaderMap, Bytes), CallError> {
        let response = self.send(method, body).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(broken)?.to_bytes();
        Ok((head.status.as_u16(), head.headers, body))
    }

    /// The stream of the server's own notifications. It occupies the connection.
    pub async fn listen(&mut self) -> Result<Notifications, CallError> {
        let response = self.send(Method::GET, Bytes::new()).await?;
        if response.status() != 200 {
            return Err(CallError::Status(response.status().as_u16(), "no stream".to_owned()));
        }
        Ok(Notifications { body: response.into_body(), events: Events::default() })
    }

    /// Sends this header with each request from now on.
    pub fn set_header(&mut self, name: &'static str, value: &str) -> Result<(), Fault> {
        self.more.insert(name, HeaderValue::from_str(value)?);
        Ok(())
    }

    /// Whether the other side closed the connection.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Makes a new connection for the same session.
    pub async fn reconnect(&mut self) -> Result<(), CallError> {
        self.sender = connect(self.address, &self.tasks).await?;
        Ok(())
    }

    /// The highest revision seen in an answer.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    async fn send(&mut self, method: Method, body: Bytes) -> Result<Response<Incoming>, CallError> {
        let mut request = Request::builder()
            .method(method)
            .uri("/mcp")
            .header(header::HOST, self.address.to_string())
            .header(header::ACCEPT, "application/json, text/event-stream");
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(session) = &self.session {
            request = request.header(SESSION, session).header(PROTOCOL, SPOKEN);
        }
        for (name, value) in &self.more {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body)).map_err(|error| CallError::Broken(error.to_string()))?;
        self.sender.ready().await.map_err(broken)?;
        let response = self.sender.send_request(request).await.map_err(broken)?;
        self.see_revision(response.headers())?;
        Ok(response)
    }

    /// A revision that goes back on a connection to one router would mean that a client sees changes undone.
    fn see_revision(&mut self, headers: &HeaderMap) -> Result<(), CallError> {
        let Some(revision) = headers.get(REVISION) else { return Ok(()) };
        let revision = revision.to_str().ok().and_then(|text| text.parse().ok());
        let revision: u64 = revision.ok_or_else(|| CallError::Wrong("the revision is no number".to_owned()))?;
        if revision < self.revision && !self.balanced {
            return Err(CallError::Wrong(format!("revision {revision} after {}", self.revision)));
        }
        self.revision = self.revision.max(revision);
        Ok(())
    }

    async fn read(&self, response: Response<Incoming>, id: u64) -> Result<Reply, CallError> {
        let (head, body) = response.into_parts();
        let revision = head.headers.get(REVISION).and_then(|text| text.to_str().ok()?.parse().ok()).unwrap_or_default();
        let stream = head.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
        let body = body.collect().await.map_err(broken)?.to_bytes();
        if head.status != 200 {
            return Err(CallError::Status(head.status.as_u16(), text(&body)));
        }
        let mut notifications = Vec::new();
        if !stream {
            return reply(parse(&body)?, id, revision, notifications);
        }
        let mut events = Events::default();
        events.push(&body);
        while let Some(event) = events.next() {
            let message = parse(event.as_bytes())?;
            if message.get("method").is_none() {
                return match events.next() {
                    None => reply(message, id, revision, notifications),
                    Some(more) => Err(CallError::Wrong(format!("after the answer came {more}"))),
                };
            }
            notifications.push(message);
        }
        Err(CallError::Broken("the stream ended without an answer".to_owned()))
    }
}

/// Notifications as they come.
#[derive(Debug)]
pub struct Notifications {
    body: Incoming,
    events: Events,
}

impl Notifications {
    /// The next one; `None` when the server ends the stream.
    pub async fn next(&mut self) -> Result<Option<Value>, CallError> {
        loop {
            if let Some(event) = self.events.next() {
                return parse(event.as_bytes()).map(Some);
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    if let Some(data) = frame.map_err(broken)?.data_ref() {
                        self.events.push(data);
                    }
                }
            }
        }
    }
}

async fn connect(address: SocketAddr, tasks: &Tasks) -> Result<SendRequest<Full<Bytes>>, CallError> {
    let stream = TcpStream::connect(address).await.map_err(|error| CallError::Broken(error.to_string()))?;
    stream.set_nodelay(true).map_err(|error| CallError::Broken(error.to_string()))?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // The connection's error reaches the request that waits for an answer; its end shows in the sender.
    tasks.spawn_local("connection", async move { drop(connection.await) });
    Ok(sender)
}

fn reply(message: Value, id: u64, revision: u64, notifications: Vec<Value>) -> Result<Reply, CallError> {
    if message["jsonrpc"] != "2.0" || message["id"] != id {
        return Err(CallError::Wrong(format!("expected an answer to {id}, got {message}")));
    }
    let content = match (message.get("result"), message.get("error")) {
        (Some(result), None) => Ok(result.clone()),
        (None, Some(error)) => Err(RpcError {
            code: error["code"].as_i64().unwrap_or_default(),
            message: error["message"].as_str().unwrap_or_default().to_owned(),
            data: error["data"].clone(),
        }),
        (None, None) | (Some(_), Some(_)) => {
            return Err(CallError::Wrong(format!("expected a result or an error, got {message}")));
        }
    };
    Ok(Reply { revision, content, notifications })
}

fn parse(bytes: &[u8]) -> Result<Value, CallError> {
    serde_json::from_slice(bytes).map_err(|error| CallError::Wrong(format!("{error} in {}", text(bytes))))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn broken(error: hyper::Error) -> CallError {
    CallError::Broken(Fault::from(error).to_string())
}
