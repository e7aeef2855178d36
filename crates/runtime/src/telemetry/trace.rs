//! Spans: the pieces of work of a process, with their durations, in traces that cross processes.
//!
//! A [`Tracer`] belongs to one service of a process and is handed to it as a value. The code that begins a piece of
//! work starts a [`Span`]. A span may be stored in any state, and is handed to the exporter when it is dropped. Nothing
//! here waits: a span that the exporter cannot take is dropped and counted.
//!
//! A span that is not recorded passes on its parent's context, so that no span in a trace has an unexported parent.

use std::{
    borrow::Cow,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use metrics::Counter;
use opentelemetry::{
    InstrumentationScope, KeyValue, SpanId, TraceFlags, TraceId, Value,
    trace::{Event, SpanContext, SpanKind, Status, TraceState},
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use tokio::sync::mpsc;

use super::{TraceContext, sampler::Sampler};

/// Which side of an exchange a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Internal,
    /// Answers a request.
    Server,
    /// Sends a request, and waits for the answer.
    Client,
    /// Sends a message that has no answer.
    Producer,
    /// Received a message that has no answer.
    Consumer,
}

/// Initial capacity for the attributes of a span; most spans have no more.
const ATTRIBUTES: usize = 16;

/// Starts the spans of one service. Cheap to clone.
#[derive(Clone, Default)]
pub struct Tracer(Option<Arc<Recorder>>);

struct Recorder {
    sampler: Sampler,
    scope: InstrumentationScope,
    finished: mpsc::Sender<SpanData>,
    dropped: Counter,
}

/// One piece of work; ends when it is dropped.
#[must_use = "a span ends when it is dropped"]
pub struct Span {
    context: TraceContext,
    /// None: the span is not recorded.
    recording: Option<Box<Recording>>,
}

struct Recording {
    recorder: Arc<Recorder>,
    data: SpanData,
}

impl Tracer {
    /// Records nothing.
    pub const fn off() -> Self {
        Self(None)
    }

    /// Hands finished spans to `finished`, without ever waiting for room.
    pub fn new(sampler: Sampler, scope: InstrumentationScope, finished: mpsc::Sender<SpanData>) -> Self {
        let dropped = metrics::counter!("only1mcp_spans_total", "result" => "dropped");
        Self(Some(Arc::new(Recorder { sampler, scope, finished, dropped })))
    }

    /// Whether anything is ever recorded.
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// A span below `parent`, or the root of a new trace.
    pub fn start(&self, name: impl Into<Cow<'static, str>>, kind: Kind, parent: Option<TraceContext>) -> Span {
        match &self.0 {
            Some(recorder) if recorder.sampler.samples(parent.as_ref()) => record(recorder, name.into(), kind, parent),
            _ => Span { context: parent.unwrap_or_else(TraceContext::new_unsampled), recording: None },
        }
    }

    /// As [`Tracer::start`], or nothing: for paths on which making the name of an unrecorded span would cost too much.
    pub fn start_recorded<N: Into<Cow<'static, str>>>(
        &self,
        kind: Kind,
        parent: Option<TraceContext>,
        name: impl FnOnce() -> N,
    ) -> Option<Span> {
        let recorder = self.0.as_ref().filter(|recorder| recorder.sampler.samples(parent.as_ref()))?;
        Some(record(recorder, name().into(), kind, parent))
    }

    /// As [`Tracer::start`], for rare work that every reader of traces wants to see, as a change of the configuration.
    /// A root is recorded whatever the share of recorded traces, unless that share is zero.
    pub fn start_rare(&self, name: impl Into<Cow<'static, str>>, kind: Kind, parent: Option<TraceContext>) -> Span {
        match &self.0 {
            Some(recorder) if parent.is_none() && !recorder.sampler.is_off() => {
                record(recorder, name.into(), kind, parent)
            }
            _ => self.start(name, kind, parent),
        }
    }
}

fn record(recorder: &Arc<Recorder>, name: Cow<'static, str>, kind: Kind, parent: Option<TraceContext>) -> Span {
    let context = parent.map_or_else(|| recorder.sampler.root(), |parent| parent.child()).sampled();
    let start_time = opentelemetry::time::now();
    let data = SpanData {
        span_context: SpanContext::new(
            TraceId::from(context.trace_id()),
            SpanId::from(context.parent_id()),
            TraceFlags::new(context.flags()),
            false,
            TraceState::NONE,
        ),
        parent_span_id: parent.map_or(SpanId::INVALID, |parent| SpanId::from(parent.parent_id())),
        parent_span_is_remote: matches!(kind, Kind::Server | Kind::Consumer),
        span_kind: kind.into(),
        name,
        start_time,
        end_time: start_time,
        attributes: Vec::with_capacity(ATTRIBUTES),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: recorder.scope.clone(),
    };
    Span { context, recording: Some(Box::new(Recording { recorder: Arc::clone(recorder), data })) }
}

impl Span {
    /// The context that is sent along with every request made for this span.
    pub const fn context(&self) -> TraceContext {
        self.context
    }

    /// A span for a part of this span's work, recorded if this span is.
    pub fn child(&self, name: impl Into<Cow<'static, str>>, kind: Kind) -> Self {
        match &self.recording {
            Some(recording) => record(&recording.recorder, name.into(), kind, Some(self.context)),
            None => Self { context: self.context, recording: None },
        }
    }

    pub const fn is_recorded(&self) -> bool {
        self.recording.is_some()
    }

    /// `key` as in OpenTelemetry's semantic conventions, where they have one.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(recording) = &mut self.recording {
            recording.data.attributes.push(KeyValue::new(key, value));
        }
    }

    /// As [`Span::set`], for unsigned numbers; the protocol has no type for them.
    pub fn count(&mut self, key: &'static str, number: u64) {
        self.set(key, i64::try_from(number).unwrap_or(i64::MAX));
    }

    /// Adds an event that happened during the span.
    pub fn event(&mut self, name: impl Into<Cow<'static, str>>, attributes: Vec<KeyValue>) {
        if let Some(recording) = &mut self.recording {
            recording.data.events.events.push(Event::new(name, opentelemetry::time::now(), attributes, 0));
        }
    }

    /// Marks the work as failed.
    pub fn fail(&mut self, why: impl Into<Cow<'static, str>>) {
        if let Some(recording) = &mut self.recording {
            recording.data.status = Status::error(cut(why.into()));
        }
    }

    /// Moves the start of the span to `ago` before now: for work that was measured before its span existed.
    pub fn began_before(&mut self, ago: Duration) {
        if let Some(recording) = &mut self.recording {
            recording.data.start_time = opentelemetry::time::now().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH);
        }
    }
}

/// The most of a reason that is kept. Nothing else bounds the size of a span until it is sent.
const REASON: usize = 1 << 10;

fn cut(mut text: Cow<'static, str>) -> Cow<'static, str> {
    if text.len() > REASON {
        let end = text.floor_char_boundary(REASON);
        text.to_mut().truncate(end);
    }
    text
}

impl Drop for Span {
    fn drop(&mut self) {
        let Some(recording) = self.recording.take() else { return };
        let Recording { recorder, mut data } = *recording;
        data.end_time = opentelemetry::time::now();
        if recorder.finished.try_send(data).is_err() {
            recorder.dropped.increment(1);
        }
    }
}

impl From<Kind> for SpanKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Internal => Self::Internal,
            Kind::Server => Self::Server,
            Kind::Client => Self::Client,
            Kind::Producer => Self::Producer,
            Kind::Consumer => Self::Consumer,
        }
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Tracer" } else { "Tracer(off)" })
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Span({})", self.context)
    }
}
