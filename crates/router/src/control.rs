//! The control side of a router: the shell around [`fleet::Fleet`], owned by one task on the control thread.
//!
//! The fleet makes all decisions, without I/O. This task tells the fleet what happens, carries out its effects one at a
//! time, and is the only one that publishes a generation. The task never waits: bringing up, listing and
//! shutting down run in tasks of their own and report back.

mod disk;
mod endpoints;
mod leaving;
mod line;
mod publisher;
mod references;
pub(crate) mod restart;
mod status;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fleet::{Act, DiskCopy, Effect, Event, Fleet, Offered, Reason, Serial};
use model::{AttemptId, EndpointKey, NodeId, Standing, Time, Verdict};
use rollout::Report;
use rollout::follower::Identity;
use runtime::grpc::Target;
use runtime::telemetry::sampled;
use runtime::{Clock, Phase, Readiness, Tasks, TraceContext, Tracer};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use crate::budget::Budget;
use crate::endpoint::{EndpointEvent, Signals};
use crate::generation::Live;
use crate::upstream::Upstreams;

pub(crate) use disk::Writing;
pub(crate) use leaving::Exchanges;
pub(crate) use status::{EndpointStatus, Following, Status};

use endpoints::Endpoints;
use leaving::Leaving;
use line::config_manager::{self, Heard};
use line::{Line, Peer, drain_coordinator, health_monitor};
use publisher::Publisher;

/// Commands wait here while the fleet is busy; senders wait when it is full.
const COMMANDS: usize = 1024;
/// Handled before the consequences are drawn, so that many servers coming up at once make few generations.
const BATCH: usize = 64;
/// Between two looks at what to tell config-manager about servers.
const OBSERVE: Duration = Duration::from_secs(1);

/// What the control side of a router is told at start.
#[derive(Debug, Clone)]
pub(crate) struct ControlSettings {
    pub node: NodeId,
    /// Another one at each start of the process.
    pub boot: String,
    pub state_dir: PathBuf,
    /// Another process still runs, whose place this one takes.
    pub beside_predecessor: bool,
    /// Whether this process speaks in the name of the node.
    pub in_charge: watch::Receiver<bool>,
    pub config_manager: Target,
    pub health_monitor: Target,
    pub drain_coordinator: Target,
    /// Shows which control services are attached.
    pub readiness: Readiness,
}

/// The control side of a router, running.
#[derive(Debug)]
pub(crate) struct Control {
    /// For calls.
    pub live: Arc<Live>,
    /// For status displays.
    pub status: watch::Receiver<Arc<Status>>,
    /// The state of the line to config-manager.
    pub following: watch::Receiver<Following>,
    pub(crate) operators: restart::Operators,
    pub(crate) writing: Writing,
    /// Of the bytes held for clients, shared with the cores.
    pub(crate) budget: Budget,
}

/// From the lines to the control services, and from tasks of this side.
#[derive(Debug)]
pub(crate) enum Command {
    Manager(config_manager::ManagerLine),
    Coordinator(drain_coordinator::CoordinatorLine),
    /// Which references of an attempt cannot be resolved, and why.
    References {
        attempt: AttemptId,
        missing: Option<String>,
    },
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
        ups: u32,
        reason: Option<Arc<str>>,
    },
    /// The copy is on disk.
    Copied(Arc<DiskCopy>),
    /// What calls that failed leave of an endpoint's share.
    Stands {
        endpoint: EndpointKey,
        standing: Standing,
    },
    /// An operator.
    Restart(restart::Wanted),
    PredecessorEnded,
}

/// The one owner of all endpoints.
struct Task {
    fleet: Fleet,
    endpoints: Endpoints,
    leaving: Leaving,
    manager: config_manager::Reporter,
    coordinator: drain_coordinator::Reporter,
    publisher: Publisher,
    /// The trace that the present work belongs to.
    cause: Option<TraceContext>,
    clock: Clock,
}

