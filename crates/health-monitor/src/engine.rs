//! The one task that owns the monitor: it hands over incoming messages and reports the decisions.

use std::collections::BTreeMap;

use health::monitor::{Connection, Effect, Event, Opinion};
use health::{Monitor, Observation, Request};
use model::{Time, Verdict};
use runtime::grpc::refusal;
use runtime::readiness::Gate;
use runtime::stream::attached::{self, Attached};
use runtime::{Clock, Kind, Scope, Shutdown, Span, TraceContext, Tracer};
use tokio::sync::{broadcast, mpsc};

use crate::command::{Ask, Command};
use crate::metrics;

#[derive(Debug)]
pub(crate) struct Engine {
    clock: Clock,
    shutdown: Shutdown,
    tracer: Tracer,
    gate: Gate,
    monitor: Monitor,
    changes: broadcast::Sender<Opinion>,
    routers: BTreeMap<Connection, Router>,
    /// Endpoints by verdict have not been counted since something changed.
    uncounted: bool,
}

/// The speaking end of one router's stream.
#[derive(Debug)]
struct Router {
    stream: Attached<Request>,
    /// The name that the router gave itself.
    node: String,
}

impl Engine {
    pub(crate) fn new(monitor: Monitor, changes: broadcast::Sender<Opinion>, scope: &Scope) -> Self {
        Self {
            clock: scope.clock,
            shutdown: scope.tasks.shutdown().clone(),
            tracer: scope.tracer.clone(),
            gate: scope.readiness.gate("verdicts"),
            monitor,
            changes,
            routers: BTreeMap::new(),
            uncounted: true,
        }
    }

    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        self.gate.open();
        loop {
            // After the last of many that come at once.
            if commands.is_empty() && std::mem::take(&mut self.uncounted) {
                metrics::state(self.monitor.attached(), self.monitor.verdicts());
            }
            let due = self.monitor.next_deadline().map(Time::as_nanos);
            let (trace, _span) = tokio::select! {
                () = self.shutdown.triggered() => return,
                command = commands.recv() => {
                    let Some(Command { trace, ask }) = command else { return };
                    let span = self.watches(trace, &ask);
                    self.take(ask);
                    (span.as_ref().map(Span::context).or(trace), span)
                }
                () = self.clock.sleep_until(due) => {
                    self.handle(Event::Tick);
                    (None, None)
                }
            };
            while let Some(effect) = self.monitor.poll_effect() {
                self.tell(trace, effect);
            }
        }
    }

    /// Other endpoints are to be watched, because of a change.
    fn watches(&mut self, trace: Option<TraceContext>, ask: &Ask) -> Option<Span> {
        let Ask::Router { connection, event: attached::Event::Said(observation) } = ask else { return None };
        let router = self.routers.get_mut(connection)?;
        let told = match observation {
            Observation::Hello { node, .. } => {
                router.node = node.to_string();
                return None;
            }
            Observation::Endpoints { endpoints, .. } => endpoints.len(),
            Observation::Change { come, gone, .. } => come.len() + gone.len(),
            Observation::Probed { .. } | Observation::Seen { .. } => return None,
        };
        let mut span = self.tracer.start("health.watch", Kind::Consumer, Some(trace?));
        span.set("only1mcp.router", router.node.clone());
        span.count("only1mcp.endpoints", told as u64);
        Some(span)
    }

    fn now(&self) -> Time {
        Time::from_nanos(self.clock.now_nanos())
    }

    fn handle(&mut self, event: Event) {
        let now = self.now();
        self.monitor.handle(now, event);
    }

    fn take(&mut self, ask: Ask) {
        match ask {
            Ask::Router { connection, event: attached::Event::Attached(stream) } => {
                self.routers.insert(connection, Router { stream, node: String::new() });
            }
            Ask::Router { connection, event: attached::Event::Said(observation) } => {
                metrics::observed(&observation);
                let new_set = matches!(observation, Observation::Endpoints { .. } | Observation::Change { .. });
                self.uncounted |= new_set;
                self.handle(Event::Said { connection, observation });
            }
            Ask::Router { connection, event: attached::Event::Detached } => {
                self.uncounted = true;
                self.routers.remove(&connection);
                self.handle(Event::Detached { connection });
            }
            // The caller may be gone.
            Ask::List { answer } => drop(answer.send(self.monitor.opinions(self.now()))),
        }
    }

    fn tell(&mut self, trace: Option<TraceContext>, effect: Effect) {
        match effect {
            Effect::Tell { connection, request } => self.say(connection, request, trace),
            Effect::Disconnect { connection } => {
                let Some(router) = self.routers.remove(&connection) else { return };
                let reason = "another stream speaks for that router now";
                tracing::warn!(connection, reason, "hanging up on a router");
                metrics::hung_up();
                router.stream.hang_up(refusal::aborted("DISPLACED", "router", reason));
            }
            Effect::Changed(opinion) => self.changed(opinion),
        }
    }

    fn say(&mut self, connection: Connection, request: Request, trace: Option<TraceContext>) {
        let Some(router) = self.routers.get(&connection) else { return };
        // Probes go on for as long as processes do: they are not part of the trace that once began them.
        let trace = match request {
            Request::Probe { .. } => {
                metrics::probe_asked();
                None
            }
            Request::Verdict { .. } => trace,
        };
        if let Err(stuck) = router.stream.say(trace, request) {
            tracing::warn!(connection, reason = %stuck, "hanging up on a router");
            metrics::hung_up();
            self.routers.remove(&connection);
        }
    }

    fn changed(&mut self, opinion: Opinion) {
        let Opinion { node, endpoint, verdict, reason, .. } = &opinion;
        match verdict {
            Verdict::Healthy | Verdict::Unknown | Verdict::Starting => {
                tracing::info!(%node, %endpoint, %verdict, reason, "verdict");
            }
            Verdict::Degraded | Verdict::Unhealthy | Verdict::Failing => {
                tracing::warn!(%node, %endpoint, %verdict, reason, "verdict")
            }
        }
        self.uncounted = true;
        metrics::changed(*verdict);
        // An error says that there is no watcher.
        drop(self.changes.send(opinion));
    }
}
