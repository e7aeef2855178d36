//! The one task that owns the state: the reconciler, the cursor of the file, the streams of the routers and the
//! order of writes to the log. It carries out what the cores decide and publishes the result.

mod candidate;
mod feed;
mod fleet;
mod jobs;
mod notice;
mod outcome;
mod propose;
mod publish;
mod rollback;
mod said;
mod spans;
mod write;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use model::{Digest, NodeId, Time};
use rollout::reconciler::{Effect, Event, Head};
use rollout::{ProposalId, Rollout, Sender, SourceCore};
use runtime::{Clock, Shutdown, Tracer};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;
use wire::pb::config::v1 as pb;

use crate::command::{Asker, Command};
use crate::log::{Cursor, Judged, Layer, Layers, Log};
use crate::source::{FromSource, Method, Origin, Signals};
use crate::status::{NodeRefusal, Status};

pub(crate) use candidate::{Payload, Want, merge};

use candidate::Candidate;
use fleet::Attached;
use jobs::Jobs;
use said::Said;
use spans::Spans;

pub(crate) use propose::CANDIDATES_MAX;

/// What [`crate::ConfigManager`] hands over when it runs.
pub(crate) struct Parts {
    pub(crate) clock: Clock,
    pub(crate) tracer: Tracer,
    pub(crate) log: Arc<Log>,
    pub(crate) log_fault: Option<String>,
    pub(crate) head: Option<Head>,
    pub(crate) layers: Arc<Layers>,
    /// The last judgement of the file.
    pub(crate) cursor: Option<Cursor>,
    pub(crate) origin: Origin,
    pub(crate) signals: Arc<Signals>,
    pub(crate) events: broadcast::Sender<pb::WatchResponse>,
}

#[derive(Debug)]
pub(crate) struct Engine {
    clock: Clock,
    log: Arc<Log>,
    /// A fault found at the start; the log itself reports later faults.
    log_fault: Option<String>,
    rollout: Rollout<Payload>,
    /// Absent when there is no file to follow.
    source: Option<SourceCore>,
    origin: Origin,
    method: Option<Method>,
    signals: Arc<Signals>,
    /// The layers of the live revision.
    layers: Arc<Layers>,
    /// The text read last from the file, until it is proposed.
    text: Option<(Digest, Layer)>,
    /// Why the file's last judged content is not live.
    refusal: Option<feed::Refusal>,
    said: Said,
    /// The content of the file when a rollback moved the cursor over it.
    undone: Option<Digest>,
    /// When the file was last seen to be written, in nanoseconds of the clock.
    written_at: Option<u64>,
    /// The content that was refused before this start and has not been judged since.
    refused_before: Option<Digest>,
    /// Callers of reload: for the next read of the file, and for the one under way.
    asked: Vec<Asker>,
    asking: Vec<Asker>,
    /// Callers whose request waits for the end of the present judgement.
    later: Vec<Asker>,
    candidates: BTreeMap<ProposalId, Candidate>,
    /// Candidates whose layers are to be parsed, one after the other: a text of some megabytes takes hundreds of them.
    to_merge: VecDeque<ProposalId>,
    merging: bool,
    proposals: u64,
    attached: BTreeMap<NodeId, Attached>,
    /// Contents that a router may hold, the newest last.
    recent: VecDeque<rollout::Content>,
    spans: Spans,
    jobs: Jobs,
    writing: bool,
    work: JoinSet<Done>,
    status: watch::Sender<Arc<Status>>,
    events: broadcast::Sender<pb::WatchResponse>,
    changed: bool,
}

