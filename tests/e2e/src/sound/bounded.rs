//! Everything that a hostile peer can drive is bounded: beside each peer, well-behaved clients notice nothing, and when
//! the peer is gone nothing of it is left.

mod clients;
pub mod company;
mod operators;
mod peer;
mod servers;
mod vital;

use std::{
    env,
    io::{self, Write},
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

use serde_json::json;
use testkit::{
    ConfigFile, DemoServer, Document, Fault, Gateway, Scratch, Server, System, demo,
    load::{Deed, Load, Pick, Plan, Report},
    wait,
};

use crate::{Figures, Size};
use peer::{Peer, Target};
use vital::Vital;

const CLIENTS: usize = 32;
/// Calls a second: half of one core's worth, so that what is measured is the gateway and not the machine's last core.
const RATE: u32 = 400;
const GROWTH_MAX: u64 = 64 << 20;
/// The largest ratio of the 99th percentile beside the peer to the one without it.
const SLOWER_MAX: f64 = 1.5;
/// Below this, a ratio of two percentiles says more of the machine than of the gateway.
const NOISE: Duration = Duration::from_millis(4);
/// One of each kind.
const IN_SHORT: [&str; 3] = ["reads-no-events", "list-changed-for-ever", "floods-by-events"];
/// How long the gateway may take to clean up after a peer.
const AFTERWARDS: Duration = Duration::from_secs(90);

pub fn run(size: Size) -> Result<Figures, Fault> {
    let mut figures = Figures::default();
    let mut peers = Peer::all();
    if size == Size::Short {
        peers.retain(|peer| IN_SHORT.contains(&peer.name));
    }
    // To mend one of them: all take half an hour. Without the others the line falls short.
    if let Ok(only) = env::var("ONLY1MCP_PEERS") {
        peers.retain(|peer| only.split(',').any(|name| name == peer.name));
    }
    let (mut worst, mut slowest) = (0, 0.0_f64);
    let mut wrong = Vec::new();
    for peer in &peers {
        let seen = beside(peer, size).map_err(|error| error.during(peer.name.to_owned()))?;
        // A line each, since all of it takes half an hour.
        drop(writeln!(io::stderr(), "{:<24} {seen}", peer.name));
        worst = worst.max(seen.growth);
        slowest = slowest.max(seen.slower());
        wrong.extend(seen.wrong(size).into_iter().map(|what| format!("{}: {what}", peer.name)));
    }
    let wanted = size.pick(14, IN_SHORT.len());
    figures.demand("peers", peers.len(), &wanted.to_string(), peers.len() == wanted);
    figures.note("worst_growth_mib", worst >> 20);
    figures.note("worst_p99_ratio", format!("{slowest:.2}"));
    figures.none("wrong", wrong);
    Ok(figures)
}

/// What was seen of one peer.
struct Seen {
    /// What the peer did, so that a peer that did nothing is noticed.
    deeds: u64,
    /// A fault that the peer found.
    complaint: Option<String>,
    growth: u64,
    without: Report,
    beside: Report,
    before: Vital,
    after: Vital,
}

impl Seen {
    fn slower(&self) -> f64 {
        let p99 = |report: &Report| report.latency().p99().max(NOISE).as_secs_f64();
        p99(&self.beside) / p99(&self.without)
    }

    fn wrong(&self, size: Size) -> Vec<String> {
        let mut wrong: Vec<String> = self.complaint.iter().cloned().collect();
        if self.deeds == 0 {
            wrong.push("the peer did nothing".to_owned());
        }
        if self.growth >= GROWTH_MAX {
            wrong.push(format!("the process grew by {} MiB", self.growth >> 20));
        }
        // The short form shares its cores with other tests.
        if size == Size::Full && self.slower() > SLOWER_MAX {
            wrong.push(format!("the others' p99 is {:.2} times what it was", self.slower()));
        }
        for (when, report) in [("without", &self.without), ("beside", &self.beside)] {
            if report.failed + report.closed + report.unanswered > 0 {
                let failures = report.failures.first().map_or("", String::as_str);
                wrong.push(format!("{when} it {} calls failed: {failures}", report.failed));
            }
        }
        wrong.extend(self.before.left(&self.after));
        wrong
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { deeds, growth, without, beside, before, after, complaint: _ } = self;
        let (grown, slower) = (growth >> 20, self.slower());
        write!(
            f,
            "deeds={deeds} growth={grown}MiB p99_ratio={slower:.2} without={} beside={} ",
            without.latency(),
            beside.latency()
        )?;
        write!(f, "calls={} failed={} {before} -> {after}", beside.samples.len(), beside.failed)
    }
}

/// One gateway of its own for each peer, so that none pays for another.
fn beside(peer: &Peer, size: Size) -> Result<Seen, Fault> {
    let seconds = |full, short| Duration::from_secs(size.pick(full, short));
    let (calm, storm) = (seconds(20, 1), seconds(60, 2));
    let scratch = Scratch::new(peer.name)?;
    let attack = (peer.attack)(&scratch)?;
    let good = DemoServer::start("good-http", &scratch, &[])?;
    let plain = Document::default()
        // Larger requests than usual, to be echoed; sessions that end soon, so that what is left of them shows.
        .key("limits", json!({ "request_bytes": 8 << 20, "session_idle": "10s" }))
        .with(Server::http("good-http", &good.url()))
        .with(demo::stdio("good-stdio", "good-stdio", &scratch)?);
    let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &plain.yaml())?;
    let gateway = Gateway::up_under(&attack.under(), &scratch, file.path(), &[])?;
    // Sessions live on until they have been idle for a while, which the short form does not wait for.
    let vital = || {
        Ok::<_, Fault>(if size == Size::Full { Vital::of(&gateway)? } else { Vital::of(&gateway)?.without_sessions() })
    };
    let before = vital()?;
    let mut load = start(&gateway)?;
    // The time over which the others are measured alone.
    thread::sleep(calm);
    let without = load.stop()?;
    let servers = attack.servers();
    if !servers.is_empty() {
        file.replace(&servers.into_iter().fold(plain.clone(), Document::with).yaml())?;
        wait_for(&gateway, gateway.revision + 1)?;
    }
    let before_it = gateway.memory("VmRSS:")?;
    gateway.forget_peak()?;
    let mut load = start(&gateway)?;
    let target = Target::new(gateway.mcp, storm);
    let complaint = attack.act(&gateway, &target).err().map(|error| error.to_string());
    let beside = load.stop()?;
    let growth = gateway.memory("VmHWM:")?.saturating_sub(before_it);
    let deeds = target.deeds.load(Ordering::Relaxed) + attack.heard();
    // A server is removed through the file, as it was added; a client is gone already.
    file.replace(&plain.yaml())?;
    drop(attack);
    let mut after = Vital::default();
    let gone = wait::until_true("nothing left", AFTERWARDS, || {
        vital().is_ok_and(|now| {
            after = now;
            before.left(&after).is_empty()
        })
    });
    // Leftovers show in `after`.
    drop(gone);
    Ok(Seen { deeds, complaint, growth, without, beside, before, after })
}

fn wait_for(gateway: &Gateway, revision: u64) -> Result<(), Fault> {
    let live = || gateway.revision().is_ok_and(|live| live >= revision);
    wait::until_true("the revision with the peer", Duration::from_secs(60), live)
}

/// Echoes, by HTTP and by stdio in turn.
fn start(gateway: &Gateway) -> Result<Load, Fault> {
    let names: [Arc<str>; 2] = ["good-http".into(), "good-stdio".into()];
    let choose = move |slot: u64| Pick { server: Arc::clone(&names[usize::from(slot % 2 == 1)]), deed: Deed::Echo };
    Load::start(Plan {
        endpoints: vec![gateway.mcp],
        clients: CLIENTS,
        balanced: false,
        rate: RATE,
        tag: "call-".to_owned(),
        choose: Box::new(choose),
    })
}
