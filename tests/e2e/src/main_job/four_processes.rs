//! The same with four processes and two routers. Then control services are killed, again and again, at any moment. At
//! last a router starts without any control service, from its disk alone.

use std::{fs, path::Path, thread, time::Duration};

use serde_json::{Value, json};
use testkit::{
    Client, Fault, Services, System, fault,
    services::{Kind, with_failpoints},
    wait,
};
use tokio::time::Instant;

use crate::{
    Figures, Size,
    sound::bounded::company::Company,
    traffic::{self, Traffic, Witness},
    world::World,
};

const RATE: u32 = 1500;
/// A router that starts from its disk answers within this.
const COLD_START: Duration = Duration::from_secs(1);

pub fn run(size: Size) -> Result<Figures, Fault> {
    beside(size, None)
}

/// With hostile peers, or without.
pub fn beside(size: Size, mut company: Option<Company>) -> Result<Figures, Fault> {
    let mut world =
        World::new("four", |document| company.iter().fold(document, |document, company| company.join(document)))?;
    let services = Services::up(&world.scratch, world.file.path(), 2)?;
    let mut figures = Figures::default();
    let first = services.revision()?;
    world.is_live_as(first);
    let (clients, calls) = (size.pick(64, 8), size.pick(200, 40));
    let traffic = Traffic::start(services.endpoints(), clients, size.pick(RATE, RATE / 6))?;
    if let Some(company) = &mut company {
        company.begin(&services.endpoints())?;
    }
    traffic.load.wait_answered(calls * 5)?;
    let before = Witness::ask(&services, &world)?;
    let last = traffic.change(&mut world, first, size.pick(100, 4), calls)?;
    let after = Witness::ask(&services, &world)?;
    before.compare(&after, &mut figures);
    traffic::check_history(&services, first, last, &mut figures)?;
    let mut kills = Kills { world, services, traffic, revision: last, counts: Counts::default() };
    kills.play(size)?;
    let Kills { world, mut services, mut traffic, counts, .. } = kills;
    let report = traffic.load.stop()?;
    if let Some(company) = company {
        company.end(&mut figures)?;
    }
    traffic::judge(&report, &world, &mut figures)?;
    traffic::demand_hits(&report, &mut figures);
    counts.demand(size, &mut figures);
    cold_start(&mut services, &mut figures)?;
    Ok(figures)
}

/// Kills of control services while the load runs on.
struct Kills {
    world: World,
    services: Services,
    traffic: Traffic,
    revision: u64,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    all: u64,
    during_a_change: u64,
    after_the_append: u64,
    /// In words: restarts that came up with another revision or another history.
    amnesia: Vec<String>,
}

impl Counts {
    fn demand(&self, size: Size, figures: &mut Figures) {
        let wanted = size.pick((60, 20, 10), (5, 1, 0));
        let Self { all, during_a_change: during, after_the_append: after, .. } = *self;
        figures.demand("kills", all, &wanted.0.to_string(), all >= wanted.0);
        figures.demand("kills_during_a_change", during, &wanted.1.to_string(), during >= wanted.1);
        figures.demand("kills_after_the_append", after, &wanted.2.to_string(), after >= wanted.2);
        figures.none("restarts_with_another_past", &self.amnesia);
    }
}

impl Kills {
    fn play(&mut self, size: Size) -> Result<(), Fault> {
        if size == Size::Full {
            for _ in 0..10 {
                self.after_the_append()?;
            }
        }
        let (during, attempts) = size.pick((20, 60), (1, 12));
        for attempt in 0..attempts {
            if self.counts.during_a_change >= during {
                break;
            }
            self.during_a_change(attempt)?;
        }
        let wanted = size.pick(60, 5);
        while self.counts.all < wanted {
            let kind = Kind::CONTROL[usize::try_from(self.counts.all).unwrap_or_default() % Kind::CONTROL.len()];
            let before = self.past()?;
            self.kill(kind)?;
            self.traffic.load.wait_answered(50)?;
            self.restart(kind, &before)?;
        }
        Ok(())
    }

    /// The moment of the kill wanders over the change, which takes a few tens of milliseconds.
    fn during_a_change(&mut self, attempt: u64) -> Result<(), Fault> {
        let kind =
            if attempt % 4 == 3 { Kind::CONTROL[1 + usize::from(attempt % 8 == 3)] } else { Kind::ConfigManager };
        let before = self.past()?;
        self.traffic.aim(self.world.next_subject());
        self.world.change()?;
        // This sleep waits for nothing: it sets the moment of the injected fault.
        thread::sleep(Duration::from_micros(attempt * 7919 % 25_000));
        let in_time = self.traffic.load.revision() == self.revision;
        self.kill(kind)?;
        self.counts.during_a_change += u64::from(in_time);
        self.restart(kind, &before)?;
        self.applied()
    }

