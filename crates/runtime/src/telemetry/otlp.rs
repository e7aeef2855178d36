//! Finished spans on their way to a collector: one bounded queue and one task per service.
//!
//! A collector that is slow, refuses or is away costs spans and nothing else; the lost spans are counted. The batching
//! is our own, over OpenTelemetry's messages: OpenTelemetry's exporter does not tell how many spans a collector
//! rejected.

use std::{fmt::Display, io, sync::Arc, time::Duration};

use backoff::Backoff;
use metrics::Counter;
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_proto::{
    tonic::collector::trace::v1::ExportTraceServiceRequest,
    transform::{common::tonic::ResourceAttributesWithSchema, trace::tonic::group_spans_by_resource_and_scope},
};
use opentelemetry_sdk::{Resource, trace::SpanData};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    otlp_settings::{Export, SettingError, parse},
    sampled,
    trace::Tracer,
};
use crate::{Shutdown, Tasks};

mod transport;

use transport::{SendError, Transport};

/// How long the remaining spans may take to be sent when the process ends.
const FLUSH: Duration = Duration::from_secs(3);
/// Connections and tasks that still run after this are aborted.
const GRACE: Duration = Duration::from_secs(4);
/// How often the queue is looked at once it holds a span.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The delay between two requests with the same spans.
const RETRY: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));

/// How the spans of this process are exported, if they are.
#[derive(Clone, Debug)]
pub struct Traces {
    exporting: Option<(Arc<Export>, Transport)>,
    batches: Tasks,
    /// Connections outlive the batches.
    connections: Tasks,
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
        let (batches, connections) = (Tasks::new(Shutdown::new()), Tasks::new(Shutdown::new()));
        let exporting = match export {
            Some(export) => {
                let transport = Transport::new(&export, &connections).map_err(TracesError::Roots)?;
                Some((Arc::new(export), transport))
            }
            None => None,
        };
        Ok(Self { exporting, batches, connections })
    }

    /// Starts the spans of one service of this process; `instance` tells the service from others of the same kind. Must
    /// be called within a runtime; a task on that runtime sends the spans.
    #[must_use]
    pub fn tracer(&self, service: &'static str, version: &'static str, instance: &str) -> Tracer {
        let Some((export, transport)) = &self.exporting else { return Tracer::off() };
        let (queue, finished) = mpsc::channel(export.queue_max);
        let spans = |result| metrics::counter!("only1mcp_spans_total", "result" => result);
        sampled::queue("spans", &queue);
        let batch = Batch {
            service,
            export: Arc::clone(export),
            transport: transport.clone(),
            resource: (&resource(service, version, instance, &export.resource)).into(),
            finished,
            spans: Vec::new(),
            exported: spans("exported"),
            failed: spans("failed"),
            failing: false,
        };
        self.batches.spawn("spans", batch.run(self.batches.shutdown().clone()));
        let scope = InstrumentationScope::builder(service).with_version(version).build();
        Tracer::new(export.sampler, scope, queue)
    }

    /// Sends the finished spans, for at most a few seconds. To be called last, when no service has any work left.
    pub async fn flush(&self) {
        self.batches.shutdown().trigger();
        for joined in [self.batches.join(GRACE).await, self.connections.join(GRACE).await] {
            for failure in &joined.failures {
                tracing::error!(%failure, "spans were lost");
            }
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
    service: &'static str,
    export: Arc<Export>,
    transport: Transport,
    resource: ResourceAttributesWithSchema,
    finished: mpsc::Receiver<SpanData>,
    /// The batch being collected.
    spans: Vec<SpanData>,
    exported: Counter,
    failed: Counter,
    failing: bool,
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

    /// Sends the batch, and retries where a retry can help, within the batch's time and until `ending`. Sent or not,
    /// the batch is gone afterwards.
    async fn send(&mut self, ending: impl Future<Output = ()>) {
        let deadline = Instant::now() + self.export.batch_timeout;
        let spans = std::mem::take(&mut self.spans);
        let count = spans.len() as u64;
        if count == 0 {
            return;
        }
        let request =
            ExportTraceServiceRequest { resource_spans: group_spans_by_resource_and_scope(spans, &self.resource) };
        let (service, endpoint, failing) = (self.service, &self.export.endpoint, &mut self.failing);
        // Warns at the first failed try, not after the last: an operator who mistyped the address is still watching.
        let fails = |error: &SendError| complain(failing, service, endpoint, error);
        let sending = send(&self.transport, &request, self.export.request_timeout, deadline, fails);
        let sent = tokio::select! {
            sent = sending => sent,
            () = ending => Err(SendError::new("the process ends")),
        };
        self.note(count, sent);
    }

    /// Counts the spans, and logs when export begins to fail and when it works again.
    fn note(&mut self, count: u64, sent: Result<u64, SendError>) {
        let (lost, why) = match sent {
            Ok(rejected) => (rejected.min(count), SendError::new("the collector rejected some")),
            Err(error) => (count, error),
        };
        self.exported.increment(count - lost);
        self.failed.increment(lost);
        if lost > 0 {
            complain(&mut self.failing, self.service, &self.export.endpoint, &why);
        } else if std::mem::take(&mut self.failing) {
            tracing::info!(service = self.service, "spans are exported again");
        }
    }
}

/// Logs a warning once, until export works again.
fn complain(failing: &mut bool, service: &str, endpoint: &impl Display, why: &SendError) {
    if !std::mem::replace(failing, true) {
        tracing::warn!(service, %endpoint, %why, "spans cannot be exported; said once, and what is lost is counted");
    }
}

/// Returns how many spans the collector rejected. Calls `fails` for each try that fails.
async fn send(
    transport: &Transport,
    request: &ExportTraceServiceRequest,
    request_timeout: Duration,
    deadline: Instant,
    mut fails: impl FnMut(&SendError),
) -> Result<u64, SendError> {
    let mut failures = 0;
    loop {
        let until = deadline.min(Instant::now() + request_timeout);
        let sent = timeout_at(until, transport.send(request)).await;
        let error = match sent.unwrap_or_else(|_| Err(SendError::timed_out())) {
            Ok(rejected) => return Ok(rejected),
            Err(error) => error,
        };
        fails(&error);
        let pause = error.retry_after.unwrap_or_else(|| RETRY.delay(failures, rand::random()));
        if !error.can_heal || Instant::now() + pause >= deadline {
            return Err(error);
        }
        tokio::time::sleep(pause).await;
        failures += 1;
    }
}

#[cfg(test)]
mod tests;
