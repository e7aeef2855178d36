//! The handshake of revisions up to 2025-11-25: read from clients and backends, written to both.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::instructions;
use crate::kind::{ByKind, Kind};
use crate::message::{self, push_string};
use crate::protocol_version::ProtocolVersion;

/// Why `initialize` params or an `initialize` result cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InitializeError {
    /// For a client: -32602.
    #[error("initialize: {0}")]
    Malformed(serde_json::Error),
    #[error("initialize: `{member}` must be an object")]
    NotAnObject { member: &'static str },
    #[error("the server answered initialize with a protocol version that the gateway cannot speak: {found:?}")]
    Version { found: String },
}

/// What a client says in `initialize`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientInitialize<'a> {
    pub protocol_version: Cow<'a, str>,
    /// Raw JSON object.
    pub capabilities: &'a str,
    /// Raw JSON object.
    pub client_info: &'a str,
}

impl<'a> ClientInitialize<'a> {
    /// Reads the raw `params` of an `initialize` request.
    ///
    /// # Errors
    /// If a required member is missing or of the wrong type (answer -32602).
    pub fn parse(params: &'a str) -> Result<Self, InitializeError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire<'a> {
            #[serde(borrow)]
            protocol_version: Cow<'a, str>,
            #[serde(borrow)]
            capabilities: &'a RawValue,
            #[serde(borrow)]
            client_info: &'a RawValue,
        }
        let wire: Wire<'a> = serde_json::from_str(params).map_err(InitializeError::Malformed)?;
        Ok(Self {
            protocol_version: wire.protocol_version,
            capabilities: object("capabilities", wire.capabilities)?,
            client_info: object("clientInfo", wire.client_info)?,
        })
    }
}

fn object<'a>(member: &'static str, raw: &'a RawValue) -> Result<&'a str, InitializeError> {
    let text = raw.get();
    if text.starts_with('{') { Ok(text) } else { Err(InitializeError::NotAnObject { member }) }
}

/// What a backend says in its `initialize` result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInitialize {
    pub protocol_version: ProtocolVersion,
    /// It says that it has some of the kind. Only kinds that are served are asked for.
    pub declares: ByKind<bool>,
    /// It announces changes of its list of them.
    pub announces: ByKind<bool>,
    /// Cut to [`INSTRUCTIONS_BYTES`], which also bounds what clients hear of all servers together.
    pub instructions: Option<String>,
}

impl ServerInitialize {
    /// Reads the raw `result` of an `initialize` response. Every revision with `initialize` is spoken toward backends.
    ///
    /// # Errors
    /// If a required member is missing or of the wrong type, or the version is not one the gateway speaks.
    pub fn parse(result: &str) -> Result<Self, InitializeError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire<'a> {
            #[serde(borrow)]
            protocol_version: Cow<'a, str>,
            #[serde(borrow)]
            capabilities: BTreeMap<Cow<'a, str>, &'a RawValue>,
            #[serde(borrow, default)]
            instructions: Option<Cow<'a, str>>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Capability {
            #[serde(default)]
            list_changed: Option<bool>,
        }
        let wire: Wire<'_> = serde_json::from_str(result).map_err(InitializeError::Malformed)?;
        let protocol_version = ProtocolVersion::parse(&wire.protocol_version)
            .filter(|version| version.has_initialize())
            .ok_or_else(|| InitializeError::Version { found: wire.protocol_version.into_owned() })?;
        let (mut declares, mut announces) = (ByKind::default(), ByKind::default());
        for kind in Kind::SERVED {
            let Some(raw) = wire.capabilities.get(kind.capability()) else { continue };
            let said: Option<Capability> = serde_json::from_str(raw.get()).map_err(InitializeError::Malformed)?;
            declares[kind] = said.is_some();
            announces[kind] = said.and_then(|said| said.list_changed).unwrap_or(false);
        }
        Ok(Self {
            protocol_version,
            declares,
            announces,
            instructions: wire
                .instructions
                .map(|text| instructions::cut(text.trim()).to_owned())
                .filter(|text| !text.is_empty()),
        })
    }

    /// A kind whose list it may be asked for.
    pub fn lists(&self) -> Kind {
        let [first, ..] = Kind::SERVED;
        Kind::SERVED.into_iter().find(|kind| self.declares[*kind]).unwrap_or(first)
    }

    /// It announces changes of a list.
    pub fn is_announcing(&self) -> bool {
        Kind::SERVED.into_iter().any(|kind| self.announces[kind])
    }
}

/// Name and version of one side, as in `clientInfo` and `serverInfo`.
#[derive(Clone, Copy, Debug)]
pub struct Implementation<'a> {
    pub name: &'a str,
    pub version: &'a str,
}

impl Implementation<'_> {
    fn push(self, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"name":"#);
        push_string(out, self.name);
        out.extend_from_slice(br#","version":"#);
        push_string(out, self.version);
        out.push(b'}');
    }
}

/// The gateway's `initialize` result (raw JSON, for [`message::result`]). The capabilities are fixed, whatever the
/// backends offer now: a client cannot be told of a capability later, and a backend may be added any time.
pub fn server_result(version: ProtocolVersion, server: Implementation<'_>, instructions: Option<&str>) -> Vec<u8> {
    let mut out = br#"{"protocolVersion":"#.to_vec();
    push_string(&mut out, version.as_str());
    let mut capabilities =
        Kind::SERVED.map(|kind| format!(r#""{}":{{"listChanged":true}}"#, kind.capability())).to_vec();
    capabilities.dedup();
    out.extend_from_slice(format!(r#","capabilities":{{{}}},"serverInfo":"#, capabilities.join(",")).as_bytes());
    server.push(&mut out);
    if let Some(instructions) = instructions {
        out.extend_from_slice(br#","instructions":"#);
        push_string(&mut out, instructions);
    }
    out.push(b'}');
    out
}

/// The whole `initialize` request to a backend, without client capabilities: an upstream session is shared by clients
/// that declare different ones. `id` is raw JSON.
pub fn client_request(id: &str, client: Implementation<'_>) -> Vec<u8> {
    let mut params = br#"{"protocolVersion":"#.to_vec();
    push_string(&mut params, ProtocolVersion::LATEST.as_str());
    params.extend_from_slice(br#","capabilities":{},"clientInfo":"#);
    client.push(&mut params);
    params.push(b'}');
    message::request(id, message::method::INITIALIZE, Some(&params))
}
