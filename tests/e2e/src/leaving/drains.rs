//! Calls on what leaves, over every transport, let go by an operator or by a change: they end by themselves before the
//! deadline, at the deadline, or at once; and new ones go elsewhere step by step.

pub mod falling;
mod watch;

use std::{fs, path::PathBuf, time::Duration};

use serde_json::{Value, json};
use testkit::{
    Client, ConfigFile, DemoServer, Distribution, Document, Fault, Gateway, Scratch, Server, Tally, demo,
    distribution::ms, fault, wait,
};
use tokio::time::Instant;

use super::crowd::{Call, Crowd, Order};
use crate::{Figures, Size};
use watch::Watch;

const TRANSPORTS: [&str; 3] = ["http", "sse", "stdio"];
/// In flight at each drain.
const CALLS: (usize, usize) = (1000, 60);
/// Of what happens at a moment; in the short form other tests run beside.
const TOLERANCE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(400));
/// The error of a call that a drain has ended.
const EVICTED: i64 = 1410;
/// Longer than any drain here.
const LONG_MS: u64 = 60_000;
const LIMIT: Duration = Duration::from_secs(30);

pub fn run(size: Size) -> Result<Figures, Fault> {
    let mut figures = calls(size)?;
    figures.merge(falling::run(size)?);
    Ok(figures)
}

/// What becomes of calls that run.
pub fn calls(size: Size) -> Result<Figures, Fault> {
    let mut figures = Figures::default();
    finish(size, &mut figures)?;
    deadline(size, &mut figures)?;
    at_once(size, &mut figures)?;
    Ok(figures)
}

/// What lets a server go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Operator,
    /// A revision that has another endpoint in its place.
    Change,
}

const WAYS: [Way; 2] = [Way::Operator, Way::Change];

/// Both ways for each transport, as often as that; in the short form one of them.
fn rounds(size: Size, times: usize) -> impl Iterator<Item = (&'static str, Way)> {
    let ways = size.pick(WAYS.len(), 1);
    TRANSPORTS
        .into_iter()
        .enumerate()
        .flat_map(move |(at, server)| (0..ways * times).map(move |turn| (server, WAYS[(at + turn) % WAYS.len()])))
}

/// Calls that are shorter than the deadline.
fn finish(size: Size, figures: &mut Figures) -> Result<(), Fault> {
    let mut stage = Stage::up(size, json!({ "graceful": { "timeout_seconds": 30 } }), &[])?;
    let mut cut = Vec::new();
    for (server, way) in rounds(size, size.pick(5, 1)) {
        let left = stage.play(way, server, "sleep", json!({ "ms": size.pick(2000, 800) }))?;
        cut.extend(left.calls.iter().filter_map(|call| call.text().err()));
        stage.balance(&left, 0);
    }
    figures.note("drains_of_short_calls", stage.orders.len());
    figures.note("short_calls", stage.orders.len() * stage.calls);
    figures.none("cut", cut);
    stage.close(size.pick(30, 3), "drains_odd", figures)
}

/// Calls that would go on for long.
fn deadline(size: Size, figures: &mut Figures) -> Result<(), Fault> {
    let seconds = size.pick(3, 1);
    let policy = json!({ "graceful": { "timeout_seconds": seconds } });
    let mut stage = Stage::up(size, policy, size.pick(&["--deadline", "3s"], &["--deadline", "1s"]))?;
    let (mut off, mut undefined) = (Vec::new(), Vec::new());
    for (server, way) in rounds(size, 1) {
        let left = stage.play(way, server, "sleep", json!({ "ms": LONG_MS }))?;
        let lasted = left.calls.iter().map(|call| call.ended.saturating_duration_since(left.since));
        off.extend(lasted.map(|lasted| lasted.abs_diff(Duration::from_secs(seconds))));
        undefined.extend(left.calls.iter().filter_map(|call| call.other_than(EVICTED)));
        stage.balance(&left, stage.calls);
    }
    within(size, figures, "deadline_off_p99_ms", off);
    figures.none("deadline_without_its_error", undefined);
    stage.close(size.pick(6, 3), "deadlines_odd", figures)
}

