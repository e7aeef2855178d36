//! Requests written by hand, one connection each, as no well-behaved client would send them.

use std::net::SocketAddr;

use serde_json::{Value, json};
use testkit::{
    Fault, fault,
    raw::{Raw, Response, head_of},
};

/// What came back.
pub(super) struct Answer {
    pub(super) status: u16,
    response: Response,
}

impl Answer {
    /// Empty where there is none.
    pub(super) fn header(&self, name: &str) -> &str {
        self.response.header(name).unwrap_or_default()
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.response.body).into_owned()
    }

    /// The body, or the data of its last event.
    pub(super) fn json(&self) -> Result<Value, Fault> {
        let text = self.text();
        let data = text.lines().rev().find_map(|line| line.strip_prefix("data: "));
        serde_json::from_str(data.unwrap_or(&text)).map_err(|error| fault(format!("no JSON ({error}): {self}")))
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&format!("{:?}", self.response).replace("\r\n", "; "))
    }
}

/// Sends `METHOD PATH` with the usual headers but for those in `instead`.
pub(super) fn send(
    address: SocketAddr,
    request: &str,
    instead: &[(&str, &str)],
    body: impl AsRef<[u8]>,
) -> Result<Answer, Fault> {
    let instead: Vec<_> = instead.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    let mut raw = Raw::connect(address)?;
    raw.write(&[&head_of(request, address, body.as_ref().len(), &instead), body.as_ref()].concat())?;
    let response = raw.response()?;
    Ok(Answer { status: response.status, response })
}

/// An `initialize` that asks for this revision of the protocol.
pub(super) fn initialize(version: &str) -> String {
    let client = json!({ "name": "raw", "version": "1" });
    let params = json!({ "protocolVersion": version, "capabilities": {}, "clientInfo": client });
    json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params }).to_string()
}
