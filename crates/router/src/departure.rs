//! How endpoints leave: the shell around [`drain::Departures`], which decides, and the line to drain-coordinator, which
//! only adds operators' cordons and keeps the record. Everything else works without it.

mod traces;

use std::fmt;

use drain::departures::{Effect, Event, Seen};
use drain::{Count, Directive};
use model::EndpointKey;
use rollout::follower::Identity;
use runtime::grpc::{DialError, MESSAGE_BYTES_MAX, connect_lazy};
use runtime::{Tasks, TraceContext};
use std::sync::atomic::Ordering;
use tokio::sync::mpsc;
use wire::pb::drain::v1 as pb;
use wire::pb::drain::v1::drain_service_client::DrainServiceClient;

use crate::fleet::{Command, Task};
use crate::line::{self, Line, Outgoing, Peer, Stuck};
use crate::metrics::{self, Cordoned};
pub(crate) use traces::Drains;

/// The exchanges in flight on the data cores. Endpoints are named by the serial they have themselves.
pub trait Exchanges: fmt::Debug + Send + Sync {
    /// Ends what is in flight there now: each exchange answers its client, is counted in the endpoint's `evicted`, and
    /// then leaves. Does not wait for that.
    fn evict(&self, endpoint: u64);

    /// The one that has been there longest, as its client named it, if that can be said without waiting.
    fn oldest(&self, endpoint: u64) -> Option<String>;
}

/// What the line to drain-coordinator brings.
#[derive(Debug)]
pub(crate) enum Cordons {
    Up(Speaking),
    /// In whose trace, if in any.
    Said(Directive, Option<TraceContext>),
    Down,
}

/// The speaking end of that line.
#[derive(Debug)]
pub(crate) struct Speaking {
    outgoing: Outgoing<pb::AttachRequest>,
    nonce: u64,
}

impl Speaking {
    fn say(&mut self, count: &Count, trace: Option<TraceContext>) -> Result<(), Stuck> {
        self.nonce += 1;
        let trace = trace.map(|trace| trace.to_string()).unwrap_or_default();
        let envelope = Some(wire::envelope(None, &trace, self.nonce));
        self.outgoing.say(pb::AttachRequest { envelope, count: Some(wire::drain::count_to_pb(count)) })
    }
}

