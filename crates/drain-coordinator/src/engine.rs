//! The one task that owns the ledger: it hands over incoming messages, makes the result durable, and then sends it.
//!
//! While the disk refuses, work that needs no disk goes on: routers attach, hear the cordons that are on record and are
//! counted, and everything is shown. Their counts are kept here and written again later. Until they are on disk, no
//! router hears that it may forget an end, and operators' requests are refused.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use backoff::Backoff;
use drain::ledger::{Connection, Effect, Event, State, Summary};
use drain::{Directive, DrainId, Ledger};
use model::{DrainStrategy, Time};
use runtime::grpc::refusal;
use runtime::readiness::Gate;
use runtime::stream::attached::{self, Attached};
use runtime::{Clock, Kind, Scope, Shutdown, Span, TraceContext, Tracer};
use tokio::sync::{broadcast, mpsc};
use tonic::Code;

use crate::command::{Answer, Ask, Command};
use crate::metrics;
use crate::record::Record;

/// Commands that share one write to the disk.
const BATCH: usize = 256;
/// The wait after failed writes until the next one. One process writes, so there is nothing to spread.
const RETRY: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));

#[derive(Debug)]
pub(crate) struct Engine {
    clock: Clock,
    shutdown: Shutdown,
    tracer: Tracer,
    gate: Gate,
    ledger: Ledger,
    record: Record,
    changes: broadcast::Sender<Summary>,
    routers: BTreeMap<Connection, Attached<Directive>>,
    /// Effects that are decided, and are carried out once a write was tried.
    decided: VecDeque<(Option<TraceContext>, Effect)>,
    /// The spans of drains that have not ended, each from the first message about it.
    gathering: BTreeMap<DrainId, Span>,
    unsaved: bool,
    /// Set while the disk refuses.
    retry: Option<Retry>,
}

#[derive(Debug, Clone, Copy)]
struct Retry {
    at: Time,
    failures: u32,
}

