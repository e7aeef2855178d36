//! Toward clients: Streamable HTTP of the revisions with sessions (2025-06-18, 2025-11-25).
//!
//! One data core is one thread with a runtime of its own and a listening socket of its own on the shared port; a
//! connection stays on the core that accepted it. What cores share is read through one pointer ([`Live`]) or is a
//! concurrent table ([`Sessions`]).

mod answer;
mod body;
mod clients;
mod connection;
mod core;
mod cores;
mod cors;
mod detach;
mod exchange;
mod fields;
mod get;
mod initialize;
mod list;
mod meter;
mod outbox;
mod post;
mod service;
mod share;
mod streamed;
mod tools_call;
mod traced;
mod unread;

pub use cores::ListenError;
pub(crate) use cores::{Cores, Everywhere, Listening};

use std::sync::Arc;

use mcp::http_rules::AccessRules;

use crate::budget::Budget;
use crate::generation::Live;
use crate::session::{Bounds, Keys, Sessions};

/// What all cores share, fixed at start.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) live: Arc<Live>,
    pub(crate) keys: Keys,
    pub(crate) sessions: Sessions,
    pub(crate) access: AccessRules,
    /// Where MCP is served.
    pub(crate) path: String,
    pub(crate) clock: runtime::Clock,
    pub(crate) tracer: runtime::Tracer,
    /// The memory held for clients.
    pub(crate) budget: Budget,
    /// How many client connections the process has descriptors for.
    pub(crate) descriptors: usize,
}

impl Shared {
    /// What the live revision says about sessions.
    fn bounds(&self) -> Bounds {
        Bounds::from(&self.live.load().policy.limits)
    }
}

#[cfg(test)]
mod tests;
