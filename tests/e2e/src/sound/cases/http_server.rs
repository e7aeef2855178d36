//! HTTP servers that answer what their script says, byte by byte, and keep what they were asked.

use std::{
    io::{BufReader, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::{Value, json};
pub(super) use testkit::stub::Request;
use testkit::{Fault, Server, stub};

/// The text of the usual answer to a request.
pub(super) fn usual_text(request: &Request) -> String {
    let result = match request.method() {
        "initialize" => greeting(&json!({ "tools": {} })),
        "tools/list" => json!({ "tools": [tool("t"), tool("u")] }),
        "tools/call" => json!({ "content": [{ "type": "text", "text": "fine" }] }),
        _ => json!({}),
    };
    json!({ "jsonrpc": "2.0", "id": request.body["id"], "result": result }).to_string()
}

/// The result of `initialize`.
pub(super) fn greeting(capabilities: &Value) -> Value {
    let server = json!({ "name": "script", "version": "1" });
    json!({ "protocolVersion": "2025-06-18", "capabilities": capabilities, "serverInfo": server })
}

pub(super) fn tool(name: &str) -> Value {
    json!({ "name": name, "inputSchema": { "type": "object" } })
}

/// The bytes to write, and what happens to the connection afterwards.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    Keep(Vec<u8>),
    Close(Vec<u8>),
    /// The connection stays open, and nothing more is read from it.
    Hold(Vec<u8>),
}

/// A response with a length.
pub(super) fn response(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Reply {
    Reply::Keep(stub::response(status, headers, body))
}

pub(super) const JSON: &str = "Content-Type: application/json\r\n";
pub(super) const EVENTS: &str = "Content-Type: text/event-stream\r\n";
pub(super) const HTML: &str = "Content-Type: text/html\r\n";

/// As a server does that keeps to the protocol.
pub(super) fn usual(request: &Request) -> Reply {
    match request.verb.as_str() {
        "GET" => response("405 Method Not Allowed", "", ""),
        "DELETE" => response("200 OK", "", ""),
        _ if request.is_notification() => response("202 Accepted", "", ""),
        _ => response("200 OK", &format!("{JSON}Mcp-Session-Id: s1\r\n"), usual_text(request)),
    }
}

/// A server that plays a script; it ends with the process.
#[derive(Clone)]
pub(super) struct HttpServer {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl HttpServer {
    /// The script is also told how many requests came before.
    pub(super) fn start(script: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Result<Self, Fault> {
        let seen = Arc::default();
        let all = Arc::clone(&seen);
        Ok(Self { address: stub::listen(move |stream| serve(stream, &all, &script))?, seen })
    }

    pub(super) fn entry(&self, id: &str) -> Server {
        Server::http(id, &format!("http://{}/mcp", self.address))
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn count(&self, holds: impl Fn(&Request) -> bool) -> usize {
        self.seen().iter().filter(|request| holds(request)).count()
    }
}

fn serve(
    mut stream: &TcpStream,
    seen: &Mutex<Vec<Request>>,
    script: &impl Fn(&Request, usize) -> Reply,
) -> Result<(), Fault> {
    let mut reader = BufReader::new(stream);
    while let Some(request) = Request::read(&mut reader)? {
        let before = {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.push(request.clone());
            seen.len() - 1
        };
        match script(&request, before) {
            Reply::Keep(bytes) => stream.write_all(&bytes)?,
            Reply::Close(bytes) => return Ok(stream.write_all(&bytes)?),
            Reply::Hold(bytes) => {
                stream.write_all(&bytes)?;
                // Until the other side is gone.
                std::io::copy(&mut reader, &mut std::io::sink())?;
                return Ok(());
            }
        }
    }
    Ok(())
}
