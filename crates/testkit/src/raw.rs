//! A client that writes raw bytes: requests that no well-behaved client would send must be written by hand.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::fault::{Fault, fault};
use serde_json::{Value, json};

/// Longer than anything here takes; an answer that is not here by then will not come.
pub const LIMIT: Duration = Duration::from_secs(10);

/// One connection.
#[derive(Debug)]
pub struct Raw {
    pub stream: TcpStream,
    address: SocketAddr,
    pub session: Option<String>,
    buffer: Vec<u8>,
}

/// The data of one event, if it has any.
fn data_of(event: &str) -> Option<String> {
    let lines: Vec<&str> = event.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// One HTTP response.
pub struct Response {
    pub status: u16,
    head: String,
    pub body: Vec<u8>,
}

/// Not the body, which may be long.
impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{:.500}", self.head, String::from_utf8_lossy(&self.body))
    }
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }

    /// The body, which is one JSON message or a stream whose last event is one.
    pub fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        let last = text.trim_end().rsplit("\n\n").next().and_then(data_of);
        serde_json::from_str(last.as_deref().unwrap_or(&text)).unwrap_or_else(|error| panic!("{error} in {text:.500}"))
    }

    pub fn code(&self) -> Option<i64> {
        self.json()["error"]["code"].as_i64()
    }

    pub fn closes(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// The head of a POST with what it must have, but for the headers in `instead`: one with an empty value is left out.
pub fn head(address: SocketAddr, length: usize, instead: &[(&str, &[u8])]) -> Vec<u8> {
    head_of("POST /mcp", address, length, instead)
}

/// As [`head`], of another method and path.
pub fn head_of(request: &str, address: SocketAddr, length: usize, instead: &[(&str, &[u8])]) -> Vec<u8> {
    let (host, length) = (address.to_string(), length.to_string());
    let usual: [(&str, &[u8]); 4] = [
        ("Host", host.as_bytes()),
        ("Content-Type", b"application/json"),
        ("Accept", b"application/json, text/event-stream"),
        ("Content-Length", length.as_bytes()),
    ];
    let mut head = format!("{request} HTTP/1.1\r\n").into_bytes();
    let kept = usual.iter().filter(|(name, _)| !instead.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)));
    for (name, value) in kept.chain(instead.iter().filter(|(_, value)| !value.is_empty())) {
        head.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    head.extend(b"\r\n");
    head
}

pub fn call(id: impl Into<Value>, tool: &str, arguments: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id.into(), "method": "tools/call", "params": { "name": tool, "arguments": arguments } })
}

pub fn cancel(id: impl Into<Value>) -> Value {
    json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": id.into() } })
}

