//! gRPC between our processes and toward operators: where to listen, where to dial, and which callers are allowed.
//!
//! One server serves any number of listeners; the kind of a connection decides what proves the caller's identity.
//! Inside one process the same services are reached over an in-memory pipe, so that there is no second code path.

mod bounds;
mod calls;
mod credential;
pub mod dial;
pub mod duplex;
mod health;
pub mod listen;
pub mod refusal;
mod serve;
mod socket;

pub use bounds::Deadline;
pub use credential::{Actor, Auth};
pub use dial::{Bearer, Client, DialError, InsecureToken, Presented, Reach, Target, connect_lazy, in_grpc};
pub use duplex::{DuplexConnector, DuplexListener, duplex};
pub use listen::{ListenError, Listener};
pub use serve::{ServeError, Service, serve};

/// Generated clients and servers refuse messages over 4 MiB unless told otherwise: pass this to their
/// `max_decoding_message_size` and `max_encoding_message_size`. A snapshot of thousands of servers fits.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// The interval of HTTP/2 pings, also while idle. They find a peer that vanished without closing the connection.
const KEEPALIVE_EVERY: std::time::Duration = std::time::Duration::from_secs(10);
/// A ping unanswered for this long ends the connection.
const KEEPALIVE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);
/// Flow-control windows: a full snapshot should not wait for round trips.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

#[cfg(test)]
mod tests;
