//! The router's immutable routing value, and the one place where it is published.
//!
//! A call loads the generation, finds its endpoint and is admitted there. From then on the call holds the endpoint and
//! the number of the revision, never the generation, so old generations cost nothing.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use fleet::{Arrival, Turn};
use mcp::{ByKind, Catalog, Item, Kind};
use model::{Backend, BackendId, Revision, Snapshot, Verdict};
use routing::{BackendRoutes, Load, Route, RouteTable, Variants};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::call::TimeLimits;
use crate::endpoint::{Absence, Endpoint, Lease};
use crate::session::Homes;

/// One revision with what its servers offer at one moment. A change of what they offer makes a new turn of the same
/// revision.
#[derive(Debug)]
pub(crate) struct Generation {
    /// 0: nothing was ever live here.
    pub revision: Revision,
    /// Grows with each generation of this process.
    pub turn: u64,
    /// The turns since which clients see these lists.
    pub list_turns: ByKind<u64>,
    pub snapshot: Arc<Snapshot>,
    pub table: RouteTable<Arc<Endpoint>>,
    /// The lists, rendered.
    pub catalogs: ByKind<Arc<Catalog>>,
    /// What the servers say about themselves, for `initialize`.
    pub instructions: Option<String>,
    /// Per enabled backend, in the order of the snapshot.
    pub(crate) arrivals: Box<[Arrival]>,
}

/// The endpoint that has admitted a call.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub lease: Lease,
    /// What is called, as its server lists it.
    pub item: Arc<Item>,
    pub backend: BackendId,
    /// The limits of the revision that admitted the call.
    pub limits: TimeLimits,
}

/// How an operator keeps a server from calls.
fn kept_off(disabled: bool) -> &'static str {
    if disabled { "disabled by an operator" } else { "drained" }
}

/// Why a call has no endpoint. The revision is the one that refused the call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unroutable {
    /// `arriving`: a server is on its way, and it is not known yet what it offers.
    #[error("unknown {}", kind.noun())]
    Unknown { revision: Revision, kind: Kind, arriving: bool },
    /// No endpoint of the server is up yet, and a first attempt is under way; or, with `after_old`, the server waits
    /// for its old copy to end.
    #[error("server `{backend}` is starting")]
    Arriving { revision: Revision, backend: BackendId, after_old: bool },
    /// An operator has drained the server, or switched it off (`disabled`).
    #[error("server `{backend}` is {} and takes no calls", kept_off(*disabled))]
    Cordoned { revision: Revision, backend: BackendId, disabled: bool },
    /// There never was a configuration here, so it is not known what there is.
    #[error("no configuration is live yet")]
    NothingLive,
    /// Other calls have taken the call's share of the memory.
    #[error("{text}")]
    NoRoom { revision: Revision, text: Box<str> },
}

impl Unroutable {
    #[must_use]
    pub(crate) fn revision(&self) -> Revision {
        match self {
            Self::Unknown { revision, .. }
            | Self::Arriving { revision, .. }
            | Self::Cordoned { revision, .. }
            | Self::NoRoom { revision, .. } => *revision,
            Self::NothingLive => Revision::NONE,
        }
    }

    /// The server, as far as it is known.
    pub(crate) fn backend(&self) -> Option<&BackendId> {
        match self {
            Self::Arriving { backend, .. } | Self::Cordoned { backend, .. } => Some(backend),
            Self::Unknown { .. } | Self::NothingLive | Self::NoRoom { .. } => None,
        }
    }

    /// For the error's `data`: when another call may succeed, if that is known.
    pub(crate) fn hint(&self) -> Option<String> {
        let Self::Arriving { .. } = self else { return None };
        Absence::Coming.hint().map(|hint| format!(r#"{{"{}":{}}}"#, Absence::HINT, hint.as_millis()))
    }

    /// Whether a later generation may soon answer otherwise.
    #[must_use]
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::Unknown { arriving: true, .. } | Self::Arriving { .. })
    }
}

/// How many generations a call tries before it accepts that everything is cordoned. Each try but the first is caused by
/// a publication in the very moment before.
const LOOKS: usize = 8;

/// The live generation, for the data cores. Only `control::publisher` publishes.
#[derive(Debug)]
pub(crate) struct Live {
    generation: ArcSwap<Generation>,
    turns: watch::Sender<u64>,
    list_turns: watch::Sender<ByKind<u64>>,
}

