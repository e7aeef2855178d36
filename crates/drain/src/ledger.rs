//! The coordinator's end of drains: the counts of every router, added up and kept, and the drains that operators want.
//!
//! Routers report whole departures again and again, so nothing here depends on having heard everything. A router
//! whose stream broke goes on by itself and comes back with the same boot id. A router that does not come back in time,
//! or comes back as another process, is gone, and its exchanges in flight are lost. If it was only slow after all, its
//! next report puts the record right.
//!
//! Whatever the shell sends out after an [`Effect::Persist`] relies on it: the effects are carried out in order. Where
//! the disk refuses, only the answer to an operator and [`Directive::Recorded`] have to wait: no other message
//! promises that the record is on the disk.
//!
//! A weight that falls does so here, step by step: each step is durable before routers are told. The share of what a
//! revision removed falls in the routers, which say how far it is.
//!
//! A record says how long a drain was given, not when it ends: the clock may have been set between two processes of
//! the coordinator. With a new process each term, and the time until the next step, begins anew, for the coordinator and
//! for routers that never heard of it. A router that holds a cordon keeps its own earlier deadline, and its next report
//! corrects the coordinator.

mod entry;
mod falling;
mod operator;
mod removal;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use model::{DrainPolicy, EndpointKey, NodeId, Revision, Time, WallTime, Weight};

use crate::strategy::at_most;
use crate::{Count, Departure, Directive, DrainId, LiveEndpoint, OverlayEntry, Phase};

pub use entry::{Entry, Image, RouterId, RouterSummary, Share, State, Summary, Totals};
pub use falling::Falling;
pub use operator::{CancelError, StartError, Started, Wanted};
use removal::Staying;

/// One stream of a router; the shell never uses a number twice.
pub type Connection = u64;

#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly all are the large one, and none is kept")]
pub enum Event {
    /// A message of a router; its first message is a hello.
    Said {
        connection: Connection,
        count: Count,
    },
    /// That stream has ended.
    Detached {
        connection: Connection,
    },
    Tick,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Make [`Ledger::image`] durable before anything that follows.
    Persist,
    Tell {
        connection: Connection,
        directive: Directive,
    },
    /// End that stream, for a reason that an operator should read.
    Disconnect {
        connection: Connection,
        reason: &'static str,
    },
    /// The drain has changed in more than its remaining time.
    Changed {
        drain: Summary,
        /// It ended with this change.
        ended: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long a router may be away before its exchanges in flight count as lost.
    pub lost_after: Duration,
    /// Ended drains that are remembered.
    pub history: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { lost_after: Duration::from_secs(60), history: 256 }
    }
}

#[derive(Debug, Clone)]
pub struct Ledger {
    limits: Limits,
    /// One moment on both clocks, so that records can be dated.
    origin: (Time, WallTime),
    /// The latest moment at which anything was handled.
    latest: Time,
    last_number: u64,
    connections: BTreeMap<Connection, NodeId>,
    routers: BTreeMap<NodeId, Router>,
    drains: BTreeMap<DrainId, Entry>,
    /// Something durable changed since the last [`Effect::Persist`].
    dirty: bool,
    effects: VecDeque<Effect>,
}

#[derive(Debug, Clone, Default)]
struct Router {
    boot: String,
    connection: Option<Connection>,
    /// Since when there is no connection.
    away: Option<Time>,
    revision: Revision,
    /// Absent until the router has reported it.
    live: Option<BTreeMap<EndpointKey, DrainPolicy>>,
    /// Live ones from which not enough takes over for their share to fall.
    strained: BTreeSet<EndpointKey>,
    /// Those that a revision removed and that still get calls.
    stays: BTreeMap<EndpointKey, Staying>,
    /// Endpoints that left its live generation and whose departure has not been reported yet, with the last revision that
    /// had them, or else with the one that removed them.
    owed: BTreeMap<EndpointKey, Revision>,
}

