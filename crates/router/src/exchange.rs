//! One exchange of any method: from its request to the last byte of its answer.
//!
//! The [`door`] lets a request in. A [`post`] is a message, and goes on by the method that it names.

mod answer;
mod call;
mod conclusion;
mod door;
mod fault;
mod fields;
mod initialize;
mod list;
mod post;
mod share;
mod streamed;
mod taking;
mod traced;
mod upload;

use std::convert::Infallible;
use std::rc::Rc;

use http::header::RETRY_AFTER;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use mcp::{ErrorCode, http_rules};
use model::Revision;

use crate::call::TimeLimits;
use crate::core::Core;
use crate::core::clients::Client;
use crate::generation::Generation;
use crate::session::{EndError, Session};
use answer::notifications::NotificationStream;
use answer::{cors, unread};
use fields::Fields;
use upload::BodyLimits;

pub(crate) use answer::body::Body;
pub(crate) use call::UNROUTED;
pub(crate) use taking::WakeFilter;

/// What the revision that is live when a request comes says of it. The request may be routed by a later revision.
pub(super) struct Terms {
    revision: Revision,
    body: BodyLimits,
    /// Until the request is routed.
    time: TimeLimits,
}

impl Terms {
    fn of(generation: &Generation) -> Self {
        let limits = &generation.snapshot.policy.limits;
        Self { revision: generation.revision, body: limits.into(), time: limits.into() }
    }
}

pub(crate) async fn serve(
    core: Rc<Core>,
    request: Request<Incoming>,
    client: &Client,
) -> Result<Response<Body>, Infallible> {
    let terms = Terms::of(&core.shared.live.load());
    let revision = terms.revision;
    let (head, body) = request.into_parts();
    let fields = Fields::of(&head.headers);
    let origin = match door::let_in(&core, client, &head, &fields, revision) {
        Ok(origin) => origin,
        Err(refusal) => return Ok(Box::pin(unread::answer(&head.headers, body, *refusal)).await),
    };
    let mut response = match head.method {
        Method::POST => post::post(core, &fields, body, client, &terms).await,
        Method::GET => door::with_session(&core, client, &fields, (revision, core.now()), None).map_or_else(
            |no| *no,
            |session| match http_rules::check_get_accept(fields.accept()) {
                Ok(()) => listen(&core, session),
                Err(fault) => door::refused(revision, &fault),
            },
        ),
        _ => match door::with_session(&core, client, &fields, (revision, core.now()), None) {
            Ok(session) => end(&core, &session, revision).await,
            Err(no) => *no,
        },
    };
    if let Some(origin) = origin {
        cors::readable(&mut response, *origin);
    }
    answer::spare(head.headers);
    Ok(response)
}

/// Opens the stream of notifications to the client of a session.
fn listen(core: &Core, session: Session) -> Response<Body> {
    let revision = core.shared.live.load().revision;
    answer::events(revision, Body::Notifications(Box::new(NotificationStream::open(core, session))))
}

async fn end(core: &Rc<Core>, session: &Session, revision: Revision) -> Response<Body> {
    let sessions = &core.shared.sessions;
    match sessions.end(&session.sealed, sessions.now(), core.shared.bounds()).await {
        Ok(()) => answer::no_content(revision),
        Err(error @ EndError::Crowded) => {
            let text =
                format!("{error}: the session lives until it was not used for limits.session_idle; try again later");
            let mut response = answer::again(revision, None, ErrorCode::INTERNAL_ERROR, &text);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("60"));
            response
        }
        Err(EndError::Write(error)) => {
            tracing::error!(%error, "the end of a session cannot be written down");
            let text = "the end of the session cannot be written down; try again";
            answer::error(revision, StatusCode::INTERNAL_SERVER_ERROR, None, ErrorCode::INTERNAL_ERROR, text)
        }
    }
}

#[cfg(test)]
mod tests;
