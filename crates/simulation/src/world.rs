//! The world: processes, streams between them, people around them, and one queue of what happens when.

mod checker;
pub(crate) mod config_manager;
pub(crate) mod coordinator;
mod overlay;
pub(crate) mod people;
pub(crate) mod router;
pub(crate) mod traffic;
pub(crate) mod wire;

use std::collections::BTreeMap;

use fleet::Serial;
use model::{Time, WallTime};

use crate::content::{Contents, Text};
use crate::fault::Faults;
use crate::random::Random;
use checker::Checker;
use config_manager::{ConfigManager, Log};
use coordinator::Coordinator;
use people::File;
use router::Router;
use traffic::{Exchange, Exchanges};
use wire::{Way, Wire, WireId};

/// One run of one process. An event that was scheduled for another run has no receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Life(pub(crate) u64);

#[derive(Debug)]
pub(crate) enum Happening {
    Pump { wire: WireId, way: Way },
    StartManager,
    EndManager(Life),
    FileEvent(Life, rollout::cursor::Write),
    Looked(Life),
    HasRead(Life, Option<rollout::cursor::Stamp>),
    Told(Life, Box<rollout::desk::Event<config_manager::Papers>>),
    Fsynced(Life, bool),
    Appended(Life, Result<(), &'static str>),
    StartRouter(usize),
    DialManager(usize, Life),
    DialCoordinator(usize, Life),
    References(usize, Life, model::AttemptId, Option<String>),
    BroughtUp(usize, Life, Serial),
    Listed(usize, Life, Serial),
    Lost(usize, Life, Serial),
    Ended(usize, Life, Serial),
    Saved(usize, Life, u64),
    StartCoordinator,
    Arrives,
    Enters(u64),
    Leaves(u64),
    Edit,
    WriteOn,
    Operate,
    Strike,
    ServerUp(usize, crate::content::Server),
    SecretBack(usize, crate::content::Server),
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now: Time,
    /// How far people have set the wall clock ahead.
    pub(crate) clock_ahead: std::time::Duration,
    pub(crate) random: Random,
    queue: BTreeMap<(Time, u64), Happening>,
    serial: u64,
    pub(crate) events: u64,
    /// Consecutive events without progress of time: they show a core that spins.
    still: u32,
    /// Faults happen, and people are busy.
    pub(crate) chaos: bool,
    pub(crate) faults: Faults,
    pub(crate) checker: Checker,
    pub(crate) trace: Option<Vec<String>>,
    pub(crate) contents: Contents,
    pub(crate) file: File,
    pub(crate) log: Log,
    /// The manager that has the log is last. A manager that was replaced and does not know it yet is before it.
    pub(crate) managers: Vec<ConfigManager>,
    pub(crate) routers: Vec<Router>,
    pub(crate) coordinator: Coordinator,
    pub(crate) wires: BTreeMap<WireId, Wire>,
    pub(crate) exchanges: BTreeMap<u64, Exchange>,
    pub(crate) totals: Exchanges,
}

/// The core whose deadline is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Sleeper {
    Desk(usize),
    Fleet(usize),
    Ledger,
}

impl World {
    pub(crate) fn new(seed: u64, trace: bool) -> Self {
        let mut random = Random::new(seed);
        let routers = 2 + random.index(2);
        let mut world = Self {
            now: Time::ZERO + std::time::Duration::from_secs(1),
            clock_ahead: std::time::Duration::ZERO,
            random,
            queue: BTreeMap::new(),
            serial: 0,
            events: 0,
            still: 0,
            chaos: true,
            faults: Faults::default(),
            checker: Checker::default(),
            trace: trace.then(Vec::new),
            contents: Contents::default(),
            file: File::new(Text::first()),
            log: Log::new(1),
            managers: Vec::new(),
            routers: (0..routers).map(Router::new).collect(),
            coordinator: Coordinator::default(),
            wires: BTreeMap::new(),
            exchanges: BTreeMap::new(),
            totals: Exchanges::default(),
        };
        world.after_millis(0, 200, Happening::StartManager);
        world.after_millis(0, 200, Happening::StartCoordinator);
        for router in 0..routers {
            world.after_millis(0, 400, Happening::StartRouter(router));
        }
        world.after_millis(50, 100, Happening::Arrives);
        world.after_millis(500, 2000, Happening::Edit);
        world.after_millis(2000, 6000, Happening::Operate);
        world.after_millis(500, 3000, Happening::Strike);
        world
    }

    pub(crate) fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    pub(crate) fn life(&mut self) -> Life {
        Life(self.serial())
    }

    pub(crate) fn at(&mut self, at: Time, happening: Happening) {
        let serial = self.serial();
        self.queue.insert((at, serial), happening);
    }

