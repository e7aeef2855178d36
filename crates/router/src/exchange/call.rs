//! The life of a call: admitted by one revision, forwarded, answered.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{Response, StatusCode};
use mcp::{Envelope, ErrorCode, Id, Kind, message};
use model::{Revision, Time};

use super::answer;
use super::answer::body::Body;
use super::conclusion::{Exchange, explain, result};
use super::fields::Fields;
use super::share;
use super::streamed::{self, Open};
use super::traced::{Incoming, Traced};
use crate::budget::Whole;
use crate::call::{self, Answer, Call, CallError, TimeLimits, piece};
use crate::core::Core;
use crate::core::clients::Client;
use crate::core::in_flight::{EndedBy, Presence, Ticket};
use crate::endpoint::{Endpoint, Lease};
use crate::generation::{Admitted, Unroutable};
use crate::session::Session;
use crate::upstream::forward;

/// The answer to a call that was not sent to a server before the gateway stopped.
const STOPPING: &str = "the gateway stops; the call was not executed: send it again";
/// Why a call reached no server: the values of a label.
pub(crate) const UNROUTED: &[&str] = &["unknown", "starting", "cordoned", "no_room", "ended"];
/// What is recorded of a call whose client left before it reached a server.
const LEFT: &str = "its client was gone before a server could take it; it was not executed";
/// How often a call is routed at most. It is routed anew if nothing of it reached its endpoint.
const ROUTES: u32 = 3;
/// The interval and the number of checks whether a call that makes way has left.
const LOOK_EVERY: Duration = Duration::from_millis(5);
const LOOKS: u32 = 20;

/// Whose call it is.
#[derive(Clone, Copy)]
pub(super) struct Caller<'a> {
    pub(super) session: &'a Session,
    pub(super) client: &'a Client,
    /// When its request was read.
    pub(super) since: Time,
    /// Until it is routed.
    pub(super) limits: TimeLimits,
}

/// What it asks for: one of a kind, or the list of them.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) kind: Kind,
    pub(super) id: Id<'a>,
    pub(super) call: &'a mcp::Call<'a>,
}

pub(super) async fn call(
    core: Rc<Core>,
    caller: Caller<'_>,
    Asked { kind, id, call }: Asked<'_>,
    envelope: &Envelope<'_>,
    body: &Whole,
    fields: &Fields<'_>,
) -> Response<Body> {
    let named = call.require_name(kind);
    let name = match &named {
        Ok(name) => &**name,
        Err(fault) => {
            let revision = core.shared.live.load().revision;
            return answer::error(revision, StatusCode::OK, Some(id.text()), fault.code(), &fault.to_string());
        }
    };
    let Caller { session, client, since: started, limits } = caller;
    let ticket = core.in_flight.enter(session.sealed.id, piece(&body.bytes, id.span().range()), limits, started);
    client.waits_for(ticket.slot(), &core.in_flight);
    let incoming = Incoming::of(call, fields);
    let mut traced = Traced::begin(&core, &incoming, session, id, (kind, name.value()), started);
    let mut way = Way::new(session, (kind, name.value()), body, started);
    loop {
        let admitted = match ticket.run(pin!(way.admit(&core, &ticket))).await {
            Ok(Ok(admitted)) => admitted,
            Ok(Err(refused)) => return unroutable(id, name.value(), &refused, traced),
            Err(cause) => return unrouted(&core, id, cause, traced),
        };
        let exchange = Exchange::begin(&core, &admitted, started);
        ticket.admitted(admitted.lease.endpoint.number, admitted.limits, Some(Arc::clone(&admitted.item)));
        let context = traced.as_mut().map(|traced| traced.toward(&core, &admitted)).or(incoming.context);
        let outgoing = Call {
            body: body.bytes.clone(),
            id: id.span(),
            name: renamed(kind, name, &admitted),
            progress: call.progress_token().map(Id::span),
            traceparent: context.and_then(|context| incoming.pass_on(envelope, context)),
            idempotent: admitted.item.may_repeat(),
            waited: way.waited(&core),
        };
        let outcome = {
            let span = traced.as_mut().and_then(|traced| traced.on_its_way());
            let forwarding = pin!(forward(&admitted.lease, outgoing, span, || way.leads_elsewhere(&core, &admitted)));
            ticket.run(forwarding).await
        };
        match outcome {
            Ok(Ok(Answer::Whole(bytes))) => return exchange.answered(&core, admitted, id.text(), bytes, traced),
            Ok(Ok(Answer::Events(events))) => {
                let id = piece(&body.bytes, id.span().range());
                let open = Open { events, ticket, admitted, exchange, id, traced, fault: None };
                return streamed::begin(core, open);
            }
            Ok(Err(error)) => {
                let Some(again) = way.again(&core, &admitted, &error) else {
                    let body = exchange.failed(&core, &admitted, id.text(), &error, traced);
                    return answer::ok(admitted.lease.revision, body);
                };
                turned_back(admitted, &ticket, traced.as_deref_mut(), &error);
                if let Err(cause) = ticket.run(Box::pin(again.due()).as_mut()).await {
                    return unrouted(&core, id, cause, traced);
                }
            }
            Err(cause) => {
                let revision = admitted.lease.revision;
                let told = exchange.ended(&core, &admitted, id.text(), cause, traced);
                return told.map_or_else(|| answer::silence(revision), |body| answer::ok(revision, body));
            }
        }
    }
}

