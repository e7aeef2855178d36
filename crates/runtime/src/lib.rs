//! How any process of ours starts, becomes ready, is seen, and stops.
//!
//! This crate knows no word of the product: no backend, no revision, no router. It is the only place that spawns
//! tasks, reads clocks, installs telemetry, opens admin listeners and takes locks on directories, so that every process
//! does those things alike.
//!
//! The life of a process, in its `main`:
//!
//! ```no_run
//! # async fn life() -> Result<(), Box<dyn std::error::Error>> {
//! # use std::time::Duration; use runtime::*; use runtime::{ops::OpsListener, shutdown::signals};
//! let signals = signals()?; // before anything that could be interrupted halfway
//! let shutdown = Shutdown::new();
//! let tasks = Tasks::new(shutdown.clone());
//! let readiness = Readiness::new(shutdown.clone());
//! let metrics = telemetry::init("router", env!("CARGO_PKG_VERSION"));
//! tasks.spawn("signals", shutdown.clone().follow(signals));
//! OpsListener::bind("127.0.0.1:0".parse()?).await?.serve(readiness.clone(), metrics, &tasks);
//! // Components: tasks.spawn_component("grpc", grpc::serve(…)), each with gates of `readiness`.
//! tokio::select! {
//!     () = readiness.ready() => shutdown.advance(Phase::Ready),
//!     () = shutdown.triggered() => {} // stopped before it was ever ready
//! }
//! shutdown.triggered().await;
//! let in_flight = async { /* ends when no work is left */ };
//! let ended = shutdown.wind_down(Duration::ZERO, Duration::from_secs(30), in_flight).await;
//! let joined = tasks.join(Duration::from_secs(5)).await;
//! # let _ = (ended, joined); Ok(()) }
//! ```

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
pub use telemetry::{Kind, Metrics, Span, TraceContext, Tracer};
pub use token::AdminToken;