impl Raw {
    pub fn connect(address: SocketAddr) -> Result<Self, Fault> {
        let stream = TcpStream::connect_timeout(&address, LIMIT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        Ok(Self { stream, address, session: None, buffer: Vec::new() })
    }

    /// With a session of its own.
    pub fn open(address: SocketAddr) -> Result<Self, Fault> {
        let mut raw = Self::connect(address)?;
        raw.begin()?;
        Ok(raw)
    }

    /// Begins another session on this connection; the one before is left as it is.
    pub fn begin(&mut self) -> Result<(), Fault> {
        self.session = None;
        let params = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "raw", "version": "1" } });
        let response = self.ask(&json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params }))?;
        self.session = response.header("mcp-session-id").map(str::to_owned);
        Ok(())
    }

    /// Another connection for the same session.
    pub fn again(&self) -> Result<Self, Fault> {
        self.session_at(self.address)
    }

    /// The same session at another gateway.
    pub fn session_at(&self, address: SocketAddr) -> Result<Self, Fault> {
        Ok(Self { session: self.session.clone(), ..Self::connect(address)? })
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// A POST of `body`, as [`head`] says.
    pub fn post(&mut self, body: &[u8], instead: &[(&str, &[u8])]) -> Result<(), Fault> {
        let mut headers = instead.to_vec();
        let session = self.session.clone().unwrap_or_default();
        if !session.is_empty() && !instead.iter().any(|(name, _)| *name == "Mcp-Session-Id") {
            headers.push(("Mcp-Session-Id", session.as_bytes()));
        }
        let head = head(self.address, body.len(), &headers);
        self.write(&[&head, body].concat())
    }

    pub fn say(&mut self, message: &Value) -> Result<(), Fault> {
        self.post(message.to_string().as_bytes(), &[])
    }

    pub fn ask(&mut self, message: &Value) -> Result<Response, Fault> {
        self.say(message)?;
        self.response()
    }

    /// Any request without a body, in the session.
    pub fn bare(&mut self, method: &str) -> Result<(), Fault> {
        let (host, session) = (self.address, self.session.clone().unwrap_or_default());
        let head = format!(
            "{method} /mcp HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\nMcp-Session-Id: {session}\r\n\r\n"
        );
        self.write(head.as_bytes())
    }

    /// Checks that the session and the connection still serve.
    pub fn works(&mut self) -> Result<(), Fault> {
        let response = self.ask(&json!({ "jsonrpc": "2.0", "id": "still", "method": "ping" }))?;
        let right = response.json() == json!({ "jsonrpc": "2.0", "id": "still", "result": {} });
        if right { Ok(()) } else { Err(fault(format!("a ping was answered with {response:?}"))) }
    }

    /// More bytes; false at the end.
    fn fill(&mut self) -> Result<bool, Fault> {
        let mut chunk = [0; 64 << 10];
        // A process that was stopped and goes on finds its reading interrupted.
        let count = loop {
            match self.stream.read(&mut chunk) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.buffer.extend_from_slice(&chunk[..count]);
        Ok(count > 0)
    }

    fn take(&mut self, count: usize) -> Result<Vec<u8>, Fault> {
        while self.buffer.len() < count {
            if !self.fill()? {
                return Err(fault(format!("closed after {}", String::from_utf8_lossy(&self.buffer))));
            }
        }
        Ok(self.buffer.drain(..count).collect())
    }

    /// Up to and with `end`.
    fn take_to(&mut self, end: &[u8]) -> Result<Vec<u8>, Fault> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                return self.take(at + end.len());
            }
            if !self.fill()? {
                return Err(fault(format!("closed after {}", String::from_utf8_lossy(&self.buffer))));
            }
        }
    }

    pub fn head_of_response(&mut self) -> Result<Response, Fault> {
        let head = String::from_utf8(self.take_to(b"\r\n\r\n")?)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| fault(format!("no status in {head}")))?;
        Ok(Response { status, head, body: Vec::new() })
    }

    pub fn response(&mut self) -> Result<Response, Fault> {
        let mut response = self.head_of_response()?;
        if let Some(length) = response.header("content-length") {
            response.body = self.take(length.parse()?)?;
        } else if response.header("transfer-encoding").is_some() {
            while let Some(chunk) = self.chunk()? {
                response.body.extend(chunk);
            }
        }
        Ok(response)
    }

    fn chunk(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        let size = String::from_utf8(self.take_to(b"\r\n")?)?;
        let size = usize::from_str_radix(size.trim(), 16)?;
        let mut chunk = self.take(size + 2)?;
        chunk.truncate(size);
        Ok((size > 0).then_some(chunk))
    }

    /// The next message of an event stream (each of ours is one chunk); `None` at its end.
    pub fn event(&mut self) -> Result<Option<Value>, Fault> {
        while let Some(chunk) = self.chunk()? {
            let text = String::from_utf8(chunk)?;
            if let Some(data) = data_of(&text) {
                return Ok(Some(serde_json::from_str(&data)?));
            }
        }
        Ok(None)
    }

    /// Opens the stream of notifications, and returns when the gateway listens.
    pub fn listen(&mut self) -> Result<Response, Fault> {
        self.bare("GET")?;
        self.head_of_response()
    }

    /// Checks that the other side has closed, with no more bytes.
    pub fn is_closed(&mut self) -> Result<(), Fault> {
        match self.stream.read(&mut [0; 1]) {
            Ok(0) => Ok(()),
            other => Err(fault(format!("expected the end, got {other:?}"))),
        }
    }
}
