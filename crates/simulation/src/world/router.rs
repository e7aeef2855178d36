//! A router's shell: it brings endpoints up, swaps generations, keeps a disk copy, and may die at any moment.

use std::collections::{BTreeMap, BTreeSet};

use drain::{Admission, OverlayEntry};
use fleet::{Act, Before, DiskCopy, Effect, Event, Fleet, Offered, Reason, Serial, Turn};
use mcp::{Item, Kind};
use model::{BackendId, EndpointKey, Revision, Time, Transport, Verdict, Weight};
use rollout::follower::Identity;
use rollout::{Content, Directive, Findings, NotArrived, Refusal, Report, Sender};

use crate::content::{Known, Server};
use crate::fault::Fault;
use crate::world::config_manager::node;
use crate::world::wire::{Message, Peer, Sent, Way, WireId};
use crate::world::{Happening, Life, World};

#[derive(Debug)]
pub(crate) struct Router {
    index: usize,
    disk: Option<DiskCopy>,
    /// What operators had laid over the servers when the copy on disk was made, as the router had heard it.
    pub(crate) disk_overlay: Vec<OverlayEntry>,
    pub(crate) process: Option<Process>,
    /// Servers that do not come up when this router starts them.
    pub(crate) down: BTreeSet<Server>,
    /// Servers whose secret this router lacks.
    pub(crate) secretless: BTreeSet<Server>,
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) life: Life,
    pub(crate) fleet: Fleet,
    /// What is served, and its number.
    pub(crate) turn: Option<(u64, Turn<Serial>)>,
    pub(crate) endpoints: BTreeMap<Serial, Endpoint>,
    pub(crate) closed: BTreeSet<EndpointKey>,
    /// The youngest manager that was heard.
    sender: Option<Sender>,
    saving: Option<(u64, DiskCopy, Vec<OverlayEntry>)>,
    config: Option<WireId>,
    last_config: Option<WireId>,
    pub(crate) drains: Option<WireId>,
    /// The overlay that the coordinator said last, in this life or before.
    pub(crate) heard: Vec<OverlayEntry>,
    /// The one that holds: a step of a share that falls waits for the disk.
    pub(crate) overlay: Vec<OverlayEntry>,
    /// It waits for the disk; and in this life one has ceased to wait before it was there.
    pub(crate) waits: bool,
    pub(crate) waited_in_vain: bool,
}

#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) key: EndpointKey,
    pub(crate) server: Server,
    pub(crate) word: Admission,
    pub(crate) verdict: Verdict,
    pub(crate) weight: Weight,
    /// Since the live snapshot lacks it: since when, and whether it gets calls until its strategy ends that.
    pub(crate) removed: Option<(Time, bool)>,
    /// The revision that brought it, and whether there was an equal one before it in this process.
    pub(crate) born: Option<(Revision, bool)>,
    pub(crate) cordoned: bool,
    /// The number of exchanges ever evicted.
    pub(crate) evicted: u64,
    /// Exchanges in flight that have not been told yet that they are evicted.
    pub(crate) exchanges: BTreeSet<u64>,
}

impl Endpoint {
    fn new(key: EndpointKey, server: Server) -> Self {
        Self {
            key,
            server,
            word: Admission::new(),
            verdict: Verdict::Starting,
            weight: Weight::FULL,
            removed: None,
            born: None,
            cordoned: false,
            evicted: 0,
            exchanges: BTreeSet::new(),
        }
    }
}

impl Process {
    pub(crate) fn revision(&self) -> Option<Revision> {
        self.turn.as_ref().map(|(_, turn)| turn.revision)
    }

    pub(crate) fn by_key(&mut self, key: &EndpointKey) -> Option<&mut Endpoint> {
        self.endpoints.get_mut(&self.fleet.roster().members().get(key)?.serial)
    }
}

impl Router {
    pub(crate) fn new(index: usize) -> Self {
        Self {
            index,
            disk: None,
            disk_overlay: Vec::new(),
            process: None,
            down: BTreeSet::new(),
            secretless: BTreeSet::new(),
        }
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
        let sender = saved.map(|saved| saved.sender.clone());
        let random = self.random.draw();
        self.routers[router].process = Some(Process {
            life,
            fleet: Fleet::new(self.now, identity, random, disk),
            turn: None,
            endpoints: BTreeMap::new(),
            closed: BTreeSet::new(),
            sender,
            saving: None,
            config: None,
            last_config: None,
            drains: None,
            heard: self.routers[router].disk_overlay.clone(),
            overlay: self.routers[router].disk_overlay.clone(),
            waits: false,
            waited_in_vain: false,
        });
        self.router_acts(router, life, None);
        self.after_millis(0, 50, Happening::DialManager(router, life));
        self.after_millis(0, 50, Happening::DialCoordinator(router, life));
    }

