//! Clients' exchanges, and the departures of the endpoints they are on.

use std::time::Duration;

use drain::departures::{Effect, Seen};
use drain::{Count, Departure, DrainId, Phase};
use fleet::{Event, Serial};
use mcp::Kind;
use model::{EndpointKey, Revision, Standing, Time, Verdict, Weight};
use routing::Load;

use crate::world::router::{Endpoint, Process, own_tool};
use crate::world::wire::{Message, Peer, Way, WireId};
use crate::world::{Happening, Life, World};

#[derive(Debug)]
pub(crate) struct Exchange {
    router: usize,
    life: Life,
    /// The tool, as clients see it.
    tool: Box<str>,
    /// The turn that routes the exchange; once it is admitted, the turn that admitted it.
    turn: u64,
    revision: Revision,
    endpoint: Serial,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Routed,
    InFlight,
    Evicted,
}

/// Counts of all exchanges that ever came: each ends in exactly one way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exchanges {
    pub admitted: u64,
    pub finished: u64,
    pub evicted: u64,
    /// In a router that was killed.
    pub lost: u64,
    /// Answered without a server: it has left, or an operator has cordoned it.
    pub turned_away: u64,
}

impl World {
    pub(crate) fn arrives(&mut self) {
        self.after_millis(5, if self.chaos { 150 } else { 1500 }, Happening::Arrives);
        let router = self.random.index(self.routers.len());
        let copy = self.has_disk_copy(router);
        let Some(process) = &self.routers[router].process else { return };
        let life = process.life;
        let Some((_, turn)) = &process.turn else {
            if copy {
                self.fail(format!("r{router} has a disk copy and serves nothing"));
            }
            return;
        };
        let Some(tool) = self.random.pick(turn.catalogs[Kind::Tool].entries()).map(|entry| entry.exposed.clone())
        else {
            return;
        };
        let exchange = self.serial();
        let route =
            Exchange { router, life, tool, turn: 0, revision: Revision::NONE, endpoint: 0, state: State::Routed };
        self.exchanges.insert(exchange, route);
        self.route(exchange);
    }

    /// Routes an exchange by what is served now.
    fn route(&mut self, id: u64) {
        let random = self.random.draw();
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        let process = self.routers[exchange.router].process.as_ref();
        let Some((number, turn)) = process.and_then(|process| process.turn.as_ref()) else { return };
        (exchange.turn, exchange.revision) = (*number, turn.revision);
        let endpoints = process.map(|process| &process.endpoints);
        let look = |serial: &Serial| {
            let endpoint = endpoints.and_then(|endpoints| endpoints.get(serial));
            Load {
                in_flight: endpoint.map_or(0, |one| u32::try_from(one.word.in_flight()).unwrap_or(u32::MAX)),
                verdict: endpoint.map_or(Verdict::Failing, |one| one.verdict),
                weight: endpoint.map_or(Weight::FULL, |one| one.weight),
                standing: standing(*serial, random),
                cordoned: endpoint.is_none_or(|one| one.word.state() != drain::State::Open),
            }
        };
        let route = turn.table.find(Kind::Tool, &exchange.tool);
        let routes = route.map(|route| (route, turn.table.backend(route)));
        let picked = routes.map(|(route, routes)| {
            let variants = routes.having[Kind::Tool].variants(route.item.name());
            (route, routes.pick(random, variants, |_| false, look))
        });
        match picked {
            // The tool is not in the configuration any more.
            None => self.turned_away(id),
            Some((_, None)) => self.refused(id),
            Some((route, Some(serial))) => {
                exchange.endpoint = *serial;
                let chosen = endpoints.and_then(|endpoints| endpoints.get(serial));
                let lacks = |one: &&Endpoint| route.item.name() != "any" && route.item.name() != own_tool(one.server);
                // What is not up yet may be asked for a tool of its predecessor.
                if let Some(one) = chosen.filter(|one| one.verdict.is_routable()).filter(lacks) {
                    let why = format!("r{} sends {} to {}", exchange.router, route.item.name(), one.key);
                    return self.fail(why);
                }
                let at = self.now + self.random.micros(0, 300);
                self.at(at, Happening::Enters(id));
            }
        }
    }

    /// No endpoint is open in the turn that routed the exchange, whatever its calls have done to its share: only an
    /// operator's cordon may be the reason.
    fn refused(&mut self, id: u64) {
        let Some(Exchange { router, tool, .. }) = self.exchanges.get(&id) else { return };
        let Some(process) = &self.routers[*router].process else { return };
        let table = process.turn.as_ref().map(|(_, turn)| &turn.table);
        let backend = table.and_then(|table| Some(&table.backend(table.find(Kind::Tool, tool)?).id));
        let cordons = process.overlay.iter().filter(|entry| entry.weight.is_none());
        if !backend.is_some_and(|backend| cordons.map(|cordon| &cordon.backend).any(|cordoned| cordoned == backend)) {
            self.fail(format!("r{router} refuses an exchange for {tool}, which is live and not cordoned"));
        }
        self.turned_away(id);
    }

