//! `up`: the four services in one process, speaking the same gRPC as four processes do.
//!
//! Everything that a service needs is handed to it here as a value. Only the log and the metrics are global, so that
//! the services cannot tell whether they share a process.

mod arrivals;
mod demo;
mod first_revision;
#[cfg(test)]
mod metrics_page;
mod services;

use std::{
    error::Error,
    io::{self, IsTerminal, Write},
    iter,
    process::ExitCode,
    sync::Arc,
};

use config_manager::Status;
use router::{
    Router,
    settings::{Listen, MCP},
};
use runtime::escape::say;
use runtime::{
    AdminToken, Ending, Phase, Process, Program, Shutdown, Tasks, Tracer, exit, fault,
    grpc::{Auth, DuplexConnector, ListenError, Listener, duplex},
    handover::{HandOver, Predecessor, Step, SucceedError},
    inherited::{ADMIN, InheritError},
    ops::{OpsBindError, OpsListener},
    process::{ADMIN_FILE, GRACE},
    state_dir::{LockError, StateDir},
    telemetry::{
        self,
        log::{self, Filter},
    },
    token::TokenError,
};

use tokio::{sync::watch, task::AbortHandle};

use crate::{
    args::UpArgs,
    place::{self, Addresses, Place, PlaceError},
};
use first_revision::NoRevision;
use services::{ServiceError, Services};

/// As in its own lines.
const NAME: &str = "only1mcp";

