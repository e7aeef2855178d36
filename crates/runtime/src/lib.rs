//! How any process of ours starts, becomes ready, is seen, and stops.
//!
//! This crate knows nothing of what the product does: no backend, no revision. Of our programs it knows the names, and
//! that routers attach streams to the others. It is the only place that reads wall time, tracks tasks, installs
//! telemetry, opens admin listeners and takes locks on directories, so that every process does those things alike.
//!
//! The life of a process, in its `main`:
//!
//! ```no_run
//! # use std::{collections::BTreeMap, error::Error, process::ExitCode, time::Duration}; use runtime::{Ending, Process, Program};
//! # #[derive(clap::Parser)] struct Flags {
//! #     #[arg(long, default_value = "127.0.0.1:0")] ops: std::net::SocketAddr,
//! #     #[command(flatten)] ops_names: runtime::ops::OpsNames,
//! # }
//! fn main() -> ExitCode {
//!     Program { name: "router", version: env!("CARGO_PKG_VERSION"), threads: 1, sockets: &["mcp"] }.run(live)
//! }
//!
//! async fn live(flags: Flags, mut process: Process) -> Result<ExitCode, Box<dyn Error>> {
//!     process.serve_ops(flags.ops, flags.ops_names).await?;
//!     // Components: process.tasks.spawn_component(…), process.serve_grpc(…), each with gates of process.readiness.
//!     process.serve_until_stopped().await;
//!     let in_flight = async { /* ends when no work is left */ };
//!     let ended = process.shutdown.wind_down(Duration::ZERO, Duration::from_secs(30), in_flight).await;
//!     Ok(process.end(Ending::of(ended, &BTreeMap::new())).await)
//! }
//! ```

pub mod clock;
pub mod descriptors;
mod ending;
pub mod escape;
pub mod exit;
pub mod fault;
pub mod grpc;
pub mod handover;
pub mod healthcheck;
pub mod held;
pub mod inherited;
pub mod leaving;
mod memory;
pub mod ops;
pub mod panics;
mod places;
pub mod priority;
pub mod process;
pub mod readiness;
pub mod service_manager;
pub mod shutdown;
pub mod socket_file;
pub mod state_dir;
pub mod stream;
pub mod tasks;
pub mod telemetry;
pub mod token;

pub use clock::Clock;
pub use ending::Ending;
pub use held::Held;
pub use process::{Process, Program, Scope};
pub use readiness::{Gate, Readiness};
pub use shutdown::{Phase, Shutdown};
pub use tasks::Tasks;
pub use telemetry::{Kind, Metrics, Span, TraceContext, Tracer, Traces};
pub use token::AdminToken;
