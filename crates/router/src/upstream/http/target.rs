//! Where an HTTP server is and what every request to it carries: the configured transport with its secrets resolved.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HOST, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use model::Transport;

use super::http1::{Request, push_header};
use super::shown_url;
use crate::endpoint::BringUpFailure;
use crate::secrets::{Given, Secrets};

pub(super) const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
pub(super) const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(super) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
pub(super) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Bytes of the id of an event, which the next request repeats. A longer id is ignored.
const EVENT_ID_MAX: usize = 1 << 10;

/// The header value that resumes a stream after an event with this id; after an empty id, the stream cannot be resumed.
pub(super) fn event_id(id: &str) -> Option<HeaderValue> {
    let fits = (1..=EVENT_ID_MAX).contains(&id.len());
    fits.then(|| HeaderValue::from_str(id).ok()).flatten()
}

/// What a connection leads to.
#[derive(PartialEq, Eq)]
pub(super) struct Place {
    pub(super) tls: bool,
    /// For the resolver and for the certificate; without the brackets of an IPv6 address.
    pub(super) host: String,
    pub(super) port: u16,
}

/// A server's address and what every request to it carries.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) place: Arc<Place>,
    path: PathAndQuery,
    /// The head of a POST, written once per session instead of once per call. The heads of other requests are made of
    /// it.
    post: Box<[u8]>,
    origin: Arc<Origin>,
}

/// Where a target comes from.
struct Origin {
    /// Before a redirect.
    path: PathAndQuery,
    /// The secrets in the target, which nothing shows for as long as the target is in use.
    _given: Arc<Given>,
}

impl Target {
    /// # Errors
    /// A secret without value, or a URL or header that HTTP cannot carry.
    pub(super) fn resolve(transport: &Transport, secrets: &Secrets) -> Result<Self, BringUpFailure> {
        let Transport::Http { url: text, headers: configured } = transport else {
            unreachable!("only http transports have a target");
        };
        // With its references, never their values.
        let shown = || shown_url::configured(text);
        let resolved = secrets.resolve("url", text)?;
        let url = url::Url::parse(resolved.expose())
            .map_err(|error| BringUpFailure::Url { url: shown(), reason: error.to_string() })?;
        let bad = |reason: &str| BringUpFailure::Url { url: shown(), reason: reason.to_owned() };
        let tls = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err(bad("only http and https are possible")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad("credentials in a URL are not sent; use a header"));
        }
        let host = url.host_str().ok_or_else(|| bad("it has no host"))?;
        let port = url.port_or_known_default().ok_or_else(|| bad("it has no port"))?;
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let path = PathAndQuery::try_from(path).map_err(|_| bad("its path cannot be sent"))?;
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::try_from(authority).map_err(|_| bad("its host cannot be sent"))?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        // Without this header a server may choose a content coding, and the router reads none.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("only1mcp/", env!("CARGO_PKG_VERSION"))));
        for (name, text) in configured {
            let value = secrets.resolve(&format!("headers.{name}"), text)?;
            let refused = || BringUpFailure::Header { name: name.clone() };
            let mut value = HeaderValue::from_str(value.expose()).map_err(|_| refused())?;
            value.set_sensitive(true);
            headers.insert(HeaderName::try_from(name).map_err(|_| refused())?, value);
        }
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let mut post = request_line(&Method::POST, &path);
        headers.iter().for_each(|(name, value)| push_header(&mut post, name, value));
        let origin = Origin { path: path.clone(), _given: secrets.given() };
        Ok(Self { place: Arc::new(Place { tls, host, port }), path, post: post.into(), origin: Arc::new(origin) })
    }

    /// The same target with the headers of a session.
    pub(super) fn with_session(self, session: Option<&HeaderValue>, version: mcp::ProtocolVersion) -> Self {
        self.with(&VERSION, &HeaderValue::from_static(version.as_str())).in_session(session)
    }

    /// Before a version was agreed on.
    pub(super) fn in_session(self, session: Option<&HeaderValue>) -> Self {
        match session {
            Some(session) => self.with(&SESSION, session),
            None => self,
        }
    }

    fn with(mut self, name: &HeaderName, value: &HeaderValue) -> Self {
        let mut post = self.head(&Method::POST, &self.path, &[name]);
        push_header(&mut post, name, value);
        self.post = post.into();
        self
    }

    /// The lines of the headers, each with its end.
    fn headers(&self) -> impl Iterator<Item = &[u8]> {
        self.post.split_inclusive(|byte| *byte == b'\n').skip(1)
    }

    /// The head of another request, without some of the headers.
    fn head(&self, method: &Method, path: &PathAndQuery, without: &[&HeaderName]) -> Vec<u8> {
        let mut head = request_line(method, path);
        let kept = self.headers().filter(|line| !without.iter().any(|name| value_in(line, name).is_some()));
        kept.for_each(|line| head.extend_from_slice(line));
        head
    }

    /// Where `location`, the answer to a request to this target, leads: another path of the same server, or nowhere.
    pub(super) fn moved_to(&self, location: &str) -> Option<Self> {
        let scheme = if self.place.tls { "https" } else { "http" };
        let host = std::str::from_utf8(self.headers().find_map(|line| value_in(line, &HOST))?).ok()?;
        let here = url::Url::parse(&format!("{scheme}://{host}{}", self.path)).ok()?;
        let there = here.join(location).ok().filter(|there| there.origin() == here.origin())?;
        let path = PathAndQuery::try_from(&there[url::Position::BeforePath..url::Position::AfterQuery]).ok()?;
        let moved = path != self.path;
        moved.then(|| Self { post: self.head(&Method::POST, &path, &[]).into(), path, ..self.clone() })
    }

    pub(super) fn differs_from(&self, other: &Self) -> bool {
        !self.headers().eq(other.headers()) || self.origin.path != other.origin.path || self.place != other.place
    }

    pub(super) fn post(&self, body: Bytes) -> Request<'_> {
        Request { head: Cow::Borrowed(&self.post), body }
    }

    /// A GET or DELETE, which have no body and accept only an event stream.
    pub(super) fn bare(&self, method: &Method) -> Request<'static> {
        self.without_body(method, HeaderValue::from_static("text/event-stream"))
    }

    /// A GET of something that is no MCP.
    pub(super) fn plain_get(&self) -> Request<'static> {
        self.without_body(&Method::GET, HeaderValue::from_static("*/*"))
    }

    fn without_body(&self, method: &Method, accepted: HeaderValue) -> Request<'static> {
        let mut head = self.head(method, &self.path, &[&CONTENT_TYPE, &ACCEPT]);
        push_header(&mut head, &ACCEPT, &accepted);
        Request { head: Cow::Owned(head), body: Bytes::new() }
    }
}

