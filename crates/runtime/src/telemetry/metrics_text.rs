//! The process's metrics, recorded through the `metrics` macros and rendered for Prometheus by the ops listener.
//!
//! Series are of two sorts. A series about the process lasts as long as the process: a counter that has not moved for a
//! week is information, not garbage. A series about something that comes and goes (it has a label of [`PASSING`]) is
//! dropped when it was not updated for a while, so that removed servers do not fill the memory of the process and of
//! Prometheus.

use std::{sync::OnceLock, time::Duration};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use metrics_util::MetricKindMask;
use tokio_util::sync::CancellationToken;

use super::{exemplars, openmetrics, process, sampled};

/// The buckets of every histogram whose name ends in `_seconds`: from a swap to a long drain.
pub(super) const SECONDS: [f64; 20] = [
    1e-6, 1e-5, 1e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 1e-1, 2.5e-1, 5e-1, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0, 300.0,
];
/// Labels of series about things that come and go. Code that keeps handles of such series looks them up anew every
/// minute, so that its values are not lost with a dropped series. It also increments counters by 0 to keep them alive.
const PASSING: [&str; 2] = ["server", "digest"];
const FORGET_AFTER: Duration = Duration::from_secs(3600);
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Renders the recorded metrics; shared by cloning.
#[derive(Clone)]
pub struct Metrics {
    lasting: PrometheusHandle,
    passing: PrometheusHandle,
}

struct BySort {
    lasting: PrometheusRecorder,
    passing: PrometheusRecorder,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Makes the process record metrics, once; later calls return the same value.
    pub fn install() -> Self {
        static INSTALLED: OnceLock<Metrics> = OnceLock::new();
        INSTALLED
            .get_or_init(|| {
                let passing = builder().idle_timeout(MetricKindMask::ALL, Some(FORGET_AFTER));
                let recorder = BySort { lasting: builder().build_recorder(), passing: passing.build_recorder() };
                let installed = Self { lasting: recorder.lasting.handle(), passing: recorder.passing.handle() };
                if metrics::set_global_recorder(recorder).is_err() {
                    tracing::warn!("another metrics recorder is installed; /metrics will be empty");
                }
                installed
            })
            .clone()
    }

    /// Prometheus text format 0.0.4.
    pub fn render(&self) -> String {
        sampled::look();
        self.lasting.render() + &self.passing.render() + &process::render()
    }

    /// OpenMetrics 1.0, with exemplars.
    pub fn render_openmetrics(&self) -> String {
        openmetrics::from_prometheus(&self.render(), exemplars::of_process())
    }

    /// Keeps the memory of metrics bounded without scrapes, until `stop`.
    pub(crate) async fn upkeep(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(UPKEEP_EVERY);
        let lag = metrics::histogram!("only1mcp_runtime_lag_seconds");
        while let Some(due) = stop.run_until_cancelled(ticks.tick()).await {
            lag.record(due.elapsed());
            self.lasting.run_upkeep();
            // Rendering drops the series that were not updated.
            drop(self.passing.render());
        }
    }
}

fn builder() -> PrometheusBuilder {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .expect("the list of buckets is not empty")
}

impl BySort {
    fn of(&self, key: &Key) -> &PrometheusRecorder {
        if key.labels().any(|label| PASSING.contains(&label.key())) { &self.passing } else { &self.lasting }
    }
}

impl Recorder for BySort {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.lasting.describe_counter(key.clone(), unit, description.clone());
        self.passing.describe_counter(key, unit, description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.lasting.describe_gauge(key.clone(), unit, description.clone());
        self.passing.describe_gauge(key, unit, description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.lasting.describe_histogram(key.clone(), unit, description.clone());
        self.passing.describe_histogram(key, unit, description);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.of(key).register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.of(key).register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        self.of(key).register_histogram(key, metadata)
    }
}
