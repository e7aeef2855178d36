//! How a process is seen: log lines on stderr, metrics for Prometheus, and the trace context that ties them together.
//!
//! Standard output belongs to what the user asked for, so nothing here writes there.

pub mod exemplars;
pub mod log;
pub mod metrics_text;
pub(crate) mod openmetrics;
pub mod otlp;
mod otlp_settings;
pub mod sampler;
pub mod trace;
pub mod trace_context;

pub use exemplars::exemplar;
pub use metrics_text::Metrics;
pub use opentelemetry::KeyValue;
pub use otlp::{Traces, TracesError};
pub use otlp_settings::SettingError;
pub use trace::{Kind, Span, Tracer};
pub use trace_context::TraceContext;

/// The host's name, for whoever is named after it.
#[must_use]
pub fn host() -> String {
    nix::unistd::gethostname().map_or_else(|_| "unknown".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Starts logging and metrics. Once per process; later calls change nothing and return the same metrics, so that four
/// services in one process, or many tests, may each call it.
///
/// Format and level come from the environment, see [`log`], which is where it is said what is wrong with them.
pub fn init(service: &'static str, version: &'static str) -> Metrics {
    drop(log::init());
    let metrics = Metrics::install();
    metrics::gauge!("only1mcp_build_info", "service" => service, "version" => version).set(1.0);
    metrics
}