/// The way of one call to an endpoint.
struct Way<'a> {
    session: &'a Session,
    wanted: (Kind, &'a str),
    body: &'a Whole,
    /// When its request was read.
    since: Time,
    /// It has waited for a server to come up.
    has_waited: bool,
    /// How often the call was routed.
    routes: u32,
    /// Where it goes now: the endpoint it was routed to is not there. Boxed because it is rare.
    next: Option<Box<Admitted>>,
}

impl<'a> Way<'a> {
    fn new(session: &'a Session, wanted: (Kind, &'a str), body: &'a Whole, since: Time) -> Self {
        Self { session, wanted, body, since, has_waited: false, routes: 0, next: None }
    }

    /// How long it has waited for its server. The clock is read only where that may be for long.
    fn waited(&self, core: &Core) -> Duration {
        if self.has_waited || self.routes > 1 { core.now().since(self.since) } else { Duration::ZERO }
    }

    async fn admit(&mut self, core: &Core, ticket: &Ticket) -> Result<Admitted, Unroutable> {
        self.routes += 1;
        if let Some(next) = self.next.take() {
            return Ok(*next);
        }
        let Self { session, wanted: (kind, name), body, .. } = *self;
        let idle = |endpoint| !core.in_flight.has(session.sealed.id, endpoint);
        let done = match core.shared.live.admit(kind, name, fastrand::u64(..), &session.known.homes, idle) {
            // Rare, and large.
            Err(refused) if refused.may_pass() => {
                self.has_waited = true;
                Box::pin(self.wait(core, ticket, &refused)).await
            }
            done => done,
        };
        if body.is_charged()
            && let Ok(admitted) = &done
        {
            let kept = share::keep(core, session, body, Some(&admitted.backend));
            kept.map_err(|text| no_room(admitted.lease.revision, text))?;
        }
        done
    }

    /// Waits for a server that is on its way, for as long as the call's client is there.
    async fn wait(&self, core: &Core, ticket: &Ticket, refused: &Unroutable) -> Result<Admitted, Unroutable> {
        ticket.waits();
        let Self { session, wanted: (kind, name), body, .. } = *self;
        let share = share::wait(core, session, body, refused.backend());
        let _share = share.map_err(|text| no_room(refused.revision(), text))?;
        let idle = |endpoint| !core.in_flight.has(session.sealed.id, endpoint);
        let waited = self.waited(core);
        core.shared.live.admit_within(kind, name, fastrand::u64(..), &session.known.homes, idle, waited).await
    }

    /// Whether another endpoint of the same server takes the call, of which nothing was sent to that of `gone`.
    fn leads_elsewhere(&mut self, core: &Core, gone: &Admitted) -> bool {
        if self.next.is_none() && self.routes < ROUTES {
            let (kind, name) = self.wanted;
            let homes = &self.session.known.homes;
            self.next = core.shared.live.elsewhere(kind, name, fastrand::u64(..), homes, gone).map(Box::new);
        }
        self.next.is_some()
    }

    /// Whether and when routing anew may succeed.
    fn again(&self, core: &Core, admitted: &Admitted, error: &CallError) -> Option<Again> {
        if error.sent || self.routes >= ROUTES {
            return None;
        }
        let Lease { endpoint, revision, .. } = &admitted.lease;
        let is_old = core.shared.live.load().revision != *revision;
        if self.next.is_some() || is_old || endpoint.admission.state() != drain::State::Open {
            return Some(Again::Now);
        }
        let makes_way = error.cause == call::Cause::InFlight && makes_way(core, endpoint);
        makes_way.then(|| Again::Later(Arc::clone(endpoint)))
    }
}