/// Work that was done off this task.
#[derive(Debug)]
enum Done {
    /// The content of the file, read before a rollback.
    Looked(ProposalId, Option<(Digest, Layer)>),
    /// A candidate brought back from the log.
    Merged(ProposalId, Result<candidate::Merged, outcome::Refused>),
    /// A candidate made of layers.
    TakenApart(ProposalId, Result<candidate::Merged, outcome::Refused>),
    Written(write::Result),
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
        let Parts { clock, tracer, log, log_fault, head, layers, cursor, origin, signals, events } = parts;
        let sender = Sender { log: log.id().clone(), epoch: log.epoch() };
        let policy = head.as_ref().map(|head| head.content.snapshot.policy.source.clone()).unwrap_or_default();
        let now = Time::from_nanos(clock.now_nanos());
        // Refused content is judged again at a start, so that the alarm is not lost. If the file is only read at
        // request, it is judged again at the first request.
        let judged = |wanted: Judged| cursor.filter(|cursor| cursor.judged == wanted).map(|cursor| cursor.digest);
        let (refused, undone) = (judged(Judged::Refused), judged(Judged::RolledBack));
        let cursor = cursor.map(|cursor| cursor.digest).filter(|_| refused.is_none() || !policy.enabled);
        let source = (origin != Origin::None).then(|| SourceCore::new(now, policy, cursor));
        let recent = head.iter().map(|head| head.content.clone()).collect();
        let rollout = Rollout::new(sender, head);
        let status = watch::Sender::new(Arc::new(Status::before(&log)));
        let engine = Self {
            clock,
            log,
            log_fault,
            rollout,
            source,
            origin,
            method: None,
            signals,
            layers,
            text: None,
            refusal: None,
            said: Said::default(),
            undone,
            written_at: None,
            refused_before: refused,
            asked: Vec::new(),
            asking: Vec::new(),
            later: Vec::new(),
            candidates: BTreeMap::new(),
            to_merge: VecDeque::new(),
            merging: false,
            proposals: 0,
            attached: BTreeMap::new(),
            recent,
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
            let deadline = self.next_deadline();
            tokio::select! {
                () = shutdown.triggered() => break,
                Some(done) = self.work.join_next() => self.done(done.map_err(RunError::Panicked)?),
                Some(command) = commands.recv() => self.command(command),
                Some(said) = source.recv() => self.source_said(said),
                Ok(()) = log.changed() => self.log_changed(),
                () = self.clock.sleep_until(deadline) => self.wake(),
            }
        }
        // Candidates that ended are still recorded and answered; no new one begins.
        self.start_writing();
        while self.writing {
            match self.work.join_next().await {
                Some(Ok(Done::Written(written))) => self.written(written),
                Some(Ok(Done::Looked(..) | Done::Merged(..) | Done::TakenApart(..))) => {}
                Some(Err(error)) => return Err(RunError::Panicked(error)),
                None => break,
            }
            self.start_writing();
        }
        Ok(())
    }

    fn now(&self) -> Time {
        Time::from_nanos(self.clock.now_nanos())
    }

    fn next_deadline(&self) -> Option<u64> {
        let source = self.source.as_ref().and_then(SourceCore::next_deadline);
        self.rollout.next_deadline().into_iter().chain(source).min().map(Time::as_nanos)
    }

    fn wake(&mut self) {
        let now = self.now();
        self.rollout.handle(now, Event::Woke);
        self.tell_source(rollout::cursor::Event::Woke);
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Reload { force, asker } => self.reload(force, asker),
            Command::Apply { name, document, format, base, asker } => {
                self.apply(Want::Api { name, document, format, base }, asker);
            }
            Command::Rollback { to, base, reason, asker } => self.roll_back(to, base, reason, asker),
            Command::Router { node, link, said } => self.router_said(node, link, said),
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Looked(id, text) => self.looked(id, text),
            Done::Merged(id, merged) => self.merged(id, merged),
            Done::TakenApart(id, merged) => {
                self.merging = false;
                self.merged(id, merged);
                self.merge_next();
            }
            Done::Written(written) => self.written(written),
        }
    }

    /// Carries out everything the cores have decided, then shows what changed.
    fn settle(&mut self) {
        loop {
            if let Some(effect) = self.rollout.poll_effect() {
                self.carry_out(effect);
            } else if let Some(effect) = self.source.as_mut().and_then(SourceCore::poll_effect) {
                self.carry_out_source(effect);
            } else {
                break;
            }
        }
        self.start_writing();
        if std::mem::take(&mut self.changed) {
            self.publish();
        }
    }

    fn carry_out(&mut self, effect: Effect<Payload>) {
        match effect {
            Effect::Send { node, link, directive } => self.send(&node, link, directive),
            Effect::Append(record) => self.append(*record),
            Effect::RaiseEpoch { above } => self.jobs.raise_epoch(above),
            Effect::Resolve { proposal, outcome } => self.resolved(proposal, outcome),
            Effect::Notice(notice) => self.noticed(notice),
        }
    }

    fn live_digest(&self) -> Option<Digest> {
        self.rollout.head().map(|head| head.content.digest)
    }

    fn head_revision(&self) -> model::Revision {
        self.rollout.head().map_or(model::Revision::NONE, |head| head.revision)
    }
}

/// Reasons as the status shows them.
fn refusals(noes: &[rollout::Rejection]) -> Vec<NodeRefusal> {
    noes.iter().map(|no| NodeRefusal { node: Some(no.node.clone()), reason: no.refusal.to_string() }).collect()
}
