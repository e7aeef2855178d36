//! What becomes of the spans of one service: counted, and said to the operator.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use http::Uri;
use metrics::Counter;
use tracing::{
    Dispatch, Event, Metadata, Subscriber, dispatcher,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_subscriber::{Layer, layer::Context};

#[derive(Debug)]
pub(super) struct Outcome {
    service: &'static str,
    endpoint: Uri,
    /// The log, also while [`Rejected`] listens in its place.
    log: Dispatch,
    failing: AtomicBool,
    exported: Counter,
    failed: Counter,
}

impl Outcome {
    pub(super) fn new(service: &'static str, endpoint: Uri) -> Self {
        let spans = |result| metrics::counter!("only1mcp_spans_total", "result" => result);
        let (exported, failed) = (spans("exported"), spans("failed"));
        let log = dispatcher::get_default(Dispatch::clone);
        Self { service, endpoint, log, failing: AtomicBool::new(false), exported, failed }
    }

    /// A batch was sent, of which the collector rejected some spans; or the whole batch is lost.
    pub(super) fn ended(&self, count: u64, rejected: Result<u64, String>) {
        let lost = rejected.as_ref().map_or(count, |rejected| *rejected.min(&count));
        self.exported.increment(count - lost);
        self.failed.increment(lost);
        if lost > 0 {
            self.fails(rejected.as_ref().map_or_else(String::as_str, |_| "the collector rejected some"));
        } else if self.failing.swap(false, Relaxed) {
            tracing::info!(service = self.service, "spans are exported again");
        }
    }

    /// Warns at the first failed try, not after the last: an operator who mistyped the address is still watching. Once,
    /// until export works again.
    pub(super) fn fails(&self, why: &str) {
        let (service, endpoint) = (self.service, &self.endpoint);
        if !self.failing.swap(true, Relaxed) {
            dispatcher::with_default(&self.log, || {
                tracing::warn!(service, %endpoint, %why, "spans cannot be exported; said once, and what is lost is counted");
            });
        }
    }
}

/// Listens in place of the log to what the exporter says: only there it tells how many spans of a batch a collector
/// rejected. Its other lines, one per lost batch, are left out.
#[derive(Clone, Debug, Default)]
pub(super) struct Rejected(Arc<AtomicU64>);

impl Rejected {
    const FIELD: &str = "rejected_spans";

    pub(super) fn take(&self) -> u64 {
        self.0.swap(0, Relaxed)
    }
}

impl<S: Subscriber> Layer<S> for Rejected {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.fields().field(Self::FIELD).is_some()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::WARN)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        event.record(&mut self.clone());
    }
}

impl Visit for Rejected {
    fn record_i64(&mut self, field: &Field, spans: i64) {
        if field.name() == Self::FIELD {
            self.0.fetch_add(u64::try_from(spans).unwrap_or(0), Relaxed);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}