    /// The admission fixes the revision. An exchange that finds its endpoint closed is routed anew, by a newer turn.
    pub(crate) fn enters(&mut self, id: u64) {
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        let router = exchange.router;
        let process = self.routers[router].process.as_mut().filter(|process| process.life == exchange.life);
        let Some(process) = process else { return };
        let Some(endpoint) = process.endpoints.get_mut(&exchange.endpoint).filter(|endpoint| endpoint.word.enter())
        else {
            let newest = process.turn.as_ref().is_some_and(|(number, _)| *number == exchange.turn);
            return if newest { self.refused(id) } else { self.route(id) };
        };
        endpoint.exchanges.insert(id);
        exchange.state = State::InFlight;
        if endpoint.cordoned {
            let why = format!("r{router} admits to {}, which is cordoned", endpoint.key);
            self.fail(why);
        }
        self.totals.admitted += 1;
        let takes = match self.random.below(20) {
            0 => self.random.millis(5_000, 40_000),
            1..4 => self.random.millis(500, 5_000),
            _ => self.random.millis(1, 200),
        };
        let at = self.now + takes;
        self.at(at, Happening::Leaves(id));
    }

    fn turned_away(&mut self, id: u64) {
        self.exchanges.remove(&id);
        self.totals.turned_away += 1;
    }

    pub(crate) fn leaves(&mut self, id: u64) {
        let Some(Exchange { router, life, endpoint: serial, state, .. }) = self.exchanges.remove(&id) else { return };
        match state {
            State::Evicted => self.totals.evicted += 1,
            State::InFlight => self.totals.finished += 1,
            State::Routed => return,
        }
        let Some(endpoint) = self.process(router, life).and_then(|process| process.endpoints.get_mut(&serial)) else {
            return self.fail(format!("an exchange of r{router} outlived its endpoint"));
        };
        endpoint.exchanges.remove(&id);
        if endpoint.word.leave() {
            let endpoint = endpoint.key.clone();
            self.router_hears(router, life, Event::LastLeft { endpoint });
        }
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.exchanges.values().filter(|exchange| exchange.state != State::Routed).count() as u64
    }

    pub(crate) fn lose_exchanges(&mut self, life: Life) {
        let of = |exchange: &Exchange| exchange.life == life;
        self.totals.lost += self.exchanges.values().filter(|e| of(e) && e.state != State::Routed).count() as u64;
        self.exchanges.retain(|_, exchange| !of(exchange));
    }

    pub(crate) fn departs(&mut self, router: usize, effect: Effect) {
        let now = self.now;
        let Some(process) = &mut self.routers[router].process else { return };
        match effect {
            Effect::Report(count) => self.reports(router, count),
            Effect::Cordon { endpoint } => {
                if let Some(it) = process.by_key(&endpoint) {
                    it.word.cordon();
                    it.cordoned = true;
                }
                process.count(now, endpoint);
            }
            Effect::Count { endpoint } => process.count(now, endpoint),
            Effect::Weigh { endpoint, weight } => {
                if weight.is_none() {
                    self.fail(format!("r{router} gives {endpoint} no weight and leaves it open"));
                } else if let Some(it) = process.by_key(&endpoint) {
                    it.weight = weight;
                }
            }
            // Exchanges here belong to no session.
            Effect::LetGo { .. } => {}
            Effect::Uncordon { endpoint } => {
                let opened = process.by_key(&endpoint).is_some_and(|it| {
                    it.cordoned = false;
                    it.word.uncordon()
                });
                if !opened {
                    self.fail(format!("r{router} opens {endpoint}, which is closed"));
                }
            }
            Effect::Evict { endpoint } => self.evict(router, &endpoint),
            Effect::TryClose { endpoint } => {
                if process.by_key(&endpoint).is_none_or(|it| it.word.try_close()) {
                    process.closed.insert(endpoint.clone());
                    process.fleet.handle(now, Event::Closed { endpoint });
                } else {
                    process.count(now, endpoint);
                }
            }
        }
    }

    fn evict(&mut self, router: usize, key: &EndpointKey) {
        let Some(endpoint) = self.routers[router].process.as_mut().and_then(|process| process.by_key(key)) else {
            return;
        };
        let mut ends = Vec::new();
        for id in &endpoint.exchanges {
            if let Some(exchange) = self.exchanges.get_mut(id).filter(|exchange| exchange.state == State::InFlight) {
                exchange.state = State::Evicted;
                endpoint.evicted += 1;
                ends.push(*id);
            }
        }
        for id in ends {
            self.after_millis(0, 3, Happening::Leaves(id));
        }
    }

