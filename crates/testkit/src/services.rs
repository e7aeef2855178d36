//! The four services as processes of their own, with any number of routers.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use runtime::AdminToken;

use crate::{
    binaries,
    client::http_get,
    fault::{Fault, fault},
    gateway::{Cli, command, isolated},
    process::Supervised,
    scratch::Scratch,
    wait,
};

/// From the start of a process until it says it is ready.
const START: Duration = Duration::from_secs(30);

/// One of the four programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    ConfigManager,
    HealthMonitor,
    DrainCoordinator,
    Router,
}

impl Kind {
    /// The control services, in the order in which they are normally started.
    pub const CONTROL: [Self; 3] = [Self::ConfigManager, Self::HealthMonitor, Self::DrainCoordinator];

    /// The name of the program, and of the flag that gives its address to others.
    pub fn program(self) -> &'static str {
        match self {
            Self::ConfigManager => "config-manager",
            Self::HealthMonitor => "health-monitor",
            Self::DrainCoordinator => "drain-coordinator",
            Self::Router => "router",
        }
    }
}

/// A process of one of the programs, or the place where one was.
#[derive(Debug)]
pub struct Service {
    kind: Kind,
    name: String,
    pub grpc: SocketAddr,
    pub ops: SocketAddr,
    /// The MCP endpoint, if this is a router.
    pub mcp: SocketAddr,
    process: Option<Supervised>,
    environment: Vec<(String, String)>,
    /// Instead of the program of the build under test.
    program: Option<PathBuf>,
    starts: usize,
}

/// The four services, some of which may be dead.
#[derive(Debug)]
pub struct Services {
    root: PathBuf,
    config: PathBuf,
    control: [Service; 3],
    pub routers: Vec<Service>,
    /// Where routers reach a control service, if not where it is.
    detours: Vec<(Kind, SocketAddr)>,
}

impl Services {
    /// Chooses addresses; nothing runs yet.
    pub fn plan(scratch: &Scratch, config: &Path, routers: usize) -> Result<Self, Fault> {
        let root = scratch.path().to_owned();
        for folder in ["logs", "home"] {
            scratch.folder(folder)?;
        }
        AdminToken::load_or_create(&root.join("token"))?;
        let control = [
            Service::plan(Kind::ConfigManager, 0)?,
            Service::plan(Kind::HealthMonitor, 0)?,
            Service::plan(Kind::DrainCoordinator, 0)?,
        ];
        let routers = (0..routers).map(|number| Service::plan(Kind::Router, number)).collect::<Result<_, _>>()?;
        Ok(Self { root, config: config.to_owned(), control, routers, detours: Vec::new() })
    }

    /// As [`Self::plan`], then starts all of them, and waits until they are ready.
    pub fn up(scratch: &Scratch, config: &Path, routers: usize) -> Result<Self, Fault> {
        let mut services = Self::plan(scratch, config, routers)?;
        for kind in Kind::CONTROL {
            services.start(kind)?;
        }
        for number in 0..routers {
            services.start_router(number)?;
        }
        services.wait_ready()?;
        Ok(services)
    }

    /// Has the routers that are started from now on reach a control service at another address.
    pub fn detour(&mut self, kind: Kind, address: SocketAddr) {
        self.detours.push((kind, address));
    }

    /// Starts a control service; it need not be ready when this returns.
    pub fn start(&mut self, kind: Kind) -> Result<(), Fault> {
        let mut arguments = self.arguments(self.service(kind));
        if kind == Kind::ConfigManager {
            arguments.extend(["--config".into(), self.config.clone().into()]);
        }
        let root = self.root.clone();
        self.service_mut(kind).start(&root, arguments)
    }

    /// Starts the router of that number; it need not be ready when this returns.
    pub fn start_router(&mut self, number: usize) -> Result<(), Fault> {
        let router = &self.routers[number];
        let mut arguments = self.arguments(router);
        arguments.extend(["--listen".into(), router.mcp.to_string().into()]);
        arguments.extend(["--node".into(), router.name.clone().into()]);
        for control in &self.control {
            arguments.push(format!("--{}", control.kind.program()).into());
            let detour = self.detours.iter().find(|(kind, _)| *kind == control.kind);
            arguments.push(format!("http://{}", detour.map_or(control.grpc, |(_, address)| *address)).into());
        }
        let root = self.root.clone();
        self.routers[number].start(&root, arguments)
    }

    /// Where a service keeps its state.
    pub fn state_dir(&self, kind: Kind) -> PathBuf {
        self.root.join(format!("state-{}", self.service(kind).name))
    }

    fn arguments(&self, service: &Service) -> Vec<std::ffi::OsString> {
        let mut arguments: Vec<std::ffi::OsString> = Vec::new();
        for (flag, value) in [
            ("--grpc", service.grpc.to_string().into()),
            ("--ops", service.ops.to_string().into()),
            ("--state-dir", self.root.join(format!("state-{}", service.name))),
            ("--token-file", self.root.join("token")),
        ] {
            arguments.extend([flag.into(), value.into_os_string()]);
        }
        arguments
    }

    pub fn service(&self, kind: Kind) -> &Service {
        self.control.iter().find(|service| service.kind == kind).expect("each control service is planned once")
    }

    pub fn service_mut(&mut self, kind: Kind) -> &mut Service {
        self.control.iter_mut().find(|service| service.kind == kind).expect("each control service is planned once")
    }

