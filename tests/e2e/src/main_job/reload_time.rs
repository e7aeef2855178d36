//! How long a change takes, stage by stage; beside it what the new server alone takes to answer; and what a lookup
//! costs.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use testkit::{
    Client, ConfigFile, DemoServer, Distribution, Document, Fault, Gateway, Scratch, Server, System, distribution::ms,
    fault,
};
use tokio::time::Instant;

use crate::{Figures, Size, commands};

const STAGES: [&str; 5] = ["parse", "validate", "prepare", "append", "swap"];
const P99_MAX: Duration = Duration::from_millis(100);
const P50_HOPED: Duration = Duration::from_millis(10);

pub fn run(size: Size) -> Result<Figures, Fault> {
    let mut figures = Figures::default();
    let (servers, changes) = (size.pick(200, 10), size.pick(1000, 20));
    let mut stage = Stage::up(servers, servers, Reload::Command)?;
    let Changes { applied, mut stages, commands } = stage.change(changes)?;
    let live = stage.gateway.revision()? == stage.gateway.revision + changes;
    figures.demand("changes", applied.len(), &changes.to_string(), live);
    figures.note("servers", servers);
    figures.note("t_apply_p50_ms", ms(applied.median()));
    // In the short form other tests run beside, and 20 changes have no p99 worth the name.
    let quick = size == Size::Short || applied.p99() < P99_MAX;
    figures.demand("t_apply_p99_ms", ms(applied.p99()), "below 100", quick);
    figures.note("p50_below_10ms", applied.median() <= P50_HOPED);
    for stage in STAGES {
        figures.note(stage, Distribution::of(stages.remove(stage).unwrap_or_default()));
    }
    figures.note("command", commands);
    figures.note("bare_initialize_and_list", bare(&stage.backends[0], size.pick(200, 20))?);
    if size == Size::Full {
        lookup(&mut figures)?;
    }
    Ok(figures)
}

/// What makes the gateway read its file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reload {
    /// `reload`, which says how long each stage took.
    Command,
    /// The file itself, once it is there.
    File,
}

/// A gateway, and servers of which the first one changes.
pub(crate) struct Stage {
    pub(crate) gateway: Gateway,
    backends: Vec<DemoServer>,
    document: Document,
    file: ConfigFile,
    _scratch: Scratch,
}

/// How long changes took.
pub(crate) struct Changes {
    /// From the file to what is served.
    pub(crate) applied: Distribution,
    stages: BTreeMap<String, Vec<Duration>>,
    commands: Distribution,
}

impl Stage {
    /// So many servers, which share so many processes.
    pub(crate) fn up(servers: usize, processes: usize, reload: Reload) -> Result<Self, Fault> {
        let scratch = Scratch::new("time")?;
        let start = |number: usize| DemoServer::start(&format!("s{number}"), &scratch, &[]);
        let backends = (0..processes).map(start).collect::<Result<Vec<_>, _>>()?;
        let mut document = Document::default().key("hot_reload", json!({ "enabled": reload == Reload::File }));
        for (number, backend) in backends.iter().cycle().take(servers).enumerate() {
            document.put(Server::http(&format!("s{number}"), &backend.url()));
        }
        let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &document.yaml())?;
        let gateway = Gateway::up(&scratch, file.path())?;
        Ok(Self { gateway, backends, document, file, _scratch: scratch })
    }

    /// Writes the change that makes `turn` differ from the turns before.
    pub(crate) fn write(&mut self, turn: u64) -> Result<(), Fault> {
        let headers = json!({ "x-turn": turn.to_string() });
        self.document.put(Server::http("s0", &self.backends[0].url()).transport("headers", headers));
        Ok(self.file.replace(&self.document.yaml())?)
    }

    /// So many, one after the other.
    pub(crate) fn change(&mut self, changes: u64) -> Result<Changes, Fault> {
        let mut stages: BTreeMap<String, Vec<Duration>> = BTreeMap::new();
        let (mut applied, mut commands) = (Vec::new(), Vec::new());
        let first = self.gateway.revision()?;
        for turn in first..first + changes {
            self.write(turn)?;
            let asked = Instant::now();
            let outcome = self.gateway.cli(&["reload", "--output", "json"])?.expect(0)?.json()?;
            commands.push(asked.elapsed());
            let all = stages_of(&outcome)?;
            applied.push(all.iter().map(|(_, took)| *took).sum());
            all.into_iter().for_each(|(name, took)| stages.entry(name).or_default().push(took));
        }
        Ok(Changes { applied: Distribution::of(applied), stages, commands: Distribution::of(commands) })
    }
}

fn stages_of(outcome: &Value) -> Result<Vec<(String, Duration)>, Fault> {
    let stages = outcome["stages"].as_array().filter(|stages| !stages.is_empty());
    let stages = stages.ok_or_else(|| fault(format!("no stages in {outcome}")))?;
    let stage = |stage: &Value| {
        let (name, ms) = (stage["name"].as_str()?, stage["ms"].as_f64()?);
        Some((name.to_owned(), Duration::from_secs_f64(ms / 1e3)))
    };
    stages.iter().map(|of| stage(of).ok_or_else(|| fault(format!("odd stage {of}")))).collect()
}

/// The lower bound for the gateway: connect, `initialize`, `tools/list`.
fn bare(backend: &DemoServer, times: usize) -> Result<Distribution, Fault> {
    let once = || {
        let start = Instant::now();
        Client::open(backend.address())?.tools()?;
        Ok(start.elapsed())
    };
    Ok(Distribution::of((0..times).map(|_| once()).collect::<Result<Vec<_>, Fault>>()?))
}

/// The benchmark of the routing table prints `figure NAME VALUE`.
fn lookup(figures: &mut Figures) -> Result<(), Fault> {
    let ran =
        commands::run("lookup", &mut commands::cargo(None, &["bench", "-q", "-p", "routing", "--bench", "lookup"]))?;
    let value = |name: &str| {
        let line = ran.output.lines().find_map(|line| line.strip_prefix("figure ")?.strip_prefix(name));
        line.and_then(|value| value.trim().parse::<u64>().ok()).ok_or_else(|| fault(format!("no figure {name}")))
    };
    let (p99, allocations) = (value("route_lookup_p99_ns")?, value("route_lookup_allocations")?);
    figures.note("route_lookup_p50_ns", value("route_lookup_p50_ns")?);
    figures.demand("route_lookup_p99_ns", p99, "below 1000", p99 < 1000);
    figures.demand("route_lookup_allocations", allocations, "0", allocations == 0);
    figures.note("route_lookup_swaps", value("route_lookup_swaps")?);
    Ok(())
}
