//! The life of a call: admitted by one revision, forwarded, answered.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, Response, StatusCode};
use mcp::{Envelope, ErrorCode, Id, message};
use model::{Revision, Time};
use runtime::telemetry;

use super::answer;
use super::body::{Body, event};
use super::core::Core;
use super::meter::{CALL_SECONDS, Meter};
use super::service::Session;
use super::traced::{Incoming, Traced};
use crate::call::{Answer, Call, CallError, EventStream, forward};
use crate::generation::{Admitted, Unroutable};
use crate::in_flight::{Cause, Ticket};

/// How often a call is routed anew because nothing of it reached the endpoint it was routed to.
const ROUTES: u32 = 3;

pub(super) async fn call(
    core: Rc<Core>,
    session: &Session,
    envelope: &Envelope<'_>,
    id: Id<'_>,
    call: &mcp::Call<'_>,
    body: &Bytes,
    headers: &HeaderMap,
) -> Response<Body> {
    let limits = core.shared.live.load().policy.limits.clone();
    let name = match call.require_name() {
        Ok(name) => name,
        Err(fault) => {
            let revision = core.shared.live.load().revision;
            return answer::error(revision, StatusCode::OK, Some(id.text()), fault.code(), &fault.to_string());
        }
    };
    let started = core.now();
    let ticket = core.in_flight.enter(session.sealed.id, body.slice(id.span().range()), &limits, started);
    let incoming = Incoming::of(call, headers);
    let mut traced = Traced::begin(&core, &incoming, session, id, name.value(), started);
    let mut routes = 0;
    loop {
        let admitted = match ticket.run(pin!(admit(&core, name.value(), limits.connect))).await {
            Ok(Ok(admitted)) => admitted,
            Ok(Err(refused)) => return unroutable(id, name.value(), &refused, traced),
            Err(cause) => return unrouted(&core, id, cause, traced),
        };
        let exchange = Exchange::begin(&core, &admitted, started);
        ticket.at(Some(admitted.lease.endpoint.serial));
        let context = traced.as_mut().map(|traced| traced.toward(&core, &admitted)).or(incoming.context);
        let outgoing = Call {
            body: body.clone(),
            id: id.span(),
            name: renamed(name, &admitted),
            progress: call.progress_token().map(Id::span),
            traceparent: context.and_then(|context| incoming.pass_on(envelope, context)),
            idempotent: admitted.idempotent,
        };
        routes += 1;
        let outcome = {
            let span = traced.as_mut().and_then(|traced| traced.on_its_way());
            let forwarding = pin!(forward(&admitted.lease, outgoing, span));
            ticket.run(forwarding).await
        };
        match outcome {
            Ok(Ok(Answer::Whole(bytes))) => return exchange.answered(&core, admitted, bytes, traced),
            Ok(Ok(Answer::Events(events))) => {
                let id = body.slice(id.span().range());
                let open = Open { events, ticket, admitted, exchange, id, traced };
                let stream = CallStream { core: Rc::clone(&core), open: Some(open) };
                let revision = stream.revision();
                return answer::events(revision, Body::Call(Box::new(stream)));
            }
            Ok(Err(error)) if !error.sent && routes < ROUTES && moved_on(&core, &admitted) => {
                ticket.at(None);
                if let Some(traced) = &mut traced {
                    traced.turned_back(&error);
                }
            }
            Ok(Err(error)) => {
                let body = exchange.failed(&core, &admitted, id.text(), &error, traced);
                return answer::ok(admitted.lease.revision, body);
            }
            Err(cause) => {
                let body = exchange.ended(&core, &admitted, id.text(), cause, traced);
                return answer::ok(admitted.lease.revision, body);
            }
        }
    }
}

async fn admit(core: &Core, name: &str, within: std::time::Duration) -> Result<Admitted, Unroutable> {
    match core.shared.live.admit(name, core.random()) {
        // Rare, and large.
        Err(refused) if refused.may_pass() => {
            Box::pin(core.shared.live.admit_within(name, core.random(), within)).await
        }
        done => done,
    }
}

