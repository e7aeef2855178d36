//! Clients that stop reading somewhere in their answer: every limit, drain and stop still comes on time.

mod talker;

use std::{io::Read, net::SocketAddr, time::Duration};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testkit::{
    Client, ConfigFile, Document, Fault, Gateway, Scratch, Server, demo,
    raw::{LIMIT, Raw, call},
    wait,
};
use tokio::time::Instant;

use crate::{Figures, Size};
use talker::{Seen, Talker, arguments};

/// In the short form other tests run beside.
const TOLERANCE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_millis(1000));
const CLIENTS: (usize, usize) = (200, 24);
/// How long what is judged may be waited for beyond its time.
const SLACK: Duration = Duration::from_secs(20);
/// Bytes after which a client stops, at most.
const STOPS_BEFORE: usize = 200_000;
/// What a process has to put away its things once its calls are over.
const PUT_AWAY: Duration = Duration::from_millis(750);

pub fn run(size: Size) -> Result<Figures, Fault> {
    let mut figures = Figures::default();
    limits(size, &mut figures)?;
    leaving(size, &mut figures)?;
    Ok(figures)
}

fn tolerance(size: Size) -> Duration {
    size.pick(TOLERANCE.0, TOLERANCE.1)
}

/// How far the worst of them is from when it should have been.
fn worst(off: impl Iterator<Item = Duration>) -> Duration {
    off.max().unwrap_or_default()
}

fn within(figures: &mut Figures, name: &'static str, worst: Duration, tolerance: Duration) {
    let wanted = format!("{} at most", tolerance.as_millis());
    figures.demand(name, worst.as_millis(), &wanted, worst <= tolerance);
}

/// A client that has stopped reading, and when it did.
struct Stuck {
    _raw: Raw,
    stopped: Instant,
}

/// Calls, reads up to `bytes` of the answer, and no more.
fn stick(session: &Raw, message: &Value, bytes: usize) -> Result<Stuck, Fault> {
    let mut raw = session.again()?;
    raw.say(message)?;
    raw.stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    let (mut read, mut chunk) = (0, vec![0; 8192]);
    while read < bytes {
        let room = chunk.len().min(bytes - read);
        match raw.stream.read(&mut chunk[..room]) {
            Ok(count) if count > 0 => read += count,
            // Nothing more comes.
            Ok(_) | Err(_) => break,
        }
    }
    Ok(Stuck { _raw: raw, stopped: Instant::now() })
}

/// So many clients, each at another byte.
fn stick_all(session: &Raw, talker: &Talker, kind: &str, name: &str, count: usize) -> Result<Vec<Stuck>, Fault> {
    let one = |number: usize| {
        let id = format!("{name}-{number}");
        let message = call(number, "talker__talk", arguments(kind, &id));
        let bytes = if kind == "silent" { number * 997 % 20_000 } else { number * 7919 % STOPS_BEFORE };
        let stuck = stick(session, &message, bytes)?;
        talker.wait_came(&id, LIMIT)?;
        Ok(stuck)
    };
    (0..count).map(one).collect()
}

/// `limits.total`, `limits.idle` and `limits.write`, each by clients of its own at the same time.
fn limits(size: Size, figures: &mut Figures) -> Result<(), Fault> {
    let scratch = Scratch::new("time-limits")?;
    let (total, idle, write) = (size.pick(12, 4), size.pick(5, 2), size.pick(14, 6));
    let limits = json!({
        "total": format!("{total}s"), "idle": format!("{idle}s"), "write": format!("{write}s"), "buffered_bytes": "8GiB",
    });
    let talker = Talker::start()?;
    let document = Document::default().key("limits", limits).with(Server::http("talker", &talker.url()));
    let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &document.yaml())?;
    let gateway = Gateway::up(&scratch, file.path())?;
    let session = Raw::open(gateway.mcp)?;
    let each = size.pick(CLIENTS.0, CLIENTS.1) / 3 + 1;
    let (total, idle, write) = (Duration::from_secs(total), Duration::from_secs(idle), Duration::from_secs(write));
    let mut unread = stick_all(&session, &talker, "flood", "flood", each)?;
    let _silent = stick_all(&session, &talker, "silent", "silent", each)?;
    unread.extend(stick_all(&session, &talker, "large", "large", each)?);
    figures.note("clients", 3 * each);
    let ended = |seen: &Seen| seen.ended.unwrap_or(seen.came);
    let silent = talker.wait_ended("silent", idle + SLACK)?;
    let off = silent.iter().map(|seen| ended(seen).abs_diff(seen.silent.unwrap_or(seen.came) + idle));
    within(figures, "idle_off_ms", worst(off), tolerance(size));
    let closed = closures(&gateway, unread.len(), write + SLACK)?;
    let flood = talker.wait_ended("flood", total + SLACK)?;
    let off = flood.iter().map(|seen| ended(seen).abs_diff(seen.came + total));
    within(figures, "total_off_ms", worst(off), tolerance(size));
    // Which connection was closed when cannot be seen from outside, but the first client to stop is closed first.
    let mut stopped: Vec<Instant> = unread.iter().map(|stuck| stuck.stopped).collect();
    stopped.sort_unstable();
    let off = stopped.iter().zip(&closed).map(|(stopped, closed)| closed.abs_diff(*stopped + write));
    within(figures, "write_off_ms", worst(off), tolerance(size));
    Ok(())
}

