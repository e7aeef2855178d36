//! The telemetry of a process: log lines on stderr, metrics for Prometheus, and the trace context that joins them.
//!
//! Standard output is for the result that the user asked for, so nothing here writes to it.

pub mod describe;
pub mod exemplars;
pub mod log;
pub mod metrics_text;
pub(crate) mod openmetrics;
pub mod otlp;
mod otlp_settings;
pub(crate) mod process;
pub mod sampled;
pub mod sampler;
pub mod sparing;
pub mod trace;
pub mod trace_context;

pub use describe::{Label, Metric, describe};
pub use exemplars::exemplar;
pub use metrics_text::Metrics;
pub use opentelemetry::KeyValue;
pub use otlp::{Traces, TracesError};
pub use otlp_settings::SettingError;
pub use sparing::Sparing;
pub use trace::{Kind, Span, Tracer};
pub use trace_context::TraceContext;

/// The host's name, for services that are named after it.
pub fn host() -> String {
    nix::unistd::gethostname().map_or_else(|_| "unknown".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Starts logging and metrics. Once per process; later calls change nothing and return the same metrics, so that four
/// services in one process, or many tests, may each call it.
///
/// Format and level come from the environment, see [`log`], which also reports wrong values.
pub fn init(service: &'static str, version: &'static str) -> Metrics {
    drop(log::init());
    let metrics = Metrics::install();
    describe(METRICS);
    sampled::sampled(|| {
        metrics::gauge!("only1mcp_tasks").set(sampled::count(crate::tasks::live()));
        Some(())
    });
    metrics::gauge!("only1mcp_build_info", "service" => service, "version" => version).set(1.0);
    metrics
}

/// Metrics that the operating system has of a process.
pub const PROCESS_METRICS: &[Metric] = process::METRICS;

/// The other metrics of every process.
pub const METRICS: &[Metric] = &[
    Metric::gauge("only1mcp_build_info", &[Label("service", &[]), Label("version", &[])], "Always 1."),
    Metric::gauge("only1mcp_ready", &[], "Whether the process is ready: 1 or 0."),
    Metric::gauge("only1mcp_gate_open", &[Label("gate", &[])], "What being ready depends on: 1 for what is there."),
    Metric::gauge(
        "only1mcp_limit_used",
        &[Label("limit", &[])],
        "How much of a queue or another limit is in use; of several of one name, the fullest.",
    ),
    Metric::gauge("only1mcp_limit_max", &[Label("limit", &[])], "How much of that limit there is."),
    Metric::counter(
        "only1mcp_connections_displaced_total",
        &[Label("limit", &["grpc_connections", "ops_connections"])],
        "Connections that were closed for a newer one, because all places of their listener were taken.",
    ),
    Metric::histogram(
        "only1mcp_runtime_lag_seconds",
        &[],
        "How late a task that does nothing else wakes up; long when threads are busy or blocked.",
    ),
    Metric::gauge("only1mcp_tasks", &[], "Tasks that run, those of single calls and of connections to clients aside."),
    Metric::gauge("only1mcp_stream_attached", &[Label("stream", &[])], "Whether the stream to that service is up."),
    Metric::counter("only1mcp_stream_ends_total", &[Label("stream", &[])], "How often it ended or could not begin."),
    Metric::counter(
        "only1mcp_log_lines_left_out_total",
        &[Label("line", &["caller_refused", "cannot_accept", "core_behind", "server_said"])],
        "Log lines that were not written, since a peer had caused many of the kind in a short time.",
    ),
    Metric::counter(
        "only1mcp_spans_total",
        &[Label("result", &["exported", "failed", "dropped"])],
        "Finished spans of traces; dropped ones found the queue full, failed ones the collector away.",
    ),
];
