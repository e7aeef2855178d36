//! A request's share of the memory for requests, for as long as it waits for a server or runs at one.

use model::BackendId;

use crate::budget::{Owner, Taken, Upload, Whole};
use crate::core::Core;
use crate::session::Session;

/// A body of no more bytes waits without a charge: each has a client that holds a place for it (`limits.connections`),
/// and clients that send little must not suffer from clients that send much.
const FREE: usize = 4 << 10;
/// The connection's buffer has grown with a body that is not large, and holds about as much again.
const WITH_BUFFER: usize = 2;

/// Keeps a large body for as long as its call waits or runs, at the cost of other large bodies. An error is a text for
/// the client.
pub(super) fn keep(core: &Core, session: &Session, body: &Whole, server: Option<&BackendId>) -> Result<(), String> {
    let limit = core.buffered_bytes();
    let kept = core.shared.budget.keep(body, owner(session, server), limit);
    kept.map_err(|taken| refusal(taken, server, limit))
}

/// As [`keep`], for any body that waits for a server to come up: many can come meanwhile. The body is charged until the
/// returned value is dropped.
pub(super) fn wait(
    core: &Core,
    session: &Session,
    body: &Whole,
    server: Option<&BackendId>,
) -> Result<Option<Upload>, String> {
    if body.is_charged() {
        return keep(core, session, body, server).map(|()| None);
    }
    if body.bytes.len() <= FREE {
        return Ok(None);
    }
    let limit = core.buffered_bytes();
    let held = core.shared.budget.hold(WITH_BUFFER * body.bytes.len(), owner(session, server), limit, core.now());
    held.map(Some).map_err(|taken| refusal(taken, server, limit))
}

fn owner(session: &Session, server: Option<&BackendId>) -> Owner {
    Owner { session: session.sealed.id, server: server.cloned() }
}

fn refusal(taken: Taken, server: Option<&BackendId>, limit: u64) -> String {
    let whose = match (taken, server) {
        (Taken::Session, _) => "the requests of this client that have not ended".to_owned(),
        (Taken::Server, Some(server)) => format!("the calls to server `{server}` that have not ended"),
        (Taken::Server, None) => "the requests that wait for servers that are starting".to_owned(),
        (Taken::All, _) => "requests".to_owned(),
    };
    format!(
        "{whose} hold as much as they may of the room for requests, which is half of {limit} bytes \
         (limits.buffered_bytes); nothing was executed: try again"
    )
}
