//! A tiny MCP client over Streamable HTTP, for the first five minutes and for scripts.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use mcp::sse;
use runtime::{Shutdown, Tasks};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use tokio::net::TcpStream;

use crate::failure::Failure;

const PROTOCOL: &str = "2025-11-25";
const SESSION_HEADER: &str = "mcp-session-id";
const VERSION_HEADER: &str = "mcp-protocol-version";
pub(crate) const EVENT_MAX: usize = 64 << 20;

/// An MCP endpoint, and the session there once there is one.
#[derive(Clone, Debug)]
pub(crate) struct McpEndpoint {
    pub(crate) url: String,
    host: String,
    address: String,
    path: String,
    pub(crate) session: Option<HeaderValue>,
    version: HeaderValue,
    tasks: Tasks,
}

/// A session with an MCP endpoint.
#[derive(Debug)]
pub(crate) struct McpClient {
    endpoint: McpEndpoint,
    next_id: u64,
}

/// Why a request has no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unanswered {
    /// Nothing of the request was sent.
    #[error("{0}")]
    NotSent(String),
    #[error("the connection broke: {0}")]
    Broken(#[from] hyper::Error),
}

/// A response as it was sent.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) raw: String,
    /// The result, or the error's code and message.
    pub(crate) result: Result<Value, (i64, String)>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    result: Option<Value>,
    error: Option<RpcError>,
}

#[derive(Deserialize)]
struct RpcError {
    code: i64,
    message: String,
}

impl McpEndpoint {
    pub(crate) fn of(url: &str) -> Result<Self, Failure> {
        let unusable = |reason| Failure::McpUrl { url: url.to_owned(), reason };
        let uri: Uri = url.parse().map_err(|_| unusable("that is not a URL"))?;
        if uri.scheme().is_none() {
            return Err(unusable("that is not a URL"));
        }
        let authority = uri.authority().ok_or_else(|| unusable("the URL names no host"))?;
        if uri.scheme_str() != Some("http") {
            return Err(unusable("this client speaks plain HTTP only"));
        }
        Ok(Self {
            url: url.to_owned(),
            host: authority.to_string(),
            address: format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80)),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            session: None,
            version: HeaderValue::from_static(PROTOCOL),
            tasks: Tasks::new(Shutdown::new()),
        })
    }

    /// The same endpoint, as one that no session was begun at.
    pub(crate) fn anew(&self) -> Self {
        Self { session: None, version: HeaderValue::from_static(PROTOCOL), ..self.clone() }
    }

    /// The session goes on at another address.
    pub(crate) fn moved_to(&self, url: &str) -> Result<Self, Failure> {
        Ok(Self { session: self.session.clone(), version: self.version.clone(), ..Self::of(url)? })
    }

    /// From now on requests belong to the session that `headers` name, in the version that `result` of `initialize`
    /// names. Returns whether it names one.
    pub(crate) fn initialized(&mut self, headers: &HeaderMap, result: &Value) -> bool {
        self.session = headers.get(SESSION_HEADER).cloned();
        let version = result["protocolVersion"].as_str().and_then(|version| HeaderValue::from_str(version).ok());
        version.is_some_and(|version| {
            self.version = version;
            true
        })
    }

    /// One connection per request: simple, and nothing to keep alive between the few requests of a command.
    pub(crate) fn send(
        &self,
        method: Method,
        body: Bytes,
    ) -> impl Future<Output = Result<http::Response<Incoming>, Unanswered>> + use<> {
        let (request, address, tasks) = (self.request(method, body), self.address.clone(), self.tasks.clone());
        async move {
            let not_sent = |reason: String| Unanswered::NotSent(reason);
            let request = request.map_err(|error| not_sent(error.to_string()))?;
            let stream = TcpStream::connect(&address).await.map_err(|error| not_sent(error.to_string()))?;
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            tasks.spawn("mcp connection", async {
                // What goes wrong shows in the response.
                drop(connection.await);
            });
            Ok(sender.send_request(request).await?)
        }
    }

    fn request(&self, method: Method, body: Bytes) -> http::Result<Request<Full<Bytes>>> {
        let mut request = Request::builder()
            .method(method)
            .uri(&self.path)
            .header(header::HOST, &self.host)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream")
            .header(header::CONNECTION, "close")
            .header(VERSION_HEADER, &self.version);
        if let Some(session) = &self.session {
            request = request.header(SESSION_HEADER, session);
        }
        request.body(Full::new(body))
    }
}

impl McpClient {
    /// Opens a session at `url`.
    pub(crate) async fn open(url: &str) -> Result<Self, Failure> {
        let mut client = Self { endpoint: McpEndpoint::of(url)?, next_id: 1 };
        client.initialize().await?;
        Ok(client)
    }