impl Ledger {
    /// Goes on where `image` ended. Routers in it have as long to come back as if they had left just now, and drains
    /// that have not ended as long as if they had begun just now.
    #[must_use]
    pub fn new(now: Time, wall: WallTime, image: Image, limits: Limits) -> Self {
        let away = |id: RouterId| (id.node, Router { boot: id.boot, away: Some(now), ..Router::default() });
        let routers = image.routers.into_iter().map(away).collect();
        let drain = |entry: Entry| (entry.id.clone(), entry.begun_anew(wall));
        Self {
            limits,
            origin: (now, wall),
            latest: now,
            last_number: image.last_number,
            connections: BTreeMap::new(),
            routers,
            drains: image.drains.into_iter().map(drain).collect(),
            dirty: false,
            effects: VecDeque::new(),
        }
    }

    pub fn image(&self) -> Image {
        let id = |(node, router): (&NodeId, &Router)| RouterId { node: node.clone(), boot: router.boot.clone() };
        Image {
            last_number: self.last_number,
            routers: self.routers.iter().map(id).collect(),
            drains: self.drains.values().cloned().collect(),
        }
    }

    pub fn handle(&mut self, now: Time, event: Event) {
        match event {
            Event::Said { connection, count } => self.said(now, connection, count),
            Event::Detached { connection } => self.detached(now, connection),
            Event::Tick => {}
        }
        self.pass(now);
    }

    pub fn poll_effect(&mut self) -> Option<Effect> {
        if std::mem::take(&mut self.dirty) {
            return Some(Effect::Persist);
        }
        self.effects.pop_front()
    }

    /// When the next [`Event::Tick`] is due.
    pub fn next_deadline(&self) -> Option<Time> {
        let away = self.routers.values().filter_map(|router| router.away).map(|since| since + self.limits.lost_after);
        let late = self.drains.values().filter(|entry| entry.ended.is_none() && self.may_be_owed(entry));
        let late = late.map(|entry| self.time(entry.awaited)).filter(|at| *at > self.latest);
        let steps = self.drains.values().filter_map(|entry| Some(self.time(entry.next_step()?)));
        away.chain(late).chain(steps).min()
    }

    /// All drains, the latest first; those that have ended only if `all`.
    pub fn list(&self, now: Time, all: bool) -> Vec<Summary> {
        let shown = self.drains.values().filter(|entry| all || entry.ended.is_none() || entry.holds());
        let mut list: Vec<_> = shown.map(|entry| self.summary(now, entry)).collect();
        list.sort_by(|a, b| (b.started, &b.id).cmp(&(a.started, &a.id)));
        list
    }

    /// Routers whose streams are open.
    pub fn attached(&self) -> usize {
        self.connections.len()
    }

    fn said(&mut self, now: Time, connection: Connection, count: Count) {
        if let Count::Hello { node, boot } = count {
            return self.hello(now, connection, node, boot);
        }
        // A stream that was replaced, or that sent something before its hello, is ignored.
        let Some(node) = self.connections.get(&connection).cloned() else { return };
        match count {
            Count::Live { revision, endpoints } => {
                self.live(now, &node, revision, endpoints);
            }
            Count::Change { revision, come, gone } => {
                self.change(now, &node, revision, come, gone);
            }
            Count::Departure(departure) => self.departure(now, connection, &node, departure),
            Count::Hello { .. } => {}
        }
    }

    fn hello(&mut self, now: Time, connection: Connection, node: NodeId, boot: String) {
        if let Some(replaced) = self.routers.get(&node).and_then(|router| router.connection) {
            self.connections.remove(&replaced);
            let reason = "another stream speaks for that router now";
            self.effects.push_back(Effect::Disconnect { connection: replaced, reason });
        }
        if self.routers.get(&node).is_some_and(|router| router.boot != boot) {
            self.lose(now, &node);
        }
        let router = self.routers.entry(node.clone()).or_default();
        self.dirty |= router.boot != boot;
        router.boot = boot;
        router.connection = Some(connection);
        router.away = None;
        self.connections.insert(connection, node);
        let directive = self.overlay(now);
        self.effects.push_back(Effect::Tell { connection, directive });
    }

