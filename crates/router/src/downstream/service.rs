//! The door: which HTTP requests are MCP at all, and whose session they belong to.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

use http::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderName, ORIGIN};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use mcp::http_rules::{self, HttpFault};
use mcp::{ErrorCode, ProtocolVersion};
use model::Revision;

use super::body::Body;
use super::core::Core;
use super::{answer, get, post};
use crate::session::{Known, Sealed};

const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// A session a request belongs to.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) sealed: Sealed,
    pub(super) known: Arc<Known>,
}

pub(super) async fn serve(core: Rc<Core>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let revision = core.shared.live.load().revision;
    if request.uri().path() != core.shared.path {
        let text = format!("MCP is served at {}", core.shared.path);
        return Ok(answer::error(revision, StatusCode::NOT_FOUND, None, ErrorCode::INVALID_REQUEST, &text));
    }
    let headers = request.headers();
    if let Err(fault) = core.shared.access.check(text(headers, &HOST), text(headers, &ORIGIN)) {
        return Ok(refused(revision, &fault));
    }
    Ok(match *request.method() {
        Method::POST => post::post(core, request).await,
        Method::GET => with_session(&core, headers, revision).map_or_else(
            |no| *no,
            |session| match http_rules::check_get_accept(text(headers, &ACCEPT)) {
                Ok(()) => get::listen(&core, session),
                Err(fault) => refused(revision, &fault),
            },
        ),
        Method::DELETE => {
            with_session(&core, headers, revision).map_or_else(|no| *no, |session| end(&core, &session, revision))
        }
        _ => answer::method_not_allowed(revision),
    })
}

/// What must hold of a POST before its body is read.
pub(super) fn check_post(headers: &HeaderMap) -> Result<(), HttpFault> {
    http_rules::check_content_type(text(headers, &CONTENT_TYPE))?;
    http_rules::check_post_accept(text(headers, &ACCEPT))
}

pub(super) fn refused(revision: Revision, fault: &HttpFault) -> Response<Body> {
    let status = StatusCode::from_u16(fault.status()).unwrap_or(StatusCode::BAD_REQUEST);
    answer::error(revision, status, None, ErrorCode::INVALID_REQUEST, &fault.to_string())
}

/// The session that the headers name, or the answer that says why there is none: 400 without one, 404 for one that
/// is not ours or has ended (the client then begins a new one), 400 for a protocol version we do not serve.
pub(super) fn with_session(
    core: &Rc<Core>,
    headers: &HeaderMap,
    revision: Revision,
) -> Result<Session, Box<Response<Body>>> {
    let no = |status, text: &str| Box::new(answer::error(revision, status, None, ErrorCode::INVALID_REQUEST, text));
    let Some(id) = text(headers, &answer::SESSION) else {
        return Err(no(StatusCode::BAD_REQUEST, "Mcp-Session-Id is missing: begin with initialize"));
    };
    let idle = core.shared.live.load().policy.limits.session_idle;
    let session = core.shared.keys.open(id).and_then(|sealed| {
        let known = core.shared.sessions.touch(&sealed, core.today(), idle)?;
        Some(Session { sealed, known })
    });
    let Some(session) = session else {
        return Err(no(StatusCode::NOT_FOUND, "session not found: begin a new one with initialize"));
    };
    match ProtocolVersion::of_message(text(headers, &PROTOCOL_VERSION), session.sealed.version) {
        Ok(_) => Ok(session),
        Err(unsupported) => Err(no(StatusCode::BAD_REQUEST, &unsupported.to_string())),
    }
}

fn end(core: &Rc<Core>, session: &Session, revision: Revision) -> Response<Body> {
    match core.shared.sessions.end(session.sealed.id, core.today()) {
        Ok(()) => answer::no_content(revision),
        Err(error) => {
            tracing::error!(%error, "the end of a session cannot be written down");
            let text = "the end of the session cannot be written down; try again";
            answer::error(revision, StatusCode::INTERNAL_SERVER_ERROR, None, ErrorCode::INTERNAL_ERROR, text)
        }
    }
}

/// None as well for a value that is not text: no rule takes one.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