    pub(crate) fn after_millis(&mut self, from: u64, to: u64, happening: Happening) {
        let at = self.now + self.random.millis(from, to);
        self.at(at, happening);
    }

    pub(crate) fn wall(&self) -> WallTime {
        WallTime(1_700_000_000_000 + self.now.as_nanos() / 1_000_000).after(self.clock_ahead)
    }

    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>12.6} {}", self.now.since(Time::ZERO).as_secs_f64(), line()));
        }
    }

    pub(crate) fn fail(&mut self, why: String) {
        self.note(|| format!("VIOLATION {why}"));
        self.checker.violations.push(why);
    }

    /// The result of a check.
    pub(crate) fn broken(&mut self, why: Option<String>) {
        if let Some(why) = why {
            self.fail(why);
        }
    }

    /// One event: a happening or the deadline of a core, whichever comes first.
    pub(crate) fn step(&mut self) {
        let sleeper = self.sleeper();
        let next = self.queue.first_key_value().map(|((at, _), _)| *at);
        let before = self.now;
        match (sleeper, next) {
            (Some((at, who)), next) if next.is_none_or(|next| at <= next) => {
                self.now = self.now.max(at);
                self.wake(who);
            }
            _ => {
                if let Some(((at, _), happening)) = self.queue.pop_first() {
                    self.now = at;
                    self.happen(happening);
                }
            }
        }
        self.events += 1;
        self.still = if self.now == before { self.still + 1 } else { 0 };
        if self.still > 2000 {
            self.fail(format!("time stands still: {sleeper:?} wakes again and again"));
        }
    }

    fn sleeper(&self) -> Option<(Time, Sleeper)> {
        let mut first: Option<(Time, Sleeper)> = None;
        let mut consider = |at: Option<Time>, who| {
            if let Some(at) = at.filter(|at| first.is_none_or(|(first, _)| *at < first)) {
                first = Some((at, who));
            }
        };
        for (i, manager) in self.managers.iter().enumerate() {
            consider(manager.desk.next_deadline(), Sleeper::Desk(i));
        }
        for (i, router) in self.routers.iter().enumerate() {
            if let Some(process) = &router.process {
                consider(process.fleet.next_deadline(), Sleeper::Fleet(i));
            }
        }
        consider(self.coordinator.next_deadline(), Sleeper::Ledger);
        first
    }

    fn wake(&mut self, who: Sleeper) {
        match who {
            Sleeper::Desk(i) => {
                let life = self.managers[i].life;
                self.tell_desk(life, rollout::desk::Event::Woke);
            }
            Sleeper::Fleet(i) => self.fleet_wakes(i),
            Sleeper::Ledger => self.ledger_decides(drain::ledger::Event::Tick),
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Pump { wire, way } => self.pump(wire, way),
            Happening::StartManager => self.start_manager(),
            Happening::EndManager(life) => self.end_manager(life),
            Happening::FileEvent(life, write) => self.file_event(life, write),
            Happening::Looked(life) => self.looked(life),
            Happening::HasRead(life, before) => self.has_read(life, before),
            Happening::Told(life, event) => self.tell_desk(life, *event),
            Happening::Fsynced(life, dies) => self.fsynced(life, dies),
            Happening::Appended(life, result) => self.appended(life, result),
            Happening::StartRouter(router) => self.start_router(router),
            Happening::DialManager(router, life) => self.dial_manager(router, life),
            Happening::DialCoordinator(router, life) => self.dial_coordinator(router, life),
            Happening::References(router, life, attempt, missing) => {
                self.router_hears(router, life, fleet::Event::References { attempt, missing });
            }
            Happening::BroughtUp(router, life, serial) => self.brought_up(router, life, serial),
            Happening::Listed(router, life, serial) => self.listed(router, life, serial),
            Happening::Lost(router, life, serial) => self.server_lost(router, life, serial),
            Happening::Ended(router, life, serial) => {
                self.router_hears(router, life, fleet::Event::Ended { serial });
            }
            Happening::Saved(router, life, serial) => self.saved(router, life, serial),
            Happening::StartCoordinator => self.start_coordinator(),
            Happening::Arrives => self.arrives(),
            Happening::Enters(exchange) => self.enters(exchange),
            Happening::Leaves(exchange) => self.leaves(exchange),
            Happening::Edit => self.edit(),
            Happening::WriteOn => self.write_on(),
            Happening::Operate => self.operate(),
            Happening::Strike => self.strike(),
            Happening::ServerUp(router, server) => {
                self.routers[router].down.remove(&server);
            }
            Happening::SecretBack(router, server) => {
                self.routers[router].secretless.remove(&server);
            }
        }
    }
}
