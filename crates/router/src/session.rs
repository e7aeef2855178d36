//! Sessions with clients: an id that carries what `initialize` fixed, sealed so that only a router with the key can
//! make one, and the little that is remembered about each session.
//!
//! Because the id carries its own content, a session outlives the process that opened it and is served by every router
//! that has the key. A session lives until it was not used for `limits.session_idle`, or until its client ends it:
//!
//! - [`life`] decides, over times alone. A known session lives by its last use, any other by its seal.
//! - [`table`] is what this process knows, read and written by all cores at once. It has a bound: the idlest are
//!   forgotten first, and live on by their seals.
//! - [`ends`] are never forgotten while a seal holds, so that other sessions can neither end a session nor bring it
//!   back.
//! - [`journal`] keeps over restarts which sessions were used, coarsely, and which were ended: lines of [`record`] in
//!   one file. Only the thread of [`scribe`] writes it, so that no core that serves calls waits for a disk.
//!
//! Which stream gets notifications, and which list a client saw, may be lost without harm.

mod ends;
mod homes;
mod journal;
mod known;
mod life;
mod own_time;
mod record;
mod scribe;
mod seal;
mod table;

use std::sync::Arc;

pub(crate) use ends::EndError;
pub(crate) use homes::Homes;
pub(crate) use known::{Known, Listener};
pub(crate) use life::Bounds;
pub(crate) use scribe::Thread;
pub use seal::KeyError;
pub(crate) use seal::{Keys, Sealed};
pub(crate) use table::Sessions;

/// The part of a session id that is unique to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SessionId([u8; 12]);

impl SessionId {
    pub(crate) fn from_bytes(bytes: [u8; 12]) -> Self {
        Self(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 12] {
        &self.0
    }
}

/// The session that a request belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) sealed: Arc<Sealed>,
    pub(crate) known: Arc<Known>,
}

#[cfg(test)]
mod tests;
