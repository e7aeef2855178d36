//! A router's shell: it brings endpoints up, swaps generations, keeps a disk copy, and may die at any moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use drain::{Admission, Departures, departures};
use model::{AttemptId, CandidateOutcome, CandidateResult, EndpointKey, LogId, Revision, Time};
use rollout::follower::{Effect, Event, Follower, Identity, Saved};
use rollout::{Content, Directive, Refusal, Report, Sender};

use crate::config_manager::node;
use crate::content::{Known, Server, drain_timeout};
use crate::fault::Fault;
use crate::wire::{Message, Peer, Way, WireId};
use crate::world::{Happening, Life, World};

#[derive(Debug)]
pub(crate) struct Router {
    index: usize,
    disk: Option<Disk>,
    pub(crate) process: Option<Process>,
    /// Servers that do not come up when this router starts them.
    pub(crate) down: BTreeSet<Server>,
    /// Servers whose secret this router lacks.
    pub(crate) secretless: BTreeSet<Server>,
}

#[derive(Debug, Clone)]
pub(crate) struct Disk {
    saved: Saved,
    cordons: Vec<drain::Cordon>,
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) life: Life,
    pub(crate) follower: Follower,
    pub(crate) departures: Departures,
    pub(crate) generation: Option<Generation>,
    pub(crate) endpoints: BTreeMap<EndpointKey, Endpoint>,
    pub(crate) closed: BTreeSet<EndpointKey>,
    building: BTreeMap<AttemptId, Content>,
    swapping: Option<(Sender, Revision, Content)>,
    sender: Option<Sender>,
    saving: Option<(u64, Saved)>,
    pub(crate) config: Option<WireId>,
    last_config: Option<WireId>,
    pub(crate) drains: Option<WireId>,
}

#[derive(Debug)]
pub(crate) struct Generation {
    pub(crate) revision: Revision,
    pub(crate) known: Arc<Known>,
}

#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) word: Admission,
    /// The revision that brought it, and whether there was an equal one before it in this process.
    pub(crate) born: (Revision, bool),
    pub(crate) cordoned: bool,
    /// Ever.
    pub(crate) evicted: u64,
    /// In flight, not told yet that they are evicted.
    pub(crate) exchanges: BTreeSet<u64>,
}

impl Endpoint {
    fn new(born: (Revision, bool)) -> Self {
        Self { born, word: Admission::new(), cordoned: false, evicted: 0, exchanges: BTreeSet::new() }
    }
}

impl Router {
    pub(crate) fn new(index: usize) -> Self {
        Self { index, disk: None, process: None, down: BTreeSet::new(), secretless: BTreeSet::new() }
    }
}

impl World {
    pub(crate) fn process(&mut self, router: usize, life: Life) -> Option<&mut Process> {
        self.routers[router].process.as_mut().filter(|process| process.life == life)
    }

    pub(crate) fn start_router(&mut self, router: usize) {
        if self.routers[router].process.is_some() {
            return;
        }
        let life = self.life();
        let disk = self.routers[router].disk.clone();
        let identity = Identity { node: node(router), boot: format!("{life:?}"), features: Vec::new() };
        let saved = disk.as_ref().map(|disk| &disk.saved);
        self.note(|| format!("r{router} {life:?} starts with {:?}", saved.map(|saved| saved.revision)));
        self.routers[router].process = Some(Process {
            life,
            follower: Follower::new(identity, saved),
            departures: Departures::new(),
            generation: None,
            endpoints: BTreeMap::new(),
            closed: BTreeSet::new(),
            building: BTreeMap::new(),
            swapping: None,
            sender: saved.map(|saved| saved.sender.clone()),
            saving: None,
            config: None,
            last_config: None,
            drains: None,
        });
        if let Some(Disk { saved, cordons }) = disk {
            self.departs(router, departures::Event::Said(drain::Directive::Overlay { cordons }));
            self.go_live(router, &saved.sender.log, saved.revision, &saved.content);
        }
        self.after_millis(0, 50, Happening::DialManager(router, life));
        self.after_millis(0, 50, Happening::DialCoordinator(router, life));
    }

    /// With all it has in flight.
    pub(crate) fn kill_router(&mut self, router: usize) {
        let Some(process) = self.routers[router].process.take() else { return };
        self.note(|| format!("r{router} {:?} dies", process.life));
        self.faults.count(Fault::RouterCrashed);
        let copy = self.routers[router].disk.as_ref().map(|disk| disk.saved.revision);
        if process.generation.as_ref().map(|generation| generation.revision) != copy {
            self.faults.count(Fault::DiskCopyOlder);
        }
        self.lose_exchanges(process.life);
        self.checker.router_died(process.life);
        self.break_wires_of(process.life);
        self.after_millis(100, 3000, Happening::StartRouter(router));
    }