/// Why the gateway did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpError {
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error(transparent)]
    State(#[from] LockError),
    #[error(transparent)]
    Demo(#[from] demo::DemoError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Ops(#[from] OpsBindError),
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error(transparent)]
    NoRevision(#[from] NoRevision),
    #[error("cannot start")]
    System(#[from] io::Error),
    #[error(transparent)]
    Inherit(#[from] InheritError),
    #[error("cannot take over")]
    Succeed(#[from] SucceedError),
}

impl UpError {
    /// What to try next.
    fn next_step(&self) -> Option<String> {
        if let Self::Place(error) = self {
            return error.next_step();
        }
        let mut causes = iter::successors(self.source(), |&cause| cause.source());
        let kind = |cause: &(dyn Error + 'static)| cause.downcast_ref().map(io::Error::kind);
        let is_taken = causes.any(|cause| kind(cause) == Some(io::ErrorKind::AddrInUse));
        let running = is_taken.then(place::running)?;
        let gateways: Vec<_> =
            running.iter().map(|one| format!("the gateway of {} (process {})", one.config, one.pid)).collect();
        let owner = if gateways.is_empty() { "the program that has it".to_owned() } else { gateways.join(" or ") };
        Some(format!("stop {owner}, or name other addresses with --listen, --admin and --ops"))
    }
}

/// Runs the gateway until a signal stops it.
pub(crate) fn run(args: &UpArgs) -> ExitCode {
    let filter = args.log.clone().or_else(|| io::stderr().is_terminal().then(Filter::warnings));
    filter.into_iter().for_each(log::init_with);
    let program = Program { name: NAME, version: env!("CARGO_PKG_VERSION"), threads: 2, sockets: &[MCP] };
    let traces = match program.traces() {
        Ok(traces) => traces,
        Err(code) => return code,
    };
    program.start(traces, async |process| live(args, process).await).unwrap_or_else(|error| {
        // Violations have lines of their own, so that editors and terminals make them clickable.
        let prefix = if matches!(error, UpError::NoRevision(_)) { "" } else { "only1mcp: " };
        let next = error.next_step().map_or_else(String::new, |next| format!("\n  next: {next}"));
        say(&format!("{prefix}{}{next}\n", fault::chain(&error)));
        let absent = matches!(error, UpError::Succeed(SucceedError::Absent { .. }));
        if absent { exit::UNAVAILABLE } else { exit::REFUSED }.into()
    })
}

/// The name of the lock of the state directory, among what a successor gets.
const LOCK: &str = "lock";

async fn live(args: &UpArgs, mut process: Process) -> Result<ExitCode, UpError> {
    let place = args.place.find()?;
    let mut predecessor = if args.upgrade { Some(process.succeed(&place.way()).await?) } else { None };
    let state = match process.inherited.descriptor(LOCK) {
        Some(lock) => StateDir::share(&place.state_dir, lock),
        None => StateDir::lock(&place.state_dir)?,
    };
    if let Some(lock) = state.held() {
        process.held.add(LOCK, lock)?;
    }
    if predecessor.is_none() {
        place.tidy();
    }
    let (_, connector) = duplex();
    let mut up = Up { args, place: &place, state, halves: Halves::new(process), connector, over: None };
    let started = up.start(&mut predecessor).await;
    if let Some(kept) = predecessor {
        kept.gives_up().await;
    }
    let ended = match started {
        Ok(router) => Ok(up.serve(router).await),
        Err(error) => {
            let mut ending = Ending::default();
            up.halves.join(&mut ending).await;
            let _exit_code = ending.tell(NAME);
            Err(error)
        }
    };
    place.withdraw();
    ended
}

/// The gateway, from its start to its end.
struct Up<'a> {
    args: &'a UpArgs,
    place: &'a Place,
    state: StateDir,
    halves: Halves,
    /// The router's way to the control services.
    connector: DuplexConnector,
    /// The way to a successor, once there is one.
    over: Option<HandOver>,
}

/// What is seen from outside beside MCP and the admin API.
struct Front {
    ops: OpsListener,
    addresses: Addresses,
}

impl Up<'_> {
    /// Starts all parts; returns when they are ready, or when a stop is requested before. With a predecessor, no client
    /// is let in before that, and nothing is opened that is the predecessor's before it lets go. A predecessor that is
    /// still there in the end keeps its place.
    async fn start(&mut self, predecessor: &mut Option<Predecessor>) -> Result<Router, UpError> {
        if self.place.is_demo {
            demo::start(self.place, &mut self.halves.process, predecessor.is_none()).await?;
        }
        let (auth, listeners) = self.listen().await?;
        self.over = Some(self.halves.process.hand_over(&self.place.way()).await?);
        let admin = listeners.iter().find_map(Listener::local_addr).unwrap_or(self.args.admin);
        let process = &mut self.halves.process;
        let ops = process.listen_ops(self.args.ops).await?;
        let listen = Listen::new(self.args.listen, &mut process.inherited);
        let lock = process.inherited.descriptor(router::settings::LOCK);
        let settings = services::router_settings(self.args.access.clone(), &self.state, &self.connector);
        let scope = self.halves.router_scope();
        let warm = Router::warm(settings, listen, lock, scope).await.map_err(ServiceError::from)?;
        if let Some(predecessor) = predecessor {
            predecessor.lets_go(warm.warmed()).await?;
            self.state.sign();
        }
        let mut router = warm.take_charge(&self.halves.process.held).await.map_err(ServiceError::from)?;
        let addresses = Addresses {
            pid: std::process::id(),
            config: self.place.describe(),
            mcp: format!("http://{}/mcp", router.listen()),
            admin: format!("http://{admin}"),
            ops: format!("http://{}", ops.local_addr()),
        };
        let mut front = Some(Front { ops, addresses: addresses.clone() });
        if predecessor.is_none() {
            self.open(&mut router, front.take())?;
        }
        let Some(config) = self.start_control(&router, auth, listeners).await? else { return Ok(router) };
        let Process { shutdown, readiness, .. } = &self.halves.process;
        tokio::select! {
            settled = first_revision::wait(readiness, config.clone()) => settled?,
            () = shutdown.triggered() => return Ok(router),
        }
        first_revision::on_the_router(config.clone()).await;
        if let Some(predecessor) = predecessor {
            predecessor.leaves().await?;
        }
        shutdown.advance(Phase::Ready);
        self.open(&mut router, front)?;
        self.halves.process.follow(predecessor.take(), router.alone());
        say_ready(&addresses, &config.borrow());
        Ok(router)
    }

    /// Where the admin API is served, and what callers present over TCP.
    async fn listen(&mut self) -> Result<(Auth, Vec<Listener>), UpError> {
        let token_file = self.args.token_file.clone().unwrap_or_else(|| self.place.token_file());
        let auth = Auth::new(Some(AdminToken::load_or_create(&token_file)?));
        let process = &mut self.halves.process;
        let mut listeners = process.listen_grpc(self.args.admin, &auth).await?;
        let socket = process.listen_socket(self.place.socket()).await?;
        listeners.extend([socket, self.connector.listen_again().into()]);
        Ok((auth, listeners))
    }

    /// Lets clients in, and shows where they can come in.
    fn open(&self, router: &mut Router, front: Option<Front>) -> Result<(), ServiceError> {
        let Some(Front { ops, addresses }) = front else { return Ok(()) };
        let Process { readiness, metrics, tasks, .. } = &self.halves.process;
        router.open()?;
        ops.serve(self.args.ops_names.clone(), readiness.clone(), metrics.clone(), tasks);
        // The gateway serves without that.
        if let Err(error) = self.place.announce(&addresses) {
            let place = self.place.state_dir.display();
            say(&format!("only1mcp: cannot write into {place}, so commands must be told the addresses: {error}\n"));
        }
        Ok(())
    }

    /// Starts the control services, and offers their API; nothing when a stop was requested before.
    async fn start_control(
        &self,
        router: &Router,
        auth: Auth,
        listeners: Vec<Listener>,
    ) -> Result<Option<watch::Receiver<Arc<Status>>>, UpError> {
        let mut services = Services::start(&self.halves, router, &self.state)?;
        let config = services.add_manager(&self.halves, router, self.place.config.clone(), &self.state).await?;
        let Some(config) = config else { return Ok(None) };
        if io::stderr().is_terminal() {
            let (config, stop) = (config.clone(), self.halves.control.shutdown().clone());
            self.halves.control.spawn("arrivals", async move {
                tokio::select! {
                    () = arrivals::tell(config) => {}
                    () = stop.triggered() => {}
                }
            });
        }
        services.serve(&self.halves, auth, listeners);
        Ok(Some(config))
    }

    /// Serves until a signal or a successor ends that, then ends all parts in order.
    async fn serve(&mut self, mut router: Router) -> ExitCode {
        let over = self.over.take().expect("it is made at the start");
        over.until_left(async |step| match step {
            Step::LetGo => {
                router.let_go().await;
                self.halves.end_control().await;
            }
            Step::TakeBack => {
                router.take_back().await;
                if let Err(error) = self.take_back(&router).await {
                    say(&format!("only1mcp: {}\n", fault::chain(&error)));
                    self.halves.process.shutdown.trigger();
                }
            }
        })
        .await;
        let drained = router.drained(self.args.drain);
        if router.has_left() {
            self.state.leave();
        }
        self.halves.end(self.args, router, drained).await
    }

    async fn take_back(&mut self, router: &Router) -> Result<(), UpError> {
        self.state.sign();
        self.halves.renew_control();
        self.halves.process.inherited = self.halves.process.held.take(&[ADMIN, ADMIN_FILE]);
        let (auth, listeners) = self.listen().await?;
        self.start_control(router, auth, listeners).await.map(drop)
    }
}

/// The process, as two parts that end separately.
struct Halves {
    /// The data plane; signals and readiness are about it.
    process: Process,
    /// The control services. They end after the data plane, because it reports its last drains to them; or before it,
    /// when a successor has them.
    control: Tasks,
    /// Ends the process when the control services have failed.
    watched: AbortHandle,
}

impl Halves {
    fn new(process: Process) -> Self {
        let (control, watched) = Self::control(&process);
        Self { process, control, watched }
    }

    fn control(process: &Process) -> (Tasks, AbortHandle) {
        let control = Tasks::new(Shutdown::new());
        let (failed, stop) = (control.shutdown().clone(), process.shutdown.clone());
        let watched = process.tasks.spawn("control services", async move {
            tokio::select! {
                // Without one of its parts the process is half alive.
                () = failed.triggered() => stop.trigger(),
                () = stop.reached(Phase::Closing) => {}
            }
        });
        (control, watched)
    }

    /// Makes place for other control services than those that have ended.
    fn renew_control(&mut self) {
        (self.control, self.watched) = Self::control(&self.process);
    }

    /// Ends the control services alone.
    async fn end_control(&self) {
        self.watched.abort();
        let mut ending = Ending::default();
        ending.joined(&self.control.join(GRACE).await);
        let _exit_code = ending.tell(NAME);
    }

    /// Each service has its own tracer, as if it had its own process.
    fn tracer(&self, service: &'static str) -> Tracer {
        self.process.tracer(service, &telemetry::host())
    }

    fn router_scope(&self) -> router::Scope {
        let Process { clock, shutdown, readiness, .. } = &self.process;
        router::Scope {
            clock: *clock,
            shutdown: shutdown.clone(),
            readiness: readiness.clone(),
            tracer: self.tracer("router"),
        }
    }

    /// Ends all tasks.
    async fn join(&self, ending: &mut Ending) {
        ending.joined(&self.process.join().await);
        ending.joined(&self.control.join(GRACE).await);
    }

    /// After a stop was requested: ends all parts in order.
    async fn end(&self, args: &UpArgs, router: Router, drained: impl Future<Output = ()>) -> ExitCode {
        let wound_down = self.process.shutdown.wind_down(args.min_drain, args.drain, drained).await;
        let closing = tokio::time::Instant::now();
        let stopped = router.stop(GRACE).await;
        let router_took = closing.elapsed();
        let mut ending = Ending::of(wound_down, &stopped.cut_off);
        ending.part(stopped.in_peace, "the router");
        self.join(&mut ending).await;
        tracing::info!(router = ?router_took, all = ?closing.elapsed(), "all parts have ended");
        ending.tell(NAME)
    }
}

/// The line that says that clients can come.
fn say_ready(addresses: &Addresses, status: &Status) {
    let Addresses { mcp, admin, ops, .. } = addresses;
    let revision = status.revision;
    // The reader of this line may be gone by now; the gateway serves others too, so the error is ignored.
    drop(writeln!(io::stdout(), "ready: MCP {mcp}, admin {admin}, ops {ops}, revision {revision}"));
    if let Some(not_up) = first_revision::not_up(status) {
        say(&format!("only1mcp: not up yet: {not_up}; `only1mcp status` tells how they are\n"));
    }
}
