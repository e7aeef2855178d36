//! A router, running: its threads, and how they start and stop together.

mod inspect;
mod metrics;

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use mcp::http_rules::AccessRules;
use runtime::grpc::{DialError, MESSAGE_BYTES_MAX};
use runtime::leaving::{self, Leaving};
use runtime::shutdown::{Phase, Shutdown};
use runtime::state_dir::{LockError, Maker, StateDir};
use runtime::{Clock, Held, Readiness, Tasks, Tracer, telemetry};
use tokio::sync::{oneshot, watch};
use wire::pb::router::v1::router_service_server::RouterServiceServer;

use crate::control::{Control, ControlSettings, Status, Writing};
use crate::core::{Everywhere, Mailboxes, Shared};
use crate::generation::Live;
use crate::serve::{Cores, ListenError, Listening};
use crate::session::{self, KeyError, Keys, Sessions};
use crate::settings::{LOCK, Listen, Settings};
pub use inspect::Inspector;
pub use metrics::METRICS;

/// What a router shares with the process it runs in.
#[derive(Debug, Clone)]
pub struct Scope {
    pub clock: Clock,
    pub shutdown: Shutdown,
    pub readiness: Readiness,
    pub tracer: Tracer,
}

/// A router that holds what is live and has begun to start its servers, and that serves nothing yet.
#[derive(Debug)]
pub struct Warm {
    settings: Settings,
    scope: Scope,
    state_dir: StateDir,
    /// Another process serves still, whose place this router takes.
    beside_predecessor: bool,
    keys: Keys,
    listening: Listening,
    everywhere: Everywhere,
    mailboxes: Mailboxes,
    control: Control,
    thread: JoinHandle<bool>,
    in_charge: watch::Sender<bool>,
}

#[derive(Debug)]
pub struct Router {
    listen: SocketAddr,
    inspector: Inspector,
    /// What serves clients: closed at first.
    doors: Doors,
    control: JoinHandle<bool>,
    scribe: session::Thread,
    writing: Writing,
    in_charge: watch::Sender<bool>,
    shutdown: Shutdown,
    state_dir: StateDir,
    beside_predecessor: bool,
    /// Once it has a successor.
    leaving: Option<Arc<Leaving>>,
}

#[derive(Debug)]
enum Doors {
    Closed(Listening, Mailboxes),
    Open(Cores),
    /// The cores could not be started.
    None,
}

/// How a router has ended.
#[derive(Debug, Default)]
pub struct Stopped {
    /// All threads ended in time, and none panicked.
    pub in_peace: bool,
    /// How many calls were cut off, by server.
    pub cut_off: BTreeMap<String, usize>,
}