/// Streams that speak once a second.
fn at_once(size: Size, figures: &mut Figures) -> Result<(), Fault> {
    let mut stage = Stage::up(size, json!({ "strategy": "immediate" }), &["--strategy", "immediate"])?;
    let (mut took, mut undefined) = (Vec::new(), Vec::new());
    for (server, way) in rounds(size, 1) {
        let left = stage.play(way, server, "progress", json!({ "steps": LONG_MS / 1000, "interval_ms": 1000 }))?;
        took.extend(left.calls.iter().map(|call| call.ended.saturating_duration_since(left.since)));
        undefined.extend(left.calls.iter().filter_map(|call| call.other_than(EVICTED)));
        stage.balance(&left, stage.calls);
    }
    figures.note("streams_closed", took.len());
    within(size, figures, "immediate_p99_ms", took);
    figures.none("streams_without_a_defined_end", undefined);
    stage.close(size.pick(6, 3), "immediates_odd", figures)
}

fn within(size: Size, figures: &mut Figures, name: &'static str, durations: Vec<Duration>) {
    let (p99, most) = (Distribution::of(durations).p99(), size.pick(TOLERANCE.0, TOLERANCE.1));
    figures.demand(name, ms(p99), &format!("{} at most", most.as_millis()), p99 <= most);
}

/// A server of each transport, and clients that call one of them.
struct Stage {
    scratch: Scratch,
    file: ConfigFile,
    document: Document,
    /// Of `http` and `sse`.
    backends: [DemoServer; 2],
    gateway: Gateway,
    crowd: Crowd,
    calls: usize,
    /// What an operator adds to `drain SERVER`.
    asked: &'static [&'static str],
    orders: Vec<Order>,
    /// What does not add up in the records of drains.
    odd: Vec<String>,
}

/// A server that has left, or one endpoint of it.
struct Left {
    way: Way,
    server: &'static str,
    /// When it was last seen to take calls as before.
    since: Instant,
    calls: Vec<Call>,
    drain: Value,
}

