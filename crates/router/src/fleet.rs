//! The fleet: all endpoints of this router, owned by one task on the control thread.
//!
//! What is to be done is decided by values without I/O (the roster of endpoints here, [`drain::Departures`], the
//! follower's core); this task carries it out, one thing at a time, and is the only one that publishes a generation. It
//! never waits: bringing up, listing and shutting down run in tasks of their own and report back.

mod carry_out;
mod references;
pub(crate) mod restart;
mod status;
mod turn;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use drain::Departures;
use fleet::{Event, Layout, Offered, Reason, Roster, Serial};
use model::{AttemptId, EndpointKey, NodeId, Revision, Time, Verdict};
use rollout::Content;
use rollout::follower::{Event as FollowerEvent, Identity, Saved};
use runtime::grpc::Target;
use runtime::telemetry::sampled;
use runtime::{Clock, Phase, Readiness, Tasks, TraceContext, Tracer};
use tokio::sync::{mpsc, watch};

use crate::budget::Budget;
use crate::departure::{Cordons, Exchanges};
use crate::disk::{self, DiskCopy};
use crate::endpoint::{Endpoint, EndpointEvent, Signals};
use crate::generation::{Generation, Live};
use crate::line::Peer;
use crate::metrics::Cordoned;
use crate::upstream::Upstreams;
use crate::{departure, follow, watch_health};

pub use status::{EndpointStatus, Following, RenamedTool, Status, WithheldTool};

use references::Resolved;

/// Commands wait here while the fleet is busy; senders wait when it is full.
const COMMANDS: usize = 1024;
/// Handled before the consequences are drawn, so that many servers coming up at once make few generations.
const BATCH: usize = 64;

/// What the control side of a router is told at start.
#[derive(Debug, Clone)]
pub struct FleetSettings {
    pub node: NodeId,
    /// Another one at each start of the process.
    pub boot: String,
    pub state_dir: PathBuf,
    pub config_manager: Target,
    pub health_monitor: Target,
    pub drain_coordinator: Target,
    /// Shows which of them are attached.
    pub readiness: Readiness,
}

/// The control side of a router, running.
#[derive(Debug)]
pub struct Fleet {
    /// For calls.
    pub live: Arc<Live>,
    /// For whoever looks.
    pub status: watch::Receiver<Arc<Status>>,
    /// How it stands with config-manager.
    pub following: watch::Receiver<Following>,
    pub(crate) operators: restart::Operators,
    /// For large answers.
    pub(crate) budget: Budget,
}

/// From those who speak with the control services, and from the fleet's own tasks.
#[derive(Debug)]
pub(crate) enum Command {
    Prepare {
        attempt: AttemptId,
        content: Content,
        within: Duration,
        /// Of what is done for it.
        trace: TraceContext,
    },
    Resolved(Resolved),
    Abort {
        attempt: AttemptId,
        keep_until: Time,
    },
    Swap {
        revision: Revision,
        content: Content,
        prepared: Option<AttemptId>,
        /// Of what is done for it.
        trace: TraceContext,
    },
    Save(Saved),
    BroughtUp {
        serial: Serial,
        result: Result<Offered, Reason>,
    },
    Listed {
        serial: Serial,
        result: Result<Offered, String>,
    },
    Ended {
        serial: Serial,
    },
    Judged {
        endpoint: EndpointKey,
        verdict: Verdict,
        /// How often it had come up when that was thought: a verdict is of one life.
        ups: u32,
    },
    /// The line to drain-coordinator.
    Cordons(Cordons),
    /// An operator.
    Restart(restart::Wanted),
}