impl Live {
    pub(crate) fn new() -> Self {
        Self {
            generation: ArcSwap::from_pointee(Generation::nothing()),
            turns: watch::Sender::new(0),
            list_turns: watch::Sender::new(ByKind::default()),
        }
    }

    /// For one short access. Does not block the fleet; do not hold the guard over an `await`.
    pub(crate) fn load(&self) -> arc_swap::Guard<Arc<Generation>> {
        self.generation.load()
    }

    /// Ticks with each generation.
    pub(crate) fn turns(&self) -> watch::Receiver<u64> {
        self.turns.subscribe()
    }

    /// Ticks when clients see another list than before, with [`Generation::list_turns`].
    pub(crate) fn list_turns(&self) -> watch::Receiver<ByKind<u64>> {
        self.list_turns.subscribe()
    }

    /// Returns the previous generation. It is not small: drop it when no client waits.
    pub(crate) fn publish(&self, mut generation: Generation) -> Arc<Generation> {
        let turn = generation.turn;
        let before = self.generation.load();
        generation.list_turns = ByKind::from_fn(|kind| {
            let same = before.catalogs[kind].same_list(&generation.catalogs[kind]);
            if same { before.list_turns[kind] } else { turn }
        });
        let (lists, same) = (generation.list_turns, generation.list_turns == before.list_turns);
        drop(before);
        let before = self.generation.swap(Arc::new(generation));
        if !same {
            self.list_turns.send_replace(lists);
        }
        self.turns.send_replace(turn);
        before
    }

    /// Finds the endpoint of a request for the `kind` that is called `exposed`, and enters it. `random` decides among
    /// equal endpoints, unless the session has its home at one of them; `idle` says whether the session has no call there.
    /// Allocates only where a session moves.
    ///
    /// # Errors
    /// [`Unroutable`]; if the refusal may pass, [`Live::admit_within`] waits.
    pub(crate) fn admit(
        &self,
        kind: Kind,
        exposed: &str,
        random: u64,
        homes: &Homes,
        idle: impl Fn(u64) -> bool,
    ) -> Result<Admitted, Unroutable> {
        let mut seen = None;
        let mut refused = None;
        for _ in 0..LOOKS {
            let generation = self.generation.load();
            if seen.replace(generation.turn) == Some(generation.turn) {
                break;
            }
            // A server that is drained right now may be open in a newer generation.
            match generation.admit(kind, exposed, random, homes, &idle, look) {
                Err(cordoned @ Unroutable::Cordoned { .. }) => refused = Some(cordoned),
                done => return done,
            }
        }
        Err(refused.expect("the first look leads to an answer or to a refusal"))
    }

    /// As [`Live::admit`], for a call that did not reach `gone`: enters another endpoint of the same server, if one is
    /// up.
    pub(crate) fn elsewhere(
        &self,
        kind: Kind,
        exposed: &str,
        random: u64,
        homes: &Homes,
        gone: &Admitted,
    ) -> Option<Admitted> {
        let generation = self.generation.load();
        let route = generation.table.find(kind, exposed)?;
        if generation.table.backend(route).id != gone.backend {
            return None;
        }
        let look = |endpoint: &Arc<Endpoint>| {
            let load = look(endpoint);
            let is_there = endpoint.number != gone.lease.endpoint.number && endpoint.can_be_reached();
            Load { cordoned: load.cordoned || !is_there, ..load }
        };
        generation.admit(kind, exposed, random, homes, &|_| false, look).ok()
    }

    /// As [`Live::admit`], waiting for servers that are on their way, each for as long as its connecting may take, or as
    /// calls are held for it. The call has waited for `waited` already.
    ///
    /// # Errors
    /// The last [`Unroutable`] when time is up.
    pub(crate) async fn admit_within(
        &self,
        kind: Kind,
        exposed: &str,
        random: u64,
        homes: &Homes,
        idle: impl Fn(u64) -> bool,
        waited: Duration,
    ) -> Result<Admitted, Unroutable> {
        let begun = Instant::now();
        let mut turns = self.turns.subscribe();
        loop {
            turns.mark_unchanged();
            let refused = match self.admit(kind, exposed, random, homes, &idle) {
                Err(refused) if refused.may_pass() => refused,
                done => return done,
            };
            let within = self.load().patience(refused.backend()).saturating_sub(waited);
            match tokio::time::timeout_at(begun + within, turns.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(refused),
            }
        }
    }