    /// Kills the router with all its exchanges in flight.
    pub(crate) fn kill_router(&mut self, router: usize) {
        let Some(process) = self.routers[router].process.take() else { return };
        self.note(|| format!("r{router} {:?} dies", process.life));
        self.faults.count(Fault::RouterCrashed);
        let copy = self.routers[router].disk.as_ref().map(|disk| disk.saved.revision);
        if process.revision() != copy {
            self.faults.count(Fault::DiskCopyOlder);
        }
        if let Some(why) = self.larger_share_on_disk(router, &process) {
            self.fail(format!("r{router}: {why}"));
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
        self.router_hears(router, life, Event::ManagerAttached);
        if let Some(before) = before.filter(|_| self.chaos && self.random.permille(150)) {
            self.replay(before, wire);
        }
    }

    pub(crate) fn router_detached(&mut self, router: usize, life: Life, wire: WireId) {
        let Some(process) = self.process(router, life).filter(|process| process.config == Some(wire)) else { return };
        process.config = None;
        self.router_hears(router, life, Event::ManagerDetached);
        self.after_millis(20, 800, Happening::DialManager(router, life));
    }

    pub(crate) fn router_obeys(&mut self, router: usize, life: Life, wire: WireId, sent: Sent) {
        let Sent { sender, directive, difference } = sent;
        let Some(process) = self.process(router, life).filter(|process| process.config == Some(wire)) else { return };
        let arrived = difference.map(|difference| difference.on(|base| process.fleet.held(base).cloned()));
        let said = match arrived.transpose() {
            Ok(content) => with_content(directive, content),
            Err(NotArrived::BaseNotHeld(_)) => {
                // The next stream says what is held.
                self.faults.count(Fault::BaseNotHeld);
                return self.break_wire(wire);
            }
            Err(NotArrived::Refused(refusal)) => {
                return self.fail(format!("r{router} cannot put together what it was sent: {refusal}"));
            }
        };
        if let Some(answer) = self.not_understood(&said) {
            return self.router_says(router, life, answer);
        }
        let stale = self.checker.is_stale(life, &sender);
        let now = self.now;
        let Some(process) = self.process(router, life) else { return };
        if !stale {
            process.sender = Some(sender.clone());
        }
        process.fleet.handle(now, Event::Directed { sender: sender.clone(), directive: said });
        if stale {
            self.faults.count(Fault::StaleDirective);
        }
        self.router_acts(router, life, Some(sender).filter(|_| stale));
    }

    pub(crate) fn fleet_wakes(&mut self, router: usize) {
        let Some(process) = &self.routers[router].process else { return };
        let life = process.life;
        if process.fleet.attempt().is_some_and(|(_, until)| until <= self.now) {
            self.faults.count(Fault::LeaseExpired);
        }
        self.router_hears(router, life, Event::Tick);
    }

    pub(crate) fn router_hears(&mut self, router: usize, life: Life, event: Event) {
        let now = self.now;
        let Some(process) = self.process(router, life) else { return };
        process.fleet.handle(now, event);
        self.router_acts(router, life, None);
    }

    /// Carries out the effects in order; the process may die between any two. `stale`: the message came from a manager
    /// that is not the youngest.
    fn router_acts(&mut self, router: usize, life: Life, stale: Option<Sender>) {
        while let Some(effect) = self.process(router, life).and_then(|process| process.fleet.poll_effect()) {
            if let (Some(sender), Effect::FindReferences { .. } | Effect::Swapping { .. }) = (&stale, &effect) {
                self.fail(format!("r{router} obeys {sender:?}, which is not the youngest it has heard: {effect:?}"));
            }
            self.router_does(router, life, effect);
            if self.chaos && self.random.below(10_000) == 0 {
                self.faults.count(Fault::CrashedInBetween);
                self.kill_router(router);
            }
        }
        let (now, serial) = (self.now, self.serial());
        self.check_overlay(router);
        let Some(process) = self.process(router, life) else { return };
        if let Some(copy) = process.fleet.take_copy(now) {
            process.saving = Some((serial, copy, process.heard.clone()));
            self.after_millis(1, 120, Happening::Saved(router, life, serial));
        }
    }

    fn router_does(&mut self, router: usize, life: Life, effect: Effect) {
        match effect {
            Effect::Tell(report) => self.router_says(router, life, report),
            Effect::FindReferences { attempt, endpoints, .. } => {
                let secretless = &self.routers[router].secretless;
                let lacks = |(id, transport): &(BackendId, Transport)| secretless.contains(&Server::of(id, transport));
                let missing = endpoints.iter().find(|one| lacks(one)).map(|(id, _)| id.to_string());
                self.slowly(250, Happening::References(router, life, attempt, missing));
            }
            Effect::Swapping { revision } => self.note(|| format!("r{router} goes to {revision}")),
            Effect::Act(act) => self.act_on(router, life, act),
            Effect::Publish { swap, by_file } => self.publish(router, swap, by_file),
            Effect::Depart(effect) => self.departs(router, effect),
        }
    }

    /// Schedules it within so many milliseconds, or in a bad case later than votes may come.
    fn slowly(&mut self, millis: u64, happening: Happening) {
        if self.chaos && self.random.permille(30) {
            self.faults.count(Fault::VoteSlow);
            self.after_millis(4000, 8000, happening);
        } else {
            self.after_millis(1, millis, happening);
        }
    }

    fn act_on(&mut self, router: usize, life: Life, act: Act) {
        let Some(process) = &mut self.routers[router].process else { return };
        match act {
            Act::Create { serial, key, spec, .. } => {
                let server = Server::of(&key.backend, &spec.transport);
                process.endpoints.insert(serial, Endpoint::new(key, server));
            }
            Act::BringUp { serial, .. } => self.slowly(250, Happening::BroughtUp(router, life, serial)),
            Act::List { serial } => self.after_millis(1, 50, Happening::Listed(router, life, serial)),
            Act::Verdict { serial, verdict } => {
                if let Some(endpoint) = process.endpoints.get_mut(&serial) {
                    endpoint.verdict = verdict;
                }
            }
            Act::Restart { serial, .. } => self.after_millis(1, 100, Happening::Lost(router, life, serial)),
            Act::NotListed { .. } | Act::Limit { .. } => {}
            Act::ShutDown { serial } => {
                let ended = process.endpoints.remove(&serial);
                if let Some(endpoint) = ended.filter(|endpoint| endpoint.word.in_flight() > 0) {
                    self.fail(format!("r{router} ends {} with {} in flight", endpoint.key, endpoint.word.in_flight()));
                }
                self.after_millis(1, 200, Happening::Ended(router, life, serial));
            }
        }
    }

    pub(crate) fn brought_up(&mut self, router: usize, life: Life, serial: Serial) {
        let Some(process) = self.process(router, life) else { return };
        let server = process.endpoints.get(&serial).map(|endpoint| endpoint.server);
        let Router { down, secretless, .. } = &self.routers[router];
        let result = match server {
            Some(server) if down.contains(&server) || secretless.contains(&server) => Err(Reason::own("down")),
            Some(server) => Ok(offered(server)),
            None => Err(Reason::own("not wanted any more")),
        };
        self.router_hears(router, life, Event::BroughtUp { serial, result });
    }

    pub(crate) fn listed(&mut self, router: usize, life: Life, serial: Serial) {
        let Some(process) = self.process(router, life) else { return };
        let server = process.endpoints.get(&serial).map(|endpoint| endpoint.server);
        let result = server.map(offered).ok_or_else(|| "it is gone".to_owned());
        self.router_hears(router, life, Event::Listed { serial, result });
    }

    /// The server's process has ended: the exchanges in flight on it end, too.
    pub(crate) fn server_lost(&mut self, router: usize, life: Life, serial: Serial) {
        let Some(endpoint) = self.process(router, life).and_then(|process| process.endpoints.get(&serial)) else {
            return;
        };
        for exchange in endpoint.exchanges.clone() {
            self.after_millis(0, 3, Happening::Leaves(exchange));
        }
        self.router_hears(router, life, Event::Lost { serial, reason: Reason::own("lost") });
    }

    fn router_says(&mut self, router: usize, life: Life, report: Report) {
        match &report {
            Report::Vote { verdict: Err(_), .. } => self.faults.count(Fault::VoteNo),
            Report::Nack { .. } => self.faults.count(Fault::OfferRefused),
            Report::Vote { .. } | Report::Hello { .. } | Report::Ack { .. } => {}
        }
        if let Report::Ack { revision, .. } = &report
            && self.process(router, life).and_then(|process| process.revision()) < Some(*revision)
        {
            self.fail(format!("r{router} acknowledges {revision}, which is not live there"));
        }
        if let Some(wire) = self.process(router, life).and_then(|process| process.config) {
            self.send(wire, Way::Up, Message::Report(report));
        }
    }

    /// A directive that no router can follow is refused as it arrives, before any core decides.
    fn not_understood(&self, said: &Directive) -> Option<Report> {
        let cursed = |content: &Content| self.contents.known(&content.digest).is_cursed();
        let refusal = Refusal::Feature("a curse".into());
        match said {
            Directive::Prepare { attempt, content, .. } if cursed(content) => {
                Some(Report::Vote { attempt: *attempt, verdict: Err(refusal), found: Findings::default() })
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

    fn publish(&mut self, router: usize, swap: bool, by_file: bool) {
        let Some(process) = &mut self.routers[router].process else { return };
        let (life, before) = (process.life, process.turn.take());
        let made = before.as_ref().map(|(_, turn)| Before { table: &turn.table, catalogs: &turn.catalogs });
        let endpoints = &process.endpoints;
        let Some(turn) = process.fleet.turn(by_file, made, |serial| endpoints.contains_key(&serial).then_some(serial))
        else {
            return self.fail(format!("r{router} publishes nothing"));
        };
        let (revision, digest) = (turn.revision, turn.content.digest);
        let served: BTreeSet<Serial> = turn
            .table
            .backends()
            .iter()
            .flat_map(|one| &one.variants)
            .flat_map(|one| &one.endpoints)
            .copied()
            .collect();
        process.turn = Some((before.map_or(1, |(number, _)| number + 1), turn));
        let known = self.contents.known(&digest);
        for (key, _) in &known.servers {
            let again = process.closed.contains(key);
            let Some(serial) = process.fleet.roster().members().get(key).map(|member| member.serial) else { continue };
            if let Some(endpoint) = process.endpoints.get_mut(&serial).filter(|_| served.contains(&serial)) {
                endpoint.born.get_or_insert((revision, again));
            } else {
                return self.fail(format!("r{router} has {revision} live, and not {key} of it"));
            }
        }
        let log = process.sender.as_ref().map(|sender| sender.log.clone());
        if let Some(why) = log.filter(|_| swap).and_then(|log| self.checker.goes_live(life, &log, revision, digest)) {
            self.fail(format!("r{router}: {why}"));
        }
        self.note(|| format!("r{router} serves {revision}: {digest:?}"));
    }

    pub(crate) fn saved(&mut self, router: usize, life: Life, serial: u64) {
        let Some(process) = self.process(router, life) else { return };
        let Some((_, copy, overlay)) = process.saving.take_if(|(newest, ..)| *newest == serial) else { return };
        let written = copy.overlay.clone();
        self.routers[router].disk = Some(copy);
        self.routers[router].disk_overlay = overlay;
        self.router_hears(router, life, Event::Copied { overlay: written });
    }

    pub(crate) fn has_disk_copy(&self, router: usize) -> bool {
        self.routers[router].disk.is_some()
    }

    /// Whether every router that can have the head has it, with all its servers, and says so on a stream.
    pub(crate) fn all_have(&self, revision: Revision, known: &Known) -> Result<(), String> {
        for router in &self.routers {
            let Some(process) = &router.process else { return Err(format!("r{} is not running", router.index)) };
            let at = process.turn.as_ref().map(|(_, turn)| (turn.revision, turn.content.digest));
            if !known.is_cursed() && at != Some((revision, known.content.digest)) {
                return Err(format!("r{} is at {at:?}, not {revision}", router.index));
            }
            if process.config.is_none() || process.drains.is_none() {
                return Err(format!("r{} is not attached", router.index));
            }
            let roster = process.fleet.roster();
            let live = roster.layout().into_iter().flat_map(|layout| layout.keys());
            let up = |key| roster.members().get(key).is_some_and(|member| member.state.is_up());
            if let Some(key) = live.into_iter().find(|key| !up(*key)) {
                return Err(format!("{key} is not up in r{}", router.index));
            }
        }
        Ok(())
    }
}

/// The directive with the content that arrived.
fn with_content(said: Directive, arrived: Option<Content>) -> Directive {
    match (said, arrived) {
        (Directive::Prepare { attempt, lease, .. }, Some(content)) => Directive::Prepare { attempt, content, lease },
        (Directive::Offer { revision, .. }, Some(content)) => Directive::Offer { revision, content },
        (said, _) => said,
    }
}

/// A tool that every version has, and one that is named by the version.
fn offered(server: Server) -> Offered {
    let tool = |name: &str| format!(r#"{{"name":"{name}","inputSchema":{{"type":"object"}}}}"#);
    let tools = [tool("any"), tool(&own_tool(server))];
    Offered::of(Kind::Tool, tools.map(|tool| Item::parse(Kind::Tool, &tool).expect("a tool")))
}

/// The name of the tool that no other version has.
pub(crate) fn own_tool(server: Server) -> String {
    format!("v{}", server.version)
}
