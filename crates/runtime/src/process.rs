//! The life cycle that all processes of ours share; each `main` adds its own part in the middle.
//!
//! A process parses its command line, or ends. Then it sets up signals, telemetry and tasks. The service lives until a
//! stop is requested; the exit code tells how it ended.

mod command_line;

use std::{
    error::Error,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::escape::say;
use crate::{
    Clock, Ending, Held, Metrics, Phase, Readiness, Shutdown, Tasks, Tracer, Traces, descriptors, exit, fault,
    grpc::{self, Auth, ListenError, Listener},
    handover::{HandOver, Predecessor, SucceedError},
    inherited::{ADMIN, InheritError, Inherited, OPS},
    ops::{OpsBindError, OpsListener, OpsNames},
    panics,
    service_manager::NotifySocket,
    shutdown::signals_of_service,
    tasks::Joined,
    telemetry,
};

/// The name of the admin API's own socket file, among the descriptors.
pub const ADMIN_FILE: &str = "admin.sock";
/// How long tasks that still run at the end may take to finish.
pub const GRACE: Duration = Duration::from_secs(5);

/// What a process is.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// As on its command line, in its log and in its metrics.
    pub name: &'static str,
    pub version: &'static str,
    /// Threads for everything that is asynchronous.
    pub threads: usize,
    /// Names of sockets it may inherit, besides those of the ops listener and the admin API.
    pub sockets: &'static [&'static str],
}

/// What a process is made of, for its whole life. Must be used within a runtime.
#[derive(Debug)]
pub struct Process {
    pub clock: Clock,
    pub shutdown: Shutdown,
    pub tasks: Tasks,
    pub readiness: Readiness,
    pub metrics: Metrics,
    pub inherited: Inherited,
    /// What a successor would get.
    pub held: Held,
    /// Taken by the first who waits for a successor.
    upgrade: Option<Signal>,
    traces: Traces,
    name: &'static str,
    version: &'static str,
}

impl Program {
    /// The whole of a service's `main`: reads the command line into `F`, and runs until `live` returns. An error of
    /// `live` is the last line on stderr. The subcommand `healthcheck` asks a running process of this kind instead.
    #[must_use]
    pub fn run<F: Parser>(self, live: impl AsyncFnOnce(F, Process) -> Result<ExitCode, Box<dyn Error>>) -> ExitCode {
        panics::escape();
        let flags = match command_line::read(std::env::args_os()) {
            Ok(command_line::Asked::Serve(flags)) => flags,
            Ok(command_line::Asked::Healthcheck(check)) => return check.run(),
            Err(error) => return exit::usage(&error),
        };
        let traces = match self.traces() {
            Ok(traces) => traces,
            Err(code) => return code,
        };
        let ended = self.start(traces, async |process| live(flags, process).await);
        ended.unwrap_or_else(|error| {
            say(&format!("{}: {}\n", self.name, fault::chain(error.as_ref())));
            exit::REFUSED.into()
        })
    }

    /// Reads from the environment which log lines are written and how spans are exported.
    ///
    /// # Errors
    /// The exit code of a wrong command line, since a wrong variable counts as one. The reason is already on stderr
    /// then.
    pub fn traces(self) -> Result<Traces, ExitCode> {
        let refused = |error: &dyn Error| {
            say(&format!("{}: {}\n", self.name, fault::chain(error)));
            ExitCode::from(exit::USAGE)
        };
        telemetry::log::init().map_err(|error| refused(&error))?;
        Traces::from_env().map_err(|error| refused(&error))
    }

    /// Runs `live` to its end with all its threads, and then sends the spans that are left. There must be no other
    /// thread yet.
    ///
    /// # Errors
    /// Errors of `live`; also when the operating system gives no threads or signals, and when inherited sockets do not
    /// fit.
    pub fn start<T, E>(self, traces: Traces, live: impl AsyncFnOnce(Process) -> Result<T, E>) -> Result<T, E>
    where
        E: From<io::Error> + From<InheritError>,
    {
        descriptors::raise();
        let inherited = Inherited::take(self.sockets)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(self.threads).enable_all().build()?;
        let ended = runtime.block_on(async {
            let ended = live(Process::begin(self, traces.clone(), inherited)?).await;
            traces.flush().await;
            ended
        });
        // A disk that does not answer must not keep the process alive.
        runtime.shutdown_timeout(GRACE);
        ended
    }
}

/// What the process gives to a service.
#[derive(Debug, Clone)]
pub struct Scope {
    pub clock: Clock,
    pub tasks: Tasks,
    pub readiness: Readiness,
    pub tracer: Tracer,
}

impl Process {
    /// Catches signals before anything can be interrupted halfway.
    fn begin(program: Program, traces: Traces, inherited: Inherited) -> io::Result<Self> {
        let signals = signals_of_service()?;
        // Caught by every program, so that it ends none.
        let upgrade = Some(signal(SignalKind::user_defined2())?);
        let shutdown = Shutdown::new();
        let (tasks, readiness) = (Tasks::new(shutdown.clone()), Readiness::new(shutdown.clone()));
        let metrics = telemetry::init(program.name, program.version);
        tasks.spawn("signals", shutdown.clone().follow(signals));
        if let Some(manager) = NotifySocket::of_environment() {
            tasks.spawn("service manager", manager.follow(readiness.clone()));
        }
        let (clock, name, version) = (Clock::start(), program.name, program.version);
        let held = Held::default();
        Ok(Self { clock, shutdown, tasks, readiness, metrics, inherited, held, upgrade, traces, name, version })
    }

