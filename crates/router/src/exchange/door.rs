//! The door: which HTTP requests are MCP at all, and whose session they belong to.

use std::rc::Rc;

use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use mcp::http_rules::{self, HttpFault};
use mcp::{ErrorCode, ProtocolVersion};
use model::{Revision, Time};

use super::answer::body::Body;
use super::answer::{self, cors};
use super::fields::{Field, Fields};
use crate::core::Core;
use crate::core::clients::Client;
use crate::session::Session;

/// Checks that the request is for the MCP endpoint, and that its host and origin are allowed. Returns the origin, if a
/// browser sent one. A browser's preflight request is answered here.
pub(super) fn let_in(
    core: &Core,
    client: &Client,
    head: &Parts,
    fields: &Fields<'_>,
    revision: Revision,
) -> Result<Option<Box<HeaderValue>>, Box<Response<Body>>> {
    let (path, ours) = (head.uri.path(), core.shared.path.as_str());
    if path != ours && path.strip_suffix('/') != Some(ours) {
        let text = format!("MCP is served at {ours}");
        let status = StatusCode::NOT_FOUND;
        return Err(Box::new(answer::error(revision, status, None, ErrorCode::INVALID_REQUEST, &text)));
    }
    let origin = let_in_from(core, client, fields).map_err(|fault| Box::new(refused(revision, &fault)))?;
    match head.method {
        Method::POST | Method::GET | Method::DELETE => Ok(origin.map(|origin| Box::new(origin.clone()))),
        Method::OPTIONS => Err(Box::new(cors::permission(revision, &head.headers, origin))),
        _ => Err(Box::new(answer::method_not_allowed(revision))),
    }
}

/// Checks host and origin, and returns the origin if there is one.
fn let_in_from<'a>(core: &Core, client: &Client, fields: &Fields<'a>) -> Result<Option<&'a HeaderValue>, HttpFault> {
    // Nearly every request of a connection names the same host, and comes from no browser.
    if let (Field::Once(host), Field::Absent) = (fields.host, fields.origin)
        && client.remembered.has_host(host)
    {
        return Ok(None);
    }
    let unreadable = |fault: HttpFault| HttpFault::Origin { origin: fault.to_string() };
    let origin = fields.origin.text("origin").map_err(unreadable)?;
    core.shared.access.check(fields.host.text("host")?, origin)?;
    if let Field::Once(host) = fields.host {
        client.remembered.host(host);
    }
    Ok(if let Field::Once(origin) = fields.origin { Some(origin) } else { None })
}

/// Checks the headers of a POST before its body is read.
pub(crate) fn check_post(fields: &Fields<'_>) -> Result<(), HttpFault> {
    if !fields.content_type.is(http_rules::JSON) {
        http_rules::check_content_type(fields.content_type.text("content-type")?)?;
    }
    http_rules::check_post_accept(fields.accept())
}

pub(crate) fn refused(revision: Revision, fault: &HttpFault) -> Response<Body> {
    let status = StatusCode::from_u16(fault.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let way_out = match fault {
        HttpFault::Host { .. } => {
            "; if clients reach the gateway by this name, start it with --allow-host NAME (ONLY1MCP_ALLOW_HOST)"
        }
        HttpFault::Origin { .. } => {
            "; if pages of this origin may use the gateway, start it with --allow-origin ORIGIN (ONLY1MCP_ALLOW_ORIGIN)"
        }
        HttpFault::NoHost | HttpFault::NotAcceptable { .. } | HttpFault::ContentType | HttpFault::Ambiguous { .. } => {
            ""
        }
    };
    answer::error(revision, status, None, ErrorCode::INVALID_REQUEST, &format!("{fault}{way_out}"))
}

/// The session that the headers name, or the answer that refuses the request: 400 without a session id, 404 for an id
/// that no key of ours sealed or whose session has ended (the client then begins a new one), 400 for a protocol version
/// we do not serve. `id` (raw) is that of the request, if the message is one.
pub(crate) fn with_session(
    core: &Rc<Core>,
    client: &Client,
    fields: &Fields<'_>,
    (revision, now): (Revision, Time),
    id: Option<&str>,
) -> Result<Session, Box<Response<Body>>> {
    let no = |status, text: &str| Box::new(answer::error(revision, status, id, ErrorCode::INVALID_REQUEST, text));
    let bad = |fault: HttpFault| no(StatusCode::BAD_REQUEST, &fault.to_string());
    let sealed = match fields.session.once().and_then(|id| client.remembered.session(id)) {
        Some(sealed) => Some(sealed),
        None => match fields.session.text(answer::SESSION.as_str()).map_err(bad)? {
            Some(id) => client.remembered.opened(id, &core.shared.keys),
            None => return Err(no(StatusCode::BAD_REQUEST, "Mcp-Session-Id is missing: begin with initialize")),
        },
    };
    let session = sealed.and_then(|sealed| {
        let sessions = &core.shared.sessions;
        let known = sessions.touch(&sealed, sessions.at(now), || core.shared.bounds())?;
        Some(Session { sealed, known })
    });
    let Some(session) = session else {
        return Err(no(StatusCode::NOT_FOUND, "session not found: begin a new one with initialize"));
    };
    if fields.protocol_version.is(session.sealed.version.as_str()) {
        return Ok(session);
    }
    let version = fields.protocol_version.text("mcp-protocol-version").map_err(bad)?;
    match ProtocolVersion::of_message(version, session.sealed.version) {
        Ok(_) => Ok(session),
        Err(unsupported) => Err(no(StatusCode::BAD_REQUEST, &unsupported.to_string())),
    }
}
