//! The life that all processes of ours share: each `main` says what happens in between.
//!
//! A command line is understood or the process ends; then come signals, telemetry and the tasks; the service lives until
//! it is asked to stop; what its end was like is the exit code.

mod command_line;

use std::{
    error::Error,
    io::{self, Write},
    net::SocketAddr,
    process::ExitCode,
    time::Duration,
};

use clap::Parser;

use crate::{
    Clock, Metrics, Phase, Readiness, Shutdown, Tasks, Tracer, Traces, descriptors, escape, exit, fault,
    grpc::{self, Auth, ListenError, Listener},
    inherited::{InheritError, Inherited, OPS},
    memory,
    ops::{OpsBindError, OpsListener, OpsNames},
    panics,
    service_manager::NotifySocket,
    shutdown::signals,
    tasks::Joined,
    telemetry,
};

/// What is still running at the end has this long to put its things away.
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
    /// The whole of a service's `main`: reads the command line into `F`, and lives until `live` returns, whose error is
    /// the last word on stderr. The subcommand `healthcheck` asks a running process of this kind instead.
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

    /// Which lines it writes and how spans leave it, by the environment.
    ///
    /// # Errors
    /// The exit code of a wrong command line, since a wrong variable is one; what is wrong was said then.
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
    /// Those of `live`, when the operating system gives no threads or signals, and when what is inherited does not fit.
    pub fn start<T, E>(self, traces: Traces, live: impl AsyncFnOnce(Process) -> Result<T, E>) -> Result<T, E>
    where
        E: From<io::Error> + From<InheritError>,
    {
        descriptors::raise();
        memory::give_back();
        let inherited = Inherited::take(self.sockets)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(self.threads).enable_all().build()?;
        let ended = runtime.block_on(async {
            let ended = live(Process::begin(self, traces.clone(), inherited)?).await;
            traces.flush().await;
            ended
        });
        // A disk that does not answer must not keep the process.
        runtime.shutdown_timeout(GRACE);
        ended
    }
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

    /// For the spans of a service in this process; `instance` is its name among those of its kind.
    #[must_use]
    pub fn tracer(&self, service: &'static str, instance: &str) -> Tracer {
        self.traces.tracer(service, self.version, instance)
    }

    /// Answers `/livez`, `/readyz` and `/metrics` at `address`, or on the socket inherited for that, until the end, and
    /// returns where that is. `names` are those by which it is reached.
    ///
    /// # Errors
    /// When the address cannot be used.
    pub async fn serve_ops(&mut self, address: SocketAddr, names: OpsNames) -> Result<SocketAddr, OpsBindError> {
        let ops = self.listen_ops(address).await?;
        let bound = ops.local_addr();
        ops.serve(names, self.readiness.clone(), self.metrics.clone(), &self.tasks);
        Ok(bound)
    }

    /// As [`Process::serve_ops`], without answering yet.
    ///
    /// # Errors
    /// When the address cannot be used.
    pub async fn listen_ops(&mut self, address: SocketAddr) -> Result<OpsListener, OpsBindError> {
        match self.inherited.tcp(OPS) {
            Some(socket) => OpsListener::on(socket),
            None => OpsListener::bind(address).await,
        }
    }

    /// Where the admin API is served: on all sockets inherited for it, else at `address`.
    ///
    /// # Errors
    /// When one cannot be used, or needs a credential that there is not.
    pub async fn listen_grpc(&mut self, address: SocketAddr, auth: &Auth) -> Result<Vec<Listener>, ListenError> {
        let mut listeners = Listener::inherited(&mut self.inherited, auth)?;
        if listeners.is_empty() {
            listeners.push(Listener::tcp(address, auth).await?);
        }
        Ok(listeners)
    }

    /// Offers `service` on `listeners` until stopping is asked for. The process does not go on without it.
    pub fn serve_grpc(&self, service: grpc::Service, listeners: Vec<Listener>) {
        self.tasks.spawn_component("grpc", grpc::serve(service, listeners, self.shutdown.clone()));
    }

    /// Says that it is ready once all gates are open; returns when stopping is asked for, ready or not.
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

/// To stderr, with what a terminal should not get escaped; if that is closed, nobody wants to know.
pub fn say(text: &str) {
    drop(io::stderr().write_all(escape::paragraph(text).as_bytes()));
}

#[cfg(test)]
mod tests;