/// Why a router does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    StateDir(#[from] LockError),
    #[error(transparent)]
    SessionKey(#[from] KeyError),
    #[error(
        "cannot use the journal of sessions {path}; without the file, sessions that have ended could be used again"
    )]
    Sessions { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("the lock of the state directory cannot be shared")]
    Lock(#[source] io::Error),
    #[error("a control service cannot be dialled")]
    Dial(#[from] DialError),
    #[error("a thread cannot be started")]
    Thread(#[source] io::Error),
    #[error("the control thread ended while it started")]
    Control,
}

/// Where MCP is served below the address.
const PATH: &str = "/mcp";

/// How long readiness waits for servers to come up once a configuration is live. Calls and lists are served before,
/// too.
const SETTLE: Duration = Duration::from_secs(3);
/// How long a successor waits for its servers before it takes charge. Those that are not up then come up later.
const WARM: Duration = Duration::from_secs(30);
/// How long it waits for config-manager after that.
const CATCH_UP: Duration = Duration::from_secs(5);

/// How long the control thread has to end its tasks once it must.
const GRACE: Duration = Duration::from_secs(5);

/// Descriptors that clients may not take: for files, the admin API, control streams, and running servers.
const RESERVE: u64 = 96;

/// Of `descriptors`, those that clients may take: with each comes a call, which may need a connection to a server.
fn for_clients(descriptors: u64) -> usize {
    usize::try_from(descriptors.saturating_sub(RESERVE) / 2).unwrap_or(usize::MAX).max(8)
}

impl Warm {
    /// Returns when each server is up or has failed to come up, or had long enough.
    pub async fn warmed(&self) {
        drop(tokio::time::timeout(WARM, self.control.live.warmed()).await);
    }

    /// Now this is the router of its state directory. A successor would get what is added to `held`.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then but what ends with the process.
    pub async fn take_charge(self, held: &Held) -> Result<Router, StartError> {
        let Self { settings, scope, control, everywhere, listening, .. } = self;
        let journal = self.state_dir.file("sessions");
        let (sessions, scribe) = Sessions::open(journal.clone(), scope.clock)
            .map_err(|source| StartError::Sessions { path: journal, source })?;
        if self.beside_predecessor {
            sessions.share().await;
            self.state_dir.sign();
            resume(control.writing.clone()).await;
        }
        listening.hold(held)?;
        if let Some(lock) = self.state_dir.held() {
            held.add(LOCK, lock).map_err(StartError::Lock)?;
        }
        let address = listening.address;
        let shared = Arc::new(Shared {
            live: Arc::clone(&control.live),
            keys: self.keys,
            sessions,
            access: AccessRules {
                loopback: address.ip().is_loopback(),
                hosts: settings.access.hosts,
                origins: settings.access.origins,
            },
            path: PATH.into(),
            clock: scope.clock,
            tracer: scope.tracer,
            budget: control.budget.clone(),
            descriptors: for_clients(runtime::descriptors::limit()),
        });
        telemetry::describe(METRICS);
        metrics::show(&control, &shared, &everywhere);
        let inspector = Inspector {
            node: settings.node,
            listen: address,
            shared,
            status: control.status,
            following: control.following,
            operators: control.operators,
            clock: scope.clock,
            everywhere,
            state_dir: self.state_dir.path().into(),
        };
        self.in_charge.send_replace(true);
        Ok(Router {
            listen: address,
            inspector,
            doors: Doors::Closed(listening, self.mailboxes),
            control: self.thread,
            scribe,
            writing: control.writing,
            in_charge: self.in_charge,
            shutdown: scope.shutdown,
            state_dir: self.state_dir,
            beside_predecessor: self.beside_predecessor,
            leaving: None,
        })
    }
}

async fn resume(writing: Writing) {
    // Fails only when it panics; the next copy is written then.
    drop(tokio::task::spawn_blocking(move || writing.resume()).await);
}

impl Router {
    /// Makes what the copy on disk says live, if there is one. The gate `configuration` of the process's readiness opens
    /// when something is live and its servers are up, have failed to come up, or had a moment to do so.
    ///
    /// With `lock`, the lock of the state directory that another router shares, that router serves still: nothing is
    /// written that is its before [`Warm::take_charge`].
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then but what ends with the process.
    pub async fn warm(
        settings: Settings,
        listen: Listen,
        lock: Option<OwnedFd>,
        scope: Scope,
    ) -> Result<Warm, StartError> {
        let gate = scope.readiness.gate("configuration");
        gate.close("no configuration is live yet");
        let shares = lock.is_some();
        let state_dir = match lock {
            Some(lock) => StateDir::share(&settings.state_dir, lock),
            None => StateDir::lock(&settings.state_dir)?,
        };
        // The successor of a router that still leaves may have died.
        let beside_predecessor = shares || !leaving::look(state_dir.path(), scope.clock.unix_millis()).is_empty();
        let keys = match &settings.session_key_file {
            Some(named) => Keys::load_or_create(named, Maker::Operator)?,
            None => Keys::load_or_create(&state_dir.file("session.key"), Maker::Us)?,
        };
        let listening = Listening::open(listen, settings.cores)?;
        let (everywhere, mailboxes) = Everywhere::new(settings.cores);
        let in_charge = watch::Sender::new(false);
        let (thread, started) = control(&settings, beside_predecessor, in_charge.subscribe(), &everywhere, &scope)?;
        let control = started.await.map_err(|_| StartError::Control)??;
        Ok(Warm {
            settings,
            scope,
            state_dir,
            beside_predecessor,
            keys,
            listening,
            everywhere,
            mailboxes,
            control,
            thread,
            in_charge,
        })
    }

    /// Lets clients in.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn open(&mut self) -> Result<(), StartError> {
        self.doors = match std::mem::replace(&mut self.doors, Doors::None) {
            Doors::Closed(listening, mailboxes) => {
                let Inspector { shared, everywhere, .. } = &self.inspector;
                let cores = Cores::start(listening, everywhere, mailboxes, shared, &self.shutdown);
                Doors::Open(cores.map_err(StartError::Thread)?)
            }
            doors @ (Doors::Open(_) | Doors::None) => doors,
        };
        Ok(())
    }

    /// Returns when config-manager has said what is live, or after a moment.
    pub async fn confirmed(&self) {
        let mut following = self.inspector.following.clone();
        drop(tokio::time::timeout(CATCH_UP, following.wait_for(|following| !following.from_disk)).await);
    }

    /// A successor takes charge: from now on this router writes only what both may write. It serves on, and says nothing
    /// to the control services.
    pub async fn let_go(&self) {
        self.in_charge.send_replace(false);
        let writing = self.writing.clone();
        drop(tokio::task::spawn_blocking(move || writing.pause()).await);
        self.inspector.shared.sessions.share().await;
    }

    /// The successor has failed, and has ended.
    pub async fn take_back(&self) {
        self.state_dir.sign();
        self.inspector.shared.sessions.unshare().await;
        resume(self.writing.clone()).await;
        self.in_charge.send_replace(true);
    }

    /// To be run when the predecessor has ended, or when there is none: returns once no router leaves any more, and this
    /// one is alone.
    pub fn alone(&self) -> impl Future<Output = ()> + Send + 'static {
        let Inspector { shared, operators, state_dir, clock, .. } = self.inspector.clone();
        let beside_predecessor = self.beside_predecessor;
        async move {
            if !beside_predecessor {
                return;
            }
            leaving::gone(state_dir.to_path_buf(), clock).await;
            shared.sessions.unshare().await;
            operators.predecessor_ended().await;
        }
    }

    /// Where MCP is served.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// What it serves; [`model::Revision::NONE`] while it has nothing.
    pub fn revision(&self) -> model::Revision {
        self.inspector.shared.live.load().revision
    }

    /// The admin service.
    pub fn service(&self) -> RouterServiceServer<Inspector> {
        RouterServiceServer::new(self.inspector.clone()).max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Returns once nothing is in flight; from `Draining` on, nothing new comes. A router that has a successor lets go of
    /// its state directory, and writes there what it still finishes, for `drain` at most.
    pub fn drained(&mut self, drain: Duration) -> impl Future<Output = ()> + Send + 'static {
        if self.shutdown.is_succeeded() {
            self.leave(drain);
        }
        let (leaving, everywhere) = (self.leaving.clone(), self.inspector.everywhere.clone());
        let drained = match &self.doors {
            Doors::Open(cores) => Some(cores.drained()),
            Doors::Closed(..) | Doors::None => None,
        };
        async move {
            let Some(drained) = drained else { return };
            let Some(leaving) = leaving else { return drained.await };
            tokio::select! {
                () = drained => {}
                () = leaving.keep(|| everywhere.busy().exchanges) => {}
            }
        }
    }

    fn leave(&mut self, drain: Duration) {
        let Inspector { state_dir, clock, everywhere, .. } = &self.inspector;
        match Leaving::begin(state_dir, *clock, drain, everywhere.busy().exchanges) {
            Ok(leaving) => {
                self.leaving = Some(Arc::new(leaving));
                // Only now: a router that comes sees that this one is there.
                self.state_dir.leave();
            }
            Err(error) => {
                tracing::warn!(%error, "what is still finished here is not shown, and the state directory is kept until the end");
            }
        }
    }

    /// Whether it has let go of its state directory.
    pub fn has_left(&self) -> bool {
        self.leaving.is_some()
    }

    /// After `Closing`: waits for all threads.
    pub async fn stop(self, grace: Duration) -> Stopped {
        let Self { doors, control, scribe, inspector, state_dir: _locked, leaving: _seen, .. } = self;
        let joined = tokio::task::spawn_blocking(move || {
            let cores = match doors {
                Doors::Open(cores) => cores.join(),
                Doors::Closed(..) | Doors::None => true,
            };
            let scribe = scribe.stop();
            control.join().unwrap_or(false) && cores && scribe
        });
        let joined = tokio::time::timeout(GRACE + grace, joined).await;
        let in_peace = joined.is_ok_and(|joined| joined.unwrap_or(false));
        Stopped { in_peace, cut_off: inspector.cut_off() }
    }
}

