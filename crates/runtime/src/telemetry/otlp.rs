//! Finished spans on their way to a collector: one bounded queue and one task per service, around OpenTelemetry's
//! exporter.
//!
//! A collector that is slow, refuses or is away costs spans and nothing else; the lost spans are counted.

use std::{io, sync::Arc, time::Duration};

use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanExporter as _},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tracing::{Dispatch, instrument::WithSubscriber};
use tracing_subscriber::{Registry, layer::SubscriberExt};

use super::{
    otlp_settings::{Export, SettingError, parse},
    sampled,
    trace::Tracer,
};
use crate::{Shutdown, Tasks, fault::chain};

mod outcome;
mod transport;

use outcome::{Outcome, Rejected};
use transport::Connector;

/// How long the remaining spans may take to be sent when the process ends.
const FLUSH: Duration = Duration::from_secs(3);
/// Tasks that still run after this are aborted.
const GRACE: Duration = Duration::from_secs(4);
/// How often the queue is looked at once it holds a span.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How the spans of this process are exported, if they are.
#[derive(Clone, Debug)]
pub struct Traces {
    exporting: Option<(Arc<Export>, Connector)>,
    batches: Tasks,
}

/// Why spans cannot be exported as configured.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    #[error(transparent)]
    Setting(#[from] SettingError),
    #[error("the collector is reached over https, but the system's root certificates cannot be read")]
    Roots(#[source] io::Error),
}

impl Traces {
    /// Reads the environment, see `docs/tracing.md`. Export is off unless an endpoint is named or
    /// `OTEL_TRACES_EXPORTER` is `otlp`.
    ///
    /// # Errors
    /// When a variable has an invalid value. The operator gets this error at the start, as for a wrong flag.
    pub fn from_env() -> Result<Self, TracesError> {
        Self::new(parse(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))?)
    }

    fn new(export: Option<Export>) -> Result<Self, TracesError> {
        let exporting = match export {
            Some(export) => {
                let connector = transport::connector(&export).map_err(TracesError::Roots)?;
                Some((Arc::new(export), connector))
            }
            None => None,
        };
        Ok(Self { exporting, batches: Tasks::new(Shutdown::new()) })
    }

    /// Starts the spans of one service of this process; `instance` tells the service from others of the same kind. Must
    /// be called within a runtime; a task on that runtime sends the spans.
    pub fn tracer(&self, service: &'static str, version: &'static str, instance: &str) -> Tracer {
        let Some((export, connector)) = &self.exporting else { return Tracer::off() };
        let outcome = Arc::new(Outcome::new(service, export.endpoint.clone()));
        let exporter = transport::exporter(export, connector.clone(), Arc::clone(&outcome));
        let mut exporter = exporter.expect("whatever the exporter reads from the environment was checked");
        exporter.set_resource(&resource(service, version, instance, &export.resource));
        let (queue, finished) = mpsc::channel(export.queue_max);
        sampled::queue("spans", &queue);
        let rejected = Rejected::default();
        let batch = Batch {
            export: Arc::clone(export),
            exporter,
            log: Dispatch::new(Registry::default().with(rejected.clone())),
            rejected,
            outcome,
            finished,
            spans: Vec::new(),
        };
        self.batches.spawn("spans", batch.run(self.batches.shutdown().clone()));
        let scope = InstrumentationScope::builder(service).with_version(version).build();
        Tracer::new(export.sampler, scope, queue)
    }

    /// Sends the finished spans, for at most a few seconds. To be called last, when no service has any work left.
    pub async fn flush(&self) {
        self.batches.shutdown().trigger();
        for failure in &self.batches.join(GRACE).await.failures {
            tracing::error!(%failure, "spans were lost");
        }
    }
}

fn resource(service: &'static str, version: &'static str, instance: &str, given: &[(String, String)]) -> Resource {
    let own = [
        KeyValue::new("service.namespace", "only1mcp"),
        KeyValue::new("service.name", service),
        KeyValue::new("service.version", version),
        KeyValue::new("service.instance.id", instance.to_owned()),
    ];
    let given = given.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    Resource::builder_empty().with_attributes(own).with_attributes(given).build()
}

/// The sending end of one service.
struct Batch {
    export: Arc<Export>,
    exporter: SpanExporter,
    /// Where the exporter's log lines go.
    log: Dispatch,
    rejected: Rejected,
    outcome: Arc<Outcome>,
    finished: mpsc::Receiver<SpanData>,
    /// The batch being collected.
    spans: Vec<SpanData>,
}

impl Batch {
    /// Runs until the last tracer is gone, or until `end`.
    async fn run(mut self, end: Shutdown) {
        let mut running = true;
        while running {
            running = tokio::select! {
                more = self.collect() => more,
                () = end.triggered() => false,
            };
            self.fill();
            let ending = async {
                end.triggered().await;
                tokio::time::sleep(FLUSH).await;
            };
            self.send(ending).await;
        }
        let end = Instant::now() + FLUSH;
        while self.fill() {
            self.send(sleep_until(end)).await;
        }
    }

    /// Waits for a first span, and then until a batch is full or the delay is over. Losing this future loses no span.
    /// False: every tracer is gone.
    async fn collect(&mut self) -> bool {
        if self.finished.recv_many(&mut self.spans, 1).await == 0 {
            return false;
        }
        let until = Instant::now() + self.export.delay;
        // The queue is polled rather than awaited, so that finishing a span wakes no task.
        while self.spans.len() + self.finished.len() < self.export.batch_max && Instant::now() < until {
            sleep_until(until.min(Instant::now() + LOOK_EVERY)).await;
        }
        true
    }

    /// Takes the queued spans into the batch. Returns whether the batch holds any.
    fn fill(&mut self) -> bool {
        while self.spans.len() < self.export.batch_max
            && let Ok(span) = self.finished.try_recv()
        {
            self.spans.push(span);
        }
        !self.spans.is_empty()
    }

    /// Sends the batch, with retries where one can help, within the batch's time and until `ending`. Sent or not, the
    /// batch is gone afterwards.
    async fn send(&mut self, ending: impl Future<Output = ()>) {
        let spans = std::mem::take(&mut self.spans);
        let count = spans.len() as u64;
        if count == 0 {
            return;
        }
        let exporting = self.exporter.export(spans).with_subscriber(self.log.clone());
        // The exporter begins no retry after that time, but does not interrupt one.
        let sent = tokio::select! {
            sent = timeout(self.export.batch_timeout, exporting) => match sent {
                Ok(sent) => sent.map_err(|error| chain(&error)),
                Err(_) => Err("the collector did not answer in time".to_owned()),
            },
            () = ending => Err("the process ends".to_owned()),
        };
        let rejected = self.rejected.take();
        self.outcome.ended(count, sent.map(|()| rejected));
    }
}

#[cfg(test)]
mod tests;