    fn detached(&mut self, now: Time, connection: Connection) {
        let Some(node) = self.connections.remove(&connection) else { return };
        if let Some(router) = self.routers.get_mut(&node) {
            router.connection = None;
            router.away = Some(now);
        }
    }

    fn live(&mut self, now: Time, node: &NodeId, revision: Revision, live: Vec<LiveEndpoint>) {
        let Some(router) = self.routers.get(node) else { return };
        let keys: BTreeSet<_> = live.iter().map(|live| &live.endpoint).collect();
        let gone = router.live().filter(|endpoint| !keys.contains(endpoint)).cloned().collect();
        self.change(now, node, revision, live, gone);
    }

    fn change(
        &mut self,
        now: Time,
        node: &NodeId,
        revision: Revision,
        come: Vec<LiveEndpoint>,
        gone: Vec<EndpointKey>,
    ) {
        let wall = self.wall(now);
        let Some(router) = self.routers.get_mut(node) else { return };
        let live = router.live.get_or_insert_default();
        let mut removals = BTreeSet::new();
        for endpoint in gone {
            if live.remove(&endpoint).is_some() {
                let stayed = router.stays.remove(&endpoint).map(|one| one.revision);
                removals.extend(stayed.map(|removed| (endpoint.clone(), removed)));
                router.owed.insert(endpoint, stayed.unwrap_or(router.revision));
            }
        }
        router.strained.retain(|endpoint| live.contains_key(endpoint));
        for LiveEndpoint { endpoint, policy, strained, stay } in come {
            router.owed.remove(&endpoint);
            router.strained.remove(&endpoint);
            router.strained.extend(strained.then(|| endpoint.clone()));
            let stayed = router.stays.remove(&endpoint).map(|one| one.revision);
            let stays = stay.map(|stay| Staying::new(wall, &stay));
            let revisions = stayed.into_iter().chain(stays.as_ref().map(|one| one.revision));
            removals.extend(revisions.map(|revision| (endpoint.clone(), revision)));
            router.stays.extend(stays.map(|one| (endpoint.clone(), one)));
            live.insert(endpoint, policy);
        }
        router.revision = revision;
        self.follow(now, removals);
        self.look_again(now);
    }

    fn departure(&mut self, now: Time, connection: Connection, node: &NodeId, departure: Departure) {
        if !departure.adds_up() {
            let reason = "its counts do not add up to their total";
            self.effects.push_back(Effect::Disconnect { connection, reason });
            return;
        }
        let Some(router) = self.routers.get_mut(node) else { return };
        let (drain, endpoint) = (departure.drain.clone(), departure.endpoint.clone());
        let paid = matches!(&drain, DrainId::Removal { revision, .. }
            if router.owed.get(&endpoint).is_some_and(|had| had <= revision));
        if paid {
            router.owed.remove(&endpoint);
        }
        let boot = router.boot.clone();
        let ended = departure.phase.is_ended();
        let wall = self.wall(now);
        let before = self.drains.get(&drain).map(|entry| self.summary(now, entry));
        // Routers that have still to remove the endpoint may give it longer than what is left here.
        let live = self.routers.values().filter_map(|router| router.live.as_ref()?.get(&endpoint));
        let remaining = live.map(at_most).fold(departure.remaining, Duration::max);
        if let DrainId::Admin { number, .. } = drain {
            self.last_number = self.last_number.max(number);
        }
        // Only an operator makes a drain hold. A drain that is not on record is history: the overlay lifts it.
        let lifted = (!drain.is_removal()).then_some(wall);
        let new =
            || Entry { cancelled: lifted, ..Entry::new(drain.clone(), endpoint.backend.clone(), wall, remaining) };
        let entry = self.drains.entry(drain.clone()).or_insert_with(new);
        entry.correct(wall, &departure);
        self.dirty |= entry.merge(node, &boot, departure);
        self.settle(now, &drain, before);
        if paid {
            // The endpoint may have left under the number of a later revision than in other routers.
            self.look_again(now);
        }
        if ended {
            let directive = Directive::Recorded { drain, endpoint };
            self.effects.push_back(Effect::Tell { connection, directive });
        }
    }