type Started = oneshot::Receiver<Result<Control, DialError>>;

/// The control thread: fleet, children, control streams.
fn control(
    settings: &Settings,
    beside_predecessor: bool,
    in_charge: watch::Receiver<bool>,
    everywhere: &Everywhere,
    scope: &Scope,
) -> Result<(JoinHandle<bool>, Started), StartError> {
    let settings = ControlSettings {
        node: settings.node.clone(),
        boot: uuid::Uuid::new_v4().to_string(),
        state_dir: settings.state_dir.clone(),
        beside_predecessor,
        in_charge,
        config_manager: settings.peers.config_manager.clone(),
        health_monitor: settings.peers.health_monitor.clone(),
        drain_coordinator: settings.peers.drain_coordinator.clone(),
        readiness: scope.readiness.clone(),
    };
    let (started, start) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
    let (exchanges, scope) = (Arc::new(everywhere.clone()), scope.clone());
    let thread = std::thread::Builder::new().name("control".into()).spawn(move || {
        let clean = runtime.block_on(async {
            let tasks = Tasks::new(scope.shutdown.clone());
            let spawned = Control::spawn(settings, exchanges, &tasks, scope.clock, scope.tracer.clone());
            if let Ok(control) = &spawned {
                tasks.spawn("readiness", ready(Arc::clone(&control.live), control.status.clone(), scope.clone()));
            }
            if started.send(spawned).is_ok() {
                scope.shutdown.reached(Phase::Closing).await;
            }
            tasks.join(GRACE).await.is_clean()
        });
        // The system's resolver may hold a thread of the runtime for longer than the router waits.
        runtime.shutdown_background();
        clean
    });
    Ok((thread.map_err(StartError::Thread)?, start))
}

