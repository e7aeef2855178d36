//! Sessions with clients: an id that carries what `initialize` fixed, sealed so that only we can make one, and the
//! little that is remembered about each.
//!
//! Because the id carries its own content, a session outlives the process that opened it and is served by every
//! router that has the key. What is remembered here (last use, which stream gets notifications) may be lost without
//! harm; that a session was ended by its client may not, and is written down.

mod seal;
mod table;

pub use seal::KeyError;
pub(crate) use seal::{Keys, Sealed};
pub(crate) use table::{Known, Sessions};

/// The random part of a session id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SessionId([u8; 12]);

impl SessionId {
    #[cfg(test)]
    pub(crate) fn from_bytes(bytes: [u8; 12]) -> Self {
        Self(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 12] {
        &self.0
    }
}

#[cfg(test)]
mod tests;