impl Control {
    /// Starts the control side on the current runtime, which must be that of the control thread: from the copy on disk,
    /// if there is a usable one, so that what is returned may serve already. Calls are ended through `exchanges`.
    ///
    /// # Errors
    /// When one of the targets can never be dialled.
    pub(crate) fn spawn(
        settings: ControlSettings,
        exchanges: Arc<dyn Exchanges>,
        tasks: &Tasks,
        clock: Clock,
        tracer: Tracer,
    ) -> Result<Self, runtime::grpc::DialError> {
        let identity = Identity {
            node: settings.node,
            boot: settings.boot,
            features: wire::FEATURES.iter().map(|feature| (*feature).to_owned()).collect(),
        };
        let place = Place { directory: settings.state_dir, beside_predecessor: settings.beside_predecessor };
        let started = Started::at(place, identity.clone(), exchanges, tasks, clock, tracer);
        let Started { live, status, following, commands, writing, budget } = started;
        let in_charge = &settings.in_charge;
        let peer = |target, name| Peer { target, shown: settings.readiness.dependency(name), in_charge };
        config_manager::keep(peer(&settings.config_manager, "config-manager"), commands.clone(), tasks)?;
        drain_coordinator::keep(peer(&settings.drain_coordinator, "drain-coordinator"), commands.clone(), tasks)?;
        let operators = restart::Operators::new(commands.clone());
        let health = peer(&settings.health_monitor, "health-monitor");
        health_monitor::spawn(health, &identity, commands, status.clone(), tasks, clock)?;
        Ok(Self { live, status, following, operators, writing, budget })
    }
}

/// The task, running, without its lines to the control services.
struct Started {
    live: Arc<Live>,
    status: watch::Receiver<Arc<Status>>,
    following: watch::Receiver<Following>,
    commands: mpsc::Sender<Command>,
    writing: Writing,
    budget: Budget,
}

/// Where copies of what is live are read and written.
struct Place {
    directory: PathBuf,
    /// Another process writes them still, and has endpoints of its own.
    beside_predecessor: bool,
}

impl Started {
    fn at(
        place: Place,
        identity: Identity,
        exchanges: Arc<dyn Exchanges>,
        tasks: &Tasks,
        clock: Clock,
        tracer: Tracer,
    ) -> Self {
        let signals = Signals::new();
        let (commands, inbox) = mpsc::channel(COMMANDS);
        sampled::queue("router_commands", &commands);
        let Place { directory, beside_predecessor } = place;
        let load = if beside_predecessor { disk::load_if_good } else { disk::load_or_set_aside };
        let copy = load(&directory);
        let live = Arc::new(Live::new());
        let upstreams = Upstreams::new(tasks.clone(), tokio::runtime::Handle::current(), clock, Arc::clone(&signals));
        let budget = upstreams.budget.clone();
        let (manager, following) = config_manager::Reporter::new(copy.is_some(), tracer.clone());
        let (publisher, status, copies) = Publisher::new(Arc::clone(&live));
        let hello = drain::Count::Hello { node: identity.node.clone(), boot: identity.boot.clone() };
        let restored = copy.as_ref().map(|copy| copy.saved.clone());
        let begin = if beside_predecessor { Fleet::beside_predecessor } else { Fleet::new };
        let mut task = Task {
            fleet: begin(now(clock), identity, rand::random(), copy),
            endpoints: Endpoints::new(upstreams, commands.clone(), tasks.clone(), tracer.clone()),
            leaving: Leaving::new(exchanges, tracer),
            manager,
            coordinator: drain_coordinator::Reporter::new(hello),
            publisher,
            cause: None,
            clock,
        };
        if let Some(saved) = restored {
            let (revision, content) = (saved.revision.0, &saved.content);
            tracing::info!(revision, digest = %content.digest.short(), servers = content.snapshot.backends.len(),
                "serving from the copy on disk, until config-manager says what is live");
            task.carry_out();
            // The copy is on the disk already.
            drop(task.fleet.take_copy(task.now()));
            task.tidy();
        }
        let writing = Writing::new(directory, !beside_predecessor);
        tasks.spawn("disk copy", disk::write_latest(writing.clone(), copies, commands.clone()));
        let shutdown = tasks.shutdown().clone();
        tasks.spawn("fleet", async move {
            tokio::select! {
                () = task.run(inbox, &signals) => {}
                () = shutdown.reached(Phase::Closing) => {}
            }
            task.close().await;
        });
        Self { live, status, following, commands, writing, budget }
    }
}

fn now(clock: Clock) -> Time {
    Time::from_nanos(clock.now_nanos())
}

