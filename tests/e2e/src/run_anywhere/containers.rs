//! The services as containers that may do next to nothing, behind a balancer: control containers are killed and routers
//! replaced while clients call, and none of them notices.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    time::Duration,
};

use serde_json::json;
use testkit::{
    Client, ConfigFile, Document, Fault, Scratch, Server, System, Tally, binaries, fault,
    gateway::{self, Cli},
    load::{Deed, Load, Pick, Plan, Report},
    wait,
};

use crate::{Figures, Size, commands};

const TAG: &str = "boxed-";
const CONTROL: [&str; 3] = ["config-manager", "health-monitor", "drain-coordinator"];
const ROUTERS: [&str; 2] = ["router-1", "router-2"];
const IMAGES: [&str; 5] = ["only1mcp", "router", "config-manager", "health-monitor", "drain-coordinator"];
/// How long a router may take to attach and to be told.
const SETTLED: Duration = Duration::from_secs(30);
/// The most bytes that an image may have above the base.
const IMAGE_BYTES_MAX: u64 = 40_000_000;
/// Where routers find the demo server, by the names of the network.
const DEMO: &str = "http://demo:9000/mcp";

pub fn run(size: Size) -> Result<Figures, Fault> {
    let mut figures = Figures::default();
    if size == Size::Full {
        // From nothing: packages, base, images.
        script("containers-clean", &["clean"])?;
    }
    let containers = Containers::start("up")?;
    figures.note("up_s", containers.took);
    sizes(&mut figures)?;
    for router in ROUTERS {
        confinement(router, &mut figures)?;
    }
    let mut load = containers.load(size)?;
    load.wait_answered(100)?;
    let mut configuration = Configuration::new(&containers)?;
    configuration.change(&load)?;
    let (kills, replacements) = size.pick((5, 5), (1, 1));
    for service in CONTROL {
        for _ in 0..kills {
            script("containers-kill", &["podman", "kill", "--signal", "KILL", service])?;
            load.wait_answered(50)?;
            script("containers-start", &["podman", "start", service])?;
            script("containers-healthy", &["healthy", service])?;
            load.wait_answered(20)?;
        }
        configuration.change(&load)?;
    }
    figures.note("kills", kills * CONTROL.len());
    containers.replace_routers(&load, replacements, &mut figures)?;
    configuration.change(&load)?;
    figures.note("reloads", configuration.changes);
    judge(&load.stop()?, &containers, &mut figures)?;
    if size == Size::Full {
        composed(&mut figures)?;
    }
    Ok(figures)
}

/// The gateway of the compose file: a call through it, and the health check of each of the four.
fn composed(figures: &mut Figures) -> Result<(), Fault> {
    let containers = Containers::start("compose")?;
    let mut client = Client::open(containers.address("router")?)?;
    client.text("demo__echo", &json!({ "text": "composed" }))?;
    let healthy = podman(&["ps", "--filter", "health=healthy", "--format", "{{.Names}}"])?;
    let healthy = healthy.lines().count();
    figures.demand("composed_healthy", healthy, "4", healthy == 4);
    Ok(())
}

/// Containers that run.
struct Containers {
    /// By name, as the script printed them.
    places: BTreeMap<String, String>,
    /// Seconds from nothing until all of it was ready.
    took: u64,
    home: Scratch,
}

impl Containers {
    /// By `scripts/containers HOW`.
    fn start(how: &str) -> Result<Self, Fault> {
        let home = Scratch::new("boxed")?;
        let ran = script("containers-up", &[how])?;
        let places = ran.output.lines().filter_map(|line| line.split_once('='));
        let places = places.map(|(name, place)| (name.to_owned(), place.to_owned())).collect();
        Ok(Self { places, took: ran.took.as_secs(), home })
    }

    fn place(&self, name: &str) -> Result<&str, Fault> {
        self.places.get(name).map(String::as_str).ok_or_else(|| fault(format!("scripts/containers names no {name}")))
    }

