//! Where one process takes the place of another: that of a router among four services, and that of a whole gateway.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use testkit::{
    ConfigFile, DemoServer, Document, Fault, Gateway, Scratch, Server, Services, Supervised, binaries,
    client::http_get, demo, fault, process_tree, services::Kind, wait,
};

const LIMIT: Duration = Duration::from_secs(90);
/// The flag, as a variable.
const UPGRADE: &str = "ONLY1MCP_UPGRADE";

pub(super) trait Place {
    /// Of the figures.
    fn name(&self) -> &'static str;
    fn mcp(&self) -> SocketAddr;
    /// The process that was started here last.
    fn process(&mut self) -> &mut Supervised;
    fn pid(&self) -> i32;
    /// Starts a process that takes the place of the one that runs, and returns the one that was started before.
    fn succeed(&mut self) -> Result<Supervised, Fault>;
    /// Whichever process it is.
    fn wait_ready(&mut self) -> Result<(), Fault>;
    /// Where its state is.
    fn state_dir(&self) -> PathBuf;
    /// The name by which its program is found, which leads to another file.
    fn program(&self) -> &Path;
    /// Where that name should lead.
    fn good(&self) -> &Path;

    /// The name leads to a program that works.
    fn mend(&self) -> Result<(), Fault> {
        aim(self.program(), self.good())
    }
}

/// Makes the name lead there, whatever was there before.
pub(super) fn aim(name: &Path, place: &Path) -> Result<(), Fault> {
    remove(name)?;
    Ok(symlink(place, name)?)
}

pub(super) fn remove(name: &Path) -> Result<(), Fault> {
    match fs::remove_file(name) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A process that is no child of this one; it is ended with this value.
pub(super) struct Forsaken(pub(super) i32);

impl Forsaken {
    pub(super) fn wait_gone(&self) -> Result<(), Fault> {
        let gone = || process_tree::find(self.0).is_none_or(|process| process.state == 'Z');
        wait::until_true("the end of a process that was replaced", LIMIT, gone)
    }
}

impl Drop for Forsaken {
    fn drop(&mut self) {
        if process_tree::find(self.0).is_some_and(|process| process.state != 'Z') {
            // It may end by itself just now.
            kill(Pid::from_raw(self.0), Signal::SIGKILL).ok();
        }
    }
}

/// The process that `old` has started to take its place.
pub(super) fn forsaken(old: &Supervised) -> Result<Forsaken, Fault> {
    let pid = old.wait_stderr("the new process", LIMIT, |line| {
        let pid = line.split("pid=").nth(1).filter(|_| line.contains("started a new process"))?;
        // One that failed before has ended.
        let pid = pid.split(|one: char| !one.is_ascii_digit()).next()?.parse().ok()?;
        process_tree::find(pid).filter(|process| process.state != 'Z').map(|process| process.pid)
    })?;
    Ok(Forsaken(pid))
}

/// Two servers, and a name for the program.
struct Ground {
    scratch: Scratch,
    file: ConfigFile,
    program: PathBuf,
    good: PathBuf,
    _backend: DemoServer,
}

impl Ground {
    fn new(program: &str) -> Result<Self, Fault> {
        let scratch = Scratch::new("upgrade")?;
        let backend = DemoServer::start("http", &scratch, &[])?;
        let document = Document::default()
            .with(Server::http("http", &backend.url()))
            .with(demo::stdio("stdio", "stdio", &scratch)?);
        let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &document.yaml())?;
        let (good, name) = (binaries::path(program)?, scratch.file(program));
        aim(&name, &good)?;
        Ok(Self { scratch, file, program: name, good, _backend: backend })
    }
}

pub(super) struct RouterPlace {
    services: Services,
    ground: Ground,
}

impl RouterPlace {
    pub(super) fn up() -> Result<Self, Fault> {
        let ground = Ground::new("router")?;
        let mut services = Services::plan(&ground.scratch, ground.file.path(), 1)?;
        for kind in Kind::CONTROL {
            services.start(kind)?;
        }
        services.routers[0].use_program(Some(ground.program.clone()));
        services.start_router(0)?;
        services.wait_ready()?;
        Ok(Self { services, ground })
    }
}

impl Place for RouterPlace {
    fn name(&self) -> &'static str {
        "upgrades_of_the_router"
    }

    fn mcp(&self) -> SocketAddr {
        self.services.routers[0].mcp
    }

    fn process(&mut self) -> &mut Supervised {
        self.services.routers[0].process()
    }

    fn pid(&self) -> i32 {
        self.services.routers[0].pid()
    }

    fn succeed(&mut self) -> Result<Supervised, Fault> {
        let router = &mut self.services.routers[0];
        let old = router.take_process().ok_or_else(|| fault("no router runs"))?;
        router.set_env(UPGRADE, "true");
        self.services.start_router(0)?;
        let serves = self.services.routers[0]
            .wait_log("it to take over", LIMIT, |line| line.contains("serving MCP").then_some(()));
        serves?;
        self.wait_ready()?;
        Ok(old)
    }

    fn wait_ready(&mut self) -> Result<(), Fault> {
        let ops = self.services.routers[0].ops;
        let ready = || http_get(ops, "/readyz").is_ok_and(|(status, _)| status == 200);
        wait::until_true("the new process to be ready", LIMIT, ready)
    }

    fn state_dir(&self) -> PathBuf {
        self.ground.scratch.file("state-router-0")
    }

    fn program(&self) -> &Path {
        &self.ground.program
    }

    fn good(&self) -> &Path {
        &self.ground.good
    }
}

pub(super) struct UpPlace {
    gateway: Gateway,
    ground: Ground,
}

impl UpPlace {
    pub(super) fn up() -> Result<Self, Fault> {
        let ground = Ground::new("only1mcp")?;
        let gateway = Self::start(&ground, &[])?;
        Ok(Self { gateway, ground })
    }

    fn start(ground: &Ground, environment: &[(&str, &str)]) -> Result<Gateway, Fault> {
        Gateway::up_of(&ground.program, &[], &ground.scratch, ground.file.path(), environment)
    }
}

impl Place for UpPlace {
    fn name(&self) -> &'static str {
        "upgrades_of_up"
    }

    fn mcp(&self) -> SocketAddr {
        self.gateway.mcp
    }

    fn process(&mut self) -> &mut Supervised {
        &mut self.gateway.process
    }

    fn pid(&self) -> i32 {
        self.gateway.pid()
    }

    fn succeed(&mut self) -> Result<Supervised, Fault> {
        // It returns with the ready line.
        let next = Self::start(&self.ground, &[(UPGRADE, "true")])?;
        if next.mcp != self.gateway.mcp || next.revision != self.gateway.revision {
            return Err(fault(format!("another place or revision: {next:?}")));
        }
        Ok(std::mem::replace(&mut self.gateway, next).process)
    }

    fn wait_ready(&mut self) -> Result<(), Fault> {
        let ready = || http_get(self.gateway.ops, "/readyz").is_ok_and(|(status, _)| status == 200);
        wait::until_true("the new process to be ready", LIMIT, ready)
    }

    fn state_dir(&self) -> PathBuf {
        self.gateway.state_dir().to_owned()
    }

    fn program(&self) -> &Path {
        &self.ground.program
    }

    fn good(&self) -> &Path {
        &self.ground.good
    }
}
