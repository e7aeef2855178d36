//! The handshake as the two sides write it, and what is refused.

use super::{ClientInitialize, Implementation, InitializeError, ServerInitialize};
use super::{client_request, server_result};
use crate::protocol_version::ProtocolVersion;
use crate::{ByKind, Kind, Message, scan};

const GATEWAY: Implementation<'_> = Implementation { name: "gate\"way", version: "1.0" };

#[test]
fn what_the_gateway_writes_can_be_read_by_the_other_side() {
    let request = client_request("7", GATEWAY);
    let envelope = scan(&request).unwrap();
    let Message::Request { id, call } = envelope.message else { panic!("a request") };
    assert_eq!((id.as_u64(), call.method.value()), (Some(7), "initialize"));
    let client = ClientInitialize::parse(call.params.unwrap().raw.text()).unwrap();
    assert_eq!((&*client.protocol_version, client.capabilities), ("2025-11-25", "{}"));
    assert_eq!(client.client_info, r#"{"name":"gate\"way","version":"1.0"}"#);

    let result = server_result(ProtocolVersion::V2025_06_18, GATEWAY, Some("use it"));
    let server = ServerInitialize::parse(str::from_utf8(&result).unwrap()).unwrap();
    assert_eq!(
        server,
        ServerInitialize {
            protocol_version: ProtocolVersion::V2025_06_18,
            declares: ByKind::from_fn(|kind| Kind::SERVED.contains(&kind)),
            announces: ByKind::from_fn(|kind| Kind::SERVED.contains(&kind)),
            instructions: Some("use it".into()),
        }
    );
}

#[test]
fn servers_differ() {
    let tools = |capabilities: &str| {
        let result = format!(r#"{{"protocolVersion":"2024-11-05","capabilities":{capabilities},"new":[1]}}"#);
        let server = ServerInitialize::parse(&result).unwrap();
        (server.declares[Kind::Tool], server.announces[Kind::Tool])
    };
    assert_eq!(tools("{}"), (false, false));
    assert_eq!(tools(r#"{"tools":null,"prompts":7}"#), (false, false), "of what is not served nothing is asked");
    assert_eq!(tools(r#"{"tools":{},"tasks":{"list":{}}}"#), (true, false));
    assert_eq!(tools(r#"{"tools":{"listChanged":false}}"#), (true, false));
    assert_eq!(tools(r#"{"tools":{"listChanged":true}}"#), (true, true));
}

#[test]
fn refused() {
    for version in ["2026-07-28", "3000-01-01"] {
        let result = format!(r#"{{"protocolVersion":"{version}","capabilities":{{}}}}"#);
        let error = ServerInitialize::parse(&result).unwrap_err();
        assert!(matches!(&error, InitializeError::Version { found } if found == version), "{error}");
    }
    let check = |params: &str, expected: &str| {
        let error = ClientInitialize::parse(params).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check("{}", "protocolVersion");
    check(r#"{"protocolVersion":1}"#, "string");
    check(r#"{"protocolVersion":"x","capabilities":{}}"#, "clientInfo");
    check(r#"{"protocolVersion":"x","capabilities":[],"clientInfo":{}}"#, "`capabilities` must be an object");
    check(r#"{"protocolVersion":"x","protocolVersion":"y","capabilities":{},"clientInfo":{}}"#, "duplicate");
}

#[test]
fn versions() {
    let negotiated = |requested| ProtocolVersion::negotiate(requested).as_str();
    assert_eq!(negotiated("2025-06-18"), "2025-06-18");
    for requested in ["2025-11-25", "2026-07-28", "2024-11-05", "2025-03-26", "nonsense"] {
        assert_eq!(negotiated(requested), "2025-11-25", "{requested}");
    }
    let session = ProtocolVersion::V2025_06_18;
    assert_eq!(ProtocolVersion::of_message(None, session), Ok(session));
    assert_eq!(ProtocolVersion::of_message(Some(" 2025-11-25"), session), Ok(session));
    for header in ["2026-07-28", "2025-03-26", "", "x"] {
        let error = ProtocolVersion::of_message(Some(header), session).unwrap_err();
        assert_eq!(error.found, header);
    }
}
