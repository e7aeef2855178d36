//! What the gateway holds does not grow with the reloads and drains that it has behind it, nor with the generations in
//! which calls were begun that run on.

mod trend;

use std::{collections::BTreeSet, fs, slice, time::Duration};

use serde_json::{Value, json};
use testkit::{
    Client, ConfigFile, DemoServer, Document, Fault, Gateway, Scratch, Server, System, demo, fault, process_tree,
    raw::{Raw, call},
    wait,
};

use crate::{Figures, Size, second_cut::reload::pss_mb};
use trend::Trend;

/// Demo servers over HTTP; all servers but the children share them.
const PROCESSES: usize = 10;
/// Servers over stdio, each with a process of its own.
const CHILDREN: usize = 10;
/// Of the value at the start, by which one of them may grow in 100 cycles.
const GROWTH_MAX: f64 = 0.005;
/// By how much more calls may cost that were begun in as many generations than calls of one, each.
const GENERATION_MAX_KB: f64 = 20.0;
const LIMIT: Duration = Duration::from_secs(60);

pub fn run(size: Size) -> Result<Figures, Fault> {
    let mut figures = Figures::default();
    let (servers, cycles, every) = size.pick((200, 1000, 5), (SERVERS_SHORT, 20, 2));
    let mut stage = Stage::up(servers)?;
    let before = stage.gateway.revision()?;
    let mut seen = vec![stage.sample(0)?];
    for cycle in 1..=cycles {
        stage.reload()?;
        stage.drain((cycle + servers / 2) % servers)?;
        if cycle % every == 0 {
            seen.push(stage.sample(cycle)?);
        }
    }
    let reloads = usize::try_from(stage.gateway.revision()? - before)?;
    figures.note("servers", servers);
    figures.demand("reloads", reloads, &cycles.to_string(), reloads == cycles);
    figures.demand("drains", stage.drains.len(), &cycles.to_string(), stage.drains.len() == cycles);
    judge(size, &seen, &mut figures)?;
    generations(size, &mut stage, &mut figures)?;
    Ok(figures)
}

/// What the gateway holds after so many cycles, at rest.
struct Sample {
    cycle: usize,
    /// In the order of [`HELD`].
    held: [f64; 4],
}

/// How many servers there are in the short form.
const SERVERS_SHORT: usize = 24;

/// Memory in MB, the others by number.
const HELD: [&str; 4] = ["pss", "descriptors", "tasks", "children"];
const TRENDS: [&str; 4] =
    ["pss_percent_in_100", "descriptors_percent_in_100", "tasks_percent_in_100", "children_percent_in_100"];

/// The second half of the cycles alone: before, what is kept of the past (contents, drains) fills up.
fn judge(size: Size, seen: &[Sample], figures: &mut Figures) -> Result<(), Fault> {
    let (first, last) = (&seen[0], &seen[seen.len() - 1]);
    for (at, name) in HELD.into_iter().enumerate() {
        let (start, end) = (first.held[at], last.held[at]);
        if start <= 0.0 {
            return Err(fault(format!("{name} is {start} at the start")));
        }
        figures.note(name, format!("{start:.1}->{end:.1}"));
        let half = seen.iter().filter(|sample| sample.cycle * 2 >= last.cycle);
        let trend = Trend::of(half.map(|sample| (sample.cycle as f64 / 100.0, sample.held[at])))
            .ok_or_else(|| fault("too few samples"))?;
        let most = trend.upper / start;
        // A few cycles have no trend; there, numbers must be what they were, up to what comes and goes by itself: of
        // descriptors, an idle connection to each server.
        let spare = if name == "descriptors" { SERVERS_SHORT as f64 } else { 2.0 };
        let steady = match size {
            Size::Full => most < GROWTH_MAX,
            Size::Short => name == "pss" || end <= start + spare,
        };
        let value = format!("{:.3}<{:.3}", trend.slope / start * 100.0, most * 100.0);
        figures.demand(TRENDS[at], value, &format!("a bound below {}", GROWTH_MAX * 100.0), steady);
    }
    Ok(())
}

/// As many calls that run on, over as many reloads: all begun before the first of them, and each before another one.
fn generations(size: Size, stage: &mut Stage, figures: &mut Figures) -> Result<(), Fault> {
    let calls = size.pick(200, 10);
    let mut grown = [0.0; 3];
    // The first round makes what later ones use again.
    for (apart, grown) in [false, true, false].into_iter().zip(&mut grown) {
        let mut clients = (0..calls).map(|_| Raw::open(stage.gateway.mcp)).collect::<Result<Vec<_>, _>>()?;
        let before = stage.sample(0)?.held[0];
        if !apart {
            stage.begin(&mut clients, "together")?;
        }
        for client in &mut clients {
            if apart {
                stage.begin(slice::from_mut(client), "apart")?;
            }
            stage.reload()?;
        }
        *grown = stage.sample(0)?.held[0] - before;
        let ended = stage.end(&mut clients)?;
        figures.demand("calls_held", ended, &calls.to_string(), ended == calls);
    }
    let [_, apart, together] = grown;
    figures.note("grown_mb_by_calls_of_one_generation", format!("{together:.1}"));
    figures.note("grown_mb_by_calls_of_one_each", format!("{apart:.1}"));
    let each = (apart - together) * 1e3 / calls as f64;
    let cheap = size == Size::Short || each <= GENERATION_MAX_KB;
    figures.demand("kb_by_generation_held", format!("{each:.1}"), &format!("{GENERATION_MAX_KB} at most"), cheap);
    Ok(())
}