/// The one owner of all endpoints.
pub(crate) struct Task {
    pub(crate) roster: Roster,
    pub(crate) departures: Departures,
    endpoints: BTreeMap<Serial, Arc<Endpoint>>,
    /// By the serial that endpoints have themselves.
    serials: BTreeMap<u64, Serial>,
    /// Leaving, empty, and kept open because an attempt wants them.
    pub(crate) held_open: BTreeSet<EndpointKey>,
    pub(crate) cordoned: BTreeMap<EndpointKey, Cordoned>,
    live: Arc<Live>,
    turn: u64,
    /// The generation before the live one, until there is time to let it go.
    retired: Option<Arc<Generation>>,
    /// The attempt whose references are being looked up.
    resolving: Option<AttemptId>,
    /// Decided, and to be acknowledged once it is published.
    swapping: Option<(Revision, tokio::time::Instant)>,
    pub(crate) saved: Option<Saved>,
    /// Not handed to the writer of the copy, which keeps at it until the disk has it.
    pub(crate) unsaved: bool,
    pub(crate) unseen: bool,
    pub(crate) line: Option<departure::Speaking>,
    commands: mpsc::Sender<Command>,
    answers: mpsc::Sender<FollowerEvent>,
    copies: watch::Sender<Option<Arc<DiskCopy>>>,
    status: watch::Sender<Arc<Status>>,
    pub(crate) exchanges: Arc<dyn Exchanges>,
    upstreams: Arc<Upstreams>,
    pub(crate) tracer: Tracer,
    /// In whose trace is what is being done now.
    pub(crate) cause: Option<TraceContext>,
    /// Of endpoints that are to be brought up for the first time: who wanted them.
    wanted_by: BTreeMap<Serial, TraceContext>,
    /// Of what is live.
    swapped_by: Option<TraceContext>,
    pub(crate) drains: departure::Drains,
    /// Operators who wait for what becomes of a restart.
    restarters: restart::Restarters,
    tasks: Tasks,
    clock: Clock,
}

impl Fleet {
    /// Starts the control side on the current runtime, which must be that of the control thread: from the copy on disk,
    /// if there is a usable one, so that what is returned may serve already. Calls are ended through `exchanges`.
    ///
    /// # Errors
    /// When one of the targets can never be dialled.
    pub fn spawn(
        settings: FleetSettings,
        exchanges: Arc<dyn Exchanges>,
        tasks: &Tasks,
        clock: Clock,
        tracer: Tracer,
    ) -> Result<Self, runtime::grpc::DialError> {
        let started = Started::at(settings.state_dir, exchanges, tasks, clock, tracer.clone());
        let Started { live, status, saved, commands, answered, budget } = started;
        let identity = Identity {
            node: settings.node,
            boot: settings.boot,
            features: wire::FEATURES.iter().map(|feature| (*feature).to_owned()).collect(),
        };
        let fleet = follow::Fleet { commands: commands.clone(), answered, status: status.clone() };
        let peer = |target, name| Peer { target, shown: settings.readiness.dependency(name) };
        let manager = peer(&settings.config_manager, "config-manager");
        let following = follow::spawn(manager, identity.clone(), saved, fleet, tasks, clock, tracer)?;
        let coordinator = peer(&settings.drain_coordinator, "drain-coordinator");
        departure::spawn(coordinator, &identity, commands.clone(), tasks)?;
        let monitor = peer(&settings.health_monitor, "health-monitor");
        let operators = restart::Operators::new(commands.clone());
        watch_health::spawn(monitor, &identity, commands, status.clone(), tasks, clock)?;
        Ok(Self { live, status, following, operators, budget })
    }
}

/// A fleet without its lines to the control services.
struct Started {
    live: Arc<Live>,
    status: watch::Receiver<Arc<Status>>,
    /// What it started from.
    saved: Option<Saved>,
    commands: mpsc::Sender<Command>,
    answered: mpsc::Receiver<FollowerEvent>,
    budget: Budget,
}