fn request_line(method: &Method, path: &PathAndQuery) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\n").into_bytes()
}

/// The value in the line of a header, as [`push_header`] writes it, if it is that header.
fn value_in<'a>(line: &'a [u8], name: &HeaderName) -> Option<&'a [u8]> {
    line.strip_prefix(name.as_str().as_bytes())?.strip_prefix(b": ")?.strip_suffix(b"\r\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_redirect_leads_to_another_path_of_the_same_server_only() {
        let url = "http://example.org:81/mcp?x=1".to_owned();
        let transport = Transport::Http { url, headers: BTreeMap::new() };
        let target = Target::resolve(&transport, &Secrets::default()).unwrap();
        let path = |location| target.moved_to(location).map(|moved| moved.path.as_str().to_owned());
        assert_eq!(path("/mcp/").as_deref(), Some("/mcp/"));
        assert_eq!(path("mcp/?x=1#y").as_deref(), Some("/mcp/?x=1"));
        assert_eq!(path("http://example.org:81/v2/mcp").as_deref(), Some("/v2/mcp"));
        assert_eq!(path("//example.org:81").as_deref(), Some("/"));
        for elsewhere in ["http://example.org/mcp/", "https://example.org:81/mcp/", "//evil:81/", "/mcp?x=1", "ftp://a"]
        {
            assert_eq!(path(elsewhere), None, "{elsewhere}");
        }
        let health = target.moved_to("/health?deep=1").unwrap().plain_get();
        assert!(health.head.starts_with(b"GET /health?deep=1 HTTP/1.1\r\n"));
        let moved = target.moved_to("/mcp/").unwrap();
        assert!(moved.post.starts_with(b"POST /mcp/ HTTP/1.1\r\n"));
    }

    #[test]
    fn every_request_carries_what_is_configured_and_its_session() {
        let headers = BTreeMap::from([("User-Agent".to_owned(), "me".to_owned()), ("x-a".to_owned(), "1".to_owned())]);
        let transport = Transport::Http { url: "http://example.org/mcp".to_owned(), headers };
        let target = || Target::resolve(&transport, &Secrets::default()).unwrap();
        let session = HeaderValue::from_static("s");
        let version = mcp::ProtocolVersion::LATEST;
        let begun = target().with_session(Some(&session), version);
        let text = |head: &[u8]| String::from_utf8(head.to_vec()).unwrap().replace("\r\n", "\n");
        let common = "host: example.org\n";
        let (post, bare) = (text(&begun.post(Bytes::new()).head), text(&begun.bare(&Method::DELETE).head));
        for (head, first) in [(&post, "POST /mcp HTTP/1.1\n"), (&bare, "DELETE /mcp HTTP/1.1\n")] {
            assert!(head.starts_with(first) && head.contains(common), "{head}");
            let own = [("user-agent: me\n", 1), ("x-a: 1\n", 1), ("mcp-session-id: s\n", 1), ("\naccept: ", 1)];
            for (line, times) in own {
                assert_eq!(head.matches(line).count(), times, "{line} in {head}");
            }
        }
        assert!(post.contains("content-type: application/json\n") && !bare.contains("content-type"), "{post}{bare}");
        assert!(bare.contains("\naccept: text/event-stream\n"), "{bare}");
        assert!(!begun.differs_from(&target().with_session(Some(&session), version)));
        assert!(begun.differs_from(&target().with_session(None, version)));
    }
}
