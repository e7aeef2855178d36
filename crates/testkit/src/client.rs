//! An MCP client over Streamable HTTP that checks what it gets, and shares no code with the gateway.
//!
//! [`Connection`] is one keep-alive HTTP/1.1 connection with one MCP session. [`Client`] is the same for blocking code.

mod blocking;
mod connection;
mod events;

pub use blocking::{Client, http_get};
pub use connection::{CallError, Connection, Reply};
