//! `up`: the four services in one process, speaking the same gRPC as four processes do.
//!
//! Everything a service needs is handed to it here as a value; nothing is global but the log and the metrics, so that
//! the services cannot tell whether they share a process.

mod demo;
mod first_revision;
mod services;

use std::{
    fs,
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use runtime::{
    AdminToken, Clock, Metrics, Phase, Readiness, Shutdown, Tasks, exit,
    grpc::{Auth, ListenError, Listener, duplex},
    ops::{OpsBindError, OpsListener},
    shutdown::{self, WoundDown},
    state_dir::{LockError, StateDir, write_atomic},
    telemetry,
    token::TokenError,
};

use crate::{
    args::UpArgs,
    cli,
    place::{Addresses, Place, PlaceError},
};
use first_revision::NoRevision;
use services::{ServiceError, Services};

/// How long calls may run on when the process is asked to stop.
const DRAIN: Duration = Duration::from_secs(30);
/// After that, for what is still being put away.
const GRACE: Duration = Duration::from_secs(5);

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
    #[error("cannot {what}")]
    System { what: &'static str, source: io::Error },
}

/// Runs until a signal.
pub(crate) fn run(args: &UpArgs) -> ExitCode {
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let ran = built.map_err(|source| UpError::System { what: "start", source }).and_then(|runtime| {
        let ran = runtime.block_on(live(args));
        runtime.shutdown_background();
        ran
    });
    ran.unwrap_or_else(|error| {
        // Violations are lines of their own, which editors and terminals make clickable.
        let prefix = if matches!(error, UpError::NoRevision(_)) { "" } else { "only1mcp: " };
        say(&format!("{prefix}{}\n", cli::chain(&error)));
        exit::REFUSED.into()
    })
}

/// What the process is made of, for its whole life.
struct Process {
    clock: Clock,
    /// The life of the data plane, which signals and readiness speak of.
    shutdown: Shutdown,
    tasks: Tasks,
    /// The control services, which end after it: what drains at the end is still to be told to somebody.
    control: Tasks,
    readiness: Readiness,
    metrics: Metrics,
}

async fn live(args: &UpArgs) -> Result<ExitCode, UpError> {
    let signals = shutdown::signals().map_err(|source| UpError::System { what: "catch signals", source })?;
    let place = args.place.find()?;
    let state = StateDir::lock(&place.state_dir)?;
    let process = Process::new();
    process.tasks.spawn("signals", process.shutdown.clone().follow(signals));
    let running = process.start(args, &place, &state).await;
    let result = match running {
        Ok(services) => Ok(process.end(args.min_drain, services).await),
        Err(error) => {
            process.join().await;
            Err(error)
        }
    };
    drop(fs::remove_file(place.addresses_file()));
    drop(state);
    result
}

impl Process {
    fn new() -> Self {
        let shutdown = Shutdown::new();
        let (tasks, readiness) = (Tasks::new(shutdown.clone()), Readiness::new(shutdown.clone()));
        let control = Tasks::new(Shutdown::new());
        let (failed, stop) = (control.shutdown().clone(), shutdown.clone());
        tasks.spawn("control services", async move {
            tokio::select! {
                // Without one of them the process is half alive.
                () = failed.triggered() => stop.trigger(),
                () = stop.reached(Phase::Closing) => {}
            }
        });
        let metrics = telemetry::init("only1mcp", env!("CARGO_PKG_VERSION"));
        Self { clock: Clock::start(), shutdown, tasks, control, readiness, metrics }
    }

    fn router_scope(&self) -> router::Scope {
        router::Scope { clock: self.clock, shutdown: self.shutdown.clone(), readiness: self.readiness.clone() }
    }

    /// Until ready, or asked to stop before.
    async fn start(&self, args: &UpArgs, place: &Place, state: &StateDir) -> Result<Services, UpError> {
        if place.is_demo {
            demo::start(place, &self.tasks).await?;
            say(&format!(
                "only1mcp: no configuration found, so this is the built-in demo of three servers.\n  \
                 Call one:  only1mcp call calculator__add '{{\"a\": 40, \"b\": 2}}'\n  \
                 And edit {} while it runs.\n",
                place.config.display()
            ));
        }
        let token_file = args.token_file.clone().unwrap_or_else(|| place.token_file());
        let auth = Auth::new(Some(AdminToken::load_or_create(&token_file)?));
        let tcp = Listener::tcp(args.admin, &auth).await?;
        let admin = tcp.local_addr().unwrap_or(args.admin);
        let unix = Listener::unix(place.socket()).await?;
        let ops = OpsListener::bind(args.ops).await?;
        let ops_address = ops.local_addr();
        let (inside, connector) = duplex();
        let services = Services::start(self, args.listen, place.config.clone(), state, &connector).await?;
        services.serve(self, auth, vec![tcp, unix, inside.into()]);
        ops.serve(self.readiness.clone(), self.metrics.clone(), &self.tasks);
        let addresses = Addresses {
            pid: std::process::id(),
            config: place.describe(),
            mcp: format!("http://{}/mcp", services.router.listen()),
            admin: format!("http://{admin}"),
            ops: format!("http://{ops_address}"),
        };
        announce(place, &addresses)?;
        tokio::select! {
            settled = first_revision::wait(&self.readiness, services.config.clone()) => settled?,
            () = self.shutdown.triggered() => return Ok(services),
        }
        first_revision::on_the_router(services.config.clone()).await;
        self.shutdown.advance(Phase::Ready);
        let revision = services.config.borrow().revision;
        let Addresses { mcp, admin, ops, .. } = addresses;
        // Whoever waits for this line may be gone by now; the gateway is not theirs alone.
        drop(writeln!(io::stdout(), "ready: MCP {mcp}, admin {admin}, ops {ops}, revision {revision}"));
        Ok(services)
    }

    /// Ends all tasks, and says whether none failed or had to be aborted.
    async fn join(&self) -> bool {
        let joined = [self.tasks.join(GRACE).await, self.control.join(GRACE).await];
        for failure in joined.iter().flat_map(|joined| &joined.failures) {
            say(&format!("only1mcp: {failure}\n"));
        }
        joined.iter().all(runtime::tasks::Joined::is_clean)
    }

    /// Waits for the signal, then lets everything end in its order.
    async fn end(self, min_drain: Duration, services: Services) -> ExitCode {
        self.shutdown.triggered().await;
        let wound_down = self.shutdown.wind_down(min_drain, DRAIN, services.router.drained()).await;
        let stopped = services.stop(GRACE).await;
        let joined = self.join().await;
        if wound_down == WoundDown::Forced {
            say("only1mcp: calls in flight were cut off\n");
        }
        let clean = stopped && joined && wound_down == WoundDown::Drained;
        if clean { exit::DONE } else { exit::REFUSED }.into()
    }
}

/// For the commands that look for this gateway.
fn announce(place: &Place, addresses: &Addresses) -> Result<(), UpError> {
    let failed = |source| UpError::System { what: "write the file with the addresses", source };
    let text = serde_json::to_vec_pretty(addresses).map_err(|error| failed(io::Error::other(error)))?;
    write_atomic(&place.addresses_file(), &text, 0o600).map_err(failed)
}

/// To stderr; if that is closed, nobody wants to know.
fn say(text: &str) {
    drop(io::stderr().write_all(text.as_bytes()));
}
