//! The client for blocking code: it brings its own runtime.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    runtime::Runtime,
    task::LocalSet,
    time::{Instant, timeout},
};

use super::connection::{CallError, Connection, Notifications, Reply};
use crate::fault::{Fault, fault};

/// Longer than any answer of a gateway that works.
const LIMIT: Duration = Duration::from_secs(90);
/// As [`LIMIT`], for pages that are ready-made.
const GET_LIMIT: Duration = Duration::from_secs(5);

/// A connection with a session.
#[derive(Debug)]
pub struct Client {
    runtime: Runtime,
    local: LocalSet,
    connection: Connection,
}

impl Client {
    /// Connects and opens a session.
    pub fn open(address: SocketAddr) -> Result<Self, Fault> {
        let mut client = Self::connect(address)?;
        client.initialize()?;
        Ok(client)
    }

    /// Connects, without a session.
    pub fn connect(address: SocketAddr) -> Result<Self, Fault> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let local = LocalSet::new();
        let connection = local.block_on(&runtime, within(Connection::open(address)))?;
        Ok(Self { runtime, local, connection })
    }

    /// Opens a session.
    pub fn initialize(&mut self) -> Result<Reply, CallError> {
        self.local.block_on(&self.runtime, within(self.connection.initialize()))
    }

    /// Calls a tool.
    ///
    /// # Errors
    /// When there is no reply; a JSON-RPC error is one.
    pub fn call(&mut self, tool: &str, arguments: &Value) -> Result<Reply, CallError> {
        self.local.block_on(&self.runtime, within(self.connection.call(tool, arguments)))
    }

    /// Any request.
    pub fn request(&mut self, method: &str, params: &Value) -> Result<Reply, CallError> {
        self.local.block_on(&self.runtime, within(self.connection.request(method, params)))
    }

    /// Any HTTP request with the headers of the session.
    pub fn exchange(&mut self, method: Method, body: impl Into<Bytes>) -> Result<(u16, HeaderMap, Bytes), CallError> {
        self.local.block_on(&self.runtime, within(self.connection.exchange(method, body.into())))
    }

    /// Opens the stream of the server's notifications. It occupies the connection.
    pub fn listen(&mut self) -> Result<Notifications, CallError> {
        self.local.block_on(&self.runtime, within(self.connection.listen()))
    }

    /// The next notification, unless none comes within `limit`.
    pub fn next(&self, stream: &mut Notifications, limit: Duration) -> Result<Option<Value>, CallError> {
        let next = async { timeout(limit, stream.next()).await.unwrap_or(Ok(None)) };
        self.local.block_on(&self.runtime, next)
    }

    /// The names of all tools, over all pages.
    pub fn tools(&mut self) -> Result<Vec<String>, Fault> {
        let (mut names, mut params) = (Vec::new(), json!({}));
        loop {
            let list = self.request("tools/list", &params)?.content?;
            let tools = list["tools"].as_array().ok_or_else(|| fault(format!("no tools in {list}")))?;
            names.extend(tools.iter().filter_map(|tool| tool["name"].as_str().map(str::to_owned)));
            match list.get("nextCursor").filter(|cursor| !cursor.is_null()) {
                None => return Ok(names),
                Some(cursor) => params = json!({ "cursor": cursor }),
            }
        }
    }

    /// The text that `tool` answers.
    pub fn text(&mut self, tool: &str, arguments: &Value) -> Result<String, Fault> {
        Ok(self.call(tool, arguments)?.text()?.to_owned())
    }

    /// Asks until the gateway answers with `revision` or a later one, and returns the moment when it first did.
    pub fn wait_revision(&mut self, revision: u64, limit: Duration) -> Result<Instant, Fault> {
        let deadline = Instant::now() + limit;
        loop {
            self.request("ping", &json!({}))?.content?;
            if self.revision() >= revision {
                return Ok(Instant::now());
            }
            if Instant::now() > deadline {
                return Err(fault(format!("revision {revision} is not live after {limit:?}, but {}", self.revision())));
            }
        }
    }

    /// Sends this header with each request from now on.
    pub fn set_header(&mut self, name: &'static str, value: &str) -> Result<(), Fault> {
        self.connection.set_header(name, value)
    }

    pub fn revision(&self) -> u64 {
        self.connection.revision()
    }

    pub fn is_closed(&self) -> bool {
        self.connection.is_closed()
    }
}

/// A client that hangs would hide which call did.
async fn within<T>(answer: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
    timeout(LIMIT, answer).await.unwrap_or_else(|_| Err(CallError::Broken(format!("no answer in {LIMIT:?}"))))
}

/// Status and body of a plain GET, such as `/readyz` and `/metrics`.
pub fn http_get(address: SocketAddr, path: &str) -> Result<(u16, String), Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let exchange = async {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(TcpStream::connect(address).await?)).await?;
        let request = Request::get(path).header(header::HOST, address.to_string()).body(Full::<Bytes>::default())?;
        let answered = async {
            let response = sender.send_request(request).await?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await?.to_bytes();
            Ok((status, String::from_utf8_lossy(&body).into_owned()))
        };
        let mut connection = std::pin::pin!(connection);
        let mut answered = std::pin::pin!(answered);
        tokio::select! {
            answer = &mut answered => answer,
            // Once the last byte is here the connection may end first.
            _ = &mut connection => answered.await,
        }
    };
    runtime.block_on(async {
        timeout(GET_LIMIT, exchange).await.unwrap_or_else(|_| Err(fault(format!("no answer to {path}"))))
    })
}