impl Engine {
    pub(crate) fn new(ledger: Ledger, record: Record, changes: broadcast::Sender<Summary>, scope: &Scope) -> Self {
        Self {
            clock: scope.clock,
            shutdown: scope.tasks.shutdown().clone(),
            tracer: scope.tracer.clone(),
            gate: scope.readiness.gate("record of drains"),
            ledger,
            record,
            changes,
            routers: BTreeMap::new(),
            decided: VecDeque::new(),
            gathering: BTreeMap::new(),
            unsaved: false,
            retry: None,
        }
    }

    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        self.gate.open();
        self.count();
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let retry = self.retry.map(|retry| retry.at);
            let due = self.ledger.next_deadline().into_iter().chain(retry).min().map(Time::as_nanos);
            tokio::select! {
                () = self.shutdown.triggered() => return,
                received = commands.recv_many(&mut batch, BATCH) => {
                    if received == 0 {
                        return;
                    }
                    for command in batch.drain(..) {
                        self.take(command).await;
                    }
                }
                () = self.clock.sleep_until(due) => {
                    self.handle(Event::Tick);
                    self.gather(None);
                }
            }
            self.carry_out().await;
            self.count();
        }
    }

    fn count(&self) {
        let drains = self.ledger.list(self.now(), false);
        let running = [State::Draining, State::Evicting]
            .map(|state| (state, drains.iter().filter(|drain| drain.state == state).count()));
        metrics::state(self.ledger.attached(), running);
    }

    fn now(&self) -> Time {
        Time::from_nanos(self.clock.now_nanos())
    }

    fn handle(&mut self, event: Event) {
        let now = self.now();
        self.ledger.handle(now, event);
    }

    /// Makes the gathered changes durable, if the disk allows it, and sends them.
    async fn carry_out(&mut self) {
        loop {
            if self.unsaved && self.retry.is_none_or(|retry| retry.at <= self.now()) {
                // The error has been reported, and the time of the next try is kept.
                drop(self.write().await);
            }
            let Some((trace, effect)) = self.decided.pop_front() else { return };
            self.tell(trace, effect);
        }
    }

    async fn take(&mut self, Command { trace, ask }: Command) {
        match ask {
            Ask::Router { connection, event: attached::Event::Attached(router) } => {
                self.routers.insert(connection, router);
            }
            Ask::Router { connection, event: attached::Event::Said(count) } => {
                self.handle(Event::Said { connection, count });
            }
            Ask::Router { connection, event: attached::Event::Detached } => {
                self.routers.remove(&connection);
                self.handle(Event::Detached { connection });
            }
            Ask::Start { wanted, answer } => {
                let drain::ledger::Wanted { backend, endpoint, weight, disable, policy, actor } = &wanted;
                let strategy = policy.strategy.map(DrainStrategy::as_str);
                tracing::info!(
                    %backend, endpoint, %weight, disable, strategy, timeout = ?policy.timeout, actor, "drain asked for"
                );
                self.operate(trace, answer, |ledger, now| ledger.start(now, wanted)).await;
            }
            Ask::Cancel { id, actor, answer } => {
                tracing::info!(id, actor, "end of a drain asked for");
                self.operate(trace, answer, |ledger, now| ledger.cancel(now, &id, &actor)).await;
            }
            // The caller may be gone.
            Ask::List { all, answer } => drop(answer.send(self.ledger.list(self.now(), all))),
        }
        self.gather(trace);
    }

    /// Does what an operator asks, at once or never: a request that was reported as failed must not take effect when
    /// the disk takes writes again.
    async fn operate<T, E>(
        &mut self,
        trace: Option<TraceContext>,
        answer: Answer<T, E>,
        ask: impl FnOnce(&mut Ledger, Time) -> Result<T, E>,
    ) {
        self.carry_out().await;
        if answer.is_closed() {
            return;
        }
        let (before, now) = (self.ledger.clone(), self.now());
        let result = ask(&mut self.ledger, now);
        let mut effects = Vec::new();
        while let Some(effect) = self.ledger.poll_effect() {
            effects.push(effect);
        }
        if effects.contains(&Effect::Persist)
            && let Err(error) = self.write().await
        {
            self.ledger = before;
            // A part of a failed write may be on disk.
            self.unsaved = true;
            drop(answer.send(Err(refusal::other(Code::Internal, "RECORD", format!("{error}; nothing was changed")))));
            return;
        }
        // The caller may have gone; the decision holds.
        drop(answer.send(Ok(result)));
        for effect in effects.into_iter().filter(|effect| *effect != Effect::Persist) {
            self.decide(effect, trace);
        }
    }

    fn gather(&mut self, trace: Option<TraceContext>) {
        while let Some(effect) = self.ledger.poll_effect() {
            self.decide(effect, trace);
        }
    }

    fn decide(&mut self, effect: Effect, trace: Option<TraceContext>) {
        if let Effect::Changed { drain, ended } = &effect {
            self.follow(drain, *ended, trace);
        }
        if effect == Effect::Persist {
            self.unsaved = true;
        } else {
            self.decided.push_back((trace, effect));
        }
    }

    /// One span for all that routers report on a drain, in the trace of the first report.
    fn follow(&mut self, drain: &Summary, ended: bool, trace: Option<TraceContext>) {
        if let Some(parent) = trace.filter(|_| ended || drain.ended.is_none())
            && !self.gathering.contains_key(&drain.id)
        {
            let mut span = self.tracer.start("drain.gather", Kind::Consumer, Some(parent));
            span.set("only1mcp.drain", drain.id.to_string());
            span.set("only1mcp.server", drain.backend.to_string());
            self.gathering.insert(drain.id.clone(), span);
        }
        if !ended {
            return;
        }
        let Some(mut span) = self.gathering.remove(&drain.id) else { return };
        let totals = drain.totals;
        span.set("only1mcp.result", drain.state.as_str());
        let counts = [
            ("only1mcp.routers", drain.routers.len() as u64),
            ("only1mcp.drain.total", totals.total),
            ("only1mcp.drain.finished", totals.finished),
            ("only1mcp.drain.evicted", totals.evicted),
            ("only1mcp.drain.lost", totals.lost),
        ];
        for (key, count) in counts {
            span.count(key, count);
        }
        if totals.lost > 0 {
            span.fail("a router ended with exchanges in flight");
        }
    }

    /// One try to write. After each failure the next try is due later.
    async fn write(&mut self) -> Result<(), String> {
        let (record, image) = (self.record.clone(), self.ledger.image());
        let begun = self.clock.now_nanos();
        let written = tokio::task::spawn_blocking(move || record.write(&image)).await;
        let written = written.unwrap_or_else(|panicked| Err(std::io::Error::other(panicked)));
        let took = Duration::from_nanos(self.clock.now_nanos() - begun);
        metrics::saved(took, written.is_ok());
        let Err(error) = written else {
            self.unsaved = false;
            self.retry = None;
            self.gate.open();
            return Ok(());
        };
        let failures = self.retry.map_or(0, |retry| retry.failures);
        self.retry = Some(Retry { at: self.now() + RETRY.ceiling(failures), failures: failures.saturating_add(1) });
        let path = self.record.path().display();
        tracing::error!(%path, %error, "cannot write the record of drains");
        let reason = format!("cannot write {path}: {error}");
        self.gate.close(reason.clone());
        Err(reason)
    }

    fn tell(&mut self, trace: Option<TraceContext>, effect: Effect) {
        match effect {
            // A router forgets what is on record, and repeats what is not: it is answered when its report is on disk.
            Effect::Tell { directive: Directive::Recorded { .. }, .. } if self.unsaved => {}
            Effect::Tell { connection, directive } => self.say(connection, directive, trace),
            Effect::Disconnect { connection, reason } => {
                if let Some(router) = self.routers.remove(&connection) {
                    tracing::warn!(connection, reason, "hanging up on a router");
                    metrics::hung_up();
                    router.hang_up(refusal::aborted("DISPLACED", "router", reason));
                }
                self.handle(Event::Detached { connection });
                self.gather(trace);
            }
            Effect::Changed { drain, ended } => self.changed(drain, ended),
            Effect::Persist => self.unsaved = true,
        }
    }

    fn say(&mut self, connection: Connection, directive: Directive, trace: Option<TraceContext>) {
        let said = self.routers.get(&connection).map(|router| router.say(trace, directive));
        if let Some(Err(stuck)) = said {
            tracing::warn!(connection, reason = %stuck, "hanging up on a router");
            metrics::hung_up();
            self.routers.remove(&connection);
        }
    }

    fn changed(&self, drain: Summary, ended: bool) {
        if drain.state == State::Cancelled && drain.actor.is_none() && !drain.id.is_removal() {
            let (server, routers) = (&drain.backend, drain.routers.iter().map(|router| router.node.as_str()));
            tracing::warn!(
                drain = %drain.id, %server, routers = routers.collect::<Vec<_>>().join(", "),
                "a router held a server for a drain that is not on record (any more); the server is open again"
            );
        }
        if ended {
            let totals = drain.totals;
            tracing::info!(
                drain = %drain.id, backend = %drain.backend, state = drain.state.as_str(), total = totals.total,
                finished = totals.finished, evicted = totals.evicted, lost = totals.lost, "drain ended"
            );
            metrics::ended(&drain);
        }
        // An error says that there is no watcher.
        drop(self.changes.send(drain));
    }
}

#[cfg(test)]
mod tests;