    /// The process that was `node` is gone, with all its exchanges in flight.
    fn lose(&mut self, now: Time, node: &NodeId) {
        let Some(router) = self.routers.remove(node) else { return };
        self.dirty = true;
        self.note_gone(node, &router);
        let stays = router.stays.iter().map(|(endpoint, one)| (endpoint.clone(), one.revision));
        self.follow(now, stays.collect());
        for id in self.drains.keys().cloned().collect::<Vec<_>>() {
            let before = self.drains.get(&id).map(|entry| self.summary(now, entry));
            let Some(entry) = self.drains.get_mut(&id) else { continue };
            if entry.lose(node, &router.boot) {
                self.settle(now, &id, before);
            }
        }
        self.look_again(now);
    }

    fn pass(&mut self, now: Time) {
        self.latest = now;
        self.step(now);
        let lost_after = self.limits.lost_after;
        let gone = |router: &Router| router.away.is_some_and(|since| since + lost_after <= now);
        let gone: Vec<_> =
            self.routers.iter().filter(|(_, router)| gone(router)).map(|(node, _)| node.clone()).collect();
        for node in gone {
            self.lose(now, &node);
        }
        let late = |entry: &Entry| entry.ended.is_none() && entry.awaited <= self.wall(now);
        if self.drains.values().any(late) {
            self.look_again(now);
        }
        self.forget();
    }

    /// Looks again at each open drain: what it waits for may have changed without a report about it.
    fn look_again(&mut self, now: Time) {
        let open: Vec<_> = self.drains.values().filter(|entry| entry.ended.is_none()).map(|e| e.id.clone()).collect();
        for id in open {
            let before = self.drains.get(&id).map(|entry| self.summary(now, entry));
            self.settle(now, &id, before);
        }
    }

    /// Dates the end of a drain, or takes it back when a router still had exchanges, and reports the change.
    fn settle(&mut self, now: Time, id: &DrainId, before: Option<Summary>) {
        let Some(entry) = self.drains.get(id) else { return };
        let weighted = entry.holds() && !entry.weight.is_none();
        let over = !weighted && entry.shares.iter().all(Share::is_over) && !self.waits(now, entry);
        let wall = self.wall(now);
        let ended = over.then(|| entry.ended.unwrap_or(wall));
        self.dirty |= ended != entry.ended;
        let just_ended = ended.is_some() && entry.ended.is_none();
        let entry = self.drains.get_mut(id).expect("it was there a line ago");
        entry.ended = ended;
        if just_ended && id.is_removal() && entry.shares.is_empty() {
            // A later revision has the endpoint again, before any router cordoned it.
            entry.cancelled = ended;
        }
        let after = self.summary(now, &self.drains[id]);
        let (remaining, eta) = (after.remaining, after.eta);
        let same = |before: &Summary| Summary { remaining, eta, ..before.clone() } == after;
        if !before.as_ref().is_some_and(same) {
            self.effects.push_back(Effect::Changed { drain: after, ended: just_ended });
        }
    }

    /// Keeps the history within its bound. A drain that is not over, or still holds a cordon, is never forgotten.
    fn forget(&mut self) {
        let over = |entry: &Entry| entry.ended.filter(|_| !entry.holds()).map(|at| (at, entry.id.clone()));
        let mut ended: Vec<_> = self.drains.values().filter_map(over).collect();
        if ended.len() > self.limits.history {
            ended.sort_unstable();
            let excess = ended.len() - self.limits.history;
            for (_, id) in ended.drain(..excess) {
                self.drains.remove(&id);
            }
            self.dirty = true;
        }
    }

