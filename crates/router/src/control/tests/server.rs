//! A small MCP server over Streamable HTTP, in the test's own process.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::test_server;

#[derive(Clone)]
pub(super) struct Server {
    pub(super) url: String,
    tools: Arc<Mutex<Vec<String>>>,
    said: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(super) async fn start(tools: &[&str]) -> Self {
        let mut server = Self { url: String::new(), tools: Arc::default(), said: Arc::default() };
        server.offer(tools);
        let serving = server.clone();
        server.url = test_server::serve(move |request| serving.clone().answer(request)).await;
        server
    }

    pub(super) fn offer(&self, tools: &[&str]) {
        *self.tools.lock().unwrap() = tools.iter().map(|tool| (*tool).to_owned()).collect();
    }

    /// Methods it was asked for, `DELETE` among them.
    pub(super) fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let status = |status| Ok(Response::builder().status(status).body(Full::default()).unwrap());
        if request.method() != Method::POST {
            self.said.lock().unwrap().push(request.method().to_string());
            return status(if request.method() == Method::GET {
                StatusCode::METHOD_NOT_ALLOWED
            } else {
                StatusCode::OK
            });
        }
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let message: Value = serde_json::from_slice(&body).unwrap();
        let method = message["method"].as_str().unwrap().to_owned();
        self.said.lock().unwrap().push(method.clone());
        if message.get("id").is_none() {
            return status(StatusCode::ACCEPTED);
        }
        let tools = self.tools.lock().unwrap().clone();
        let result = match method.as_str() {
            "initialize" => json!({
                "protocolVersion": "2025-11-25",
                "capabilities": { "tools": {} },
                "serverInfo": { "name": "t", "version": "1" },
            }),
            "tools/list" => {
                let tools: Vec<_> =
                    tools.iter().map(|name| json!({ "name": name, "inputSchema": { "type": "object" } })).collect();
                json!({ "tools": tools })
            }
            _ => json!({}),
        };
        let answer = json!({ "jsonrpc": "2.0", "id": message["id"], "result": result });
        let response = Response::builder()
            .header("content-type", "application/json")
            .header("mcp-session-id", "s")
            .body(Full::from(answer.to_string()));
        Ok(response.unwrap())
    }
}

/// Accepts and never answers.
pub(super) async fn black_hole() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::task::spawn_local(async move {
        let mut held = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            held.push(socket);
        }
    });
    url
}
