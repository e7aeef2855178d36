//! The one task that owns the state: the desk, the streams of the routers and the order of writes to the log. It
//! carries out what the desk decides and publishes the result.

mod candidate;
mod ending;
mod feed;
mod fleet;
mod jobs;
mod merging;
mod notice;
mod publish;
mod spans;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;

use config_file::Known;
use model::{Digest, NodeId, Revision, Time};
use rollout::desk::{Desk, Effect, Event, Start, Want};
use rollout::reconciler::{self, Head};
use rollout::{ProposalId, Sender};
use runtime::{Clock, Shutdown, Tracer};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;

use crate::command::{Caller, Command};
use crate::log::{Cursor, Layers, Log};
use crate::outcome::{Fault, turned_away};
use crate::provenance::Provenance;
use crate::source::{FromSource, Method, Origin, Signals};
use crate::status::{Happened, SourceState, Status};

pub(crate) use candidate::{Merged, Open, Papers, Payload, Text, Timing, merge, with_layer};
pub(crate) use notice::METRICS;

use fleet::Attached;
use jobs::Jobs;
use spans::Spans;

/// What [`crate::ConfigManager`] hands over when it runs.
pub(crate) struct Parts {
    pub(crate) clock: Clock,
    pub(crate) tracer: Tracer,
    pub(crate) log: Arc<Log>,
    pub(crate) log_fault: Option<String>,
    pub(crate) head: Option<Head>,
    pub(crate) layers: Arc<Layers>,
    pub(crate) provenance: Provenance,
    /// The last judgement of the file.
    pub(crate) cursor: Option<Cursor>,
    pub(crate) origin: Origin,
    pub(crate) signals: Arc<Signals>,
    pub(crate) events: broadcast::Sender<Happened>,
}

#[derive(Debug)]
pub(crate) struct Engine {
    clock: Clock,
    log: Arc<Log>,
    /// A fault found at the start; the log itself reports later faults.
    log_fault: Option<String>,
    desk: Desk<Papers>,
    /// For each candidate at the desk.
    open: BTreeMap<ProposalId, Open>,
    origin: Origin,
    method: Option<Method>,
    signals: Arc<Signals>,
    /// The layers of the live revision.
    layers: Arc<Layers>,
    provenance: Provenance,
    /// The servers of the layers that were merged last.
    known: Arc<Known>,
    /// The state of the file that was told last.
    source_told: SourceState,
    /// The last refusal of the file.
    refusal: feed::Refusal,
    /// When the file was last seen to be written, in nanoseconds of the clock.
    written_at: Option<u64>,
    attached: BTreeMap<NodeId, Attached>,
    spans: Spans,
    jobs: Jobs,
    writing: bool,
    work: JoinSet<Done>,
    status: watch::Sender<Arc<Status>>,
    events: broadcast::Sender<Happened>,
    changed: bool,
}

/// Work that was done off this task.
#[derive(Debug)]
enum Done {
    Merged(ProposalId, Result<Box<Merged>, Fault>),
    Written(write::Result),
    /// The caller of a trial waits no more.
    Left(ProposalId),
}

/// Why the engine ended without a request to stop.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("work on a configuration panicked")]
    Panicked(#[source] tokio::task::JoinError),
}

impl Engine {
    /// Returns the engine and the status that it publishes.
    pub(crate) fn new(parts: Parts) -> (Self, watch::Receiver<Arc<Status>>) {
        let Parts { clock, tracer, log, log_fault, head, layers, provenance, cursor, origin, signals, events } = parts;
        let sender = Sender { log: log.id().clone(), epoch: log.epoch() };
        let now = Time::from_nanos(clock.now_nanos());
        let file = origin != Origin::None;
        let status = watch::Sender::new(Arc::new(Status::before(&log)));
        let engine = Self {
            clock,
            log,
            log_fault,
            desk: Desk::new(now, Start { sender, head, file, cursor }),
            open: BTreeMap::new(),
            origin,
            method: None,
            signals,
            layers,
            provenance,
            known: Arc::default(),
            source_told: SourceState::Starting,
            refusal: feed::Refusal::default(),
            written_at: None,
            attached: BTreeMap::new(),
            spans: Spans::new(tracer),
            jobs: Jobs::default(),
            writing: false,
            work: JoinSet::new(),
            status,
            events,
            changed: true,
        };
        engine.publish();
        let published = engine.status.subscribe();
        (engine, published)
    }

