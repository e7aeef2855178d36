//! One attempt of a call at an endpoint: how it is counted, and what the client is told.

use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::Response;
use mcp::{ErrorCode, message};
use metrics::Counter;
use model::units::in_words;
use model::{Revision, Time};
use runtime::telemetry;

use super::answer;
use super::answer::body::Body;
use super::fault::Fault;
use super::traced::Traced;
use crate::budget::SMALL;
use crate::call::{CallError, Side};
use crate::core::Core;
use crate::core::in_flight::EndedBy;
use crate::core::meter::{CALL_SECONDS, Meter};
use crate::endpoint::{Ended, Stats};
use crate::generation::Admitted;

/// One attempt of a call at an endpoint, as it is counted.
#[derive(Debug)]
pub(super) struct Exchange {
    meter: Rc<Meter>,
    started: Time,
}

impl Exchange {
    pub(super) fn begin(core: &Core, admitted: &Admitted, started: Time) -> Self {
        Self { meter: core.meters.of(&admitted.lease.endpoint), started }
    }

    /// The server has answered with the whole of `body`.
    pub(super) fn answered(
        &self,
        core: &Core,
        admitted: Admitted,
        id: &str,
        body: Bytes,
        traced: Option<Box<Traced>>,
    ) -> Response<Body> {
        let fault = Fault::of(&body);
        self.conclude(core, &admitted, &Conclusion::Answered(fault), traced);
        let revision = admitted.lease.revision;
        if body.len() <= SMALL {
            return answer::ok(revision, body);
        }
        // The server is done with the call, whether the client takes the answer or not.
        drop(admitted);
        large(core, revision, id, body)
    }

    /// The error that the client is told after the call failed.
    pub(super) fn failed(
        &self,
        core: &Core,
        admitted: &Admitted,
        id: &str,
        error: &CallError,
        traced: Option<Box<Traced>>,
    ) -> Vec<u8> {
        self.conclude(core, admitted, &Conclusion::Failed(error), traced);
        message::error(Some(id), error.code, &error.message, error.data.as_deref().map(str::as_bytes))
    }

    /// What the client is told after the exchange was ended, if anything.
    pub(super) fn ended(
        &self,
        core: &Core,
        admitted: &Admitted,
        id: &str,
        cause: EndedBy,
        traced: Option<Box<Traced>>,
    ) -> Option<Vec<u8>> {
        let (code, mut text) = explain(cause, admitted.backend.as_str());
        if matches!(cause, EndedBy::Idle(_) | EndedBy::Total(_))
            && let Some(what) = admitted.lease.endpoint.unmatched_since(self.started)
        {
            text.push_str(&format!("; meanwhile it sent {what}"));
        }
        self.conclude(core, admitted, &Conclusion::Ended(cause, code, &text), traced);
        cause.is_told().then(|| message::error(Some(id), code, &text, None))
    }

    /// Records the outcome in the meter, the endpoint, the log and the span.
    pub(super) fn conclude(
        &self,
        core: &Core,
        admitted: &Admitted,
        conclusion: &Conclusion<'_>,
        traced: Option<Box<Traced>>,
    ) {
        let now = core.now();
        let took = now.since(self.started);
        conclusion.meter(&self.meter).increment(1);
        self.meter.seconds.record(took.as_secs_f64());
        if let Some(ended) = conclusion.ended() {
            self.meter.recent.note(now, took, ended);
        }
        if conclusion.is_tool_error() {
            self.meter.tool_errors.increment(1);
        }
        let endpoint = &admitted.lease.endpoint;
        if let Some(count) = conclusion.stats(&endpoint.stats) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if conclusion.is_failure() {
            endpoint.note_failure(|| conclusion.why());
        }
        let context = traced.as_ref().map(|traced| traced.context());
        if let Some(context) = &context {
            let labels = [("server", admitted.backend.as_str())];
            telemetry::exemplar(CALL_SECONDS, &labels, took.as_secs_f64(), context);
        }
        tracing::debug!(
            revision = admitted.lease.revision.0,
            endpoint = %admitted.lease.endpoint.key,
            result = conclusion.result(),
            ?took,
            traceparent = context.map(tracing::field::display),
            "call"
        );
        if let Some(traced) = traced {
            traced.concluded(core, conclusion);
        }
    }
}