    fn address(&self, name: &str) -> Result<SocketAddr, Fault> {
        let place = self.place(name)?;
        place.parse().map_err(|_| fault(format!("not an address of {name}: {place}")))
    }

    /// Sessions are opened at whichever router the balancer takes, and used at both. Some calls take so long that there
    /// are always some in flight at a router that is about to go.
    fn load(&self, size: Size) -> Result<Load, Fault> {
        let choose = Box::new(|slot: u64| {
            let lasting = if slot.is_multiple_of(50) { 2000 } else { 150 };
            let deed = if slot.is_multiple_of(10) { Deed::Sleep(lasting) } else { Deed::Echo };
            Pick { server: "demo".into(), deed }
        });
        let (clients, rate) = size.pick((32, 200), (16, 100));
        let endpoints = vec![self.address("balancer")?];
        Load::start(Plan { endpoints, clients, balanced: true, rate, tag: TAG.to_owned(), choose })
    }

    /// One after the other, in turns, each by a container that has nothing of the one before but name, ports and keys.
    fn replace_routers(&self, load: &Load, count: usize, figures: &mut Figures) -> Result<(), Fault> {
        let mut ids: BTreeSet<String> =
            ROUTERS.iter().map(|router| inspect(router, "{{.Id}}")).collect::<Result<_, _>>()?;
        let known = ids.len();
        for router in ROUTERS.iter().cycle().take(count) {
            script("containers-replace", &["replace", router])?;
            ids.insert(inspect(router, "{{.Id}}")?);
            // The new router serves, and not only the other one.
            Client::open(self.address(router)?)?.text("demo__echo", &json!({ "text": "new" }))?;
            load.wait_answered(50)?;
        }
        let replaced = ids.len() - known;
        figures.demand("replacements", replaced, &count.to_string(), replaced == count);
        Ok(())
    }
}

impl System for Containers {
    fn endpoints(&self) -> Vec<SocketAddr> {
        ROUTERS.iter().filter_map(|router| self.address(router).ok()).collect()
    }

    fn router_pids(&self) -> Vec<i32> {
        ROUTERS.iter().filter_map(|router| inspect(router, "{{.State.Pid}}").ok()?.parse().ok()).collect()
    }

    fn cli(&self, args: &[&str]) -> Result<Cli, Fault> {
        let mut command = gateway::command(self.home.path())?;
        command.args(args).args(["--token-file", self.place("token")?]);
        for service in CONTROL {
            command.args(["--admin", self.place(service)?]);
        }
        Cli::run(&mut command)
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        // Containers that could not be ended here are ended before any start.
        drop(script("containers-down", &["down"]));
    }
}

/// The mounted configuration: a second server comes and goes.
struct Configuration<'a> {
    containers: &'a Containers,
    file: ConfigFile,
    revision: u64,
    changes: u64,
}

impl<'a> Configuration<'a> {
    fn new(containers: &'a Containers) -> Result<Self, Fault> {
        let path = PathBuf::from(containers.place("config")?);
        let file = ConfigFile::create(path.clone(), &fs::read_to_string(&path)?)?;
        Ok(Self { containers, file, revision: containers.revision()?, changes: 0 })
    }

    /// Replaces the file under its name and reloads over the admin API; every router answers with the new revision.
    fn change(&mut self, load: &Load) -> Result<(), Fault> {
        let mut document = Document::default().with(Server::http("demo", DEMO));
        if self.changes.is_multiple_of(2) {
            document.put(Server::http("second", DEMO));
        }
        self.file.replace(&document.yaml())?;
        let reload = self.containers.cli(&["reload", "--output", "json"])?;
        // The second of the two, the watcher of the folder or this command, finds the change done.
        if !matches!(reload.code, 0 | 2) {
            reload.expect(0)?;
        }
        (self.changes, self.revision) = (self.changes + 1, self.revision + 1);
        load.wait_revision(self.revision)?;
        // A router that has only just found its config-manager again is told when it attaches.
        for endpoint in self.containers.endpoints() {
            let has = || Some(Client::open(endpoint).ok()?.tools().ok()?.iter().any(|tool| tool == "second__echo"));
            let what = format!("revision {} at {endpoint}", self.revision);
            wait::until_true(&what, SETTLED, || has() == Some(document.has("second")))?;
        }
        Ok(())
    }
}

