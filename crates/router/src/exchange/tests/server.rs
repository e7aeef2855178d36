//! A server in the test's own process.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::test_server;

/// A call, as it was received.
#[derive(Clone)]
pub(super) struct Arrived {
    headers: HeaderMap,
    pub(super) body: Value,
}

impl Arrived {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

#[derive(Clone)]
pub(super) struct Server {
    pub(super) url: String,
    /// Cancelled: it is gone.
    pub(super) over: CancellationToken,
    arrived: Arc<Mutex<Vec<Arrived>>>,
    /// The server has forgotten its session, until the next `initialize`.
    forgot: Arc<AtomicBool>,
}

impl Server {
    pub(super) async fn start() -> Self {
        let over = CancellationToken::new();
        let mut server = Self { url: String::new(), over, arrived: Arc::default(), forgot: Arc::default() };
        let serving = server.clone();
        server.url =
            test_server::serve_until(server.over.clone(), move |request| serving.clone().answer(request)).await;
        server
    }

    /// At the same address, once it is over.
    pub(super) async fn start_again(&mut self) {
        self.over = CancellationToken::new();
        let serving = self.clone();
        let answer = move |request| serving.clone().answer(request);
        test_server::serve_at(self.address(), self.over.clone(), answer).await;
    }

    /// Host and port.
    pub(super) fn address(&self) -> &str {
        self.url.trim_start_matches("http://").trim_end_matches("/mcp")
    }

    /// Returns when it is gone.
    pub(super) async fn end(&self) {
        self.over.cancel();
        while TcpStream::connect(self.address()).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }

    /// The calls received so far.
    pub(super) fn arrived(&self) -> Vec<Arrived> {
        self.arrived.lock().unwrap().clone()
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let message: Value = serde_json::from_slice(&body).unwrap_or_default();
        let status = |status: u16| Response::builder().status(status).body(Full::default()).unwrap();
        let tool = message["params"]["name"].as_str().unwrap_or_default().to_owned();
        let first = !self.arrived().iter().any(|call| call.body["params"]["name"] == tool.as_str());
        let is_call = message["method"] == "tools/call";
        if is_call {
            self.arrived.lock().unwrap().push(Arrived { headers: head.headers, body: message.clone() });
        }
        if message["method"] == "initialize" || (tool == "forget" && first) {
            self.forgot.store(tool == "forget", Ordering::Relaxed);
        }
        if self.forgot.load(Ordering::Relaxed) {
            return Ok(status(404));
        }
        let outcome = match (message["method"].as_str().unwrap_or_default(), tool.as_str()) {
            ("initialize", _) => json!({ "result": {
                "protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": { "name": "t", "version": "1" },
            } }),
            ("tools/call", "fail") => json!({ "result": { "content": [], "isError": true } }),
            ("tools/call", "refuse") => json!({ "error": { "code": -32099, "message": "no: pw-9f2 is wrong" } }),
            ("tools/call", "break") => json!({ "error": { "code": -32603, "message": "pw-9f2" } }),
            ("tools/call", "hold") => std::future::pending().await,
            ("tools/call", _) => json!({ "result": { "content": [] } }),
            _ => return Ok(status(202)),
        };
        let mut answer = json!({ "jsonrpc": "2.0", "id": message["id"] });
        answer.as_object_mut().unwrap().extend(outcome.as_object().unwrap().clone());
        let response = Response::builder().header("content-type", "application/json").header("mcp-session-id", "s");
        Ok(response.body(Full::from(answer.to_string())).unwrap())
    }
}