    fn reports(&mut self, router: usize, count: Count) {
        let now = self.now;
        let Some(process) = &mut self.routers[router].process else { return };
        let (wire, life) = (process.drains, process.life);
        if let Count::Departure(departure) = &count {
            let endpoint = process.by_key(&departure.endpoint).filter(|endpoint| endpoint.is_meant(departure));
            let truth = endpoint.map_or(0, |endpoint| endpoint.exchanges.len() as u64);
            // Of several drains of one endpoint, one counts each exchange.
            let others = process.fleet.departures(now);
            let others = others.iter().filter(|one| one.endpoint == departure.endpoint && one.drain != departure.drain);
            let others: u64 = others.map(|one| one.in_flight).sum();
            if let Some(why) = self.checker.reports(life, departure, truth.saturating_sub(others)) {
                self.fail(format!("r{router} {why}"));
            }
        }
        if let Some(wire) = wire {
            self.send(wire, Way::Up, Message::Count(count));
        }
    }

    pub(crate) fn dial_coordinator(&mut self, router: usize, life: Life) {
        if self.process(router, life).is_none_or(|process| process.drains.is_some()) {
            return;
        }
        let Some(peer) = self.coordinator.life() else {
            return self.after_millis(100, 800, Happening::DialCoordinator(router, life));
        };
        let wire = self.dial(router, life, Peer::Coordinator(peer));
        if let Some(process) = self.process(router, life) {
            process.drains = Some(wire);
        }
        let hello = Count::Hello { node: crate::world::config_manager::node(router), boot: format!("{life:?}") };
        self.send(wire, Way::Up, Message::Count(hello));
        self.router_hears(router, life, Event::CoordinatorAttached);
    }

    pub(crate) fn router_undrained(&mut self, router: usize, life: Life, wire: WireId) {
        let Some(process) = self.process(router, life).filter(|process| process.drains == Some(wire)) else { return };
        process.drains = None;
        self.router_hears(router, life, Event::CoordinatorDetached);
        self.after_millis(20, 800, Happening::DialCoordinator(router, life));
    }

    pub(crate) fn router_drains(&mut self, router: usize, life: Life, wire: WireId, directive: drain::Directive) {
        // Now and then an older coordinator.
        let takes_changes = !self.random.permille(200);
        let heard = |world: &mut Self| world.process(router, life).is_some_and(|process| process.drains == Some(wire));
        if takes_changes && heard(self) {
            self.router_hears(router, life, Event::CoordinatorTakesChanges);
        }
        if let Some(process) = self.process(router, life).filter(|process| process.drains == Some(wire)) {
            if let drain::Directive::Overlay { entries } = &directive {
                process.heard.clone_from(entries);
            }
            self.router_hears(router, life, Event::CoordinatorSaid(directive));
        }
    }

    /// Whether every endpoint that has left is gone, and exchanges in flight need nothing but time.
    pub(crate) fn departed(&self) -> Result<(), String> {
        for (i, router) in self.routers.iter().enumerate() {
            let Some(process) = &router.process else { continue };
            let live = process.fleet.roster().layout();
            let gone = |endpoint: &&Endpoint| live.is_none_or(|live| !live.has(&endpoint.key));
            if let Some(endpoint) = process.endpoints.values().find(gone) {
                return Err(format!("{} has not left r{i}", endpoint.key));
            }
        }
        Ok(())
    }
}

impl Endpoint {
    /// Whether the exchanges in flight here are those that the departure counts. An endpoint that opened again has
    /// later exchanges, and the end of an equal endpoint before it may be reported late.
    fn is_meant(&self, departure: &Departure) -> bool {
        let Some((born, again)) = self.born else { return false };
        let this_one = match &departure.drain {
            DrainId::Removal { revision, .. } => *revision > born,
            DrainId::Admin { .. } => !again || !departure.phase.is_ended(),
        };
        self.cordoned && departure.phase != Phase::Reopened && this_one
    }
}

impl Process {
    /// Reports the counters of an endpoint.
    fn count(&mut self, now: Time, endpoint: EndpointKey) {
        let seen =
            self.by_key(&endpoint).map(|it| Seen { in_flight: it.word.in_flight(), evicted: it.evicted, oldest: None });
        self.fleet.handle(now, Event::Counted { endpoint, seen: seen.unwrap_or_default() });
    }
}

/// What calls have done to the endpoint's share, as chance has it: no exchange may be refused for that.
fn standing(endpoint: Serial, random: u64) -> Standing {
    let standings = [Standing::Full, Standing::Growing(Weight::TENTH), Standing::OnTrial, Standing::Ejected];
    let [low, ..] = (random ^ endpoint.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes();
    standings[usize::from(low) % standings.len()]
}

/// How long the last exchange of a run may take to leave.
pub(crate) const LONGEST: Duration = Duration::from_secs(40);