impl Started {
    fn at(state_dir: PathBuf, exchanges: Arc<dyn Exchanges>, tasks: &Tasks, clock: Clock, tracer: Tracer) -> Self {
        let signals = Signals::new();
        let (commands, inbox) = mpsc::channel(COMMANDS);
        sampled::queue("router_commands", &commands);
        // As many answers as commands can ask for: the fleet never waits for whoever asked.
        let (answers, answered) = mpsc::channel(2 * COMMANDS);
        let (copies, to_disk) = watch::channel(None);
        let (status, seen) = watch::channel(Arc::default());
        let copy = disk::load_or_set_aside(&state_dir);
        let live = Arc::new(Live::new());
        let upstreams = Upstreams::new(tasks.clone(), tokio::runtime::Handle::current(), clock, Arc::clone(&signals));
        let budget = upstreams.budget.clone();
        let known = copy.as_ref().map(|copy| copy.known.clone()).unwrap_or_default();
        let mut task = Task {
            roster: Roster::new(rand::random(), known),
            departures: Departures::new(),
            endpoints: BTreeMap::new(),
            serials: BTreeMap::new(),
            held_open: BTreeSet::new(),
            cordoned: BTreeMap::new(),
            live: Arc::clone(&live),
            turn: 0,
            retired: None,
            resolving: None,
            swapping: None,
            saved: None,
            unsaved: false,
            unseen: true,
            line: None,
            commands: commands.clone(),
            answers,
            copies,
            status,
            exchanges,
            upstreams,
            tracer,
            cause: None,
            wanted_by: BTreeMap::new(),
            swapped_by: None,
            drains: departure::Drains::default(),
            restarters: restart::Restarters::new(),
            tasks: tasks.clone(),
            clock,
        };
        if let Some(copy) = &copy {
            task.restore(copy);
        }
        tasks.spawn("disk copy", disk::write_latest(state_dir, to_disk));
        let shutdown = tasks.shutdown().clone();
        tasks.spawn("fleet", async move {
            tokio::select! {
                () = task.run(inbox, &signals) => {}
                () = shutdown.reached(Phase::Closing) => {}
            }
            task.close().await;
        });
        Self { live, status: seen, saved: copy.map(|copy| copy.saved), commands, answered, budget }
    }
}

impl Task {
    async fn run(&mut self, mut inbox: mpsc::Receiver<Command>, signals: &Signals) {
        let mut batch = Vec::new();
        loop {
            self.settle();
            // Whoever was answered goes first.
            tokio::task::yield_now().await;
            self.tidy();
            let due = self.roster.next_deadline().into_iter().chain(self.departures.next_deadline()).min();
            tokio::select! {
                received = inbox.recv_many(&mut batch, BATCH) => {
                    if received == 0 {
                        return;
                    }
                    for command in batch.drain(..) {
                        self.command(command);
                    }
                }
                (serial, event) = signals.next() => self.endpoint_event(serial, event),
                () = self.clock.sleep_until(due.map(Time::as_nanos)) => {
                    self.roster.tick(self.now());
                    self.departures.handle(self.now(), drain::departures::Event::Tick);
                }
            }
        }
    }

    pub(crate) fn now(&self) -> Time {
        Time::from_nanos(self.clock.now_nanos())
    }

    /// Serves what the disk has, whatever has become of its servers and secrets since.
    fn restore(&mut self, copy: &DiskCopy) {
        let Saved { revision, content, .. } = &copy.saved;
        tracing::info!(revision = revision.0, digest = %content.digest.short(), servers = content.snapshot.backends.len(),
            "serving from the copy on disk, until config-manager says what is live");
        let layout = Arc::new(Layout::of(content.clone()));
        let now = self.now();
        let overlay = drain::Directive::Overlay { cordons: copy.cordons.clone() };
        self.departures.handle(now, drain::departures::Event::Said(overlay));
        self.roster.handle(now, Event::Live { revision: *revision, layout, prepared: None });
        self.saved = Some(copy.saved.clone());
        self.settle();
        self.unsaved = false;
        self.tidy();
    }

    fn command(&mut self, command: Command) {
        let now = self.now();
        match command {
            Command::Prepare { attempt, content, within, trace } => {
                self.prepare(attempt, content, within, trace);
            }
            Command::Resolved(resolved) => self.resolved(resolved),
            Command::Abort { attempt, keep_until } => {
                self.resolving.take_if(|resolving| *resolving == attempt);
                self.roster.handle(now, Event::Abort { attempt, keep_until });
            }
            Command::Swap { revision, content, prepared, trace } => {
                self.swap(revision, content, prepared);
                self.draw_consequences(Some(trace));
            }
            Command::Save(saved) => {
                self.saved = Some(saved);
                self.unsaved = true;
            }
            Command::BroughtUp { serial, result } => {
                let outcome = if result.is_ok() { "ok" } else { "failed" };
                self.count_bring_up(serial, outcome);
                let up = result.is_ok();
                self.tell_restarters(serial, &result);
                self.roster.handle(now, Event::BroughtUp { serial, result });
                // It may have said that it is lost before the fleet knew that it was up.
                if let Some(reason) = self.endpoints.get(&serial).filter(|_| up).and_then(|endpoint| endpoint.lost()) {
                    self.roster.handle(now, Event::Lost { serial, reason: lost(reason) });
                }
                self.show_next_attempt(serial);
                self.unseen = true;
            }
            Command::Listed { serial, result } => self.roster.handle(now, Event::Listed { serial, result }),
            Command::Ended { serial } => {
                self.roster.handle(now, Event::Ended { serial });
                self.unseen = true;
            }
            // Else it has come up again meanwhile, and will be judged anew.
            Command::Judged { endpoint, verdict, ups } => {
                if self.roster.members().get(&endpoint).is_some_and(|member| member.ups == ups) {
                    self.roster.handle(now, Event::Judged { key: endpoint, verdict });
                }
            }
            Command::Cordons(cordons) => self.cordons(cordons),
            Command::Restart(wanted) => self.restart(wanted),
        }
    }

