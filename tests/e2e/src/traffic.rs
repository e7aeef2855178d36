//! Calls while the configuration changes, and what must be true of every one of them afterwards.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::{Value, json};
use testkit::{
    Client, Fault, System, fault,
    load::{Deed, Load, Outcome, Pick, Plan, Report, Sample},
    sockets,
};

use crate::{
    figures::Figures,
    world::{EDITED, GUESTS, STEADY, World},
};

/// Begins the text of every call of the load.
const TAG: &str = "call-";

/// A load of which a good half goes to the servers that change, most of all to the one that changes next.
#[derive(Debug)]
pub struct Traffic {
    pub load: Load,
    /// Index into all servers.
    subject: Arc<AtomicUsize>,
}

impl Traffic {
    pub fn start(endpoints: Vec<SocketAddr>, clients: usize, rate: u32) -> Result<Self, Fault> {
        let subject = Arc::new(AtomicUsize::new(0));
        let names: Vec<Arc<str>> = STEADY.iter().chain(&EDITED).chain(&GUESTS).map(|name| (*name).into()).collect();
        let aimed = Arc::clone(&subject);
        let choose = Box::new(move |slot| choose(slot, &names, aimed.load(Ordering::Relaxed)));
        let load = Load::start(Plan { endpoints, clients, balanced: false, rate, tag: TAG.to_owned(), choose })?;
        Ok(Self { load, subject })
    }

    /// From now on, many calls go to that server.
    pub fn aim(&self, server: &str) {
        let index = STEADY.iter().chain(&EDITED).chain(&GUESTS).position(|known| *known == server);
        self.subject.store(index.unwrap_or_default(), Ordering::Relaxed);
    }

    /// Makes `count` changes, each written once the one before answers on every router and `calls` more calls were
    /// answered. Returns the last revision.
    pub fn change(&self, world: &mut World, mut revision: u64, count: u64, calls: u64) -> Result<u64, Fault> {
        for _ in 0..count {
            self.aim(world.next_subject());
            self.load.wait_answered(calls)?;
            world.change()?;
            revision += 1;
            self.load.wait_revision(revision).map_err(|error| error.during(format!("change to {revision}")))?;
            world.is_live_as(revision);
        }
        self.load.wait_answered(calls)?;
        Ok(revision)
    }
}

/// One call in five goes to a steady server. Of the others, every second one to the subject, which may be away, and the
/// rest to those that are edited in place. One in ten takes a while, so that calls are in flight at every change.
fn choose(slot: u64, names: &[Arc<str>], subject: usize) -> Pick {
    let alternate = usize::from(slot % 20 >= 10);
    let server = match (slot % 5, slot % 2) {
        (0, _) => alternate,
        (_, 0) => subject,
        _ => STEADY.len() + alternate,
    };
    let lasting = u16::try_from(20 + slot * 37 % 180).unwrap_or_default();
    let deed = if slot % 10 == 3 { Deed::Sleep(lasting) } else { Deed::Echo };
    Pick { server: Arc::clone(&names[server]), deed }
}

/// What every load must show, whatever was changed meanwhile.
pub fn judge(report: &Report, world: &World, figures: &mut Figures) -> Result<(), Fault> {
    figures.none("failed", report.failures.iter());
    figures.demand("failures_counted", report.failed, "0", report.failed == 0);
    let tally = world.tally()?.compare(TAG, &report.answered(), &report.uncertain());
    figures.none("lost", &tally.lost);
    figures.none("duplicated", &tally.duplicated);
    figures.none("extra", &tally.extra);
    figures.demand("closed", report.closed, "0", report.closed == 0);
    figures.demand("unanswered", report.unanswered, "0", report.unanswered == 0);
    let unknown = |sample: &&Sample| sample.outcome == Outcome::UnknownTool;
    figures.note("unknown_tool", report.samples.iter().filter(unknown).count());
    let contradicts =
        report.samples.iter().filter(|sample| match (&sample.outcome, world.has(sample.revision, &sample.server)) {
            (Outcome::Answered, has) => has != Some(true),
            (Outcome::UnknownTool, has) => has != Some(false),
            (Outcome::Failed(_), _) => false,
        });
    let contradicts =
        contradicts.map(|sample| format!("{} of {} at revision {}", sample.text, sample.server, sample.revision));
    figures.none("contradicting_their_revision", contradicts);
    let calls = report.samples.len();
    figures.demand("calls", calls, "some", calls > 0);
    figures.note("p50/p99/max", report.latency());
    Ok(())
}