/// What came of an exchange.
#[derive(Debug, Clone, Copy)]
pub(super) enum Conclusion<'a> {
    /// With that fault, if any.
    Answered(Option<Fault>),
    /// The gateway had to answer with an error.
    Failed(&'a CallError),
    /// The gateway ended it, and says so.
    Ended(EndedBy, ErrorCode, &'a str),
}

impl Conclusion<'_> {
    /// The name of the outcome in the log and in spans.
    pub(super) fn result(&self) -> &'static str {
        match self {
            Self::Answered(_) => "answered",
            Self::Failed(error) => error.cause.as_str(),
            Self::Ended(cause, ..) => result(*cause),
        }
    }

    fn meter<'m>(&self, meter: &'m Meter) -> &'m Counter {
        match self {
            Self::Answered(_) => &meter.answered,
            Self::Failed(_) => &meter.failed,
            Self::Ended(EndedBy::Cancelled | EndedBy::Abandoned, ..) => &meter.cancelled,
            Self::Ended(EndedBy::Evicted | EndedBy::Stopped, ..) => &meter.evicted,
            Self::Ended(EndedBy::Idle(_) | EndedBy::Total(_), ..) => &meter.timed_out,
        }
    }

    /// Whether the server is at fault.
    fn is_failure(&self) -> bool {
        match self {
            Self::Answered(fault) => fault.is_some_and(Fault::is_of_server),
            Self::Failed(error) => error.side == Side::Upstream,
            Self::Ended(cause, ..) => matches!(cause, EndedBy::Idle(_) | EndedBy::Total(_)),
        }
    }

    fn is_tool_error(&self) -> bool {
        matches!(self, Self::Answered(Some(Fault::Tool)))
    }

    /// What happened, for operators.
    fn why(&self) -> String {
        match self {
            Self::Answered(Some(Fault::Refused(code))) => format!("it answered with error {code}"),
            Self::Answered(_) => self.result().to_owned(),
            // The server addressed its words to the client.
            Self::Failed(error) if error.quotes => format!("it answered with error {}", error.code),
            Self::Failed(error) => error.to_string(),
            Self::Ended(_, _, text) => (*text).to_owned(),
        }
    }

    /// For displays; none if it says nothing of the server.
    fn ended(&self) -> Option<Ended> {
        match self {
            Self::Ended(EndedBy::Idle(_) | EndedBy::Total(_), ..) => Some(Ended::TimedOut),
            _ if self.is_failure() => Some(Ended::Failed),
            Self::Answered(Some(Fault::Tool)) => Some(Ended::ToolError),
            Self::Answered(_) => Some(Ended::Answered),
            Self::Failed(_) => None,
            Self::Ended(EndedBy::Cancelled | EndedBy::Abandoned | EndedBy::Evicted | EndedBy::Stopped, ..) => None,
        }
    }

    /// A client whose call is refused must not make the server look unwell; a client that gives up must not make it
    /// look well.
    fn stats<'s>(&self, stats: &'s Stats) -> Option<&'s AtomicU64> {
        match self {
            _ if self.is_failure() => Some(&stats.failed),
            Self::Answered(_) => None,
            Self::Ended(EndedBy::Evicted | EndedBy::Stopped, ..) => Some(&stats.evicted),
            Self::Failed(_) | Self::Ended(..) => Some(&stats.spared),
        }
    }
}

/// An answer is charged for as long as its client has not taken it.
fn large(core: &Core, revision: Revision, id: &str, body: Bytes) -> Response<Body> {
    let limit = core.buffered_bytes();
    match core.shared.budget.try_charge(body.len(), limit) {
        Some(charge) => answer::large(revision, body, charge),
        None => answer::ok(revision, lost(id, body.len(), limit)),
    }
}

/// The error in place of an answer that there is no room for.
pub(super) fn lost(id: &str, bytes: usize, limit: u64) -> Vec<u8> {
    message::error(Some(id), ErrorCode::INTERNAL_ERROR, &CallError::lost_answer(bytes, limit), None)
}

/// The name under which the cause is counted.
pub(super) fn result(cause: EndedBy) -> &'static str {
    match cause {
        EndedBy::Cancelled | EndedBy::Abandoned => "cancelled",
        EndedBy::Evicted | EndedBy::Stopped => "evicted",
        EndedBy::Idle(_) | EndedBy::Total(_) => "timed_out",
    }
}

pub(super) fn explain(cause: EndedBy, server: &str) -> (ErrorCode, String) {
    match cause {
        EndedBy::Cancelled => (ErrorCode::CANCELLED, "cancelled by the client".into()),
        EndedBy::Abandoned => {
            let text = format!(
                "given up: its client was gone, or had closed its side of the connection, and other calls needed its \
                 place at server `{server}` (limits.in_flight_per_endpoint)"
            );
            (ErrorCode::CANCELLED, text)
        }
        EndedBy::Evicted => {
            let text = format!("server `{server}` is leaving, and this call did not end before the drain's deadline");
            (ErrorCode::EVICTED, text)
        }
        EndedBy::Stopped => {
            let text = "the gateway stops, and this call did not end before its deadline";
            (ErrorCode::EVICTED, text.into())
        }
        EndedBy::Idle(limit) => {
            (ErrorCode::TIMED_OUT, format!("nothing came from `{server}` for {} (limits.idle)", in_words(limit)))
        }
        EndedBy::Total(limit) => {
            (ErrorCode::TIMED_OUT, format!("not finished within {} (limits.total)", in_words(limit)))
        }
    }
}