/// A gateway before many servers. The first one has no part in reloads.
struct Stage {
    scratch: Scratch,
    file: ConfigFile,
    document: Document,
    backends: Vec<DemoServer>,
    gateway: Gateway,
    servers: usize,
    /// Processes of the servers, and what keeps them.
    processes: usize,
    /// Reloads so far.
    turns: usize,
    /// The drains that were cancelled.
    drains: BTreeSet<String>,
}

impl Stage {
    fn up(servers: usize) -> Result<Self, Fault> {
        let scratch = Scratch::new("steady")?;
        let start = |number: usize| DemoServer::start(&format!("b{number}"), &scratch, &[]);
        let backends = (0..PROCESSES).map(start).collect::<Result<Vec<_>, _>>()?;
        let mut document = Document::default().key("hot_reload", json!({ "enabled": false }));
        for number in 0..servers {
            document.put(entry(number, 0, &backends, &scratch)?);
        }
        let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &document.yaml())?;
        let gateway = Gateway::up(&scratch, file.path())?;
        wait::until_true("all servers to be up", LIMIT, || gateway.cli(&["status"]).is_ok_and(|cli| cli.code == 0))?;
        let (processes, turns, drains) = (process_tree::descendants(gateway.pid()).len(), 0, BTreeSet::new());
        Ok(Self { scratch, file, document, backends, gateway, servers, processes, turns, drains })
    }

    /// Another endpoint for the next server.
    fn reload(&mut self) -> Result<(), Fault> {
        let number = 1 + self.turns % (self.servers - 1);
        self.turns += 1;
        self.document.put(entry(number, self.turns, &self.backends, &self.scratch)?);
        self.file.replace(&self.document.yaml())?;
        self.gateway.cli(&["reload"])?.expect(0)?;
        Ok(())
    }

    /// Drains a server, cancels that, and calls it.
    fn drain(&mut self, number: usize) -> Result<(), Fault> {
        let server = format!("s{number}");
        self.gateway.cli(&["drain", &server])?.expect(0)?;
        let cancelled = self.gateway.cli(&["drain", "--cancel", &server, "--output", "json"])?.expect(0)?.json()?;
        match &cancelled["ended"][0] {
            drain if drain["state"] == "cancelled" && drain["server"] == *server => {
                self.drains.insert(drain["id"].to_string());
            }
            other => return Err(fault(format!("{server} was drained, and what was cancelled is {other}"))),
        }
        let mut client = Client::open(self.gateway.mcp)?;
        wait::until_true(&format!("a call of {server}"), LIMIT, || {
            client.text(&format!("{server}__whoami"), &json!({})).is_ok()
        })
    }

    /// Nothing leaves any more.
    fn wait_rest(&self) -> Result<(), Fault> {
        let settled = || {
            ["only1mcp_router_endpoints_leaving", "only1mcp_router_drains"].map(|name| self.gateway.metric(name, ""))
        };
        // Calls that are held on purpose are at the server that no reload is about.
        wait::until_true("nothing to be leaving", LIMIT, || settled() == [0; 2] && self.children() == self.processes)
    }

    fn sample(&self, cycle: usize) -> Result<Sample, Fault> {
        self.wait_rest()?;
        let pid = self.gateway.pid();
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
        let tasks = self.gateway.metric("only1mcp_tasks ", "");
        let held = [pss_mb(pid)?, descriptors as f64, tasks as f64, self.children() as f64];
        Ok(Sample { cycle, held })
    }

    fn children(&self) -> usize {
        process_tree::descendants(self.gateway.pid()).len()
    }

    /// Each of these clients begins a call that takes longer than the scenario.
    fn begin(&self, clients: &mut [Raw], tag: &str) -> Result<(), Fault> {
        let before = self.carried()?;
        for client in &mut *clients {
            client.say(&call(1, "s0__sleep", json!({ "ms": 600_000, "id": tag })))?;
        }
        wait::until_true("the calls to be in flight", LIMIT, || {
            self.carried().is_ok_and(|carried| carried == before + clients.len())
        })
    }

    /// How many calls the backend of the first server has begun.
    fn carried(&self) -> Result<usize, Fault> {
        let counts = self.scratch.folder("counts")?.join("b0");
        Ok(fs::read(counts).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count())
    }

    /// Ends all calls of the first server. Returns how many of these were ended only now.
    fn end(&self, clients: &mut [Raw]) -> Result<usize, Fault> {
        self.gateway.cli(&["drain", "s0", "--strategy", "immediate"])?.expect(0)?;
        let mut ended = 0;
        for client in clients {
            let answer: Value = client.response()?.json();
            ended += usize::from(answer["error"]["code"] == 1410);
        }
        self.gateway.cli(&["drain", "--cancel", "s0"])?.expect(0)?;
        Ok(ended)
    }
}

/// Every so many-th server is a child; the first one is not.
fn is_stdio(number: usize) -> bool {
    number > 0 && number <= CHILDREN
}

fn entry(number: usize, turn: usize, backends: &[DemoServer], scratch: &Scratch) -> Result<Server, Fault> {
    let (id, turn) = (format!("s{number}"), turn.to_string());
    Ok(if is_stdio(number) {
        demo::stdio(&id, &id, scratch)?.env("TURN", &turn)
    } else {
        let url = backends[number % backends.len()].url();
        Server::http(&id, &url).transport("headers", json!({ "x-turn": turn }))
    })
}
