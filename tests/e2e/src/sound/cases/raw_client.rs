//! Requests written by hand, one connection each, as no well-behaved client would send them.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::{Value, json};
use testkit::{Fault, fault};

const LIMIT: Duration = Duration::from_secs(10);

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    head: String,
    pub(super) body: String,
}

impl Answer {
    /// Empty where there is none.
    pub(super) fn header(&self, name: &str) -> &str {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value.trim())
    }

    /// The body, or the data of its last event.
    pub(super) fn json(&self) -> Result<Value, Fault> {
        let data = self.body.lines().rev().find_map(|line| line.strip_prefix("data: "));
        serde_json::from_str(data.unwrap_or(&self.body))
            .map_err(|error| fault(format!("no JSON ({error}): {}{}", self.head, self.body)))
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:.500}", self.head.trim_end().replace("\r\n", "; "), self.body)
    }
}

/// Sends `METHOD PATH` with the usual headers but for those in `instead`, and reads all that comes.
pub(super) fn send(
    address: SocketAddr,
    start: &str,
    instead: &[(&str, &str)],
    body: impl AsRef<[u8]>,
) -> Result<Answer, Fault> {
    let body = body.as_ref();
    let (host, length) = (address.to_string(), body.len().to_string());
    let usual = [
        ("Host", host.as_str()),
        ("Content-Type", "application/json"),
        ("Accept", "application/json, text/event-stream"),
        ("Content-Length", &length),
        ("Connection", "close"),
    ];
    let mut head = format!("{start} HTTP/1.1\r\n");
    let kept = usual.iter().filter(|(name, _)| !instead.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)));
    for (name, value) in kept.chain(instead) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(&[head.as_bytes(), b"\r\n", body].concat())?;
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    stream.shutdown(Shutdown::Both).ok();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        read?;
        return Err(fault(format!("no HTTP response: {text}")));
    };
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

/// An `initialize` that asks for this revision of the protocol.
pub(super) fn initialize(version: &str) -> String {
    let client = json!({ "name": "raw", "version": "1" });
    let params = json!({ "protocolVersion": version, "capabilities": {}, "clientInfo": client });
    json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params }).to_string()
}