impl Drop for Way<'_> {
    /// The call has ended before it went on: the endpoint that was to take it has answered nothing.
    fn drop(&mut self) {
        if let Some(next) = &self.next {
            next.lease.endpoint.stats.spared.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn no_room(revision: Revision, text: String) -> Unroutable {
    Unroutable::NoRoom { revision, text: text.into() }
}

/// The call leaves the endpoint, since a call must not hold the place that it waits for. That counts against the
/// endpoint's health if the endpoint was not there, and else neither for nor against it.
fn turned_back(admitted: Admitted, ticket: &Ticket, traced: Option<&mut Traced>, error: &CallError) {
    ticket.waits();
    if let Some(traced) = traced {
        traced.turned_back(error);
    }
    let stats = &admitted.lease.endpoint.stats;
    let count = if error.side == call::Side::Upstream { &stats.failed } else { &stats.spared };
    count.fetch_add(1, Ordering::Relaxed);
}

/// When to route anew a call that did not reach its endpoint.
enum Again {
    Now,
    /// When the call that makes way has left that endpoint.
    Later(Arc<Endpoint>),
}

impl Again {
    async fn due(self) {
        let Self::Later(endpoint) = self else { return };
        tokio::task::yield_now().await;
        // A call on another core takes a moment to leave, and other calls may come first. This call is routed in any
        // case.
        for _ in 0..LOOKS {
            if !endpoint.is_full() {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Where a server has as many calls as it may, the oldest call whose client is gone makes way for a new one. If there
/// is none, a call whose client may still read makes way. Returns whether a call makes way.
fn makes_way(core: &Core, endpoint: &Endpoint) -> bool {
    let elsewhere = core.everywhere.least_wanted(endpoint.number, core.index);
    [Presence::Gone, Presence::Ended].into_iter().any(|at_most| {
        if core.in_flight.give_up(endpoint.number, at_most) {
            return true;
        }
        let Some((_, other)) = elsewhere.filter(|(presence, _)| *presence <= at_most) else { return false };
        core.everywhere.give_up(other, endpoint.number);
        true
    })
}

/// None when the server's own name is the one that clients use.
fn renamed(kind: Kind, name: &mcp::Text<'_>, admitted: &Admitted) -> Option<(mcp::Span, Arc<mcp::Item>)> {
    let renamed = kind.is_renamed() && name.value() != admitted.item.name();
    renamed.then(|| (name.raw().span(), Arc::clone(&admitted.item)))
}

fn unroutable(id: Id<'_>, name: &str, refused: &Unroutable, traced: Option<Box<Traced>>) -> Response<Body> {
    count_unrouted(match refused {
        Unroutable::Unknown { .. } => "unknown",
        Unroutable::Arriving { .. } | Unroutable::NothingLive => "starting",
        Unroutable::Cordoned { .. } => "cordoned",
        Unroutable::NoRoom { .. } => "no_room",
    });
    let (revision, text) = (refused.revision(), refused.to_string());
    let (code, body) = match refused {
        Unroutable::Unknown { kind, .. } => (kind.unknown(), message::unknown(*kind, id.text(), name)),
        Unroutable::Arriving { .. }
        | Unroutable::Cordoned { .. }
        | Unroutable::NothingLive
        | Unroutable::NoRoom { .. } => {
            let hint = refused.hint();
            let body =
                message::error(Some(id.text()), ErrorCode::UNAVAILABLE, &text, hint.as_deref().map(str::as_bytes));
            (ErrorCode::UNAVAILABLE, body)
        }
    };
    tracing::debug!(revision = revision.0, result = "unroutable", reason = text, "call");
    if let Some(traced) = traced {
        traced.unrouted(revision, "unroutable", code, &text);
    }
    if matches!(refused, Unroutable::NoRoom { .. }) {
        return answer::again(revision, Some(id.text()), code, &text);
    }
    answer::ok(revision, body)
}

fn count_unrouted(reason: &'static str) {
    metrics::counter!("only1mcp_calls_unrouted_total", "reason" => reason).increment(1);
}

/// The answer to a call that was ended before it had an endpoint.
fn unrouted(core: &Core, id: Id<'_>, cause: EndedBy, traced: Option<Box<Traced>>) -> Response<Body> {
    count_unrouted("ended");
    let (code, text) = match cause {
        EndedBy::Stopped => (ErrorCode::UNAVAILABLE, STOPPING.to_owned()),
        EndedBy::Abandoned => (ErrorCode::CANCELLED, LEFT.to_owned()),
        EndedBy::Cancelled | EndedBy::Evicted | EndedBy::Idle(_) | EndedBy::Total(_) => explain(cause, "the gateway"),
    };
    let (revision, result) = (core.shared.live.load().revision, result(cause));
    tracing::debug!(revision = revision.0, result, "call");
    if let Some(traced) = traced {
        traced.unrouted(revision, result, code, &text);
    }
    if cause == EndedBy::Stopped {
        answer::again(revision, Some(id.text()), code, &text)
    } else if cause.is_told() {
        answer::error(revision, StatusCode::OK, Some(id.text()), code, &text)
    } else {
        answer::silence(revision)
    }
}
