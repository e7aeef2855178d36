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
    time::Duration,
};

use router::{
    Router,
    settings::{Listen, MCP},
};
use runtime::escape::say;
use runtime::{
    AdminToken, Phase, Process, Program, Shutdown, Tasks, Tracer, exit, fault,
    grpc::{Auth, ListenError, Listener, duplex},
    inherited::InheritError,
    ops::OpsBindError,
    process::GRACE,
    shutdown::WoundDown,
    state_dir::{LockError, StateDir},
    telemetry::{
        self,
        log::{self, Filter},
    },
    token::TokenError,
};

use crate::{
    args::UpArgs,
    place::{self, Addresses, Place, PlaceError},
};
use first_revision::NoRevision;
use services::{ServiceError, Services};

/// How long calls may run on after the process was asked to stop.
const DRAIN: Duration = Duration::from_secs(30);

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
    let program = Program { name: "only1mcp", version: env!("CARGO_PKG_VERSION"), threads: 2, sockets: &[MCP] };
    let traces = match program.traces() {
        Ok(traces) => traces,
        Err(code) => return code,
    };
    program.start(traces, async |process| live(args, process).await).unwrap_or_else(|error| {
        // Violations have lines of their own, so that editors and terminals make them clickable.
        let prefix = if matches!(error, UpError::NoRevision(_)) { "" } else { "only1mcp: " };
        let next = error.next_step().map_or_else(String::new, |next| format!("\n  next: {next}"));
        say(&format!("{prefix}{}{next}\n", fault::chain(&error)));
        exit::REFUSED.into()
    })
}

/// The process, as two parts that end separately.
struct Halves {
    /// The data plane; signals and readiness are about it.
    process: Process,
    /// The control services. They end after the data plane, because it reports its last drains to them.
    control: Tasks,
}

async fn live(args: &UpArgs, process: Process) -> Result<ExitCode, UpError> {
    let place = args.place.find()?;
    let state = StateDir::lock(&place.state_dir)?;
    place.withdraw();
    let mut halves = Halves::new(process);
    let running = halves.start(args, &place, &state).await;
    let result = match running {
        Ok(router) => Ok(halves.end(args.min_drain, router).await),
        Err(error) => {
            halves.join().await;
            Err(error)
        }
    };
    place.withdraw();
    drop(state);
    result
}

impl Halves {
    fn new(process: Process) -> Self {
        let control = Tasks::new(Shutdown::new());
        let (failed, stop) = (control.shutdown().clone(), process.shutdown.clone());
        process.tasks.spawn("control services", async move {
            tokio::select! {
                // Without one of its parts the process is half alive.
                () = failed.triggered() => stop.trigger(),
                () = stop.reached(Phase::Closing) => {}
            }
        });
        Self { process, control }
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

    /// Starts all parts; returns when they are ready, or when a stop is requested before.
    async fn start(&mut self, args: &UpArgs, place: &Place, state: &StateDir) -> Result<Router, UpError> {
        if place.is_demo {
            demo::start(place, &self.process.tasks).await?;
            say(&format!(
                "only1mcp: no configuration found, so this is the built-in demo of three servers.\n  \
                 Call one:          only1mcp call calculator__add '{{\"a\": 40, \"b\": 2}}'\n  \
                 Change them:       edit {} while this runs\n  \
                 Your own servers:  only1mcp import\n",
                place.config.display()
            ));
        }
        let token_file = args.token_file.clone().unwrap_or_else(|| place.token_file());
        let auth = Auth::new(Some(AdminToken::load_or_create(&token_file)?));
        let mut listeners = self.process.listen_grpc(args.admin, &auth).await?;
        let admin = listeners.iter().find_map(Listener::local_addr).unwrap_or(args.admin);
        let ops = self.process.listen_ops(args.ops).await?;
        let ops_address = ops.local_addr();
        let (inside, connector) = duplex();
        listeners.extend([Listener::unix(place.socket()).await?, inside.into()]);
        let listen = Listen::new(args.listen, self.process.inherited.tcp(MCP));
        let settings = services::router_settings(args.access.clone(), state, &connector);
        let mut services = Services::start(self, listen, state, settings).await?;
        let Process { shutdown, tasks, readiness, metrics, .. } = &self.process;
        ops.serve(args.ops_names.clone(), readiness.clone(), metrics.clone(), tasks);
        let addresses = Addresses {
            pid: std::process::id(),
            config: place.describe(),
            mcp: format!("http://{}/mcp", services.router.listen()),
            admin: format!("http://{admin}"),
            ops: format!("http://{ops_address}"),
        };
        // The gateway serves without that.
        if let Err(error) = place.announce(&addresses) {
            let place = place.state_dir.display();
            say(&format!("only1mcp: cannot write into {place}, so commands must be told the addresses: {error}\n"));
        }
        let Some(config) = services.add_manager(self, place.config.clone(), state).await? else {
            return Ok(services.router);
        };
        if io::stderr().is_terminal() {
            let (config, stop) = (config.clone(), shutdown.clone());
            tasks.spawn("arrivals", async move {
                tokio::select! {
                    () = arrivals::tell(config) => {}
                    () = stop.triggered() => {}
                }
            });
        }
        services.serve(self, auth, listeners);
        tokio::select! {
            settled = first_revision::wait(readiness, config.clone()) => settled?,
            () = shutdown.triggered() => return Ok(services.router),
        }
        first_revision::on_the_router(config.clone()).await;
        shutdown.advance(Phase::Ready);
        let revision = config.borrow().revision;
        let Addresses { mcp, admin, ops, .. } = addresses;
        // The reader of this line may be gone by now; the gateway serves others too, so the error is ignored.
        drop(writeln!(io::stdout(), "ready: MCP {mcp}, admin {admin}, ops {ops}, revision {revision}"));
        if let Some(not_up) = first_revision::not_up(&config.borrow()) {
            say(&format!("only1mcp: not up yet: {not_up}; `only1mcp status` tells how they are\n"));
        }
        Ok(services.router)
    }

    /// Ends all tasks, and returns whether none failed or had to be aborted.
    async fn join(&self) -> bool {
        let joined = [self.process.join().await, self.control.join(GRACE).await];
        for failure in joined.iter().flat_map(|joined| &joined.failures) {
            say(&format!("only1mcp: {failure}\n"));
        }
        joined.iter().all(runtime::tasks::Joined::is_clean)
    }

    /// Waits for the signal, then ends all parts in order.
    async fn end(self, min_drain: Duration, router: Router) -> ExitCode {
        let shutdown = &self.process.shutdown;
        shutdown.triggered().await;
        let wound_down = shutdown.wind_down(min_drain, DRAIN, router.drained()).await;
        let closing = tokio::time::Instant::now();
        let stopped = router.stop(GRACE).await;
        let router_took = closing.elapsed();
        let joined = self.join().await;
        tracing::info!(router = ?router_took, all = ?closing.elapsed(), "all parts have ended");
        if wound_down == WoundDown::Forced {
            say("only1mcp: calls in flight were cut off\n");
        }
        exit::of(stopped && joined && wound_down == WoundDown::Drained)
    }
}