    /// Returns once a server has answered, or there is none to wait for, or its time is up.
    pub(crate) async fn listed(&self, kind: Kind) {
        let mut turns = self.turns.subscribe();
        let begun = Instant::now();
        loop {
            turns.mark_unchanged();
            let within = {
                let generation = self.load();
                let waits = generation.no_list(kind).is_some()
                    && (generation.revision == Revision::NONE || !generation.is_settled());
                waits.then(|| generation.patience(None))
            };
            let Some(within) = within else { return };
            if !matches!(tokio::time::timeout_at(begun + within, turns.changed()).await, Ok(Ok(()))) {
                return;
            }
        }
    }

    /// Returns once each server is up or has failed to come up, apart from those that wait for an old copy to end.
    pub(crate) async fn warmed(&self) {
        let mut turns = self.turns.subscribe();
        loop {
            turns.mark_unchanged();
            let connecting = self.load().arrivals.iter().any(|one| matches!(one, Arrival::Connecting { .. }));
            if !connecting || turns.changed().await.is_err() {
                return;
            }
        }
    }

    /// Returns once no server is on its way of which it is unknown what it offers. From then on the lists miss no
    /// server that could still come in time. The wait is bounded by the time that connecting may take.
    pub(crate) async fn settled(&self) {
        let mut turns = self.turns.subscribe();
        loop {
            turns.mark_unchanged();
            if self.load().is_settled() || turns.changed().await.is_err() {
                return;
            }
        }
    }
}

impl Generation {
    pub(crate) fn new(number: u64, turn: Turn<Arc<Endpoint>>) -> Self {
        let Turn { revision, content, table, catalogs, instructions, arrivals } = turn;
        Self {
            revision,
            turn: number,
            list_turns: ByKind::from_fn(|_| number),
            snapshot: content.snapshot,
            table,
            catalogs,
            instructions,
            arrivals,
        }
    }

    fn nothing() -> Self {
        Self {
            revision: Revision::NONE,
            turn: 0,
            list_turns: ByKind::default(),
            snapshot: Arc::default(),
            table: RouteTable::default(),
            catalogs: ByKind::from_fn(|kind| Arc::new(Catalog::empty(kind))),
            instructions: None,
            arrivals: Box::default(),
        }
    }

    /// How long a call waits for the awaited server to come up; without a name, how long the slowest of those may take of
    /// which it is unknown what they offer.
    fn patience(&self, awaited: Option<&BackendId>) -> Duration {
        let gateway = &self.snapshot.policy;
        let connect = |backend: &Backend| backend.policy.over(gateway).limits.connect;
        let longest = match awaited {
            Some(awaited) => self.snapshot.backend(awaited).and_then(|backend| {
                let limits = backend.policy.over(gateway).limits_of_endpoints();
                Absence::Coming.patience(&limits, Duration::ZERO)
            }),
            None => {
                let enabled = self.snapshot.backends.iter().filter(|backend| backend.policy.enabled);
                let arriving = self.arrivals.iter().zip(enabled).filter(|(one, _)| one.is_unknown());
                arriving.map(|(_, backend)| connect(backend)).max()
            }
        };
        longest.unwrap_or(gateway.limits.connect)
    }

    /// Whether every server is up, or failed to come up, or what it offers is known from before.
    #[must_use]
    pub(crate) fn is_settled(&self) -> bool {
        !self.arrivals.iter().any(|arrival| arrival.is_unknown())
    }

    /// Why there is no list of that kind, if no server has answered yet or nothing is live. That is not the same as an
    /// empty list.
    pub(crate) fn no_list(&self, kind: Kind) -> Option<String> {
        if self.revision == Revision::NONE {
            return Some(Unroutable::NothingLive.to_string());
        }
        let catalog = &self.catalogs[kind];
        if !catalog.is_unknown() {
            return None;
        }
        let missing = catalog.missing().map(|(server, reason)| format!("`{server}`: {reason}"));
        Some(format!("no server has answered yet: {}", missing.collect::<Vec<_>>().join(", ")))
    }