    fn swap(&mut self, revision: Revision, content: Content, prepared: Option<AttemptId>) {
        let begun = tokio::time::Instant::now();
        let held = self.roster.attempt_layout().filter(|held| held.content.digest == content.digest).cloned();
        let layout = held.unwrap_or_else(|| Arc::new(Layout::of(content)));
        self.swapping = Some((revision, begun));
        self.roster.handle(self.now(), Event::Live { revision, layout, prepared });
    }

    fn endpoint_event(&mut self, serial: u64, event: EndpointEvent) {
        let Some(&serial) = self.serials.get(&serial) else { return };
        let now = self.now();
        match event {
            EndpointEvent::ListChanged | EndpointEvent::Renewed => {
                self.roster.handle(now, Event::ListChanged { serial });
            }
            EndpointEvent::Lost { reason } => {
                if let Some(endpoint) = self.endpoints.get(&serial) {
                    tracing::warn!(endpoint = %endpoint.key, %reason, "lost");
                    let server = endpoint.key.backend.to_string();
                    metrics::counter!("only1mcp_server_losses_total", "server" => server).increment(1);
                }
                self.roster.handle(now, Event::Lost { serial, reason: lost(reason) });
                self.show_next_attempt(serial);
                self.unseen = true;
            }
            EndpointEvent::Empty => {
                if let Some(endpoint) = self.endpoints.get(&serial) {
                    let endpoint = endpoint.key.clone();
                    self.departures.handle(now, drain::departures::Event::LastLeft { endpoint });
                }
            }
        }
    }

    /// Before the roster hears of it: whether it is the first attempt is what the roster still says.
    fn count_bring_up(&self, serial: Serial, result: &'static str) {
        let Some(endpoint) = self.endpoints.get(&serial) else { return };
        let server = endpoint.key.backend.to_string();
        metrics::counter!("only1mcp_server_bring_ups_total", "server" => server, "result" => result).increment(1);
        let member = self.roster.members().get(&endpoint.key);
        if member.is_some_and(|member| member.ups == 0 && member.state.is_arriving()) {
            metrics::counter!("only1mcp_router_endpoints_added_total", "result" => result).increment(1);
        }
    }

    fn show_next_attempt(&self, serial: Serial) {
        let Some(endpoint) = self.endpoints.get(&serial) else { return };
        let member = self.roster.members().get(&endpoint.key);
        let due = member.and_then(|member| member.state.retry_at());
        endpoint.set_next_attempt(due.map(|due| due.since(self.now())));
    }

    fn answer(&self, event: FollowerEvent) {
        if self.answers.try_send(event).is_err() {
            tracing::error!("the follower does not take answers; it will ask again when it attaches again");
        }
    }

    /// The end of the process: all endpoints at once, whatever is in flight on them.
    async fn close(&mut self) {
        // The end may have come between a swap and the copy of it.
        self.copy_to_disk();
        let ends = std::mem::take(&mut self.endpoints).into_values().map(|endpoint| async move {
            endpoint.admission.cordon();
            endpoint.shut_down().await;
        });
        futures_util::future::join_all(ends).await;
    }
}

/// What clients hear of it is only that.
fn lost(full: Arc<str>) -> Reason {
    Reason { plain: "the connection was lost".into(), full, reference: None }
}

#[cfg(test)]
pub(crate) mod tests;
