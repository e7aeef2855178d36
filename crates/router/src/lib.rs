//! The data plane: carries MCP between clients and servers, and swaps what it carries it by without either noticing.
//!
//! Three circles, from the outside in. The data cores (`downstream`) serve clients and only read; the generation is the
//! one immutable value they read; the fleet, on the control thread, owns endpoints and publishes generations as
//! config-manager decides. Only this crate touches servers: their secrets, processes and sockets.

mod beside;
mod budget;
pub mod call;
pub mod control;
mod downstream;
pub mod endpoint;
pub mod generation;
mod in_flight;
mod inspect;
pub mod keeper;
mod metrics;
mod run;
pub mod secrets;
mod session;
pub mod settings;
#[cfg(test)]
mod test_server;
mod upstream;

pub use downstream::ListenError;
pub use inspect::Inspector;
pub use metrics::METRICS;
pub use run::{Router, Scope, StartError};
pub use session::KeyError;