    /// Whether a router has still to send a report without which the numbers are incomplete.
    fn waits(&self, now: Time, entry: &Entry) -> bool {
        match &entry.id {
            DrainId::Removal { .. } => self.is_owed(entry) || entry.awaited > self.wall(now) && self.may_be_owed(entry),
            DrainId::Admin { .. } => self.routers.iter().any(|(node, router)| {
                let mut meant = router.live().filter(|endpoint| entry.means(endpoint));
                let open = |endpoint| !entry.share(node, &router.boot, endpoint).is_some_and(Share::is_over);
                entry.holds() && (router.live.is_none() || meant.any(open))
            }),
        }
    }

    /// All cordons and weights that hold, and the removals that an operator hurried.
    fn overlay(&self, now: Time) -> Directive {
        let hurried = |entry: &Entry| entry.id.is_removal() && entry.hurried && entry.ended.is_none();
        let said = self.drains.values().filter(|entry| entry.holds() || hurried(entry));
        let said = said.map(|entry| OverlayEntry {
            drain: entry.id.clone(),
            backend: entry.backend.clone(),
            endpoint: match &entry.id {
                DrainId::Removal { endpoint, .. } => Some(endpoint.digest),
                DrainId::Admin { .. } => entry.endpoint,
            },
            weight: if entry.id.is_removal() { Weight::NONE } else { entry.weight },
            remaining: self.remaining(now, entry),
            disabled: entry.disabled,
            rate: entry.falling.as_ref().map_or(0, |falling| falling.pace.rate.max(1)),
        });
        Directive::Overlay { entries: said.collect() }
    }

    fn summary(&self, now: Time, entry: &Entry) -> Summary {
        let open = || entry.shares.iter().filter(|share| !share.is_over());
        let state = match (entry.cancelled, entry.ended) {
            (Some(_), _) => State::Cancelled,
            (None, _) if entry.holds() && !entry.weight.is_none() && entry.falling.is_none() => State::Weighted,
            (None, Some(_)) => State::Done,
            (None, None) if open().any(|share| share.phase() == Phase::Evicting) => State::Evicting,
            (None, None) => State::Draining,
        };
        let runs = matches!(state, State::Draining | State::Evicting);
        let remaining = if runs { self.remaining(now, entry) } else { Duration::ZERO };
        let totals = entry.totals();
        Summary {
            id: entry.id.clone(),
            backend: entry.backend.clone(),
            endpoint: entry.endpoint,
            weight: entry.weight,
            strategy: entry.strategy,
            strained: entry.falling.as_ref().is_some_and(|falling| falling.strained) || self.waits_to_fall(entry),
            disabled: entry.disabled,
            actor: entry.actor.clone(),
            state,
            totals,
            started: entry.started,
            ended: entry.ended,
            remaining,
            eta: runs.then(|| entry.eta(self.wall(now), &totals)),
            oldest: open().chain(&entry.shares).find_map(|share| share.departure.oldest.clone()),
            routers: entry.routers(),
        }
    }

    fn remaining(&self, now: Time, entry: &Entry) -> Duration {
        entry.deadline.since(self.wall(now))
    }

    fn wall(&self, now: Time) -> WallTime {
        self.origin.1.after(now - self.origin.0)
    }

    fn time(&self, wall: WallTime) -> Time {
        self.origin.0 + wall.since(self.origin.1)
    }
}

impl Router {
    /// The endpoints that the router is known to have.
    fn live(&self) -> impl Iterator<Item = &EndpointKey> {
        self.live.iter().flat_map(BTreeMap::keys)
    }
}

#[cfg(test)]
mod strategy_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod weight_tests;
