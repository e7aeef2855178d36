//! Which HTTP requests the MCP endpoint takes, by their headers.
//!
//! Host and Origin are checked because a web page can make a browser send requests to a gateway on the same machine
//! (DNS rebinding). Headers are given as text; an error names the HTTP status to answer with.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

/// A refused request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpFault {
    #[error("Origin {} is not allowed", shown(.origin))]
    Origin { origin: String },
    #[error("Host {} is not allowed", shown(.host))]
    Host { host: String },
    #[error("the request has no Host")]
    NoHost,
    #[error("Accept must allow {missing}")]
    NotAcceptable { missing: &'static str },
    #[error("Content-Type must be application/json")]
    ContentType,
    #[error("the header {header} comes twice, or is no text")]
    Ambiguous { header: String },
}

/// As much of a header as a person needs to see what it was.
fn shown(value: &str) -> String {
    const SHOWN_MAX: usize = 200;
    match value.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{:?}…", &value[..end]),
        None => format!("{value:?}"),
    }
}

impl HttpFault {
    pub const fn status(&self) -> u16 {
        match self {
            Self::Origin { .. } | Self::Host { .. } => 403,
            Self::NoHost | Self::Ambiguous { .. } => 400,
            Self::NotAcceptable { .. } => 406,
            Self::ContentType => 415,
        }
    }
}

/// The requests a listener admits. Loopback hosts and origins always pass: only local programs and pages have them.
#[derive(Clone, Debug, Default)]
pub struct AccessRules {
    /// The listener is bound to a loopback address.
    pub loopback: bool,
    /// Names of the gateway, `name` (any port) or `name:port`; empty ones count for nothing. With none, a listener that
    /// is not bound to loopback takes every Host (then only the Origin protects).
    pub hosts: Vec<String>,
    /// Origins of web pages that may use the gateway, `scheme://name[:port]` exactly, or `*`.
    pub origins: Vec<String>,
}

impl AccessRules {
    /// Checks both headers; an absent Origin is no browser and passes.
    ///
    /// # Errors
    /// [`HttpFault::Host`], [`HttpFault::NoHost`] or [`HttpFault::Origin`].
    pub fn check(&self, host: Option<&str>, origin: Option<&str>) -> Result<(), HttpFault> {
        let host = host.map(str::trim).filter(|host| !host.is_empty()).ok_or(HttpFault::NoHost)?;
        if !self.takes_host(host) {
            return Err(HttpFault::Host { host: host.to_owned() });
        }
        match origin.map(str::trim) {
            Some(origin) if !self.takes_origin(origin) => Err(HttpFault::Origin { origin: origin.to_owned() }),
            _ => Ok(()),
        }
    }

    fn takes_host(&self, host: &str) -> bool {
        let open = !self.loopback && self.hosts.iter().all(String::is_empty);
        let name = without_port(host);
        open || name.is_some_and(is_loopback)
            || self.hosts.iter().any(|allowed| {
                allowed.eq_ignore_ascii_case(host) || name.is_some_and(|name| allowed.eq_ignore_ascii_case(name))
            })
    }

    fn takes_origin(&self, origin: &str) -> bool {
        let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        authority.and_then(without_port).is_some_and(is_loopback)
            || self.origins.iter().any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin))
    }
}

/// None if what follows the name is not a port.
fn without_port(authority: &str) -> Option<&str> {
    let end_of_name = if authority.starts_with('[') { authority.find(']')? + 1 } else { 0 };
    let name_end = authority[end_of_name..].find(':').map_or(authority.len(), |colon| end_of_name + colon);
    let (name, rest) = authority.split_at(name_end);
    let port = rest.strip_prefix(':').unwrap_or("0");
    (!port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())).then_some(name)
}

fn is_loopback(name: &str) -> bool {
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The content type of a message.
pub const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

/// The `Accept` of nearly every client's POST, word for word.
pub const USUAL_ACCEPT: &str = "application/json, text/event-stream";

/// A POST may be answered in either form. An absent Accept allows everything, as HTTP has it.
pub fn check_post_accept(accept: Option<&str>) -> Result<(), HttpFault> {
    if accept == Some(USUAL_ACCEPT) {
        return Ok(());
    }
    allows(accept, JSON)?;
    allows(accept, EVENTS)
}

/// A GET is answered by an event stream.
pub fn check_get_accept(accept: Option<&str>) -> Result<(), HttpFault> {
    allows(accept, EVENTS)
}

fn allows(accept: Option<&str>, media_type: &'static str) -> Result<(), HttpFault> {
    let Some(accept) = accept else { return Ok(()) };
    let family = media_type.split('/').next().unwrap_or_default();
    let matches = |range: &str| {
        let mut parts = range.split(';').map(str::trim);
        let range = parts.next().unwrap_or_default();
        let wanted = range == "*/*"
            || range.eq_ignore_ascii_case(media_type)
            || range.strip_suffix("/*").is_some_and(|range| range.eq_ignore_ascii_case(family));
        wanted && !parts.any(|parameter| parameter.strip_prefix("q=").is_some_and(is_zero))
    };
    if accept.split(',').any(matches) { Ok(()) } else { Err(HttpFault::NotAcceptable { missing: media_type }) }
}

/// A quality of 0 means "not this".
fn is_zero(quality: &str) -> bool {
    quality.bytes().all(|byte| matches!(byte, b'0' | b'.'))
}

/// The body of a POST is JSON; parameters such as `charset` are ignored.
pub fn check_content_type(content_type: Option<&str>) -> Result<(), HttpFault> {
    if content_type == Some(JSON) {
        return Ok(());
    }
    let essence = content_type.and_then(|value| value.split(';').next()).unwrap_or_default();
    if essence.trim().eq_ignore_ascii_case(JSON) { Ok(()) } else { Err(HttpFault::ContentType) }
}