    /// Takes over from the process that waits at `way`: its descriptors are inherited.
    ///
    /// # Errors
    /// When there is none, or it keeps its place.
    pub async fn succeed(&mut self, way: &Path) -> Result<Predecessor, SucceedError> {
        let (predecessor, inherited) = Predecessor::find(way, self.shutdown.token(), self.held.clone()).await?;
        self.inherited = inherited;
        Ok(predecessor)
    }

    /// Waits at `way` for a successor.
    ///
    /// # Errors
    /// When one cannot connect there.
    ///
    /// # Panics
    /// When it is called twice.
    pub async fn hand_over(&mut self, way: &Path) -> Result<HandOver, ListenError> {
        let upgrade = self.upgrade.take().expect("a process waits for a successor at one place");
        let (held, shutdown) = (self.held.clone(), self.shutdown.clone());
        Ok(HandOver::open(way, &mut self.inherited, upgrade, held, shutdown, self.version).await?)
    }

    /// Makes the tracer of a service in this process; `instance` tells the service from others of its kind.
    pub fn tracer(&self, service: &'static str, instance: &str) -> Tracer {
        self.traces.tracer(service, self.version, instance)
    }

    /// What a service of this process is given; the host's name tells it from others of its kind.
    pub fn scope(&self, service: &'static str) -> Scope {
        Scope {
            clock: self.clock,
            tasks: self.tasks.clone(),
            readiness: self.readiness.clone(),
            tracer: self.tracer(service, &telemetry::host()),
        }
    }

    /// Answers `/livez`, `/readyz` and `/metrics` until the end, at `address` or on the socket inherited for them, and
    /// returns the address. `names` are the host names under which clients reach it.
    pub async fn serve_ops(&mut self, address: SocketAddr, names: OpsNames) -> Result<SocketAddr, OpsBindError> {
        let ops = self.listen_ops(address).await?;
        let bound = ops.local_addr();
        ops.serve(names, self.readiness.clone(), self.metrics.clone(), &self.tasks);
        Ok(bound)
    }

    /// As [`Process::serve_ops`], without answering yet.
    pub async fn listen_ops(&mut self, address: SocketAddr) -> Result<OpsListener, OpsBindError> {
        let listener = match self.inherited.tcp(OPS) {
            Some(socket) => OpsListener::on(socket),
            None => OpsListener::bind(address).await,
        }?;
        listener.hold(&self.held)?;
        Ok(listener)
    }

    /// Where the admin API is served: on all sockets inherited for it, else at `address`.
    ///
    /// # Errors
    /// When one cannot be used, or needs a credential that is missing.
    pub async fn listen_grpc(&mut self, address: SocketAddr, auth: &Auth) -> Result<Vec<Listener>, ListenError> {
        let mut listeners = Listener::inherited(&mut self.inherited, auth)?;
        if listeners.is_empty() {
            listeners.push(Listener::tcp(address, auth).await?);
        }
        for listener in &listeners {
            listener.hold(&self.held, ADMIN)?;
        }
        Ok(listeners)
    }

    /// The admin API on a socket file of this process, which is removed with the listener.
    pub async fn listen_socket(&mut self, path: PathBuf) -> Result<Listener, ListenError> {
        let bound = self.inherited.unix(ADMIN_FILE);
        let listener = Listener::unix_at(&path, bound, self.held.ours.clone()).await?;
        listener.hold(&self.held, ADMIN_FILE)?;
        Ok(listener)
    }

    /// Offers `service` on `listeners` until a stop is requested. If the service fails, the process stops.
    pub fn serve_grpc(&self, service: grpc::Service, listeners: Vec<Listener>) {
        self.tasks.spawn_component("grpc", grpc::serve(service, listeners, self.shutdown.clone()));
    }

    /// Advances to `Ready` once all gates are open; returns then, or when a stop is requested.
    pub async fn until_ready(&self) {
        tokio::select! {
            () = self.readiness.ready() => self.shutdown.advance(Phase::Ready),
            () = self.shutdown.triggered() => {}
        }
    }

    /// Waits for the end of the predecessor in a task, if there is one, and runs `alone` then.
    pub fn follow(&self, predecessor: Option<Predecessor>, alone: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.shutdown.clone();
        self.tasks.spawn("predecessor", async move {
            let ended = async {
                if let Some(predecessor) = predecessor {
                    predecessor.gone().await;
                }
                alone.await;
            };
            tokio::select! {
                () = ended => {}
                () = shutdown.reached(Phase::Closing) => {}
            }
        });
    }

    /// As [`Process::until_ready`]; returns when a stop is requested, ready or not.
    pub async fn serve_until_stopped(&self) {
        self.until_ready().await;
        self.shutdown.triggered().await;
        self.held.clear();
    }

    /// Ends all tasks.
    pub async fn join(&self) -> Joined {
        self.tasks.join(GRACE).await
    }

    /// Ends all tasks, and says what did not end by itself and in time.
    pub async fn end(&self, mut ending: Ending) -> ExitCode {
        ending.joined(&self.join().await);
        ending.tell(self.name)
    }
}

#[cfg(test)]
mod tests;
