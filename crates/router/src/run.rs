//! A router, running: its threads, and how they start and stop together.

mod inspect;
mod metrics;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use mcp::http_rules::AccessRules;
use runtime::grpc::{DialError, MESSAGE_BYTES_MAX};
use runtime::shutdown::{Phase, Shutdown};
use runtime::state_dir::{LockError, Maker, StateDir};
use runtime::{Clock, Readiness, Tasks, Tracer, telemetry};
use tokio::sync::{oneshot, watch};
use wire::pb::router::v1::router_service_server::RouterServiceServer;

use crate::control::{Control, ControlSettings, Status};
use crate::core::{Everywhere, Shared};
use crate::generation::Live;
use crate::serve::{Cores, ListenError, Listening};
use crate::session::{self, KeyError, Keys, Sessions};
use crate::settings::{Listen, Settings};
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

#[derive(Debug)]
pub struct Router {
    listen: SocketAddr,
    inspector: Inspector,
    cores: Cores,
    control: JoinHandle<bool>,
    scribe: session::Thread,
    _state_dir: StateDir,
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

/// How long the control thread has to end its tasks once it must.
const GRACE: Duration = Duration::from_secs(5);

/// Descriptors that clients may not take: for files, the admin API, control streams, and running servers.
const RESERVE: u64 = 96;

/// Of `descriptors`, those that clients may take: with each comes a call, which may need a connection to a server.
fn for_clients(descriptors: u64) -> usize {
    usize::try_from(descriptors.saturating_sub(RESERVE) / 2).unwrap_or(usize::MAX).max(8)
}

impl Router {
    /// Serves at once what the copy on disk says, if there is one. The gate `configuration` of the process's readiness
    /// opens when something is live and its servers are up, have failed to come up, or had a moment to do so.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then but what ends with the process.
    pub async fn start(settings: Settings, listen: Listen, scope: Scope) -> Result<Self, StartError> {
        let gate = scope.readiness.gate("configuration");
        gate.close("no configuration is live yet");
        let state_dir = StateDir::lock(&settings.state_dir)?;
        let keys = match &settings.session_key_file {
            Some(named) => Keys::load_or_create(named, Maker::Operator)?,
            None => Keys::load_or_create(&state_dir.file("session.key"), Maker::Us)?,
        };
        let journal = state_dir.file("sessions");
        let (sessions, scribe) = Sessions::open(journal.clone(), scope.clock)
            .map_err(|source| StartError::Sessions { path: journal, source })?;
        let listening = Listening::open(listen, settings.cores)?;
        let address = listening.address;
        let (everywhere, mailboxes) = Everywhere::new(settings.cores);
        let (thread, started) = control(&settings, &everywhere, &scope)?;
        let control = started.await.map_err(|_| StartError::Control)??;
        let shared = Arc::new(Shared {
            live: Arc::clone(&control.live),
            keys,
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
        let cores =
            Cores::start(listening, &everywhere, mailboxes, &shared, &scope.shutdown).map_err(StartError::Thread)?;
        let inspector = Inspector {
            node: settings.node,
            listen: address,
            shared,
            status: control.status,
            following: control.following,
            operators: control.operators,
            clock: scope.clock,
            everywhere,
        };
        Ok(Self { listen: address, inspector, cores, control: thread, scribe, _state_dir: state_dir })
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

    /// Returns once nothing is in flight; from `Draining` on, nothing new comes.
    pub fn drained(&self) -> impl Future<Output = ()> + Send + 'static {
        self.cores.drained()
    }

    /// After `Closing`: waits for all threads, and says whether they ended in time and in peace.
    pub async fn stop(self, grace: Duration) -> bool {
        let Self { cores, control, scribe, _state_dir, .. } = self;
        let joined = tokio::task::spawn_blocking(move || {
            let cores = cores.join();
            let scribe = scribe.stop();
            control.join().unwrap_or(false) && cores && scribe
        });
        match tokio::time::timeout(GRACE + grace, joined).await {
            Ok(joined) => joined.unwrap_or(false),
            Err(_) => false,
        }
    }
}

type Started = oneshot::Receiver<Result<Control, DialError>>;

/// The control thread: fleet, children, control streams.
fn control(
    settings: &Settings,
    everywhere: &Everywhere,
    scope: &Scope,
) -> Result<(JoinHandle<bool>, Started), StartError> {
    let settings = ControlSettings {
        node: settings.node.clone(),
        boot: uuid::Uuid::new_v4().to_string(),
        state_dir: settings.state_dir.clone(),
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
