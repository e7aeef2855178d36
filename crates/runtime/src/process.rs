//! The life cycle that all processes of ours share; each `main` adds its own part in the middle.
//!
//! A process parses its command line, or ends. Then it sets up signals, telemetry and tasks. The service lives until a
//! stop is requested; the exit code tells how it ended.

mod command_line;

use std::{error::Error, io, net::SocketAddr, process::ExitCode, time::Duration};

use clap::Parser;

use crate::escape::say;
use crate::{
    Clock, Metrics, Phase, Readiness, Shutdown, Tasks, Tracer, Traces, descriptors, exit, fault,
    grpc::{self, Auth, ListenError, Listener},
    inherited::{InheritError, Inherited, OPS},
    ops::{OpsBindError, OpsListener, OpsNames},
    panics,
    service_manager::NotifySocket,
    shutdown::signals,
    tasks::Joined,
    telemetry,
};

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
    traces: Traces,
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
        let signals = signals()?;
        let shutdown = Shutdown::new();
        let (tasks, readiness) = (Tasks::new(shutdown.clone()), Readiness::new(shutdown.clone()));
        let metrics = telemetry::init(program.name, program.version);
        tasks.spawn("signals", shutdown.clone().follow(signals));
        if let Some(manager) = NotifySocket::of_environment() {
            tasks.spawn("service manager", manager.follow(readiness.clone()));
        }
        let (clock, version) = (Clock::start(), program.version);
        Ok(Self { clock, shutdown, tasks, readiness, metrics, inherited, traces, version })
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
        match self.inherited.tcp(OPS) {
            Some(socket) => OpsListener::on(socket),
            None => OpsListener::bind(address).await,
        }
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
        Ok(listeners)
    }

    /// Offers `service` on `listeners` until a stop is requested. If the service fails, the process stops.
    pub fn serve_grpc(&self, service: grpc::Service, listeners: Vec<Listener>) {
        self.tasks.spawn_component("grpc", grpc::serve(service, listeners, self.shutdown.clone()));
    }

    /// Advances to `Ready` once all gates are open; returns when a stop is requested, ready or not.
    pub async fn serve_until_stopped(&self) {
        tokio::select! {
            () = self.readiness.ready() => self.shutdown.advance(Phase::Ready),
            () = self.shutdown.triggered() => {}
        }
        self.shutdown.triggered().await;
    }

    /// Ends all tasks.
    pub async fn join(&self) -> Joined {
        self.tasks.join(GRACE).await
    }
}

#[cfg(test)]
mod tests;