    async fn initialize(&mut self) -> Result<(), Failure> {
        let params = json!({
            "protocolVersion": PROTOCOL,
            "capabilities": {},
            "clientInfo": { "name": "only1mcp-cli", "version": env!("CARGO_PKG_VERSION") },
        });
        let body = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params });
        let (headers, answer) = self.ask(&body, 0).await?;
        let result =
            answer.result.map_err(|(code, message)| self.refused(format!("initialize with {code}: {message}")))?;
        if !self.endpoint.initialized(&headers, &result) {
            return Err(self.refused("initialize without a protocolVersion".to_owned()));
        }
        let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        let response = self.send(Method::POST, initialized.to_string()).await?;
        self.expect_success(response).await.map(drop)
    }

    /// One request and its response; notifications before it are passed over.
    pub(crate) async fn request(&mut self, method: &str, params: Value) -> Result<Answer, Failure> {
        let id = self.next_id;
        self.next_id += 1;
        let body = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        self.ask(&body, id).await.map(|(_, answer)| answer)
    }

    /// Tells the other side that the session is over. It would find out by itself, so failing is no failure.
    pub(crate) async fn close(self) {
        if self.endpoint.session.is_some() {
            drop(self.send(Method::DELETE, String::new()).await);
        }
    }

    async fn ask(&self, body: &Value, id: u64) -> Result<(HeaderMap, Answer), Failure> {
        let response = self.send(Method::POST, body.to_string()).await?;
        let (head, body) = self.expect_success(response).await?.into_parts();
        let kind = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let answer = if kind.starts_with("text/event-stream") {
            self.answer_in_stream(body, id).await?
        } else {
            let body = body.collect().await.map_err(|error| self.broken(&error))?.to_bytes();
            let unusable = || self.refused(format!("with something else than a response: {}", show(&body)));
            answer(&body, id).ok_or_else(unusable)?
        };
        Ok((head.headers, answer))
    }

    async fn answer_in_stream(&self, mut body: Incoming, id: u64) -> Result<Answer, Failure> {
        let mut decoder = sse::Decoder::new(EVENT_MAX);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| self.broken(&error))?;
            let Ok(data) = frame.into_data() else { continue };
            let mut data = &*data;
            while let Some(event) = decoder.next(&mut data).map_err(|error| self.refused(error.to_string()))? {
                if let Some(answer) = answer(&event.data, id) {
                    return Ok(answer);
                }
            }
        }
        Err(self.refused("with a stream that ended before the response".to_owned()))
    }

    async fn send(&self, method: Method, body: String) -> Result<http::Response<Incoming>, Failure> {
        let failed = |error: Unanswered| Failure::Mcp { url: self.endpoint.url.clone(), reason: error.to_string() };
        self.endpoint.send(method, body.into()).await.map_err(failed)
    }

    /// A JSON-RPC error under an HTTP error status is an answer as well.
    async fn expect_success(&self, response: http::Response<Incoming>) -> Result<http::Response<Incoming>, Failure> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.into_body().collect().await.map_err(|error| self.broken(&error))?.to_bytes();
        let message = serde_json::from_slice::<Message<'_>>(&body).ok().and_then(|message| message.error);
        let message = message.map_or_else(|| show(&body), |error| format!("{}: {}", error.code, error.message));
        let reason = format!("HTTP {status}: {message}");
        if status == StatusCode::SERVICE_UNAVAILABLE {
            return Err(Failure::Mcp { url: self.endpoint.url.clone(), reason });
        }
        Err(self.refused(reason))
    }

    fn broken(&self, error: &hyper::Error) -> Failure {
        Failure::Mcp { url: self.endpoint.url.clone(), reason: format!("the connection broke: {error}") }
    }

    fn refused(&self, reason: String) -> Failure {
        Failure::McpRefused { url: self.endpoint.url.clone(), reason }
    }
}

/// `bytes` as the response to request `id`, if it is that.
fn answer(bytes: &[u8], id: u64) -> Option<Answer> {
    let message: Message<'_> = serde_json::from_slice(bytes).ok()?;
    let ours = message.id.is_none_or(|found| found.get() == id.to_string());
    let result = match (message.result, message.error) {
        (Some(result), None) => Ok(result),
        (None, Some(error)) => Err((error.code, error.message)),
        _ => return None,
    };
    ours.then(|| Answer { raw: String::from_utf8_lossy(bytes).into_owned(), result })
}

/// The beginning of a body, for a message.
fn show(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().take(200).collect()
}