/// That at least half of the calls hit servers that were being changed.
pub fn demand_hits(report: &Report, figures: &mut Figures) {
    let changing = |sample: &&Sample| sample.outcome == Outcome::Answered && !STEADY.contains(&&*sample.server);
    let hits = report.samples.iter().filter(changing).count();
    figures.demand("on_changing", hits, "at least half of the calls", hits * 2 >= report.samples.len());
}

/// What the steady backends say of how they are reached, per router.
#[derive(Debug, PartialEq, Eq)]
pub struct Witness {
    routers: Vec<Seen>,
}

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    /// Process and session of the HTTP backend; process of the stdio one.
    http: (Value, Value),
    stdio: Value,
    /// Local ports of the connections to the HTTP backend.
    sockets: BTreeSet<u16>,
}

impl Witness {
    pub fn ask(system: &dyn System, world: &World) -> Result<Self, Fault> {
        let of_router = |(endpoint, pid): (SocketAddr, i32)| {
            let mut client = Client::open(endpoint)?;
            let mut ask = |server: &str| {
                let text = client.text(&format!("{server}__whoami"), &json!({}))?;
                serde_json::from_str::<Value>(&text).map_err(Fault::from)
            };
            let (http, stdio) = (ask("steady-http")?, ask("steady-stdio")?);
            Ok(Seen {
                http: (http["pid"].clone(), http["session"].clone()),
                stdio: stdio["pid"].clone(),
                sockets: sockets::toward(pid, world.steady_port()),
            })
        };
        let routers = system.endpoints().into_iter().zip(system.router_pids());
        Ok(Self { routers: routers.map(of_router).collect::<Result<_, Fault>>()? })
    }

    /// That `later` still has every process, session and connection. More connections may have been opened.
    pub fn compare(&self, later: &Self, figures: &mut Figures) {
        let pairs = || self.routers.iter().zip(&later.routers);
        let changed = pairs().filter(|(before, after)| (&before.http, &before.stdio) != (&after.http, &after.stdio));
        figures.none("steady_changed", changed.map(|(before, after)| format!("{before:?} became {after:?}")));
        let gone = pairs().flat_map(|(before, after)| before.sockets.difference(&after.sockets));
        figures.none("steady_sockets_closed", gone);
        let kept = pairs().map(|(before, _)| before.sockets.len()).sum::<usize>();
        figures.demand("steady_sockets", kept, "some", kept > 0);
    }
}

/// That the history has exactly the revisions from `first` to `last`, each naming the one before.
pub fn check_history(system: &dyn System, first: u64, last: u64, figures: &mut Figures) -> Result<(), Fault> {
    let history = system.history()?;
    let mut numbers: Vec<u64> = history.iter().filter_map(|entry| entry["revision"].as_u64()).collect();
    numbers.sort_unstable();
    let wanted: Vec<u64> = (1..=last).collect();
    figures.demand("revisions", last - first, "one a change", numbers == wanted && system.revision()? == last);
    let parents = history.iter().filter_map(|entry| Some((entry["revision"].as_u64()?, entry["parent"].as_u64()?)));
    let odd = parents.filter(|(revision, parent)| parent + 1 != *revision);
    figures.none("odd_parents", odd.map(|(revision, parent)| format!("{revision} after {parent}")));
    if history.is_empty() { Err(fault("the history is empty")) } else { Ok(()) }
}
