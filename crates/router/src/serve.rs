//! The threads that serve clients: their sockets, and the connections on them.
//!
//! One data core is one thread with a runtime of its own. It accepts from a listening socket of its own on the shared
//! port, or from clones of inherited ones, and passes a connection on to another core if that core has fewer.

mod connection;
mod cores;
mod detach;

pub use cores::ListenError;
pub(crate) use cores::{Cores, Listening};