    pub(crate) fn dial_manager(&mut self, router: usize, life: Life) {
        if self.process(router, life).is_none_or(|process| process.config.is_some()) {
            return;
        }
        let old = self.managers.first().filter(|manager| manager.fenced).map(|manager| manager.life);
        let old = old.filter(|_| self.random.permille(400));
        let Some(peer) = old.or_else(|| self.present_manager().map(|manager| manager.life)) else {
            return self.after_millis(100, 800, Happening::DialManager(router, life));
        };
        let wire = self.dial(router, life, Peer::ConfigManager(peer));
        let Some(process) = self.process(router, life) else { return };
        process.config = Some(wire);
        let before = process.last_config.replace(wire);
        self.follower_hears(router, life, Event::Attached);
        if let Some(before) = before.filter(|_| self.chaos && self.random.permille(150)) {
            self.replay(before, wire);
        }
    }

    pub(crate) fn router_detached(&mut self, router: usize, life: Life, wire: WireId) {
        let Some(process) = self.process(router, life).filter(|process| process.config == Some(wire)) else { return };
        process.config = None;
        self.follower_hears(router, life, Event::Detached);
        self.after_millis(20, 800, Happening::DialManager(router, life));
    }

    pub(crate) fn router_obeys(&mut self, router: usize, life: Life, wire: WireId, sender: Sender, said: Directive) {
        if self.process(router, life).is_none_or(|process| process.config != Some(wire)) {
            return;
        }
        if let Some(answer) = self.not_understood(&said) {
            return self.router_says(router, life, answer);
        }
        let stale = self.checker.is_stale(life, &sender);
        if stale {
            self.faults.count(Fault::StaleDirective);
        }
        let now = self.now;
        let Some(process) = self.process(router, life) else { return };
        if !stale {
            process.sender = Some(sender.clone());
        }
        process.follower.handle(now, Event::Directive { sender: sender.clone(), directive: said });
        self.follower_acts(router, life, Some((sender, stale)));
    }

    pub(crate) fn follower_wakes(&mut self, router: usize) {
        let Some(process) = &self.routers[router].process else { return };
        let life = process.life;
        if process.follower.held().is_some_and(|(_, until)| until <= self.now) {
            self.faults.count(Fault::LeaseExpired);
        }
        self.follower_hears(router, life, Event::Woke);
    }

    fn follower_hears(&mut self, router: usize, life: Life, event: Event) {
        let now = self.now;
        let Some(process) = self.process(router, life) else { return };
        process.follower.handle(now, event);
        self.follower_acts(router, life, None);
    }

    fn follower_acts(&mut self, router: usize, life: Life, by: Option<(Sender, bool)>) {
        while let Some(effect) = self.process(router, life).and_then(|process| process.follower.poll_effect()) {
            let obeys = matches!(effect, Effect::Build { .. } | Effect::Swap { .. } | Effect::Discard { .. });
            if let Some((sender, _)) = by.as_ref().filter(|(_, stale)| obeys && *stale) {
                self.fail(format!("r{router} obeys {sender:?}, which is not the youngest it has heard: {effect:?}"));
            }
            match effect {
                Effect::Build { attempt, content, .. } => self.build(router, life, attempt, content),
                Effect::Discard { attempt, .. } => {
                    if let Some(process) = self.process(router, life) {
                        process.building.remove(&attempt);
                    }
                }
                Effect::Swap { revision, content, .. } => self.swap(router, life, revision, content),
                Effect::Send(report) => self.router_says(router, life, report),
                Effect::Save(saved) => {
                    let serial = self.serial();
                    if let Some(process) = self.process(router, life) {
                        process.saving = Some((serial, saved));
                    }
                    self.after_millis(1, 120, Happening::Saved(router, life, serial));
                }
            }
        }
    }

    fn router_says(&mut self, router: usize, life: Life, report: Report) {
        match &report {
            Report::Vote { verdict: Err(_), .. } => self.faults.count(Fault::VoteNo),
            Report::Nack { .. } => self.faults.count(Fault::OfferRefused),
            Report::Vote { .. } | Report::Hello { .. } | Report::Ack { .. } => {}
        }
        if let Some(wire) = self.process(router, life).and_then(|process| process.config) {
            self.send(wire, Way::Up, Message::Report(report));
        }
    }

    fn build(&mut self, router: usize, life: Life, attempt: AttemptId, content: Content) {
        if let Some(process) = self.process(router, life) {
            process.building.insert(attempt, content);
        }
        let slow = self.chaos && self.random.permille(50);
        if slow {
            self.faults.count(Fault::VoteSlow);
            self.after_millis(4000, 8000, Happening::Built(router, life, attempt));
        } else {
            self.after_millis(1, 250, Happening::Built(router, life, attempt));
        }
    }

