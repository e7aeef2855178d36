//! What tracing costs a call: instructions of the whole process, export included, by callgrind.
//!
//! The same program runs without tracing, at 1 % and at 100 %, each with a collector that takes everything.
//! Instructions rather than time, because two runs of the same work then differ by less than what is asked for.

mod collector;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;
use testkit::{DemoServer, Document, Fault, Gateway, Scratch, Server, binaries, client::Connection, fault};
use tokio::{
    runtime::Runtime,
    task::{JoinSet, LocalSet},
};

use crate::{Figures, Size, commands};
use collector::Collector;

const CLIENTS: usize = 8;
/// Before anything is counted: connections, sessions, code that runs once.
const WARM_UP: usize = 160;
const SHARE: f64 = 0.01;
/// At that share, of what a call costs without.
const SAMPLED_MAX: f64 = 1.05;

pub fn run(size: Size) -> Result<Figures, Fault> {
    let costs = per_call(size, &binaries::path("only1mcp")?, [None, Some("0.01"), Some("1")])?;
    let [off, some, all] = costs.map(|cost| cost.instructions);
    // Chance decides how many calls are recorded, and a recorded one costs as much as three others. So this is
    // corrected to the share that was asked for.
    let recorded = costs[1].spans / costs[2].spans;
    let sampled = some - (recorded - SHARE) * (all - off);
    let mut figures = Figures::default();
    let (calls, rounds) = measured(size);
    figures.note("calls", calls);
    figures.note("rounds", rounds);
    figures.note("off_instructions_per_call", format!("{off:.0}"));
    figures.note("recorded", format!("{recorded:.4}"));
    figures.note("at_1_percent", format!("{sampled:.0}"));
    figures.note("at_100_percent", format!("{all:.0}"));
    let ratio = sampled / off;
    figures.demand("1_percent_of_off", format!("{ratio:.4}"), &format!("{SAMPLED_MAX} at most"), ratio <= SAMPLED_MAX);
    figures.note("100_percent_of_off", format!("{:.3}", all / off));
    Ok(figures)
}

/// How many calls a round has, and how many rounds.
fn measured(size: Size) -> (usize, usize) {
    size.pick((3_000, 3), (1_600, 3))
}

/// What a call costs the whole process.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub instructions: f64,
    /// Calls of the allocator.
    pub allocations: f64,
    /// How often the spans that came named the tool: a constant for each call that is recorded.
    spans: f64,
}

/// Of the program `gateway`, with such shares of traces; none sends no spans.
pub fn per_call<const N: usize>(size: Size, gateway: &Path, shares: [Option<&str>; N]) -> Result<[Cost; N], Fault> {
    commands::run("valgrind", Command::new("valgrind").arg("--version"))
        .map_err(|error| error.during("valgrind is a package of that name, which scripts/test installs".to_owned()))?;
    let (calls, rounds) = measured(size);
    let scratch = Scratch::new("cost")?;
    let demo = DemoServer::start("cost", &scratch, &[])?;
    let config = scratch.file("only1mcp.yaml");
    fs::write(&config, Document::default().with(Server::http("cost", &demo.url())).yaml())?;
    let mut gateways = shares.map(|share| Measured::start(gateway, share, &config));
    let mut counts = [const { Vec::new() }; N];
    for _ in 0..rounds {
        // In turn, so that whatever drifts falls on all of them.
        for (gateway, counts) in gateways.iter_mut().zip(&mut counts) {
            let gateway = gateway.as_mut().map_err(|error| fault(error.to_string()))?;
            counts.push(gateway.round(calls)?);
        }
    }
    Ok(counts.map(|mut rounds: Vec<Cost>| {
        rounds.sort_by(|a, b| a.instructions.total_cmp(&b.instructions));
        rounds[rounds.len() / 2]
    }))
}

/// A gateway whose instructions can be counted.
struct Measured {
    scratch: Scratch,
    gateway: Gateway,
    clients: Clients,
    /// Where its spans go, if any leave it.
    collector: Option<Collector>,
    rounds: usize,
}

impl Measured {
    fn start(program: &Path, share: Option<&str>, config: &Path) -> Result<Self, Fault> {
        let scratch = Scratch::new("cost-gateway")?;
        let collector = Collector::start()?;
        let endpoint = collector.url();
        let environment = match share {
            None => vec![("OTEL_TRACES_EXPORTER", "none")],
            Some(share) => vec![
                ("OTEL_TRACES_EXPORTER", "otlp"),
                ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
                ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
                ("OTEL_TRACES_SAMPLER_ARG", share),
                // Nothing is dropped, which would be cheaper.
                ("OTEL_BSP_MAX_QUEUE_SIZE", "65536"),
                ("OTEL_BSP_SCHEDULE_DELAY", "500"),
            ],
        };
        let out = format!("--callgrind-out-file={}", out_file(&scratch).display());
        let under = ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", &out];
        let gateway = Gateway::up_of(program, &under, &scratch, config, &environment)?;
        let mut clients = Clients::open(&gateway)?;
        clients.call(WARM_UP)?;
        let collector = share.map(|_| collector);
        let mut measured = Self { scratch, gateway, clients, collector, rounds: 0 };
        measured.export()?;
        Ok(measured)
    }

