//! What is a URL and what is a header of a server, as far as it can be told before references are resolved.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::reference::is_word;
use crate::{Piece, Template};

/// Headers that describe one connection or one message, which the gateway writes itself. In lower case.
pub const OWNED_HEADERS: [&str; 21] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "last-event-id",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "mcp-session-id",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "traceparent",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Why this is no absolute `http` or `https` URL. A reference stands for anything, so of a URL that begins
/// with one only the characters are checked; routers check the rest once they have resolved it. No part of the URL is
/// quoted but a short word as its scheme: after a slip a host or a port is a piece of a password.
pub(super) fn url_fault(template: &Template) -> Option<String> {
    // `1` may stand wherever a reference may: in a host, a port, a path.
    let url: String = template
        .0
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) => text.as_str(),
            Piece::Reference(_) => "1",
        })
        .collect();
    if let Some(bad) = url.chars().find(|c| !c.is_ascii_graphic() || "\"<>\\^`{|}".contains(*c)) {
        return Some(format!("a URL cannot contain {bad:?}; write it percent-encoded"));
    }
    if url.contains('#') {
        return Some("a fragment (`#`) is never sent to a server; remove it".into());
    }
    if !matches!(template.0.first(), Some(Piece::Text(_))) {
        return None;
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        return Some("not an absolute URL; expected `http://…` or `https://…`".into());
    };
    if !matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https") {
        let found = if is_word(scheme) { format!("`{scheme}`") } else { "another one".into() };
        return Some(format!("the scheme is {found}; expected `http` or `https`"));
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') {
        return Some("credentials do not belong into a URL; use `headers: { Authorization: … }`".into());
    }
    authority_fault(authority)
}

fn authority_fault(authority: &str) -> Option<String> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let Some((host, after)) = rest.split_once(']') else {
                return Some("the IPv6 address has no closing `]`".into());
            };
            if host.parse::<Ipv6Addr>().is_err() {
                return Some("what stands in `[…]` is no IPv6 address".into());
            }
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return Some("only `:PORT` may follow an IPv6 address".into()),
            }
        }
        None => {
            let (host, port) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
            if let Some(fault) = host_fault(host) {
                return Some(fault);
            }
            (host, port)
        }
    };
    if host.is_empty() {
        return Some("the URL names no host".into());
    }
    match port {
        Some(port) if !port.bytes().all(|b| b.is_ascii_digit()) || !port.parse::<u16>().is_ok_and(|p| p > 0) => {
            Some("what stands after the `:` is no port; expected a number from 1 to 65535, no user or password".into())
        }
        _ => None,
    }
}

fn host_fault(host: &str) -> Option<String> {
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.is_empty() {
        return Some("the URL names no host".into());
    }
    let legal = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if name.len() > 253 || !name.split('.').all(legal) {
        return Some("the host is no host name; expected letters, digits, `-` and `_` between single `.`".into());
    }
    // A name that ends in a number would be read as an IPv4 address by one program and looked up by another.
    let numeric = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    if numeric && name.contains('.') && name.parse::<Ipv4Addr>().is_err() {
        return Some("the host ends in a number and is no IPv4 address".into());
    }
    None
}

pub(super) fn header_name_fault(name: &str) -> Option<String> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(token) {
        let fault = "this key is not shown, since it is not the name of an HTTP header; expected `NAME: value`, with a \
            name of letters, digits and `-`";
        return Some(fault.into());
    }
    OWNED_HEADERS
        .contains(&name.to_ascii_lowercase().as_str())
        .then(|| "the gateway writes this header itself; it cannot be configured".into())
}

pub(super) fn header_value_fault(template: &Template) -> Option<String> {
    let texts = template.0.iter().filter_map(|piece| match piece {
        Piece::Text(text) => Some(text.as_str()),
        Piece::Reference(_) => None,
    });
    let bad = texts.flat_map(str::chars).find(|c| !matches!(c, ' '..='~' | '\t'))?;
    Some(match bad {
        '\n' | '\r' => "a header value cannot contain a line break".into(),
        other => format!("a header value cannot contain {other:?}; expected visible ASCII characters"),
    })
}
