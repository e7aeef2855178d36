//! The lists of what all servers offer. The gateway answers them itself.

use std::pin::pin;
use std::rc::Rc;

use http::{Response, StatusCode};
use mcp::ErrorCode;
use runtime::Span;

use super::answer::body::Body;
use super::call::{Asked, Caller};
use super::fields::Fields;
use super::{answer, share, traced};
use crate::budget::{SMALL, Whole};
use crate::call::life;
use crate::call::piece;
use crate::core::Core;
use crate::core::in_flight::EndedBy;
use crate::session::Session;

pub(super) async fn list(
    core: &Rc<Core>,
    caller: Caller<'_>,
    asked: Asked<'_>,
    body: &Whole,
    fields: &Fields<'_>,
) -> Response<Body> {
    let Asked { kind, id, call } = asked;
    let mut span = traced::local(core, call, id, kind.list(), fields, Some(caller.session));
    let is_unknown = core.shared.live.load().no_list(kind).is_some();
    if is_unknown && let Some(no) = Box::pin(first_list(core, caller, asked, body, &mut span)).await {
        return no;
    }
    page(core, caller.session, asked, span)
}

/// No server has answered yet: the request waits for servers that are starting, as calls do. A waiting request is in
/// flight, so that it ends with its client. Returns an answer if the request may not wait, or was cancelled or
/// abandoned.
async fn first_list(
    core: &Core,
    Caller { session, client, since, limits }: Caller<'_>,
    Asked { kind, id, .. }: Asked<'_>,
    body: &Whole,
    span: &mut Option<Span>,
) -> Option<Response<Body>> {
    let revision = core.shared.live.load().revision;
    let ticket = core.in_flight.enter(session.sealed.id, piece(&body.bytes, id.span().range()), limits, since);
    client.waits_for(ticket.slot(), &core.in_flight);
    ticket.waits();
    let _share = match share::wait(core, session, body, None) {
        Ok(share) => share,
        Err(text) => {
            if let Some(span) = span {
                traced::refuse(span, ErrorCode::UNAVAILABLE, &text);
            }
            return Some(answer::again(revision, Some(id.text()), ErrorCode::UNAVAILABLE, &text));
        }
    };
    let listed = async {
        tokio::select! {
            () = core.shared.live.listed(kind) => {}
            () = core.draining.cancelled() => {}
        }
    };
    // No server owes this request a sign of life.
    match ticket.run(pin!(life::deaf(listed))).await {
        Err(EndedBy::Cancelled | EndedBy::Abandoned) => Some(answer::silence(revision)),
        // The list as it is now is all that can be answered.
        Ok(()) | Err(_) => None,
    }
}

pub(super) fn page(
    core: &Core,
    session: &Session,
    Asked { kind, id, call }: Asked<'_>,
    mut span: Option<Span>,
) -> Response<Body> {
    let generation = core.shared.live.load();
    let revision = generation.revision;
    let catalog = &generation.catalogs[kind];
    if let Some(text) = generation.no_list(kind) {
        if let Some(span) = &mut span {
            traced::refuse(span, ErrorCode::UNAVAILABLE, &text);
        }
        return answer::error(revision, StatusCode::OK, Some(id.text()), ErrorCode::UNAVAILABLE, &text);
    }
    let cursor = call.params.as_ref().and_then(mcp::Params::cursor);
    // If a list changes while a client pages through it, its first page is old, however new its last page is.
    let seen = || cursor.is_none().then(|| session.known.saw_list(kind, generation.list_turns[kind]));
    match catalog.page(cursor.as_ref().map(mcp::Text::value)) {
        Ok(page) if page.length(id.text()) > SMALL => {
            let (bytes, limit) = (page.length(id.text()), core.buffered_bytes());
            let Some(charge) = core.shared.budget.try_charge(bytes, limit) else {
                let text = format!(
                    "there is no room for a list of {bytes} bytes: the gateway holds no more than {limit} bytes for \
                     clients (limits.buffered_bytes); try again"
                );
                return answer::error(revision, StatusCode::OK, Some(id.text()), ErrorCode::UNAVAILABLE, &text);
            };
            seen();
            answer::large(revision, page.response(id.text()).into(), charge)
        }
        Ok(page) => {
            seen();
            answer::ok(revision, page.response(id.text()))
        }
        Err(error) => {
            let (code, text) = (ErrorCode::INVALID_PARAMS, error.to_string());
            if let Some(span) = &mut span {
                traced::refuse(span, code, &text);
            }
            answer::error(revision, StatusCode::OK, Some(id.text()), code, &text)
        }
    }
}
