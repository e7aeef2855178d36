//! HTTP servers that answer what their script says, byte by byte, and keep what they were asked.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use serde_json::{Value, json};
use testkit::{Fault, Server};

/// What arrived.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// Of HTTP.
    pub(super) verb: String,
    pub(super) path: String,
    head: String,
    /// Null without a body.
    pub(super) body: Value,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// Of MCP; empty without a body.
    pub(super) fn method(&self) -> &str {
        self.body["method"].as_str().unwrap_or_default()
    }

    pub(super) fn is_notification(&self) -> bool {
        self.body.get("method").is_some() && self.body.get("id").is_none()
    }

    pub(super) fn is_call(&self) -> bool {
        self.method() == "tools/call"
    }

    /// The text of the usual answer to it.
    pub(super) fn answer(&self) -> String {
        let result = match self.method() {
            "initialize" => greeting(&json!({ "tools": {} })),
            "tools/list" => json!({ "tools": [tool("t"), tool("u")] }),
            "tools/call" => json!({ "content": [{ "type": "text", "text": "fine" }] }),
            _ => json!({}),
        };
        json!({ "jsonrpc": "2.0", "id": self.body["id"], "result": result }).to_string()
    }
}

/// The result of `initialize`.
pub(super) fn greeting(capabilities: &Value) -> Value {
    let server = json!({ "name": "script", "version": "1" });
    json!({ "protocolVersion": "2025-06-18", "capabilities": capabilities, "serverInfo": server })
}

pub(super) fn tool(name: &str) -> Value {
    json!({ "name": name, "inputSchema": { "type": "object" } })
}

/// What is written, and what becomes of the connection then.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    Keep(Vec<u8>),
    Close(Vec<u8>),
    /// It stays open, and nothing is read from it any more.
    Hold(Vec<u8>),
}

/// A response with a length.
pub(super) fn response(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Reply {
    let (body, length) = (body.as_ref(), body.as_ref().len());
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n");
    Reply::Keep([head.as_bytes(), body].concat())
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
        _ => response("200 OK", &format!("{JSON}Mcp-Session-Id: s1\r\n"), request.answer()),
    }
}

type Script = dyn Fn(&Request, usize) -> Reply + Send + Sync;

/// A server that plays a script; it ends with the process.
#[derive(Clone)]
pub(super) struct HttpServer {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl HttpServer {
    /// The script is also told how many requests came before.
    pub(super) fn start(script: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Result<Self, Fault> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let server = Self { address: listener.local_addr()?, seen: Arc::default() };
        let (serving, script): (_, Arc<Script>) = (server.clone(), Arc::new(script));
        thread::Builder::new().name("script".to_owned()).spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (server, script) = (serving.clone(), Arc::clone(&script));
                let serve = move || drop(server.serve(&stream, &*script));
                drop(thread::Builder::new().name("script".to_owned()).spawn(serve));
            }
        })?;
        Ok(server)
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

    fn serve(&self, stream: &TcpStream, script: &Script) -> Result<(), Fault> {
        let mut reader = BufReader::new(stream);
        while let Some(request) = read(&mut reader)? {
            let before = {
                let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.push(request.clone());
                seen.len() - 1
            };
            let mut stream = stream;
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
}

/// The next request; nothing at the end of the connection.
fn read(reader: &mut BufReader<&TcpStream>) -> Result<Option<Request>, Fault> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(None);
        }
    }
    let mut words = head.split(' ').map(str::to_owned);
    let (verb, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut request = Request { verb, path, head, body: Value::Null };
    let length = request.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    request.body = serde_json::from_slice(&body).unwrap_or_default();
    Ok(Some(request))
}