    /// Waits until every process that was started says that it is ready.
    pub fn wait_ready(&mut self) -> Result<(), Fault> {
        let services = self.control.iter_mut().chain(&mut self.routers);
        services.filter(|service| service.process.is_some()).try_for_each(Service::wait_ready)
    }

    /// Runs the command line tool against all services.
    pub fn cli(&self, args: &[&str]) -> Result<Cli, Fault> {
        Cli::run(&mut self.command(args)?)
    }

    /// Starts the command line tool, for a command that does not end.
    pub fn start_cli(&self, name: &str, args: &[&str]) -> Result<Supervised, Fault> {
        Supervised::start(name, &mut self.command(args)?, &self.root.join("logs"))
    }

    fn command(&self, args: &[&str]) -> Result<Command, Fault> {
        let mut command = command(&self.root.join("home"))?;
        command.args(args).arg("--token-file").arg(self.root.join("token"));
        // Only services that run: a killed one cannot answer what it is.
        for service in self.control.iter().chain(&self.routers).filter(|service| service.process.is_some()) {
            command.arg("--admin").arg(format!("http://{}", service.grpc));
        }
        Ok(command)
    }
}

impl Service {
    fn plan(kind: Kind, number: usize) -> Result<Self, Fault> {
        let name = if kind == Kind::Router { format!("router-{number}") } else { kind.program().to_owned() };
        let (grpc, ops, mcp) = (free_address()?, free_address()?, free_address()?);
        let (process, environment, program) = (None, Vec::new(), None);
        Ok(Self { kind, name, grpc, ops, mcp, process, environment, program, starts: 0 })
    }

    /// A variable for the next starts.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    pub fn clear_env(&mut self) {
        self.environment.clear();
    }

    /// Takes another build of the program for the next starts.
    pub fn use_program(&mut self, path: Option<PathBuf>) {
        self.program = path;
    }

    /// # Panics
    /// When it was never started.
    pub fn pid(&self) -> i32 {
        self.process.as_ref().expect("the scenario started it").pid()
    }

    /// # Panics
    /// When it was never started.
    pub fn process(&mut self) -> &mut Supervised {
        self.process.as_mut().expect("the scenario started it")
    }

    /// Its process, which the caller keeps: the next start gives it another one.
    pub fn take_process(&mut self) -> Option<Supervised> {
        self.process.take()
    }

    fn start(&mut self, root: &Path, arguments: Vec<std::ffi::OsString>) -> Result<(), Fault> {
        let mut command = isolated(&binaries::path(self.kind.program())?, &root.join("home"));
        if let Some(program) = &self.program {
            let mut other = Command::new(program);
            other.env("HOME", root.join("home")).current_dir(root.join("home"));
            command = other;
        }
        command.args(arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        self.starts += 1;
        let name = format!("{}-{}", self.name, self.starts);
        self.process = Some(Supervised::start(&name, &mut command, &root.join("logs"))?);
        Ok(())
    }

    /// Kills it outright.
    pub fn kill(&mut self) -> Result<(), Fault> {
        self.process().kill()?;
        self.process = None;
        Ok(())
    }

    /// As [`Supervised::wait_stderr`], of the process that runs.
    pub fn wait_log<T>(&self, what: &str, limit: Duration, pick: impl FnMut(&str) -> Option<T>) -> Result<T, Fault> {
        let process = self.process.as_ref().ok_or_else(|| fault(format!("{} does not run", self.name)))?;
        process.wait_stderr(what, limit, pick)
    }

    /// The content of its `/metrics`.
    pub fn metrics(&self) -> Result<String, Fault> {
        Ok(http_get(self.ops, "/metrics")?.1)
    }

    /// Waits until it says that it is ready.
    pub fn wait_ready(&mut self) -> Result<(), Fault> {
        let (ops, name) = (self.ops, self.name.clone());
        let process = self.process();
        let mut last = String::new();
        wait::until_true(&format!("{name} to be ready"), START, || {
            let answer = http_get(ops, "/readyz");
            last = answer.as_ref().map_or_else(ToString::to_string, |(_, body)| body.clone());
            answer.is_ok_and(|(status, _)| status == 200) || !process.is_alive()
        })
        .map_err(|error| error.during(format!("{name} says {last}\n{}", process.stderr_tail(20))))?;
        if process.is_alive() { Ok(()) } else { Err(fault(format!("{name} ended\n{}", process.stderr_tail(20)))) }
    }
}

/// Services learn each other's address before they run, so port 0 does not serve. These ports are below the range from
/// which the system gives ports to outgoing connections, so only another test could take one before it is bound; each
/// test process begins elsewhere.
pub fn free_address() -> Result<SocketAddr, Fault> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = (std::process::id() % 60) * 200;
    for _ in 0..PORTS {
        let next = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = PORT_MIN + u16::try_from((first + next) % u32::from(PORTS))?;
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            return Ok(listener.local_addr()?);
        }
    }
    Err(fault(format!("no port is free from {PORT_MIN} on")))
}

const PORT_MIN: u16 = 20_000;
const PORTS: u16 = 12_000;

/// Where the build with fault points is, if it was made.
pub fn with_failpoints(kind: Kind) -> Result<PathBuf, Fault> {
    let path = binaries::folder()?.join("failpoints").join(kind.program());
    if !path.is_file() {
        return Err(fault(format!("{} is missing; scripts/acceptance builds it", path.display())));
    }
    if !binaries::are_elsewhere() {
        binaries::built_from_this(&path)?;
    }
    Ok(path)
}
