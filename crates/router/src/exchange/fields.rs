//! The headers of a request that decide something, found in one pass: a lookup of each would hash its name.

use std::borrow::Cow;

use http::{HeaderMap, HeaderValue};
use mcp::http_rules::{HttpFault, USUAL_ACCEPT};

#[derive(Debug)]
pub(super) struct Fields<'a> {
    pub(super) all: &'a HeaderMap,
    pub(super) host: Field<'a>,
    pub(super) origin: Field<'a>,
    pub(super) content_type: Field<'a>,
    pub(super) session: Field<'a>,
    pub(super) protocol_version: Field<'a>,
    /// A list, which may come in several lines. A line that is not text allows nothing.
    accept: Option<Cow<'a, str>>,
    /// The first `traceparent` header.
    traceparent: Option<&'a HeaderValue>,
}

/// A header that may come at most once.
#[derive(Debug, Clone, Copy)]
pub(super) enum Field<'a> {
    Absent,
    Once(&'a HeaderValue),
    Again,
}

impl<'a> Fields<'a> {
    pub(super) fn of(headers: &'a HeaderMap) -> Self {
        let [host, origin, content_type, session, protocol_version] = [Field::Absent; 5];
        let (accept, traceparent) = (None, None);
        let mut fields =
            Self { all: headers, host, origin, content_type, session, protocol_version, accept, traceparent };
        for (name, value) in headers {
            match name.as_str() {
                "host" => fields.host.add(value),
                "origin" => fields.origin.add(value),
                "content-type" => fields.content_type.add(value),
                "mcp-session-id" => fields.session.add(value),
                "mcp-protocol-version" => fields.protocol_version.add(value),
                "traceparent" => fields.traceparent = fields.traceparent.or(Some(value)),
                // Compared as bytes, which is cheaper than to see whether they are text.
                "accept" if fields.accept.is_none() && value == USUAL_ACCEPT => {
                    fields.accept = Some(USUAL_ACCEPT.into());
                }
                "accept" => {
                    let line = value.to_str().unwrap_or_default();
                    fields.accept = Some(match fields.accept {
                        Some(lines) => format!("{lines},{line}").into(),
                        None => line.into(),
                    });
                }
                _ => {}
            }
        }
        fields
    }

    pub(super) fn accept(&self) -> Option<&str> {
        self.accept.as_deref()
    }

    /// The value as text; none if it is not text, since it is only passed on.
    pub(super) fn traceparent(&self) -> Option<&'a str> {
        self.traceparent.and_then(|value| value.to_str().ok())
    }
}

impl<'a> Field<'a> {
    fn add(&mut self, value: &'a HeaderValue) {
        *self = if matches!(self, Self::Absent) { Self::Once(value) } else { Self::Again };
    }

    /// Whether the header came once, with that value.
    pub(super) fn is(self, value: &str) -> bool {
        self.once().is_some_and(|once| once == value)
    }

    /// The header as it was written, if it came once.
    pub(super) fn once(self) -> Option<&'a HeaderValue> {
        if let Self::Once(value) = self { Some(value) } else { None }
    }

    /// The header as text. A repeated or unreadable header is refused: other programs might read it differently. `name`
    /// is its name in the error.
    pub(super) fn text(self, name: &str) -> Result<Option<&'a str>, HttpFault> {
        let ambiguous = || HttpFault::Ambiguous { header: name.to_owned() };
        match self {
            Self::Absent => Ok(None),
            Self::Once(value) => value.to_str().map(Some).map_err(|_| ambiguous()),
            Self::Again => Err(ambiguous()),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT, HOST};

    use super::*;

    #[test]
    fn a_header_that_decides_something_comes_once_and_as_text() {
        let mut headers = HeaderMap::new();
        assert!(matches!(Fields::of(&headers).host.text("host"), Ok(None)));
        headers.append(HOST, HeaderValue::from_static("a"));
        assert_eq!(Fields::of(&headers).host.text("host"), Ok(Some("a")));
        headers.append(HOST, HeaderValue::from_static("a"));
        let twice = Fields::of(&headers).host.text("host").unwrap_err();
        assert_eq!(twice.to_string(), "the header host comes twice, or is no text");
        headers.insert(HOST, HeaderValue::from_bytes(b"\xff").unwrap());
        assert!(Fields::of(&headers).host.text("host").is_err());
    }

    #[test]
    fn what_is_accepted_may_be_said_in_several_lines() {
        let mut headers = HeaderMap::new();
        assert_eq!(Fields::of(&headers).accept(), None);
        headers.append(ACCEPT, HeaderValue::from_static("application/json"));
        headers.append(ACCEPT, HeaderValue::from_bytes(b"\xff").unwrap());
        headers.append(ACCEPT, HeaderValue::from_static("text/event-stream"));
        assert_eq!(Fields::of(&headers).accept(), Some("application/json,,text/event-stream"));
    }
}