/// Whether routing anew may lead somewhere else.
fn moved_on(core: &Core, admitted: &Admitted) -> bool {
    core.shared.live.load().revision != admitted.lease.revision
        || admitted.lease.endpoint.admission.state() != drain::State::Open
}

/// None when the server calls the tool what its clients call it.
fn renamed(name: &mcp::Text<'_>, admitted: &Admitted) -> Option<(mcp::Span, Arc<str>)> {
    (name.value() != &*admitted.own).then(|| (name.raw().span(), Arc::clone(&admitted.own_json)))
}

fn unroutable(id: Id<'_>, name: &str, refused: &Unroutable, traced: Option<Box<Traced>>) -> Response<Body> {
    count_unrouted(match refused {
        Unroutable::Unknown { .. } => "unknown_tool",
        Unroutable::Arriving { .. } => "starting",
        Unroutable::Cordoned { .. } => "cordoned",
    });
    let (revision, text) = (refused.revision(), refused.to_string());
    let (code, body) = match refused {
        Unroutable::Unknown { .. } => (ErrorCode::INVALID_PARAMS, message::unknown_tool(id.text(), name)),
        Unroutable::Arriving { .. } | Unroutable::Cordoned { .. } => {
            (ErrorCode::UNAVAILABLE, message::error(Some(id.text()), ErrorCode::UNAVAILABLE, &text, None))
        }
    };
    tracing::debug!(revision = revision.0, result = "unroutable", reason = text, "call");
    if let Some(traced) = traced {
        traced.unrouted(revision, "unroutable", code, &text);
    }
    answer::ok(revision, body)
}

fn count_unrouted(reason: &'static str) {
    metrics::counter!("only1mcp_calls_unrouted_total", "reason" => reason).increment(1);
}

/// Ended before it had an endpoint.
fn unrouted(core: &Core, id: Id<'_>, cause: Cause, traced: Option<Box<Traced>>) -> Response<Body> {
    count_unrouted("ended");
    let (code, text) = explain(cause, "the gateway");
    let (revision, result) = (core.shared.live.load().revision, result(cause));
    tracing::debug!(revision = revision.0, result, "call");
    if let Some(traced) = traced {
        traced.unrouted(revision, result, code, &text);
    }
    answer::error(revision, StatusCode::OK, Some(id.text()), code, &text)
}

/// As it is counted.
fn result(cause: Cause) -> &'static str {
    match cause {
        Cause::Cancelled => "cancelled",
        Cause::Evicted | Cause::Stopped => "evicted",
        Cause::Idle(_) | Cause::Total(_) => "timed_out",
    }
}

fn explain(cause: Cause, server: &str) -> (ErrorCode, String) {
    match cause {
        Cause::Cancelled => (ErrorCode::CANCELLED, "cancelled by the client".into()),
        Cause::Evicted => {
            let text = format!("server `{server}` is leaving, and this call did not end before the drain's deadline");
            (ErrorCode::EVICTED, text)
        }
        Cause::Stopped => {
            let text = "the gateway stops, and this call did not end before its deadline";
            (ErrorCode::EVICTED, text.into())
        }
        Cause::Idle(limit) => {
            (ErrorCode::TIMED_OUT, format!("nothing came from `{server}` for {} s (limits.idle)", limit.as_secs()))
        }
        Cause::Total(limit) => {
            (ErrorCode::TIMED_OUT, format!("not finished within {} s (limits.total)", limit.as_secs()))
        }
    }
}

/// One way of a call to an endpoint and back, as it is counted.
#[derive(Debug)]
struct Exchange {
    meter: Rc<Meter>,
    started: Time,
}

impl Exchange {
    fn begin(core: &Core, admitted: &Admitted, started: Time) -> Self {
        Self { meter: core.meters.of(&admitted.lease.endpoint), started }
    }

