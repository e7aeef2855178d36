//! Cases from the field: what people reported of servers, clients, files and gateways, each played by a small script,
//! and each with three further instances of its kind.
//!
//! Most servers stand behind one gateway: that each is judged by itself there is also the proof that one bad server
//! stops no other.

mod coded;
mod doors;
mod files;
mod hall;
mod http_server;
mod looping;
mod misspelt;
mod named;
mod printed;
mod raw_client;
mod repeated;
mod starts;
mod stdio_server;
mod tolerated;
mod unanswered;
mod unread;
mod wrong_answers;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    io::{self, Write},
    path::PathBuf,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use testkit::{Fault, Scratch, Server, fault};

use tokio::time::Instant;

use crate::{Figures, Size};
use hall::Hall;
use http_server::HttpServer;
use stdio_server::StdioServer;

/// Judged at the same time.
const WORKERS: usize = 24;
/// As many as there are reports that became a case.
const CASES: usize = 31;
/// Of each case: the one that was reported, and three of its kind.
const INSTANCES: usize = 4;

pub fn run(size: Size) -> Result<Figures, Fault> {
    let scratch = Scratch::new("cases")?;
    let mut cases = Cases { scripts: scratch.folder("scripts")?, list: Vec::new() };
    // Those that take longest come first, so that the others run beside them.
    for add in [
        starts::add,
        files::add,
        looping::add,
        repeated::add,
        unread::add,
        wrong_answers::add,
        unanswered::add,
        coded::add,
        tolerated::add,
        misspelt::add,
        printed::add,
        doors::add,
        named::add,
    ] {
        add(&mut cases)?;
    }
    let (servers, instances) = cases.split();
    let hall = Hall::open(scratch, servers)?;
    let judged = judge_all(instances, &hall);
    report(size, &judged)
}

/// What is judged, and the servers that it needs in the hall.
struct Cases {
    scripts: PathBuf,
    list: Vec<Instance>,
}

struct Instance {
    case: &'static str,
    name: String,
    server: Option<Server>,
    judge: Box<Judge>,
}

/// Gets the hall and the id of its server there.
type Judge = dyn Fn(&Hall, &str) -> Result<(), Fault> + Send + Sync;

impl Cases {
    /// An instance with a program behind the hall; its id there is that of the instance.
    fn stdio(
        &mut self,
        case: &'static str,
        name: impl Into<String>,
        server: &StdioServer,
        judge: impl Fn(&Hall, &str) -> Result<(), Fault> + Send + Sync + 'static,
    ) -> Result<(), Fault> {
        let server = server.entry(&self.next_id(case), &self.scripts)?;
        self.serve(case, name, server, judge);
        Ok(())
    }

    /// As [`Self::stdio`], with an HTTP server.
    fn http(
        &mut self,
        case: &'static str,
        name: impl Into<String>,
        server: &HttpServer,
        judge: impl Fn(&Hall, &str) -> Result<(), Fault> + Send + Sync + 'static,
    ) {
        let server = server.entry(&self.next_id(case));
        self.serve(case, name, server, judge);
    }

    fn serve(
        &mut self,
        case: &'static str,
        name: impl Into<String>,
        server: Server,
        judge: impl Fn(&Hall, &str) -> Result<(), Fault> + Send + Sync + 'static,
    ) {
        self.list.push(Instance { case, name: name.into(), server: Some(server), judge: Box::new(judge) });
    }

    /// An instance that needs no server, or brings a gateway of its own.
    fn alone(
        &mut self,
        case: &'static str,
        name: impl Into<String>,
        judge: impl Fn(&Hall) -> Result<(), Fault> + Send + Sync + 'static,
    ) {
        let judge = Box::new(move |hall: &Hall, _: &str| judge(hall));
        self.list.push(Instance { case, name: name.into(), server: None, judge });
    }

    fn next_id(&self, case: &str) -> String {
        format!("{case}-{}", self.list.iter().filter(|known| known.case == case).count() + 1)
    }

    fn split(mut self) -> (Vec<Server>, Vec<Numbered>) {
        let servers = self.list.iter_mut().filter_map(|instance| instance.server.take()).collect();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let number = |instance: Instance| {
            let count = counts.entry(instance.case).or_default();
            *count += 1;
            Numbered { id: format!("{}-{count}", instance.case), instance }
        };
        (servers, self.list.into_iter().map(number).collect())
    }
}

struct Numbered {
    id: String,
    instance: Instance,
}

struct Judged {
    case: &'static str,
    id: String,
    name: String,
    outcome: Result<(), Fault>,
    took: Duration,
}

fn judge_all(instances: Vec<Numbered>, hall: &Hall) -> Vec<Judged> {
    let (waiting, judged) = (Mutex::new(instances.into_iter().enumerate()), Mutex::new(BTreeMap::new()));
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((place, Numbered { id, instance })) = next else { break };
                    let start = Instant::now();
                    let outcome = (instance.judge)(hall, &id);
                    let took = start.elapsed();
                    let done = Judged { case: instance.case, id, name: instance.name, outcome, took };
                    judged.lock().unwrap_or_else(PoisonError::into_inner).insert(place, done);
                }
            });
        }
    });
    judged.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}

/// All at full size, only what failed in the short form.
fn report(size: Size, judged: &[Judged]) -> Result<Figures, Fault> {
    let mut figures = Figures::default();
    let mut of_case: BTreeMap<&str, usize> = BTreeMap::new();
    let mut failed = BTreeSet::new();
    for Judged { case, id, name, outcome, took } in judged {
        *of_case.entry(case).or_default() += 1;
        if size == Size::Full {
            let verdict = if outcome.is_ok() { "PASS" } else { "FAIL" };
            writeln!(io::stdout(), "  {verdict} {id}: {name} ({:.1} s)", took.as_secs_f64())?;
        }
        if let Err(why) = outcome {
            failed.insert(format!("{id} ({name}): {why}"));
        }
    }
    let few = of_case.iter().filter(|(_, count)| **count < INSTANCES).map(|(case, count)| format!("{case}: {count}"));
    figures.demand("cases", of_case.len(), &CASES.to_string(), of_case.len() == CASES);
    figures.none("with_too_few_instances", few);
    figures.note("instances", judged.len());
    figures.note("failed", failed.len());
    failed.into_iter().for_each(|text| figures.falls_short(text));
    Ok(figures)
}

/// Nothing, if it `holds`.
fn expect(holds: bool, expected: impl Display, actual: impl Display) -> Result<(), Fault> {
    if holds { Ok(()) } else { Err(fault(format!("expected {expected}; actual: {actual}"))) }
}

/// Checks that a text for people has the wanted words, in any case, and none of the unwanted.
fn says(text: &str, wanted: &[&str], unwanted: &[&str]) -> Result<(), Fault> {
    let lower = text.to_lowercase();
    let has = |word: &&&str| lower.contains(&word.to_lowercase());
    let missing: Vec<_> = wanted.iter().filter(|word| !has(word)).collect();
    expect(missing.is_empty(), format!("a text with {missing:?}"), text)?;
    let present: Vec<_> = unwanted.iter().filter(has).collect();
    expect(present.is_empty(), format!("a text without {present:?}"), text)
}