/// Keeps the line to drain-coordinator up.
pub(crate) fn spawn(
    peer: Peer<'_>,
    identity: &Identity,
    commands: mpsc::Sender<Command>,
    tasks: &Tasks,
) -> Result<(), DialError> {
    let client = DrainServiceClient::new(connect_lazy(peer.target)?)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let (events, mut lines) = mpsc::channel(64);
    let (shown, shutdown) = (peer.shown, tasks.shutdown().clone());
    tasks.spawn("drain-coordinator line", async move {
        let attach = |outgoing| {
            let mut client = client.clone();
            async move { client.attach(outgoing).await }
        };
        line::keep(shown, shutdown, events, attach).await;
    });
    let hello = Count::Hello { node: identity.node.clone(), boot: identity.boot.clone() };
    tasks.spawn("drain-coordinator words", async move {
        while let Some(line) = lines.recv().await {
            let cordons = match line {
                Line::Up(outgoing) => {
                    let mut speaking = Speaking { outgoing, nonce: 0 };
                    match speaking.say(&hello, None) {
                        Ok(()) => Cordons::Up(speaking),
                        Err(Stuck) => Cordons::Down,
                    }
                }
                Line::Answered => continue,
                Line::Heard(response) => match wire::drain::directive(response.directive) {
                    Ok(directive) => {
                        let envelope = response.envelope.unwrap_or_default();
                        Cordons::Said(directive, envelope.traceparent.parse().ok())
                    }
                    Err(error) => {
                        tracing::warn!(%error, "drain-coordinator said something that is not understood here");
                        continue;
                    }
                },
                Line::Down => Cordons::Down,
            };
            if commands.send(Command::Cordons(cordons)).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}

impl Task {
    pub(crate) fn cordons(&mut self, cordons: Cordons) {
        let now = self.now();
        match cordons {
            Cordons::Up(speaking) => {
                self.line = Some(speaking);
                self.departures.handle(now, Event::Attached);
            }
            Cordons::Said(directive, trace) => {
                tracing::debug!(?directive, "drain-coordinator said");
                self.unsaved |= matches!(directive, Directive::Overlay { .. }) && self.saved.is_some();
                if let Directive::Recorded { endpoint, .. } = &directive {
                    self.drains.recorded(endpoint);
                }
                self.departures.handle(now, Event::Said(directive));
                self.draw_consequences(trace);
            }
            Cordons::Down => {
                self.line = None;
                self.departures.handle(now, Event::Detached);
            }
        }
    }

    /// Carries out what the departures want; whether there was anything.
    pub(crate) fn pass_departures(&mut self) -> bool {
        self.release_held_open();
        let mut any = false;
        while let Some(effect) = self.departures.poll_effect() {
            any = true;
            self.unseen |= !matches!(effect, Effect::Report(_));
            match effect {
                Effect::Cordon { endpoint } => {
                    if let Some(target) = self.endpoint(&endpoint) {
                        let cordoned = target.admission.cordon();
                        let evicted = target.stats.evicted.load(Ordering::Acquire);
                        let since = tokio::time::Instant::now();
                        self.cordoned.entry(endpoint.clone()).or_insert(Cordoned { since, evicted });
                        tracing::info!(%endpoint, in_flight = cordoned.in_flight, "cordoned");
                        self.drains.begin(&self.tracer, &endpoint, self.roster.revision(), self.cause);
                    }
                    self.count(endpoint);
                }
                Effect::Uncordon { endpoint } => self.uncordon(&endpoint),
                Effect::Count { endpoint } => self.count(endpoint),
                Effect::Evict { endpoint } => {
                    if let Some(target) = self.endpoint(&endpoint) {
                        tracing::info!(%endpoint, in_flight = target.admission.in_flight(), "evicting: the deadline has passed");
                        self.exchanges.evict(target.serial);
                        self.drains.evicting(&endpoint);
                    }
                }
                Effect::TryClose { endpoint } => self.try_close(endpoint),
                Effect::Report(count) => self.report(&count),
            }
        }
        any
    }

    fn uncordon(&mut self, endpoint: &EndpointKey) {
        self.cordoned.remove(endpoint);
        let opened = self.endpoint(endpoint).is_some_and(|target| target.admission.uncordon());
        self.drains.end(endpoint, "reopened", None);
        if opened {
            tracing::info!(%endpoint, "open again");
        } else {
            tracing::error!(%endpoint, "cannot be opened again: it is closed");
        }
    }

    /// `in_flight` is read before `evicted`, as the core demands.
    fn count(&mut self, endpoint: EndpointKey) {
        let seen = self.endpoint(&endpoint).map(|target| {
            let in_flight = target.admission.in_flight();
            let oldest = if in_flight > 0 { self.exchanges.oldest(target.serial) } else { None };
            Seen { in_flight, evicted: target.stats.evicted.load(Ordering::Acquire), oldest }
        });
        let (now, seen) = (self.now(), seen.unwrap_or_default());
        let empty = (seen.in_flight == 0).then(|| endpoint.clone());
        self.departures.handle(now, Event::Counted { endpoint, seen });
        // What is still configured stays, cordoned: an operator's drain ends here.
        if let Some(endpoint) = empty.filter(|endpoint| self.roster.layout().is_some_and(|live| live.has(endpoint))) {
            self.end_drain(&endpoint, "drained");
        }
    }

    fn end_drain(&mut self, endpoint: &EndpointKey, result: &'static str) {
        let totals = self.departures.departures(self.now()).into_iter().find(|one| one.endpoint == *endpoint);
        self.drains.end(endpoint, result, totals.as_ref());
    }

    /// An attempt may want back what is leaving: until that is decided it stays, cordoned and empty.
    fn try_close(&mut self, endpoint: EndpointKey) {
        if self.roster.is_wanted(&endpoint) {
            self.held_open.insert(endpoint);
            return;
        }
        let closed = self.endpoint(&endpoint).is_none_or(|target| {
            let closed = target.admission.try_close();
            if closed {
                tracing::info!(%endpoint, "closed");
            }
            closed
        });
        if closed {
            let evicted = self.endpoint(&endpoint).map(|target| target.stats.evicted.load(Ordering::Acquire));
            if let (Some(cordoned), Some(evicted)) = (self.cordoned.remove(&endpoint), evicted) {
                metrics::removed(cordoned, evicted);
            }
            self.end_drain(&endpoint, "closed");
            self.closed(&endpoint);
            self.departures.handle(self.now(), Event::Closed { endpoint });
        } else {
            self.count(endpoint);
        }
    }

    fn release_held_open(&mut self) {
        if self.held_open.is_empty() {
            return;
        }
        let (kept, released) =
            std::mem::take(&mut self.held_open).into_iter().partition(|key| self.roster.is_wanted(key));
        self.held_open = kept;
        let now = self.now();
        for endpoint in released {
            self.departures.handle(now, Event::LastLeft { endpoint });
        }
    }

    /// A coordinator that takes nothing is hung up on, and told everything on the next line.
    fn report(&mut self, count: &Count) {
        let Some(line) = &mut self.line else { return };
        let trace = match count {
            Count::Departure(departure) => self.drains.about(&departure.endpoint),
            Count::Live { .. } => self.cause,
            Count::Hello { .. } => None,
        };
        if let Err(stuck) = line.say(count, trace) {
            tracing::warn!(error = %stuck, "hanging up on drain-coordinator");
            self.line = None;
            self.departures.handle(self.now(), Event::Detached);
        }
    }
}

#[cfg(test)]
impl Speaking {
    /// One whose reports a test reads.
    pub(crate) fn test() -> (Self, mpsc::Receiver<pb::AttachRequest>) {
        let (outgoing, said) = Outgoing::test();
        (Self { outgoing, nonce: 0 }, said)
    }
}
