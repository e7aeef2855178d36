//! A request whose answer is awaited.

use std::sync::Arc;

use mcp::message;

use super::http1::Http1Error;
use super::{Aside, Beginning, HttpLink};
use crate::call::{CallError, Cause};
use crate::endpoint::Endpoint;
use crate::secrets::Said;
use crate::upstream::Link;
use crate::upstream::inbound::{self, Inbound, Restore};

/// One request that is out. Dropped before it is over, it is cancelled at the server.
pub(super) struct Awaited {
    pub(super) endpoint: Arc<Endpoint>,
    /// Absent for `initialize`, which may not be cancelled and has no session to lose.
    pub(super) link: Option<Arc<Link>>,
    /// Of `initialize` alone.
    pub(super) beginning: Option<Arc<Beginning>>,
    pub(super) restore: Restore,
    out: bool,
}

impl Awaited {
    pub(super) fn new(endpoint: &Arc<Endpoint>, link: Option<&Arc<Link>>, restore: Restore) -> Self {
        Self { endpoint: Arc::clone(endpoint), link: link.cloned(), beginning: None, restore, out: true }
    }

    /// The exchange has its answer, or will never have one.
    pub(super) fn over(&mut self) {
        self.out = false;
    }

    pub(super) fn server(&self) -> &str {
        self.endpoint.key.backend.as_str()
    }

    /// Replies to the server beside the exchange, in its session. Returns whether the reply is on its way.
    pub(super) fn reply(&self, message: Vec<u8>) -> bool {
        match (&self.link, &self.beginning) {
            (Some(link), _) => HttpLink::post_aside(&self.endpoint, link, Aside::Reply, message),
            (None, Some(beginning)) => beginning.reply(&self.endpoint, message),
            (None, None) => false,
        }
    }

    /// The error for `message`, which came in place of the answer.
    pub(super) fn unexpected(&self, found: &Inbound, message: &[u8]) -> CallError {
        let said = self.endpoint.echo.said(message);
        let said = if message.is_empty() { said } else { said.set_in(|text| format!("it begins: {text}")) };
        explained(self.restore.unexpected(found, self.server()), &self.endpoint, &said)
    }

    pub(super) fn too_large(&self) -> CallError {
        inbound::too_large(self.server(), self.endpoint.response_max())
    }

    pub(super) fn broken(&self, error: &Http1Error) -> CallError {
        CallError::sent(Cause::Lost, format!("the connection to server `{}` broke: {error}", self.server()))
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        if let Some(link) = self.link.as_ref().filter(|_| self.out) {
            let message = message::cancelled(&self.restore.id.to_string(), None);
            HttpLink::post_aside(&self.endpoint, link, Aside::Cancellation, message);
        }
    }
}

/// Adds what the server said, which is for operators alone.
pub(super) fn explained(error: CallError, endpoint: &Endpoint, said: &Said) -> CallError {
    if said.as_str().is_empty() { error } else { error.explained(endpoint.note_detail(said)) }
}