    fn admit(
        &self,
        kind: Kind,
        exposed: &str,
        random: u64,
        homes: &Homes,
        idle: &impl Fn(u64) -> bool,
        look: impl Fn(&Arc<Endpoint>) -> Load,
    ) -> Result<Admitted, Unroutable> {
        let revision = self.revision;
        let Some(route) = self.table.find(kind, exposed) else {
            if revision == Revision::NONE {
                return Err(Unroutable::NothingLive);
            }
            return Err(Unroutable::Unknown { revision, kind, arriving: !self.is_settled() });
        };
        let routes = self.table.backend(route);
        let lease = self.enter(route, random, homes, idle, look)?;
        let (item, backend) = (Arc::clone(&route.item), routes.id.clone());
        let limits = (&self.snapshot.policy.limits).into();
        Ok(Admitted { lease, item, backend, limits })
    }

    fn enter(
        &self,
        route: &Route,
        random: u64,
        homes: &Homes,
        idle: &impl Fn(u64) -> bool,
        look: impl Fn(&Arc<Endpoint>) -> Load,
    ) -> Result<Lease, Unroutable> {
        let (revision, routes) = (self.revision, self.table.backend(route));
        let variants = routes.having[route.kind].variants(route.item.name());
        // An endpoint that is cordoned between the choice and the admission is not chosen again.
        for _ in 0..LOOKS {
            let Some(endpoint) = choose(routes, variants, random, homes, idle, &look) else { break };
            let arrival = self.arrivals.get(route.backend).filter(|arrival| arrival.is_pending());
            if let Some(arrival) = arrival.filter(|_| endpoint.verdict() == Verdict::Starting) {
                let after_old = matches!(arrival, Arrival::AfterOld { .. });
                return Err(Unroutable::Arriving { revision, backend: routes.id.clone(), after_old });
            }
            if let Some(lease) = Lease::admit(endpoint, revision) {
                return Ok(lease);
            }
        }
        let disabled = routes.among(Variants::ALL).any(|endpoint| endpoint.is_disabled());
        Err(Unroutable::Cordoned { revision, backend: routes.id.clone(), disabled })
    }
}

fn choose<'a>(
    routes: &'a BackendRoutes<Arc<Endpoint>>,
    variants: Variants,
    random: u64,
    homes: &Homes,
    idle: &impl Fn(u64) -> bool,
    look: impl Fn(&Arc<Endpoint>) -> Load,
) -> Option<&'a Arc<Endpoint>> {
    let pick = || routes.pick(random, variants, |endpoint| homes.has(endpoint.number), &look);
    let picked = pick()?;
    if routes.only().is_some() {
        return Some(picked);
    }
    if homes.has(picked.number) {
        let may_move = picked.lets_go() && idle(picked.number);
        let other = may_move.then(|| move_on(routes, variants, random, homes, picked)).flatten();
        return Some(other.unwrap_or(picked));
    }
    homes.move_to(picked.number, |number| {
        let beside = routes.among(variants).find(|endpoint| endpoint.number == number)?;
        Some(look(beside).may_be_chosen())
    });
    // Another call of the same session may have moved it first.
    pick()
}

/// Where the session goes now that has its home at `left`, an endpoint whose share falls. It stays where no other endpoint
/// is as good.
fn move_on<'a>(
    routes: &'a BackendRoutes<Arc<Endpoint>>,
    variants: Variants,
    random: u64,
    homes: &Homes,
    left: &Endpoint,
) -> Option<&'a Arc<Endpoint>> {
    let look = |endpoint: &Arc<Endpoint>| {
        let load = look(endpoint);
        Load { cordoned: load.cordoned || endpoint.is_left(), ..load }
    };
    let other = routes.pick(random, variants, |_| false, look).filter(|other| look(other).may_be_chosen())?;
    if !left.goes() {
        return None;
    }
    homes.move_to(other.number, |number| {
        let beside = routes.among(variants).find(|endpoint| endpoint.number == number)?;
        Some(look(beside).may_be_chosen())
    });
    metrics::counter!("only1mcp_router_sessions_moved_total").increment(1);
    Some(other)
}

fn look(endpoint: &Arc<Endpoint>) -> Load {
    Load {
        in_flight: u32::try_from(endpoint.admission.in_flight()).unwrap_or(u32::MAX),
        // Calls have found this out. Probes will, in a moment.
        verdict: if endpoint.is_unreachable() { Verdict::Unhealthy } else { endpoint.verdict() },
        weight: endpoint.weight(),
        standing: endpoint.standing_for_a_choice(),
        cordoned: endpoint.admission.state() != drain::State::Open,
    }
}

#[cfg(test)]
mod tests;
