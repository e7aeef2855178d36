//! The data plane: carries MCP between clients and servers, and swaps what it carries it by without either noticing.
//!
//! A call goes down through three folders: `serve` has the threads and sockets of clients, `exchange` is one request
//! from its head to the end of its answer, and `upstream` speaks with servers. What they read and hold on the way is
//! state: `core` of one data core, `session` of clients, `endpoint` of one instance of a server, and `generation`, the
//! one immutable value by which calls are routed. `control` runs on a thread of its own: it owns the endpoints and
//! publishes generations; the fleet (no I/O) decides, by what config-manager says over the lines in `control/line`.
//! Only this crate touches servers: their secrets, processes and sockets.

mod beside;
mod budget;
pub mod call;
mod control;
mod core;
pub mod endpoint;
mod exchange;
mod generation;
mod run;
mod secrets;
mod serve;
mod session;
pub mod settings;
#[cfg(test)]
mod test_server;
mod upstream;

pub use run::{Inspector, METRICS, Router, Scope, StartError, Stopped, Warm};
pub use serve::ListenError;
pub use session::KeyError;
pub use upstream::forward;
pub use upstream::stdio::keeper;
