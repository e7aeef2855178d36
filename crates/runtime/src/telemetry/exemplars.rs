//! The newest recorded trace of each bucket of each histogram, so that a dashboard leads from a slow bucket to a trace
//! that explains it.
//!
//! Only recorded traces come here; an unrecorded one takes no lock.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use super::{TraceContext, metrics_text::SECONDS};

/// When this many series have exemplars, all are dropped: they are samples, and new observations replace them.
const SERIES_MAX: usize = 4096;

/// One observation, and the trace it belongs to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Exemplar {
    context: TraceContext,
    value: f64,
    at: SystemTime,
}

/// By bucket; the last one is for values above all bounds.
type Buckets = [Option<Exemplar>; SECONDS.len() + 1];

/// By the text of a series up to the label of the bucket.
#[derive(Debug, Default)]
pub(crate) struct Exemplars(Mutex<HashMap<String, Buckets>>);

static OF_PROCESS: LazyLock<Exemplars> = LazyLock::new(Exemplars::default);

/// Remembers that `context` is the trace of an observation of `seconds` in the histogram `name` with `labels` (in the
/// order in which the histogram has them). Does nothing when that trace is not recorded.
///
/// Adds no observation to the histogram itself.
pub fn exemplar(name: &'static str, labels: &[(&'static str, &str)], seconds: f64, context: &TraceContext) {
    if context.is_sampled() {
        let seen = Exemplar { context: *context, value: seconds, at: opentelemetry::time::now() };
        OF_PROCESS.remember(series(name, labels), seen);
    }
}

pub(super) fn of_process() -> &'static Exemplars {
    &OF_PROCESS
}

impl Exemplars {
    fn remember(&self, series: String, seen: Exemplar) {
        let bucket = SECONDS.partition_point(|bound| *bound < seen.value);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= SERIES_MAX && !known.contains_key(&series) {
            known.clear();
        }
        known.entry(series).or_insert([None; SECONDS.len() + 1])[bucket] = Some(seen);
    }

    /// `bucket` counts from the lowest bound of the series that begins with `series`.
    pub(super) fn of(&self, series: &str, bucket: usize) -> Option<Exemplar> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *known.get(series)?.get(bucket)?
    }
}

/// As a bucket's line begins: `name_bucket{label="value",`.
fn series(name: &str, labels: &[(&'static str, &str)]) -> String {
    let mut series = format!("{name}_bucket{{");
    for (label, value) in labels {
        let value = value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', "\\n");
        series.push_str(&format!("{label}=\"{value}\","));
    }
    series
}

impl Exemplar {
    /// As OpenMetrics writes it behind the value of a bucket.
    pub(super) fn text(&self) -> String {
        let at = self.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (trace, span) = (self.context.trace_id(), self.context.parent_id());
        format!(" # {{trace_id=\"{trace:032x}\",span_id=\"{span:016x}\"}} {} {:.3}", self.value, at.as_secs_f64())
    }
}

#[cfg(test)]
mod tests;
