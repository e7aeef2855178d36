//! The life of a call: admitted by one revision, forwarded, answered.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderName, Response, StatusCode};
use mcp::{Envelope, ErrorCode, Id, message};
use model::{Revision, Time};
use runtime::TraceContext;

use super::answer;
use super::body::{Body, event};
use super::core::Core;
use super::meter::Meter;
use super::service::Session;
use crate::call::{Answer, Call, CallError, EventStream, Traceparent, forward};
use crate::generation::{Admitted, Unroutable};
use crate::in_flight::{Cause, Ticket};

pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// How often a call is routed anew because nothing of it reached the endpoint it was routed to.
const ROUTES: u32 = 3;

pub(super) async fn call(
    core: Rc<Core>,
    session: &Session,
    envelope: &Envelope<'_>,
    id: Id<'_>,
    call: &mcp::Call<'_>,
    body: &Bytes,
    traceparent: Option<&str>,
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
    let traceparent = trace(envelope, call, traceparent);
    let mut routes = 0;
    loop {
        let admitted = match ticket.run(pin!(admit(&core, name.value(), limits.connect))).await {
            Ok(Ok(admitted)) => admitted,
            Ok(Err(refused)) => return unroutable(id, name.value(), &refused),
            Err(cause) => return unrouted(&core, id, cause),
        };
        let exchange = Exchange::begin(&core, &admitted, started);
        ticket.at(Some(admitted.lease.endpoint.serial));
        let outgoing = Call {
            body: body.clone(),
            id: id.span(),
            name: renamed(name, &admitted),
            progress: call.progress_token().map(Id::span),
            traceparent: traceparent.clone(),
            idempotent: admitted.idempotent,
        };
        routes += 1;
        let outcome = {
            let forwarding = pin!(forward(&admitted.lease, outgoing));
            ticket.run(forwarding).await
        };
        match outcome {
            Ok(Ok(Answer::Whole(bytes))) => return exchange.answered(&core, admitted, bytes),
            Ok(Ok(Answer::Events(events))) => {
                let id = body.slice(id.span().range());
                let stream =
                    CallStream { core: Rc::clone(&core), open: Some(Open { events, ticket, admitted, exchange, id }) };
                let revision = stream.revision();
                return answer::events(revision, Body::Call(Box::new(stream)));
            }
            Ok(Err(error)) if !error.sent && routes < ROUTES && moved_on(&core, &admitted) => ticket.at(None),
            Ok(Err(error)) => {
                let body = exchange.failed(&core, &admitted, id.text(), &error);
                return answer::ok(admitted.lease.revision, body);
            }
            Err(cause) => {
                let body = exchange.ended(&core, &admitted, id.text(), cause);
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

/// The trace goes on with a new span in it; a call without one begins none.
fn trace(envelope: &Envelope<'_>, call: &mcp::Call<'_>, header: Option<&str>) -> Option<Traceparent> {
    let carried = call.traceparent();
    let context: TraceContext = carried.as_deref().or(header)?.parse().ok()?;
    let value = context.child().to_string();
    let edit = envelope.traceparent_edit(&value)?;
    tracing::debug!(trace_id = format!("{:032x}", context.trace_id()), "call continues a trace");
    Some(Traceparent { value: value.into(), edit })
}

fn unroutable(id: Id<'_>, name: &str, refused: &Unroutable) -> Response<Body> {
    let id = id.text();
    let body = match refused {
        Unroutable::Unknown { .. } => message::unknown_tool(id, name),
        Unroutable::Arriving { .. } | Unroutable::Cordoned { .. } => {
            message::error(Some(id), ErrorCode::UNAVAILABLE, &refused.to_string(), None)
        }
    };
    answer::ok(refused.revision(), body)
}

/// Ended before it had an endpoint.
fn unrouted(core: &Core, id: Id<'_>, cause: Cause) -> Response<Body> {
    let (code, text) = explain(cause, "the gateway");
    answer::error(core.shared.live.load().revision, StatusCode::OK, Some(id.text()), code, &text)
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

    fn answered(&self, core: &Core, admitted: Admitted, body: Bytes) -> Response<Body> {
        self.meter.answered.increment(1);
        self.done(core, &admitted, "answered");
        answer::ok(admitted.lease.revision, body)
    }

    fn failed(&self, core: &Core, admitted: &Admitted, id: &str, error: &CallError) -> Vec<u8> {
        self.meter.failed.increment(1);
        admitted.lease.endpoint.stats.failed.fetch_add(1, Ordering::Relaxed);
        self.done(core, admitted, error.cause.as_str());
        message::error(Some(id), error.code, &error.message, error.data.as_deref().map(str::as_bytes))
    }

    fn ended(&self, core: &Core, admitted: &Admitted, id: &str, cause: Cause) -> Vec<u8> {
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
        self.done(core, admitted, "ended");
        let (code, text) = explain(cause, admitted.backend.as_str());
        message::error(Some(id), code, &text, None)
    }

    fn done(&self, core: &Core, admitted: &Admitted, result: &str) {
        let took = core.now().since(self.started);
        self.meter.seconds.record(took.as_secs_f64());
        tracing::debug!(
            revision = admitted.lease.revision.0,
            endpoint = %admitted.lease.endpoint.key,
            result,
            ?took,
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
            return Poll::Ready(Step::Failed(self.exchange.ended(core, &self.admitted, id(), cause)));
        }
        self.events.poll_next_unpin(context).map(|next| match next {
            Some(Ok(message)) => {
                self.ticket.seen(core.now());
                Step::Message(message)
            }
            Some(Err(error)) => Step::Failed(self.exchange.failed(core, &self.admitted, id(), &error)),
            None => {
                self.exchange.meter.answered.increment(1);
                self.exchange.done(core, &self.admitted, "answered");
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