/// When so many connections were closed for not being read.
fn closures(gateway: &Gateway, count: usize, limit: Duration) -> Result<Vec<Instant>, Fault> {
    let mut closed = Vec::new();
    let all = wait::until_true("all connections to be closed", limit, || {
        let unread = gateway.metric("only1mcp_router_connections_closed_total", "unread");
        closed.resize(closed.len().max(usize::try_from(unread).unwrap_or(usize::MAX)), Instant::now());
        closed.len() >= count
    });
    all.map_err(|fault| fault.during(format!("{} of {count}", closed.len())))?;
    Ok(closed)
}

/// A removal, a replacement that waits for the old one, and a stop.
fn leaving(size: Size, figures: &mut Figures) -> Result<(), Fault> {
    let scratch = Scratch::new("time-leaving")?;
    let (removed, stays) = (Talker::start()?, Talker::start()?);
    let deadline = Duration::from_secs(size.pick(10, 3));
    let old = demo::stdio("turns", "turns", &scratch)?.key("replace", json!("stop_first"));
    let staying = Document::default()
        .key("drain", json!({ "graceful": { "timeout_seconds": deadline.as_secs() } }))
        .with(Server::http("stays", &stays.url()));
    let before = staying.clone().with(old.clone()).with(Server::http("talker", &removed.url()));
    let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &before.yaml())?;
    let mut gateway = Gateway::up(&scratch, file.path())?;
    let session = Raw::open(gateway.mcp)?;
    let clients = size.pick(CLIENTS.0, CLIENTS.1);
    let flood = stick_all(&session, &removed, "flood", "leaves", clients / 2)?;
    let progress = |number: usize| {
        let mut message = call(number, "turns__progress", json!({ "steps": 1_000_000, "interval_ms": 1 }));
        message["params"]["_meta"] = json!({ "progressToken": number });
        stick(&session, &message, number * 7919 % 4000)
    };
    let turns = (0..clients / 2).map(progress).collect::<Result<Vec<_>, _>>()?;
    figures.note("clients_of_leaving", flood.len() + turns.len());
    file.replace(&staying.with(old.env("TURN", "2")).yaml())?;
    let swapped = Client::open(gateway.mcp)?.wait_revision(gateway.revision + 1, LIMIT)?;
    let live = first_answer(gateway.mcp, deadline + SLACK)?;
    let late = live.saturating_duration_since(swapped + deadline);
    within(figures, "stop_first_live_after_deadline_ms", late, Duration::from_secs(1) + tolerance(size) - TOLERANCE.0);
    let ended = removed.wait_ended("leaves", deadline + SLACK)?;
    let off = ended.iter().filter_map(|seen| seen.ended).map(|ended| ended.abs_diff(swapped + deadline));
    within(figures, "eviction_off_ms", worst(off), tolerance(size));
    drains_are_over(&gateway, clients, figures)?;
    stop(size, &mut gateway, &stays, &session, figures)
}

/// When the replacement answers for the first time.
fn first_answer(address: SocketAddr, limit: Duration) -> Result<Instant, Fault> {
    let mut client = Client::open(address)?;
    wait::until("the replacement", limit, || {
        let answer = client.text("turns__env", &json!({ "name": "TURN" })).ok()?;
        (answer == "2").then(Instant::now)
    })
}

fn drains_are_over(gateway: &Gateway, clients: usize, figures: &mut Figures) -> Result<(), Fault> {
    let drains = wait::until("both drains to be over", SLACK, || {
        let drains = gateway.cli(&["drains", "--all", "--output", "json"]).ok()?.json().ok()?;
        let drains = drains.as_array()?.clone();
        (drains.len() == 2 && drains.iter().all(|drain| drain["state"] == "done")).then_some(drains)
    })?;
    let evicted: u64 = drains.iter().filter_map(|drain| drain["evicted"].as_u64()).sum();
    let all = u64::try_from(clients / 2 * 2)?;
    figures.demand("evicted", evicted, &all.to_string(), evicted == all);
    Ok(())
}

/// The deadline of a stop: 30 s, or the second signal.
fn stop(size: Size, gateway: &mut Gateway, stays: &Talker, session: &Raw, figures: &mut Figures) -> Result<(), Fault> {
    let one = |number: usize| {
        let id = format!("stop-{number}");
        let stuck =
            stick(session, &call(number, "stays__talk", arguments("flood", &id)), number * 7919 % STOPS_BEFORE)?;
        stays.wait_came(&id, LIMIT)?;
        Ok(stuck)
    };
    let _stuck = (0..size.pick(CLIENTS.0, CLIENTS.1)).map(one).collect::<Result<Vec<_>, Fault>>()?;
    gateway.process.signal(Signal::SIGTERM);
    let asked = Instant::now();
    let deadline = match size {
        Size::Full => asked + Duration::from_secs(30),
        Size::Short => {
            wait::until("the next wish", LIMIT, || (asked.elapsed() > Duration::from_millis(1200)).then_some(()))?;
            gateway.process.signal(Signal::SIGTERM);
            Instant::now()
        }
    };
    let exited = gateway.process.wait(Duration::from_secs(60));
    let exit = Instant::now();
    exited?;
    let ended = stays.wait_ended("stop", SLACK)?;
    let off = ended.iter().filter_map(|seen| seen.ended).map(|ended| ended.abs_diff(deadline));
    within(figures, "stop_off_ms", worst(off), tolerance(size));
    within(figures, "exit_off_ms", exit.abs_diff(deadline), tolerance(size) + PUT_AWAY);
    Ok(())
}

/// The difference of two times, whichever is first.
trait AbsDiff {
    fn abs_diff(self, other: Self) -> Duration;
}

impl AbsDiff for Instant {
    fn abs_diff(self, other: Self) -> Duration {
        self.saturating_duration_since(other).max(other.saturating_duration_since(self))
    }
}