/// Opens the gate once and for all, whatever comes later: something good is live. Then says what, and which servers are
/// not up.
async fn ready(live: Arc<Live>, mut status: watch::Receiver<Arc<Status>>, scope: Scope) {
    let mut turns = live.turns();
    let gate = scope.readiness.gate("configuration");
    let settled = async {
        while live.load().revision == model::Revision::NONE {
            if turns.changed().await.is_err() {
                return;
            }
        }
        // Servers that start in no time are there; the others are not waited for.
        drop(tokio::time::timeout(SETTLE, live.settled()).await);
        loop {
            let not_up = not_up(&status.borrow_and_update());
            gate.open_to(format!("revision {}{not_up}", live.load().revision));
            if status.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = settled => {}
        () = scope.shutdown.triggered() => {}
    }
}

/// As many servers are named; the others are counted.
const NAMED: usize = 10;

/// Behind what is live. The reasons are for operators: they may have words of the servers, and `/readyz` is for
/// anybody.
fn not_up(status: &Status) -> String {
    let not_up = status.not_up();
    if not_up.is_empty() {
        return String::new();
    }
    let named = not_up.iter().take(NAMED).map(|(server, condition)| format!("{server} ({condition})"));
    let more = not_up.len().checked_sub(NAMED).filter(|more| *more > 0).map(|more| format!("{more} more"));
    format!("; not up: {}", named.chain(more).collect::<Vec<_>>().join(", "))
}