impl Stage {
    fn up(size: Size, policy: Value, asked: &'static [&'static str]) -> Result<Self, Fault> {
        let scratch = Scratch::new("leave")?;
        let [http, sse, _] = TRANSPORTS;
        let backends =
            [DemoServer::start(http, &scratch, &[])?, DemoServer::start(sse, &scratch, &["--reply", "sse"])?];
        let mut document = Document::default().key("drain", policy);
        for server in TRANSPORTS {
            document.put(entry(server, &backends, &scratch, 0)?);
        }
        let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &document.yaml())?;
        let gateway = Gateway::up(&scratch, file.path())?;
        let calls = size.pick(CALLS.0, CALLS.1);
        let crowd = Crowd::open(gateway.mcp, calls)?;
        let (orders, odd) = (Vec::new(), Vec::new());
        Ok(Self { scratch, file, document, backends, gateway, crowd, calls, asked, orders, odd })
    }

    /// Lets a server go while all clients call it, and waits until the calls and the drain are over.
    fn play(&mut self, way: Way, server: &'static str, tool: &str, arguments: Value) -> Result<Left, Fault> {
        let turn = self.orders.len() + 1;
        let order = Order { tool: format!("{server}__{tool}"), arguments, tag: format!("{server}-{turn}") };
        let calls = self.crowd.call(&order)?;
        let counts = self.counts(server)?;
        let begins = format!("{}-", order.tag);
        wait::until_true("all calls to be in flight", LIMIT, || {
            let text = fs::read_to_string(&counts).unwrap_or_default();
            text.lines().filter(|line| line.starts_with(&begins)).count() == self.calls
        })?;
        self.orders.push(order);
        let known = self.drains_of(server)?;
        let watch = Watch::begin(self.gateway.mcp, server)?;
        match way {
            Way::Operator => {
                self.gateway.cli(&[&["drain", server], self.asked].concat())?.expect(0)?;
            }
            Way::Change => {
                self.document.put(entry(server, &self.backends, &self.scratch, turn)?);
                self.file.replace(&self.document.yaml())?;
            }
        }
        let since = watch.end()?;
        let calls = calls.wait()?;
        let drain = self.over(server, &known)?;
        if way == Way::Operator {
            self.gateway.cli(&["drain", "--cancel", server])?.expect(0)?;
            let (mut client, tool) = (Client::open(self.gateway.mcp)?, format!("{server}__echo"));
            wait::until_true("calls to be taken again", LIMIT, || {
                client.text(&tool, &json!({ "text": "again" })).is_ok()
            })?;
        }
        Ok(Left { way, server, since, calls, drain })
    }

    /// The file in which a server counts calls.
    fn counts(&self, server: &str) -> Result<PathBuf, Fault> {
        Ok(self.scratch.folder("counts")?.join(server))
    }

    fn drains_of(&self, server: &str) -> Result<Vec<Value>, Fault> {
        let listed = self.gateway.cli(&["drains", "--all", "--output", "json"])?.expect(0)?.json()?;
        let listed = listed.as_array().ok_or_else(|| fault(format!("no list: {listed}")))?;
        Ok(listed.iter().filter(|drain| drain["server"] == server).cloned().collect())
    }

    /// The drain that was not `known`, once it is over.
    fn over(&self, server: &str, known: &[Value]) -> Result<Value, Fault> {
        wait::until(&format!("the end of the drain of {server}"), LIMIT, || {
            let is_new = |drain: &Value| known.iter().all(|known| known["id"] != drain["id"]);
            let drains = self.drains_of(server).ok()?;
            drains.into_iter().find(|drain| is_new(drain) && drain["state"] == "done")
        })
    }

    /// The record of the drain has every call, and what became of it. The one that watches may have had a call, too.
    fn balance(&mut self, left: &Left, evicted: usize) {
        let count = |key: &str| left.drain[key].as_u64().and_then(|count| usize::try_from(count).ok());
        let counts = ["total", "finished", "evicted", "lost"].map(count);
        let all = self.calls..=self.calls + 1;
        let adds_up = match counts {
            [Some(total), Some(finished), Some(ended), Some(0)] => {
                let sides = if evicted > 0 { ended } else { finished };
                finished + ended == total && all.contains(&total) && all.contains(&sides)
            }
            _ => false,
        };
        if !adds_up || (evicted == 0) != (count("evicted") == Some(0)) {
            self.odd.push(format!("{} by {:?}: {}", left.server, left.way, left.drain));
        }
    }

    /// So many drains were played, each on record as it went, and no call was carried out twice.
    fn close(self, drains: usize, name: &'static str, figures: &mut Figures) -> Result<(), Fault> {
        let played = self.orders.len();
        if played != drains {
            figures.falls_short(format!("{played} drains were played, wanted {drains}"));
        }
        figures.none(name, self.odd);
        let tally = Tally::read(&self.scratch.folder("counts")?)?;
        let ids = self.orders.iter().flat_map(|order| (0..self.calls).map(|number| order.id(number)));
        figures.none("not_carried_out_once", ids.filter(|id| tally.count(id) != 1));
        Ok(())
    }
}

/// The server as it is after so many turns.
fn entry(server: &str, backends: &[DemoServer; 2], scratch: &Scratch, turn: usize) -> Result<Server, Fault> {
    let turn = turn.to_string();
    let over_http = |backend: &DemoServer| {
        Server::http(server, &backend.url()).transport("headers", json!({ "x-turn": turn.as_str() }))
    };
    Ok(match server {
        "http" => over_http(&backends[0]),
        "sse" => over_http(&backends[1]),
        _ => demo::stdio(server, server, scratch)?.env("TURN", &turn),
    })
}