/// What the images take on disk; the base is counted once for all.
fn sizes(figures: &mut Figures) -> Result<(), Fault> {
    let bytes = |image: &str| -> Result<u64, Fault> {
        let ran = podman(&["image", "inspect", "--format", "{{.Size}}", image])?;
        Ok(ran.trim().parse()?)
    };
    let base = bytes("only1mcp-base:latest")?;
    figures.note("base_mb", megabytes(base));
    for image in IMAGES {
        let above = bytes(&format!("only1mcp/{image}:dev"))?.saturating_sub(base);
        let wanted = format!("{} above the base at most", megabytes(IMAGE_BYTES_MAX));
        figures.demand(image, megabytes(above), &wanted, above <= IMAGE_BYTES_MAX);
    }
    Ok(())
}

/// Checks that the kernel grants the process of a router nothing, whatever the options were called.
fn confinement(router: &'static str, figures: &mut Figures) -> Result<(), Fault> {
    let pid = inspect(router, "{{.State.Pid}}")?;
    let (status, mounts) =
        (fs::read_to_string(format!("/proc/{pid}/status"))?, fs::read_to_string(format!("/proc/{pid}/mountinfo"))?);
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(",")
    };
    // Fields: id, parent, device, root, where it is mounted, options.
    let root = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|line| line.get(4) == Some(&"/"));
    let read_only = root.and_then(|line| line.get(5).map(|options| options.split(',').any(|option| option == "ro")));
    let capabilities = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
    let held = capabilities.iter().any(|set| !of(set).trim_matches('0').is_empty());
    let user = of("Uid");
    let nothing = read_only == Some(true) && !held && of("NoNewPrivs") == "1" && !user.split(',').any(|id| id == "0");
    let found = format!("uid:{user};CapEff:{};CapBnd:{};root:{read_only:?}", of("CapEff"), of("CapBnd"));
    figures.demand(router, found.replace("Some(true)", "read-only"), "no privilege at all", nothing);
    Ok(())
}

fn judge(report: &Report, containers: &Containers, figures: &mut Figures) -> Result<(), Fault> {
    figures.note("calls", report.samples.len());
    figures.none("failed", report.failures.iter());
    figures.demand("failures_counted", report.failed, "0", report.failed == 0);
    figures.demand("closed", report.closed, "0", report.closed == 0);
    figures.demand("unanswered", report.unanswered, "0", report.unanswered == 0);
    let tally = Tally::read(containers.place("counts")?.as_ref())?;
    let tally = tally.compare(TAG, &report.answered(), &report.uncertain());
    figures.none("lost", &tally.lost);
    figures.none("duplicated", &tally.duplicated);
    figures.none("extra", &tally.extra);
    figures.note("p50/p99/max", report.latency());
    Ok(())
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{}MB", bytes / 1_000_000, bytes / 100_000 % 10)
}

fn inspect(container: &str, format: &str) -> Result<String, Fault> {
    Ok(podman(&["inspect", "--format", format, container])?.trim().to_owned())
}

fn podman(arguments: &[&str]) -> Result<String, Fault> {
    Ok(script("containers-podman", &[&["podman"], arguments].concat())?.output)
}

fn script(log: &str, arguments: &[&str]) -> Result<commands::Ran, Fault> {
    let mut command = Command::new(binaries::checkout().join("scripts/containers"));
    commands::run(log, command.args(arguments).env("ONLY1MCP_BIN_DIR", binaries::folder()?))
}