    /// Over so many calls and the export of their spans.
    fn round(&mut self, calls: usize) -> Result<Cost, Fault> {
        self.control(&["--instr=on"])?;
        self.clients.call(calls)?;
        self.rounds += 1;
        let spans = self.export()?;
        self.control(&["--instr=off"])?;
        self.control(&["--dump"])?;
        let path = out_file(&self.scratch).with_extension(self.rounds.to_string());
        let profile =
            fs::read_to_string(&path).map_err(|error| Fault::from(error).during(path.display().to_string()))?;
        let calls = (calls + usize::from(self.collector.is_some())) as f64;
        let (instructions, allocations) = (instructions(&profile)? / calls, allocations(&profile) / calls);
        Ok(Cost { instructions, allocations, spans: spans as f64 / calls })
    }

    /// Makes one call whose spans leave behind all others: when they have come, the others have. Says how many came.
    fn export(&mut self) -> Result<usize, Fault> {
        let Some(collector) = &self.collector else { return Ok(0) };
        let trace = format!("{:032x}", u128::from(self.gateway.pid().unsigned_abs()) << 32 | (self.rounds as u128 + 1));
        self.clients.call_in(&trace)?;
        collector.wait_for(&trace)
    }

    fn control(&self, arguments: &[&str]) -> Result<(), Fault> {
        let mut control = Command::new("callgrind_control");
        commands::run("callgrind_control", control.args(arguments).arg(self.gateway.pid().to_string())).map(|_| ())
    }
}

fn out_file(scratch: &Scratch) -> PathBuf {
    scratch.file("callgrind")
}

fn instructions(profile: &str) -> Result<f64, Fault> {
    let total = profile.lines().rev().find_map(|line| line.strip_prefix("totals: "));
    total.and_then(|total| total.trim().parse().ok()).ok_or_else(|| fault("the profile has no total"))
}

/// Functions of the C library and of jemalloc that allocate.
const ALLOCATES: [&str; 8] =
    ["malloc", "calloc", "realloc", "_rjem_malloc", "_rjem_calloc", "_rjem_realloc", "_rjem_mallocx", "_rjem_rallocx"];

/// Sums the calls of the allocator. In the profile, `cfn=(NUMBER) NAME` names the function that the next line,
/// `calls=COUNT …`, counts; a number has its name only where it stands first.
fn allocations(profile: &str) -> f64 {
    let (mut names, mut callee, mut count) = (BTreeMap::new(), "", 0.0);
    for line in profile.lines() {
        if let Some((kind, (number, name))) =
            line.split_once("fn=(").and_then(|(kind, of)| Some((kind, of.split_once(')')?)))
        {
            if !name.is_empty() {
                names.insert(number, name.trim());
            }
            if kind == "c" {
                callee = names.get(number).copied().unwrap_or_default();
            }
        } else if let Some(calls) = line.strip_prefix("calls=")
            && ALLOCATES.contains(&callee)
        {
            count += calls.split(' ').next().and_then(|calls| calls.parse::<f64>().ok()).unwrap_or_default();
        }
    }
    count
}

/// Keep-alive connections that call at the same time.
struct Clients {
    runtime: Runtime,
    local: LocalSet,
    connections: Vec<Connection>,
}

impl Clients {
    fn open(gateway: &Gateway) -> Result<Self, Fault> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let local = LocalSet::new();
        let address = gateway.mcp;
        let connections = local.block_on(&runtime, async {
            let mut connections = Vec::new();
            for _ in 0..CLIENTS {
                let mut connection = Connection::open(address).await?;
                connection.initialize().await?;
                connections.push(connection);
            }
            Ok::<_, Fault>(connections)
        })?;
        Ok(Self { runtime, local, connections })
    }

    /// So many calls over all connections, each answered as it must be.
    fn call(&mut self, calls: usize) -> Result<(), Fault> {
        let connections = std::mem::take(&mut self.connections);
        self.connections = self.local.block_on(&self.runtime, async {
            let mut callers = JoinSet::new();
            for mut connection in connections {
                callers.spawn_local(async move {
                    for _ in 0..calls / CLIENTS {
                        connection.call("cost__echo", &json!({ "text": "so much" })).await?.text()?;
                    }
                    Ok::<_, Fault>(connection)
                });
            }
            let mut back = Vec::new();
            while let Some(caller) = callers.join_next().await {
                back.push(caller.map_err(|error| fault(error.to_string()))??);
            }
            Ok::<_, Fault>(back)
        })?;
        Ok(())
    }

    /// One call in a trace that is recorded.
    fn call_in(&mut self, trace: &str) -> Result<(), Fault> {
        let context = json!({ "traceparent": format!("00-{trace}-00000000000000aa-01") });
        let params = json!({ "name": "cost__echo", "arguments": { "text": "last" }, "_meta": context });
        let connection = self.connections.first_mut().ok_or_else(|| fault("no connection is left"))?;
        self.local.block_on(&self.runtime, connection.request("tools/call", &params))?.text()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_the_allocator_are_counted() {
        let profile = "fn=(1) serve\n10 5\ncfn=(2) malloc\ncalls=3 0\n10 9\ncfn=(3) free\ncalls=7 0\n10 1\n\
                       fn=(2)\n4 4\nfn=(4) grow\ncfn=(2)\ncalls=2 0\n1 1\ncfn=(5) realloc\ncalls=1 0\n1 1\ntotals: 20\n";
        assert_eq!((allocations(profile), instructions(profile).ok()), (6.0, Some(20.0)));
    }
}