impl Task {
    async fn run(&mut self, mut inbox: mpsc::Receiver<Command>, signals: &Signals) {
        let mut batch = Vec::new();
        let mut observe = tokio::time::interval(OBSERVE);
        observe.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.carry_out();
            // Tasks that were just answered run first.
            tokio::task::yield_now().await;
            self.tidy();
            let due = self.fleet.next_deadline().map(Time::as_nanos);
            tokio::select! {
                received = inbox.recv_many(&mut batch, BATCH) => {
                    if received == 0 {
                        return;
                    }
                    for command in batch.drain(..) {
                        self.command(command);
                    }
                }
                (number, event) = signals.next() => self.endpoint_event(number, event),
                () = self.clock.sleep_until(due) => self.tell(Event::Tick),
                _ = observe.tick(), if self.manager.is_attached() => {
                    let status = self.publisher.status();
                    if self.manager.observe(&status).is_err() {
                        self.hang_up_on_manager();
                    }
                }
            }
        }
    }

    fn now(&self) -> Time {
        now(self.clock)
    }

    /// Something happened; what follows from it is carried out later.
    fn tell(&mut self, event: Event) {
        self.fleet.handle(self.now(), event);
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Manager(line) => self.manager_line(line),
            Command::Coordinator(line) => self.coordinator_line(line),
            Command::References { attempt, missing } => {
                self.cause = self.manager.traces.preparing(attempt);
                self.tell(Event::References { attempt, missing });
                self.carry_out();
            }
            Command::BroughtUp { serial, result } => self.brought_up(serial, result),
            Command::Listed { serial, result } => self.tell(Event::Listed { serial, result }),
            Command::Ended { serial } => {
                self.tell(Event::Ended { serial });
                self.publisher.look_anew();
            }
            Command::Judged { endpoint, verdict, ups, reason } => {
                self.tell(Event::Judged { endpoint, verdict, ups, reason });
                self.publisher.look_anew();
            }
            Command::Copied(copy) => self.copied(&copy),
            Command::Stands { endpoint, standing } => self.tell(Event::Stands { endpoint, standing }),
            Command::Restart(wanted) => self.restart(wanted),
            Command::PredecessorEnded => self.tell(Event::PredecessorEnded),
        }
    }

    fn manager_line(&mut self, line: config_manager::ManagerLine) {
        match line {
            Line::Up(outgoing) => {
                self.manager.up(outgoing);
                self.tell(Event::ManagerAttached);
                // Now: a hello that is drawn later could go out on the line after this one, as its second.
                self.carry_out();
            }
            Line::Answered => self.manager.answered(),
            Line::Heard(response) => match self.manager.heard(response, |digest| self.fleet.held(digest).cloned()) {
                // The directive is carried out before the next one is read: the next one may be a difference from it.
                Heard::Directive { sender, directive } => {
                    self.tell(Event::Directed { sender, directive });
                    self.carry_out();
                }
                Heard::Answer(report) => self.say(&report),
                Heard::Nothing => {}
                Heard::Nonsense => self.hang_up_on_manager(),
            },
            Line::Down => self.hang_up_on_manager(),
        }
    }

    fn coordinator_line(&mut self, line: drain_coordinator::CoordinatorLine) {
        match line {
            Line::Up(outgoing) => {
                let hello = self.coordinator.up(outgoing);
                self.tell(Event::CoordinatorAttached);
                if hello.is_err() {
                    self.hang_up_on_coordinator();
                }
            }
            Line::Answered => {}
            Line::Heard(response) => {
                if response.envelope.as_ref().is_some_and(wire::takes_changes) {
                    self.tell(Event::CoordinatorTakesChanges);
                }
                let Some((directive, trace)) = drain_coordinator::heard(response) else { return };
                if let drain::Directive::Recorded { endpoint, .. } = &directive {
                    self.leaving.drains.recorded(endpoint);
                }
                self.cause = trace;
                self.tell(Event::CoordinatorSaid(directive));
                self.publisher.look_anew();
                self.carry_out();
            }
            Line::Down => self.hang_up_on_coordinator(),
        }
    }

    fn hang_up_on_manager(&mut self) {
        if self.manager.hang_up() {
            self.tell(Event::ManagerDetached);
        }
    }

    fn hang_up_on_coordinator(&mut self) {
        if self.coordinator.hang_up() {
            self.tell(Event::CoordinatorDetached);
        }
    }

    fn brought_up(&mut self, serial: Serial, result: Result<Offered, Reason>) {
        let up = result.is_ok();
        self.endpoints.count_bring_up(serial, up, self.fleet.roster());
        self.endpoints.tell_restarters(serial, &result);
        self.tell(Event::BroughtUp { serial, result });
        // The endpoint may have reported its loss before the fleet knew that it was up.
        if let Some(reason) = self.endpoints.get(serial).filter(|_| up).and_then(|endpoint| endpoint.lost()) {
            self.tell(Event::Lost { serial, reason: lost(reason) });
        }
        self.show_next_attempt(serial);
    }

    fn endpoint_event(&mut self, number: u64, event: EndpointEvent) {
        let Some((serial, endpoint)) = self.endpoints.by_number(number) else { return };
        match event {
            EndpointEvent::ListChanged | EndpointEvent::Renewed => self.tell(Event::ListChanged { serial }),
            EndpointEvent::Lost { reason } => {
                tracing::warn!(endpoint = %endpoint.key, %reason, "lost");
                let server = endpoint.key.backend.to_string();
                metrics::counter!("only1mcp_server_losses_total", "server" => server).increment(1);
                self.tell(Event::Lost { serial, reason: lost(reason) });
                self.show_next_attempt(serial);
            }
            EndpointEvent::Wanted => {
                self.tell(Event::Wanted { serial });
                self.show_next_attempt(serial);
            }
            EndpointEvent::Empty => {
                let endpoint = endpoint.key.clone();
                self.tell(Event::LastLeft { endpoint });
            }
        }
    }

    fn show_next_attempt(&mut self, serial: Serial) {
        self.publisher.look_anew();
        let Some(endpoint) = self.endpoints.get(serial) else { return };
        let member = self.fleet.roster().members().get(&endpoint.key);
        let due = member.and_then(|member| member.state.retry_at());
        endpoint.set_next_attempt(due.map(|due| due.since(self.now())));
    }

    /// Carries out all effects, and what follows from them.
    fn carry_out(&mut self) {
        while let Some(effect) = self.fleet.poll_effect() {
            self.effect(effect);
        }
        self.manager.traces.settle(self.fleet.attempt().map(|(attempt, _)| attempt));
        self.cause = None;
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Tell(report) => {
                if let Report::Ack { .. } = &report {
                    fail::fail_point!("router-before-ack");
                }
                self.say(&report);
            }
            Effect::FindReferences { attempt, endpoints, within } => {
                tracing::info!(%attempt, endpoints = endpoints.len(), "preparing");
                self.cause = Some(self.manager.traces.prepare(attempt));
                if let Some(missing) = self.endpoints.find_references(attempt, endpoints, within) {
                    self.tell(Event::References { attempt, missing });
                }
            }
            Effect::Swapping { revision } => {
                self.cause = Some(self.manager.traces.swap(revision));
                self.publisher.begin_swap();
            }
            Effect::Act(act) => {
                let seen = !matches!(act, Act::List { .. } | Act::NotListed { .. } | Act::Limit { .. });
                self.endpoints.act(act, self.cause);
                if seen {
                    self.publisher.look_anew();
                }
            }
            Effect::Publish { swap, by_file } => {
                self.publisher.publish(&self.fleet, &self.endpoints, by_file);
                if swap {
                    self.publisher.swapped(&self.fleet, self.cause);
                    self.manager.traces.swapped();
                }
            }
            Effect::Depart(effect) => self.depart(effect),
        }
    }

    /// If the manager takes no messages, the router hangs up, and says everything again on the next line.
    fn say(&mut self, report: &Report) {
        if self.manager.say(report).is_err() {
            self.hang_up_on_manager();
        }
    }

    /// Work that no caller waits for: the copy on disk, the status, and the end of the previous generation.
    fn tidy(&mut self) {
        self.copy_to_disk();
        self.publisher.retire();
        let now = self.now();
        self.publisher.tidy(&self.fleet, &self.endpoints, now);
    }

    fn copy_to_disk(&mut self) {
        if let Some(copy) = self.fleet.take_copy(self.now()) {
            self.publisher.copy_to_disk(copy);
        }
    }

    /// The end of the process: all endpoints at once, whatever is in flight on them.
    async fn close(&mut self) {
        // The end may have come between a swap and the copy of it.
        self.copy_to_disk();
        self.endpoints.close().await;
    }
}

/// Clients are told only the plain reason.
fn lost(full: Arc<str>) -> Reason {
    Reason { plain: "the connection was lost".into(), full, reference: None }
}

#[cfg(test)]
pub(crate) mod tests;
