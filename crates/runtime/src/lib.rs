//! How any process of ours starts, becomes ready, is seen, and stops.
//!
//! This crate knows no word of the product: no backend, no revision, no router. It is the only place that spawns
//! tasks, reads clocks, installs telemetry, opens admin listeners and takes locks on directories, so that every process
//! does those things alike.

pub mod backoff;
pub mod clock;
pub mod exit;
pub mod grpc;
pub mod ops;
pub mod readiness;
pub mod shutdown;
pub mod state_dir;
pub mod stream;
pub mod tasks;
pub mod telemetry;
pub mod token;

pub use backoff::Backoff;
pub use clock::Clock;
pub use readiness::{Gate, Readiness};
pub use shutdown::{Phase, Shutdown};
pub use tasks::Tasks;
pub use telemetry::{Metrics, TraceContext};
pub use token::AdminToken;
