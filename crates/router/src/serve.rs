//! The threads that serve clients: their sockets, and the connections on them.
//!
//! One data core is one thread with a runtime of its own and a listening socket of its own on the shared port; a
//! connection stays on the core that accepted it.

mod connection;
mod cores;
mod detach;

pub use cores::ListenError;
pub(crate) use cores::{Cores, Listening};
