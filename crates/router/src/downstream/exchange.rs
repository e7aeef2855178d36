//! One way of a call to an endpoint and back, as it is counted and told.

use std::rc::Rc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::Response;
use mcp::{ErrorCode, message};
use model::{Revision, Time};
use runtime::telemetry;

use super::answer;
use super::body::Body;
use super::core::Core;
use super::meter::{CALL_SECONDS, Meter};
use super::traced::Traced;
use crate::budget::SMALL;
use crate::call::{CallError, Side};
use crate::generation::Admitted;
use crate::in_flight::Cause;

/// One way of a call to an endpoint and back, as it is counted.
#[derive(Debug)]
pub(super) struct Exchange {
    meter: Rc<Meter>,
    started: Time,
}

impl Exchange {
    pub(super) fn begin(core: &Core, admitted: &Admitted, started: Time) -> Self {
        Self { meter: core.meters.of(&admitted.lease.endpoint), started }
    }

    pub(super) fn answered(
        &self,
        core: &Core,
        admitted: Admitted,
        id: &str,
        body: Bytes,
        traced: Option<Box<Traced>>,
    ) -> Response<Body> {
        self.meter.answered.increment(1);
        self.done(core, &admitted, "answered", traced.as_deref());
        if let Some(traced) = traced {
            traced.answered(core, Some(&body));
        }
        let revision = admitted.lease.revision;
        if body.len() <= SMALL {
            return answer::ok(revision, body);
        }
        // Its server is done with it, whether the client takes the answer or not.
        drop(admitted);
        large(core, revision, id, body)
    }

    /// The response has gone to the client among the events.
    pub(super) fn answered_in_events(&self, core: &Core, admitted: &Admitted, traced: Option<Box<Traced>>) {
        self.meter.answered.increment(1);
        self.done(core, admitted, "answered", traced.as_deref());
        if let Some(traced) = traced {
            traced.answered(core, None);
        }
    }

    pub(super) fn failed(
        &self,
        core: &Core,
        admitted: &Admitted,
        id: &str,
        error: &CallError,
        traced: Option<Box<Traced>>,
    ) -> Vec<u8> {
        self.meter.failed.increment(1);
        let stats = &admitted.lease.endpoint.stats;
        // A client that asks for what is refused must not make its server look unwell.
        let count = if error.side == Side::Upstream { &stats.failed } else { &stats.spared };
        count.fetch_add(1, Ordering::Relaxed);
        self.done(core, admitted, error.cause.as_str(), traced.as_deref());
        if let Some(traced) = traced {
            traced.failed(core, error);
        }
        message::error(Some(id), error.code, &error.message, error.data.as_deref().map(str::as_bytes))
    }

    /// What its client is told, if anything.
    pub(super) fn ended(
        &self,
        core: &Core,
        admitted: &Admitted,
        id: &str,
        cause: Cause,
        traced: Option<Box<Traced>>,
    ) -> Option<Vec<u8>> {
        let stats = &admitted.lease.endpoint.stats;
        match cause {
            // Nor must one that gives up make it look well.
            Cause::Cancelled | Cause::Abandoned => {
                self.meter.cancelled.increment(1);
                stats.spared.fetch_add(1, Ordering::Relaxed);
            }
            Cause::Evicted | Cause::Stopped => {
                self.meter.evicted.increment(1);
                stats.evicted.fetch_add(1, Ordering::Relaxed);
            }
            Cause::Idle(_) | Cause::Total(_) => {
                self.meter.timed_out.increment(1);
                stats.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        let result = result(cause);
        self.done(core, admitted, result, traced.as_deref());
        let (code, mut text) = explain(cause, admitted.backend.as_str());
        if matches!(cause, Cause::Idle(_) | Cause::Total(_))
            && let Some(what) = admitted.lease.endpoint.unmatched_since(self.started)
        {
            text.push_str(&format!("; meanwhile it sent {what}"));
        }
        if let Some(traced) = traced {
            traced.ended(core, result, code, &text);
        }
        cause.is_told().then(|| message::error(Some(id), code, &text, None))
    }

    fn done(&self, core: &Core, admitted: &Admitted, result: &str, traced: Option<&Traced>) {
        let took = core.now().since(self.started);
        let seconds = took.as_secs_f64();
        self.meter.seconds.record(seconds);
        if let Some(traced) = traced {
            telemetry::exemplar(CALL_SECONDS, &[("server", admitted.backend.as_str())], seconds, &traced.context());
        }
        tracing::debug!(
            revision = admitted.lease.revision.0,
            endpoint = %admitted.lease.endpoint.key,
            result,
            ?took,
            traceparent = traced.map(|traced| tracing::field::display(traced.context())),
            "call"
        );
    }
}

/// An answer counts for as long as its client has not taken it.
fn large(core: &Core, revision: Revision, id: &str, body: Bytes) -> Response<Body> {
    let limit = core.buffered_bytes();
    match core.shared.budget.weigh(body.len(), limit) {
        Some(weight) => answer::large(revision, body, weight),
        None => answer::ok(revision, lost(id, body.len(), limit)),
    }
}

/// In the place of an answer that there is no room for.
pub(super) fn lost(id: &str, bytes: usize, limit: u64) -> Vec<u8> {
    message::error(Some(id), ErrorCode::INTERNAL_ERROR, &CallError::lost_answer(bytes, limit), None)
}

/// As it is counted.
pub(super) fn result(cause: Cause) -> &'static str {
    match cause {
        Cause::Cancelled | Cause::Abandoned => "cancelled",
        Cause::Evicted | Cause::Stopped => "evicted",
        Cause::Idle(_) | Cause::Total(_) => "timed_out",
    }
}

pub(super) fn explain(cause: Cause, server: &str) -> (ErrorCode, String) {
    match cause {
        Cause::Cancelled => (ErrorCode::CANCELLED, "cancelled by the client".into()),
        Cause::Abandoned => {
            let text = format!(
                "given up: its client was gone, or had closed its side of the connection, and other calls needed its \
                 place at server `{server}` (limits.in_flight_per_endpoint)"
            );
            (ErrorCode::CANCELLED, text)
        }
        Cause::Evicted => {
            let text = format!("server `{server}` is leaving, and this call did not end before the drain's deadline");
            (ErrorCode::EVICTED, text)
        }
        Cause::Stopped => {
            let text = "the gateway stops, and this call did not end before its deadline";
            (ErrorCode::EVICTED, text.into())
        }
        Cause::Idle(limit) => {
            (ErrorCode::TIMED_OUT, format!("nothing came from `{server}` for {limit:?} (limits.idle)"))
        }
        Cause::Total(limit) => (ErrorCode::TIMED_OUT, format!("not finished within {limit:?} (limits.total)")),
    }
}
