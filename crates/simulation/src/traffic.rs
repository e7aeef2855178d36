//! Clients' exchanges, and the departures of the endpoints they are on.

use std::time::Duration;

use drain::departures::{Effect, Event, Seen};
use drain::{Count, Departure, DrainId, Phase};
use model::{EndpointKey, Revision};

use crate::router::{Endpoint, Process};
use crate::wire::{Message, Peer, Way, WireId};
use crate::world::{Happening, Life, World};

#[derive(Debug)]
pub(crate) struct Exchange {
    router: usize,
    life: Life,
    /// By which it is routed; the one that admitted it, once it is.
    revision: Revision,
    endpoint: EndpointKey,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Routed,
    InFlight,
    Evicted,
}

/// Of all exchanges that ever came: each ends in exactly one way.
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
        let Some(generation) = &process.generation else {
            if copy {
                self.fail(format!("r{router} has a disk copy and serves nothing"));
            }
            return;
        };
        let (life, revision) = (process.life, generation.revision);
        let Some((endpoint, _)) = self.random.pick(&generation.known.servers).cloned() else { return };
        let exchange = self.serial();
        self.exchanges.insert(exchange, Exchange { router, life, revision, endpoint, state: State::Routed });
        let at = self.now + self.random.micros(0, 300);
        self.at(at, Happening::Enters(exchange));
    }

    /// The admission fixes the revision: if another one is live by now, it is routed anew.
    pub(crate) fn enters(&mut self, id: u64) {
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        let router = exchange.router;
        let process = self.routers[router].process.as_mut().filter(|process| process.life == exchange.life);
        let Some((generation, process)) = process.and_then(|process| Some((process.generation.take()?, process)))
        else {
            return;
        };
        if generation.revision != exchange.revision {
            exchange.revision = generation.revision;
            let mut servers = generation.known.servers.iter();
            let same = servers.find(|(key, _)| key.backend == exchange.endpoint.backend);
            let same = same.map(|(key, _)| key.clone());
            process.generation = Some(generation);
            match same {
                Some(key) => exchange.endpoint = key,
                None => return self.turned_away(id),
            }
            return self.enters(id);
        }
        process.generation = Some(generation);
        let Some(endpoint) = process.endpoints.get_mut(&exchange.endpoint) else {
            let why = format!("r{router} has no endpoint for {} of {}", exchange.endpoint, exchange.revision);
            return self.fail(why);
        };
        if !endpoint.word.enter() {
            let key = exchange.endpoint.clone();
            let meant = process.departures.overlay(self.now).iter().any(|cordon| cordon.backend == key.backend);
            if !meant {
                self.fail(format!("r{router} refuses an exchange for {key}, which is live and not cordoned"));
            }
            return self.turned_away(id);
        }
        endpoint.exchanges.insert(id);
        exchange.state = State::InFlight;
        if endpoint.cordoned {
            let why = format!("r{router} admits to {}, which is cordoned", exchange.endpoint);
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
        let Some(Exchange { router, life, endpoint: key, state, .. }) = self.exchanges.remove(&id) else { return };
        match state {
            State::Evicted => self.totals.evicted += 1,
            State::InFlight => self.totals.finished += 1,
            State::Routed => return,
        }
        let Some(endpoint) = self.process(router, life).and_then(|process| process.endpoints.get_mut(&key)) else {
            return self.fail(format!("an exchange on {key} outlived its endpoint"));
        };
        endpoint.exchanges.remove(&id);
        if endpoint.word.leave() {
            self.departs(router, Event::LastLeft { endpoint: key });
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

    pub(crate) fn departs(&mut self, router: usize, event: Event) {
        let now = self.now;
        let Some(process) = &mut self.routers[router].process else { return };
        process.departures.handle(now, event);
        loop {
            let Some(process) = &mut self.routers[router].process else { return };
            let Some(effect) = process.departures.poll_effect() else { return };
            let answer = match effect {
                Effect::Report(count) => {
                    self.reports(router, count);
                    None
                }
                Effect::Cordon { endpoint } => process.with(endpoint, |it| {
                    it.word.cordon();
                    it.cordoned = true;
                    true
                }),
                Effect::Count { endpoint } => process.with(endpoint, |_| true),
                Effect::Uncordon { endpoint } => {
                    let mut opened = true;
                    process.with(endpoint.clone(), |it| {
                        it.cordoned = false;
                        opened = it.word.uncordon();
                        false
                    });
                    if !opened {
                        self.fail(format!("r{router} opens {endpoint}, which is closed"));
                    }
                    None
                }
                Effect::Evict { endpoint } => {
                    self.evict(router, &endpoint);
                    None
                }
                Effect::TryClose { endpoint } => process.close(endpoint),
            };
            if let Some((process, answer)) = self.routers[router].process.as_mut().zip(answer) {
                process.departures.handle(now, answer);
            }
        }
    }

    fn evict(&mut self, router: usize, key: &EndpointKey) {
        let Some(process) = &mut self.routers[router].process else { return };
        let Some(endpoint) = process.endpoints.get_mut(key) else { return };
        let evicted: Vec<_> = endpoint.exchanges.iter().copied().collect();
        for id in evicted {
            let Some(exchange) = self.exchanges.get_mut(&id).filter(|exchange| exchange.state == State::InFlight)
            else {
                continue;
            };
            exchange.state = State::Evicted;
            if let Some(endpoint) = self.routers[router].process.as_mut().and_then(|p| p.endpoints.get_mut(key)) {
                endpoint.evicted += 1;
            }
            self.after_millis(0, 3, Happening::Leaves(id));
        }
    }

    fn reports(&mut self, router: usize, count: Count) {
        let Some(process) = &self.routers[router].process else { return };
        let wire = process.drains;
        if let Count::Departure(departure) = &count {
            let endpoint = process.endpoints.get(&departure.endpoint).filter(|endpoint| endpoint.is_meant(departure));
            let truth = endpoint.map_or(0, |endpoint| endpoint.exchanges.len() as u64);
            if let Some(why) = self.checker.reports(process.life, departure, truth) {
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
        let hello = Count::Hello { node: crate::config_manager::node(router), boot: format!("{life:?}") };
        self.send(wire, Way::Up, Message::Count(hello));
        self.departs(router, Event::Attached);
    }

    pub(crate) fn router_undrained(&mut self, router: usize, life: Life, wire: WireId) {
        let Some(process) = self.process(router, life).filter(|process| process.drains == Some(wire)) else { return };
        process.drains = None;
        self.departs(router, Event::Detached);
        self.after_millis(20, 800, Happening::DialCoordinator(router, life));
    }

    pub(crate) fn router_drains(&mut self, router: usize, life: Life, wire: WireId, directive: drain::Directive) {
        if self.process(router, life).is_some_and(|process| process.drains == Some(wire)) {
            self.departs(router, Event::Said(directive));
        }
    }

    /// Whether all that has left is gone, and nothing but time is left of what is in flight.
    pub(crate) fn departed(&self) -> Result<(), String> {
        for (i, router) in self.routers.iter().enumerate() {
            let Some(process) = &router.process else { continue };
            let live = process.generation.iter().flat_map(|generation| &generation.known.servers);
            let live: Vec<_> = live.map(|(key, _)| key).collect();
            if let Some(key) = process.endpoints.keys().find(|key| !live.contains(key)) {
                return Err(format!("{key} has not left r{i}"));
            }
        }
        Ok(())
    }
}

impl Endpoint {
    /// Whether what is in flight here is what that departure counts. One that opened again has exchanges that came
    /// later, and the end of an equal one before it may be said late.
    fn is_meant(&self, departure: &Departure) -> bool {
        let (born, again) = self.born;
        let this_one = match &departure.drain {
            DrainId::Removal { revision, .. } => *revision > born,
            DrainId::Admin { .. } => !again || !departure.phase.is_ended(),
        };
        self.cordoned && departure.phase != Phase::Reopened && this_one
    }
}

impl Process {
    /// Does something to an endpoint and answers with its counters, if asked to.
    fn with(&mut self, key: EndpointKey, act: impl FnOnce(&mut Endpoint) -> bool) -> Option<Event> {
        let endpoint = self.endpoints.get_mut(&key)?;
        let counted = act(endpoint);
        let seen = Seen { in_flight: endpoint.word.in_flight(), evicted: endpoint.evicted, oldest: None };
        counted.then_some(Event::Counted { endpoint: key, seen })
    }

    fn close(&mut self, key: EndpointKey) -> Option<Event> {
        if self.endpoints.get(&key)?.word.try_close() {
            self.endpoints.remove(&key);
            self.closed.insert(key.clone());
            return Some(Event::Closed { endpoint: key });
        }
        self.with(key, |_| true)
    }
}

/// How long the last exchange of a run may take to leave.
pub(crate) const LONGEST: Duration = Duration::from_secs(40);