    /// With a build that stops after the append, so that the kill falls between it and the commit.
    fn after_the_append(&mut self) -> Result<(), Fault> {
        let before = self.past()?;
        self.services.service_mut(Kind::ConfigManager).kill()?;
        let manager = self.services.service_mut(Kind::ConfigManager);
        manager.use_program(Some(with_failpoints(Kind::ConfigManager)?));
        manager.set_env("FAILPOINTS", "append-after=pause");
        self.restart(Kind::ConfigManager, &before)?;
        let log = self.services.state_dir(Kind::ConfigManager);
        let size_before = stamp(&log);
        self.traffic.aim(self.world.next_subject());
        self.world.change()?;
        wait::until_true("the append", Duration::from_secs(20), || stamp(&log) != size_before)?;
        let mut last = stamp(&log);
        // The process stops there for ever, so a log that is not written for a while is the appended one.
        while wait::until_true("another write", Duration::from_millis(100), || stamp(&log) != last).is_ok() {
            last = stamp(&log);
        }
        if self.traffic.load.revision() != self.revision {
            return Err(fault("a router swapped before the commit"));
        }
        self.kill(Kind::ConfigManager)?;
        let manager = self.services.service_mut(Kind::ConfigManager);
        manager.use_program(None);
        manager.clear_env();
        self.restart(Kind::ConfigManager, &before)?;
        let newest = self.services.history()?.first().and_then(|entry| entry["revision"].as_u64());
        if newest == Some(self.revision + 1) {
            self.counts.after_the_append += 1;
        } else {
            self.counts.amnesia.push(format!("appended {}, found {newest:?}", self.revision + 1));
        }
        self.applied()
    }

    /// Whatever was killed, the file's content is live in the end, under the next number.
    fn applied(&mut self) -> Result<(), Fault> {
        self.revision += 1;
        let live = self.traffic.load.wait_revision(self.revision);
        live.map_err(|error| error.during(format!("after {} kills", self.counts.all)))?;
        self.world.is_live_as(self.revision);
        Ok(())
    }

    /// The history, without what may change of an old entry: its content is let go when there are enough newer ones,
    /// and with it the keys that changed; their masked values have other marks in another process. What clients gained is
    /// told by the lists that servers have now.
    fn past(&self) -> Result<Vec<Value>, Fault> {
        let mut history = self.services.history()?;
        for entry in history.iter_mut().filter_map(Value::as_object_mut) {
            for passing in ["content_kept", "policy_keys"] {
                entry.remove(passing);
            }
            for change in entry.get_mut("diff").and_then(Value::as_array_mut).into_iter().flatten() {
                let Some(change) = change.as_object_mut() else { continue };
                for passing in ["keys", "clients"] {
                    change.remove(passing);
                }
            }
        }
        Ok(history)
    }

    fn kill(&mut self, kind: Kind) -> Result<(), Fault> {
        self.counts.all += 1;
        self.services.service_mut(kind).kill()
    }

    /// Starts it again and compares what it knows with what was known before.
    fn restart(&mut self, kind: Kind, before: &[Value]) -> Result<(), Fault> {
        self.services.start(kind)?;
        self.services.service_mut(kind).wait_ready()?;
        let after = self.past()?;
        if !after.ends_with(before) {
            let text = format!("after a kill of {kind:?}: {:?} became {:?}", before.first(), after.first());
            self.counts.amnesia.push(text);
        }
        Ok(())
    }
}

/// Sizes and times of the files in a folder.
fn stamp(folder: &Path) -> Vec<(u64, Option<std::time::SystemTime>)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let data = entries.filter_map(|entry| entry.metadata().ok());
    data.map(|data| (data.len(), data.modified().ok())).collect()
}

fn cold_start(services: &mut Services, figures: &mut Figures) -> Result<(), Fault> {
    let revision = services.revision()?;
    for kind in Kind::CONTROL {
        services.service_mut(kind).kill()?;
    }
    for router in &mut services.routers {
        router.kill()?;
    }
    let start = Instant::now();
    services.start_router(0)?;
    let endpoint = services.routers[0].mcp;
    let mut answered = || {
        let mut client = Client::open(endpoint).ok()?;
        let text = client.text("steady-http__echo", &json!({ "text": "after a cold start" })).ok()?;
        Some((text, client.revision(), start.elapsed()))
    };
    let (_, found, took) = wait::until("an answer of a router alone", Duration::from_secs(20), &mut answered)?;
    figures.demand("cold_start_ms", took.as_millis(), "1000 at most", took <= COLD_START);
    figures.demand("cold_start_revision", found, &revision.to_string(), found == revision);
    Ok(())
}
