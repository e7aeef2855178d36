//! The acceptance lines of running anywhere and seeing everything: containers, traces, metrics, the gRPC surface,
//! schema.

pub mod containers;
pub mod metrics;
pub mod schema;
pub mod surface;
pub mod telemetry_cost;
pub mod traces;

use crate::Line;

/// In the order in which they are numbered.
pub const LINES: &[Line] = &[
    Line { number: 1, title: "containers, killed and replaced", run: containers::run },
    Line { number: 2, title: "a reload is one trace over all services, and a call joins two", run: traces::run },
    Line { number: 3, title: "the cost of traces, in instructions per call", run: telemetry_cost::run },
    Line { number: 4, title: "metrics, rules and dashboards against a real Prometheus", run: metrics::run },
    Line { number: 5, title: "a client that knows nothing calls everything and hears every error", run: surface::run },
    Line { number: 6, title: "the schema and the reader judge alike", run: schema::run },
];