    fn answered(&self, core: &Core, admitted: Admitted, body: Bytes, traced: Option<Box<Traced>>) -> Response<Body> {
        self.meter.answered.increment(1);
        self.done(core, &admitted, "answered", traced.as_deref());
        if let Some(traced) = traced {
            traced.answered(core, Some(&body));
        }
        answer::ok(admitted.lease.revision, body)
    }

    fn failed(
        &self,
        core: &Core,
        admitted: &Admitted,
        id: &str,
        error: &CallError,
        traced: Option<Box<Traced>>,
    ) -> Vec<u8> {
        self.meter.failed.increment(1);
        admitted.lease.endpoint.stats.failed.fetch_add(1, Ordering::Relaxed);
        self.done(core, admitted, error.cause.as_str(), traced.as_deref());
        if let Some(traced) = traced {
            traced.failed(core, error.cause.as_str(), error.code, &error.message);
        }
        message::error(Some(id), error.code, &error.message, error.data.as_deref().map(str::as_bytes))
    }

    fn ended(&self, core: &Core, admitted: &Admitted, id: &str, cause: Cause, traced: Option<Box<Traced>>) -> Vec<u8> {
        let stats = &admitted.lease.endpoint.stats;
        match cause {
            Cause::Cancelled => self.meter.cancelled.increment(1),
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
            traced.failed(core, result, code, &text);
        }
        message::error(Some(id), code, &text, None)
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

/// The answer to one call as events. It ends with the response, whoever has to write it.
pub(super) struct CallStream {
    core: Rc<Core>,
    /// Until the response.
    open: Option<Open>,
}

struct Open {
    events: EventStream,
    ticket: Ticket,
    admitted: Admitted,
    exchange: Exchange,
    id: Bytes,
    traced: Option<Box<Traced>>,
}

impl CallStream {
    fn revision(&self) -> Revision {
        self.open.as_ref().map_or(Revision::NONE, |open| open.admitted.lease.revision)
    }

    pub(super) fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some(open) = &mut self.open else { return Poll::Ready(None) };
        let last = match open.poll(&self.core, context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Step::Message(message)) => return Poll::Ready(Some(event(&message))),
            Poll::Ready(Step::Done) => None,
            Poll::Ready(Step::Failed(body)) => Some(event(&body)),
        };
        self.open = None;
        Poll::Ready(last)
    }
}

enum Step {
    Message(Bytes),
    /// The response was the message before.
    Done,
    /// This is the response.
    Failed(Vec<u8>),
}

impl Open {
    fn poll(&mut self, core: &Core, context: &mut Context<'_>) -> Poll<Step> {
        let id = || std::str::from_utf8(&self.id).unwrap_or("null");
        if let Poll::Ready(cause) = self.ticket.poll_ended(context) {
            return Poll::Ready(Step::Failed(self.exchange.ended(
                core,
                &self.admitted,
                id(),
                cause,
                self.traced.take(),
            )));
        }
        let Self { ticket, events, .. } = self;
        ticket.watch(|| events.poll_next_unpin(context)).map(|next| match next {
            Some(Ok(message)) => {
                self.ticket.seen(core.now());
                if let Some(traced) = &mut self.traced {
                    traced.hears(&message);
                }
                Step::Message(message)
            }
            Some(Err(error)) => {
                Step::Failed(self.exchange.failed(core, &self.admitted, id(), &error, self.traced.take()))
            }
            None => {
                self.exchange.meter.answered.increment(1);
                self.exchange.done(core, &self.admitted, "answered", self.traced.as_deref());
                if let Some(traced) = self.traced.take() {
                    traced.answered(core, None);
                }
                Step::Done
            }
        })
    }
}

impl Drop for CallStream {
    /// The client went away, which cancels nothing: the call runs to its end without a reader.
    fn drop(&mut self) {
        if let Some(mut open) = self.open.take()
            && !self.core.closing.get()
        {
            let core = Rc::clone(&self.core);
            tokio::task::spawn_local(async move {
                while let Step::Message(_) = std::future::poll_fn(|context| open.poll(&core, context)).await {}
            });
        }
    }
}

impl std::fmt::Debug for CallStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CallStream(revision {})", self.revision())
    }
}