    /// What came of it; sometimes told although nobody waits for it any more.
    pub(crate) fn built(&mut self, router: usize, life: Life, attempt: AttemptId) {
        let Some(process) = self.process(router, life) else { return };
        let Some(content) = process.building.remove(&attempt) else {
            let event = Event::Built { attempt, outcomes: Vec::new(), refusal: None };
            return self.follower_hears(router, life, event);
        };
        let known = self.contents.known(&content.digest);
        let refusal = self.missing(router, &known);
        let down = &self.routers[router].down;
        let Some(process) = self.routers[router].process.as_ref() else { return };
        let new = known.servers.iter().filter(|(key, _)| !process.endpoints.contains_key(key));
        let outcomes = new.map(|(key, server)| CandidateOutcome {
            endpoint: key.clone(),
            result: if down.contains(server) {
                CandidateResult::Failed { reason: "down".into() }
            } else {
                CandidateResult::Ready { tools: 1 }
            },
        });
        let outcomes = outcomes.collect();
        self.follower_hears(router, life, Event::Built { attempt, outcomes, refusal });
    }

    /// A change is strict about the references of what it brings.
    fn missing(&self, router: usize, known: &Known) -> Option<Refusal> {
        let process = self.routers[router].process.as_ref()?;
        let lacks = |(key, server): &&(EndpointKey, Server)| {
            self.routers[router].secretless.contains(server) && !process.endpoints.contains_key(key)
        };
        known.servers.iter().find(lacks).map(|(key, _)| Refusal::Secret(key.to_string()))
    }

    /// What no router can have is refused as it arrives, before anything decides.
    fn not_understood(&self, said: &Directive) -> Option<Report> {
        let cursed = |content: &Content| self.contents.known(&content.digest).is_cursed();
        let refusal = Refusal::Feature("a curse".into());
        match said {
            Directive::Prepare { attempt, content, .. } if cursed(content) => {
                Some(Report::Vote { attempt: *attempt, verdict: Err(refusal), outcomes: Vec::new() })
            }
            Directive::Offer { revision, content } if cursed(content) => {
                Some(Report::Nack { revision: *revision, refusal })
            }
            Directive::Prepare { .. }
            | Directive::Offer { .. }
            | Directive::Renew { .. }
            | Directive::Abort { .. }
            | Directive::Commit { .. } => None,
        }
    }

    fn swap(&mut self, router: usize, life: Life, revision: Revision, content: Content) {
        let Some(process) = self.process(router, life) else { return };
        let Some(sender) = process.sender.clone() else { return };
        process.swapping = Some((sender, revision, content));
        self.after_millis(0, 5, Happening::Swapped(router, life, revision));
    }

    pub(crate) fn swapped(&mut self, router: usize, life: Life, revision: Revision) {
        let Some(process) = self.process(router, life) else { return };
        let Some((sender, _, content)) = process.swapping.take_if(|(_, of, _)| *of == revision) else { return };
        // Whatever references are missing here: their servers come up when they can be resolved.
        self.go_live(router, &sender.log, revision, &content);
        self.follower_hears(router, life, Event::Swapped { revision });
    }

    fn go_live(&mut self, router: usize, log: &LogId, revision: Revision, content: &Content) {
        let known = self.contents.known(&content.digest);
        let keys: BTreeSet<_> = known.servers.iter().map(|(key, _)| key.clone()).collect();
        let timeouts = known.servers.iter().map(|(key, server)| (key.clone(), drain_timeout(server.id))).collect();
        let Some(process) = &mut self.routers[router].process else { return };
        let life = process.life;
        for key in &keys {
            let again = process.closed.contains(key);
            process.endpoints.entry(key.clone()).or_insert_with(|| Endpoint::new((revision, again)));
        }
        self.departs(router, departures::Event::Coming { endpoints: keys });
        if let Some(why) = self.checker.goes_live(life, log, revision, content.digest) {
            self.fail(format!("r{router}: {why}"));
        }
        self.note(|| format!("r{router} has {revision} live: {:?}", content.digest));
        if let Some(process) = &mut self.routers[router].process {
            process.generation = Some(Generation { revision, known });
        }
        self.departs(router, departures::Event::Live { revision, endpoints: timeouts });
    }

    pub(crate) fn saved(&mut self, router: usize, life: Life, serial: u64) {
        let now: Time = self.now;
        let Some(process) = self.process(router, life) else { return };
        let Some((_, saved)) = process.saving.take_if(|(newest, _)| *newest == serial) else { return };
        let cordons = process.departures.overlay(now);
        self.routers[router].disk = Some(Disk { saved, cordons });
    }

    pub(crate) fn has_disk_copy(&self, router: usize) -> bool {
        self.routers[router].disk.is_some()
    }

    /// Whether every router that can have the head has it, and says so on a stream.
    pub(crate) fn all_have(&self, revision: Revision, known: &Known) -> Result<(), String> {
        for router in &self.routers {
            let Some(process) = &router.process else { return Err(format!("r{} is not running", router.index)) };
            let at =
                process.generation.as_ref().map(|generation| (generation.revision, generation.known.content.digest));
            if !known.is_cursed() && at != Some((revision, known.content.digest)) {
                return Err(format!("r{} is at {at:?}, not {revision}", router.index));
            }
            if process.config.is_none() || process.drains.is_none() {
                return Err(format!("r{} is not attached", router.index));
            }
        }
        Ok(())
    }
}