    /// Runs until asked to stop; a write under way then is completed.
    pub(crate) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut source: mpsc::Receiver<FromSource>,
        shutdown: Shutdown,
    ) -> Result<(), RunError> {
        let mut log = self.log.faults();
        loop {
            self.settle();
            let deadline = self.desk.next_deadline().map(Time::as_nanos);
            tokio::select! {
                () = shutdown.triggered() => break,
                Some(done) = self.work.join_next() => self.done(done.map_err(RunError::Panicked)?),
                Some(command) = commands.recv() => self.command(command),
                Some(said) = source.recv() => self.source_said(said),
                Ok(()) = log.changed() => self.log_changed(),
                () = self.clock.sleep_until(deadline) => self.tell(Event::Woke),
            }
        }
        // Candidates that ended are still recorded and answered; no new one begins.
        self.start_writing();
        while self.writing {
            match self.work.join_next().await {
                Some(Ok(Done::Written(written))) => self.written(written),
                Some(Ok(Done::Merged(..) | Done::Left(_))) => {}
                Some(Err(error)) => return Err(RunError::Panicked(error)),
                None => break,
            }
            self.start_writing();
        }
        Ok(())
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Reload { force, caller } => self.reload(force, caller),
            Command::Change { want, text, caller } => self.want(want, text, caller),
            Command::Router { node, link, said } => self.router_said(node, link, said),
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Merged(id, merged) => self.merged(id, merged),
            Done::Written(written) => self.written(written),
            Done::Left(proposal) => self.tell(Event::Left { proposal }),
        }
    }

    fn tell(&mut self, event: Event<Papers>) {
        let now = Time::from_nanos(self.clock.now_nanos());
        self.desk.handle(now, event);
    }

    fn tell_reconciler(&mut self, event: reconciler::Event<Payload>) {
        self.tell(Event::Reconciler(event));
    }

    /// Carries out everything the desk has decided, then shows what changed.
    fn settle(&mut self) {
        while let Some(effect) = self.desk.poll_effect() {
            self.carry_out(effect);
        }
        self.start_writing();
        if std::mem::take(&mut self.changed) {
            self.publish();
        }
    }

    fn carry_out(&mut self, effect: Effect<Papers>) {
        match effect {
            Effect::Entered { proposal, by, retry } => self.entered(proposal, by, retry),
            Effect::Joined { proposal } => self.joined(proposal),
            Effect::Merge { proposal } => self.merge(proposal),
            Effect::Ended(ended) => self.ended(*ended),
            Effect::TurnedAway { caller, why } => caller.handle.tell(Err(turned_away(why))),
            Effect::Answered { callers, answer } => self.answer(callers, &answer),
            Effect::Look => self.signals.look(),
            Effect::Read => self.signals.read(),
            Effect::SaveCursor(cursor) => self.jobs.save_cursor(cursor),
            Effect::SourceChanged => self.source_changed(),
            Effect::Send { node, link, directive, base } => self.send(&node, link, directive, base),
            Effect::Append(record) => self.append(*record),
            Effect::RaiseEpoch { above } => self.jobs.raise_epoch(above),
            Effect::Notice(notice) => self.noticed(notice),
        }
    }

    /// Callers are answered at once while the log cannot be written: nothing could be decided.
    fn reload(&mut self, force: bool, caller: Caller) {
        if let Some(away) = self.log_away() {
            return caller.handle.tell(Err(away));
        }
        self.desk.forget_callers(|asker| asker.answer.is_closed());
        self.tell(Event::Reload { force, caller });
    }

    fn want(&mut self, want: Want, mut text: Text, caller: Caller) {
        if let Some(away) = self.log_away() {
            return caller.handle.tell(Err(away));
        }
        text.beside = self.layers.values().map(|layer| layer.text.len()).sum();
        self.tell(Event::Wanted { want, text, caller });
    }

    fn live_digest(&self) -> Option<Digest> {
        self.desk.reconciler().head().map(|head| head.content.digest)
    }

    fn head_revision(&self) -> Revision {
        self.desk.head_revision()
    }
}
