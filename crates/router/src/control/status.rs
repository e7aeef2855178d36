//! The state of the fleet, for status displays: published after each change. Values that change with every call are
//! read from the endpoints themselves, at the moment of display.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;
use std::sync::Arc;

use drain::Departure;
use fleet::{Fleet, Member, Offered, Roster, Serial, named_in_vain};
use mcp::catalog::Reason;
use mcp::{Item, Kind};
use model::{
    BackendId, CheckPolicy, Condition, Digest, EjectionPolicy, EndpointKey, Facts, HealthPolicy, Revision, Snapshot,
    Time, Verdict,
};
use runtime::TraceContext;

use super::endpoints::Endpoints;
use crate::endpoint::Endpoint;
use crate::generation::Generation;

/// At most this many names of one server are warned of; the others are counted.
const NAMED: usize = 10;

#[derive(Debug, Clone, Default)]
pub(crate) struct Status {
    pub revision: Revision,
    pub digest: Option<Digest>,
    /// Endpoints of the live snapshot, of an attempt, and on their way out, by key.
    pub endpoints: Vec<Arc<EndpointStatus>>,
    /// How many tools clients see.
    pub tools: usize,
    pub withheld: Vec<Withheld>,
    pub renamed: Vec<Renamed>,
    /// Departures that are not over, or not on record with drain-coordinator yet.
    pub departures: Vec<Departure>,
    pub(crate) health: HealthPolicy,
    pub(crate) ejection: EjectionPolicy,
    /// What probes ask beside a ping, of the servers for which there is anything.
    pub(crate) checks: Arc<BTreeMap<BackendId, CheckPolicy>>,
    /// What `health`, `ejection` and `checks` were taken from.
    snapshot: Option<Arc<Snapshot>>,
    /// The trace of the change that made this revision live.
    pub(crate) trace: Option<TraceContext>,
}

#[derive(Debug, Clone)]
pub(crate) struct EndpointStatus {
    /// Counters, process and session are read from here.
    pub endpoint: Arc<Endpoint>,
    /// `stdio` or `http`.
    pub transport: &'static str,
    /// The tools that the server offers, as it last said; absent if it was never listed.
    pub tools: Option<Arc<[Arc<Item>]>>,
    /// The live snapshot has it.
    pub live: bool,
    /// The live snapshot does not have it any more.
    pub leaving: bool,
    /// It gets calls all the same, by its weight.
    pub stays: bool,
    /// An operator has switched it off.
    pub disabled: bool,
    pub up: bool,
    /// How often the endpoint came up: another number means another connection.
    pub ups: u32,
    /// As the fleet has it, together with its reason: the endpoint may have a newer one already.
    pub verdict: Verdict,
    /// Why it is not well.
    pub reason: Option<Arc<str>>,
    /// How it was when this was published, …
    shown: Condition,
    /// … and since when it had been so.
    since: Time,
    /// Attempts in a row to bring it up that failed, or did not last; 0 while it is up.
    pub failures: u32,
    /// What an operator should know although the server may be healthy.
    pub warnings: Vec<String>,
    serial: Serial,
    /// Those of the warnings that are about its own lists.
    listed: Option<Arc<[String]>>,
}

impl Status {
    /// The endpoints that are shown otherwise than `before`: each as it was, and as it is.
    pub(crate) fn unlike<'a>(
        &'a self,
        before: &'a Self,
    ) -> impl Iterator<Item = (Option<&'a EndpointStatus>, Option<&'a EndpointStatus>)> {
        let (mut was, mut is) = (before.endpoints.iter().peekable(), self.endpoints.iter().peekable());
        let pairs = std::iter::from_fn(move || {
            let order = match (was.peek(), is.peek()) {
                (Some(was), Some(is)) if Arc::ptr_eq(was, is) => Ordering::Equal,
                (Some(was), Some(is)) => was.endpoint.key.cmp(&is.endpoint.key),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return None,
            };
            Some((was.next_if(|_| order.is_le()), is.next_if(|_| order.is_ge())))
        });
        let unlike = pairs.filter(|(was, is)| was.map(Arc::as_ptr) != is.map(Arc::as_ptr));
        unlike.map(|(was, is)| (was.map(Arc::as_ref), is.map(Arc::as_ref)))
    }

    /// The servers of the live revision that get no calls because they are not well, each with the worst that is said
    /// of its endpoints.
    pub(crate) fn not_up(&self) -> BTreeMap<&BackendId, Condition> {
        let live = self.endpoints.iter().filter(|one| one.live);
        let (served, unwell): (Vec<_>, Vec<_>) = live.partition(|one| one.verdict.is_routable());
        let served: BTreeSet<_> = served.into_iter().map(|one| &one.endpoint.key.backend).collect();
        let mut not_up = BTreeMap::new();
        let wanted = unwell.into_iter().filter(|one| !one.disabled);
        for one in wanted.filter(|one| !served.contains(&one.endpoint.key.backend)) {
            let condition = one.condition().0;
            let worst = not_up.entry(&one.endpoint.key.backend).or_insert(condition);
            *worst = condition.max(*worst);
        }
        not_up
    }

    pub(crate) fn of(&self, key: &EndpointKey) -> Option<&EndpointStatus> {
        let at = self.endpoints.binary_search_by(|status| status.endpoint.key.cmp(key)).ok()?;
        self.endpoints.get(at).map(Arc::as_ref)
    }
}

impl EndpointStatus {
    /// Whether it may get calls.
    pub(crate) fn is_served(&self) -> bool {
        self.live || self.stays
    }

    pub(crate) fn tools(&self) -> u32 {
        self.tools.as_ref().map_or(0, |tools| u32::try_from(tools.len()).unwrap_or(u32::MAX))
    }

    /// How it is, and since when.
    pub(crate) fn condition(&self) -> (Condition, Time) {
        let condition = self.present();
        // A change that is not published yet has just happened.
        (condition, if condition == self.shown { self.since } else { self.endpoint.now() })
    }

    fn present(&self) -> Condition {
        let admission = &self.endpoint.admission;
        Condition::of(Facts {
            verdict: self.verdict,
            cordoned: admission.state() != drain::State::Open,
            disabled: self.disabled,
            leaving: self.leaving,
            in_flight: admission.in_flight(),
        })
    }

    /// With how it is now, and since when, as far as `before` tells of the same endpoint.
    fn shown_after(mut self, now: Time, before: Option<&Self>) -> Self {
        self.shown = self.present();
        self.since = match before.filter(|before| before.serial == self.serial) {
            Some(before) if before.shown == self.shown => before.since,
            Some(_) => now,
            None => self.since,
        };
        self
    }

    /// Whether all that is shown is still so.
    fn is_of(&self, member: &Member, stays: bool, offered: Option<&Offered>) -> bool {
        let listed = listed(member, offered);
        let shown = (self.serial, self.live, self.leaving, self.stays, self.disabled, self.up, self.ups);
        let Member { serial, live, leaving, disabled, ups, .. } = *member;
        shown == (serial, live, leaving, stays, disabled, member.state.is_up(), ups)
            && self.shown == self.present()
            && self.tools.as_ref().map(Arc::as_ptr) == tools(offered).map(Arc::as_ptr)
            && (self.verdict, self.failures) == (member.verdict(), failures(member))
            && self.reason.as_ref() == member.reason()
            && self.listed.as_ref().map(Arc::as_ptr) == listed.map(Arc::as_ptr)
            && self.warnings.len() == self.listed.iter().map(|listed| listed.len()).sum::<usize>()
    }

    /// Why the fleet has it, in one word.
    pub(crate) fn role(&self) -> &'static str {
        match (self.live, self.leaving) {
            (true, _) => "live",
            (false, true) => "leaving",
            (false, false) => "candidate",
        }
    }
}

/// What clients do not see of what a server lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Withheld {
    pub backend: BackendId,
    pub name: Box<str>,
    pub reason: String,
}

/// What clients see under another name than its server's id and its own name make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Renamed {
    pub backend: BackendId,
    pub name: Box<str>,
    pub exposed: Box<str>,
}

/// The state of the line to config-manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Following {
    pub attached: bool,
    /// What is live came from the copy on disk, and config-manager has not confirmed it yet.
    pub from_disk: bool,
}

fn failures(member: &Member) -> u32 {
    if member.state.is_up() { 0 } else { member.failures }
}

fn tools(offered: Option<&Offered>) -> Option<&Arc<[Arc<Item>]>> {
    Some(&offered?.items[Kind::Tool])
}

fn listed<'a>(member: &Member, offered: Option<&'a Offered>) -> Option<&'a Arc<[String]>> {
    offered.filter(|_| member.state.is_up()).map(|offered| &offered.warnings)
}

/// What did not change is taken from `before`.
pub(super) fn status(
    (now, fleet): (Time, &Fleet),
    endpoints: &Endpoints,
    generation: &Generation,
    departures: Vec<Departure>,
    before: &Status,
) -> Status {
    let roster = fleet.roster();
    let live = roster.layout();
    let warnings: Vec<_> = Kind::SERVED.into_iter().flat_map(|kind| warnings(generation, kind)).collect();
    let (mut shown, mut known) = (before.endpoints.iter().peekable(), roster.known().iter().peekable());
    let members = roster.members().iter().filter_map(|(key, member)| {
        let offered = at(&mut known, |(known, _)| (*known).cmp(key)).map(|(_, offered)| offered);
        let before = at(&mut shown, |one| one.endpoint.key.cmp(key));
        let stays = fleet.stays(key);
        let of_names = || warnings.iter().filter(|(backend, _)| *backend == key.backend && member.state.is_up());
        if let Some(same) = before.filter(|one| one.is_of(member, stays, offered) && of_names().next().is_none()) {
            return Some(Arc::clone(same));
        }
        let endpoint = Arc::clone(endpoints.get(member.serial)?);
        // A call that it refuses says why.
        endpoint.set_disabled(member.disabled);
        let listed = listed(member, offered);
        let (named, more) = (of_names().take(NAMED), of_names().count().saturating_sub(NAMED));
        let kinds = || Kind::SERVED.map(|kind| kind.to_string()).join(", ");
        let more =
            (more > 0).then(|| format!("{more} more of its {}, or of the names under `tools`, are not shown", kinds()));
        let of_lists = listed.into_iter().flat_map(|listed| listed.iter().cloned());
        let status = EndpointStatus {
            transport: endpoint.spec.transport.kind(),
            tools: tools(offered).cloned(),
            live: member.live,
            leaving: member.leaving,
            stays,
            disabled: member.disabled,
            up: member.state.is_up(),
            ups: member.ups,
            verdict: member.verdict(),
            reason: member.reason().map(Arc::clone),
            shown: Condition::Starting,
            since: member.since,
            failures: failures(member),
            warnings: of_lists.chain(named.map(|(_, warning)| warning.clone())).chain(more).collect(),
            serial: member.serial,
            listed: listed.cloned(),
            endpoint,
        };
        Some(Arc::new(status.shown_after(now, before.map(Arc::as_ref))))
    });
    let renamed = Kind::SERVED.into_iter().flat_map(|kind| generation.catalogs[kind].renamed()).filter_map(|entry| {
        let (name, exposed) = (entry.item.name().into(), entry.exposed.clone());
        Some(Renamed { backend: backend(generation, entry.backend)?, name, exposed })
    });
    let withheld = Kind::SERVED.into_iter().flat_map(|kind| withheld(generation, kind));
    let snapshot = &generation.snapshot;
    let is_as_before = before.snapshot.as_ref().is_some_and(|before| Arc::ptr_eq(before, snapshot));
    let checks = if is_as_before { Arc::clone(&before.checks) } else { Arc::new(checks(snapshot)) };
    Status {
        revision: roster.revision(),
        digest: live.map(|live| live.content.digest),
        endpoints: members.collect(),
        tools: generation.table.count(Kind::Tool),
        withheld: withheld.chain(left_out(roster)).collect(),
        renamed: renamed.collect(),
        departures,
        health: snapshot.policy.health.clone(),
        ejection: snapshot.policy.ejection.clone(),
        checks,
        snapshot: Some(Arc::clone(snapshot)),
        trace: None,
    }
}

fn checks(snapshot: &Snapshot) -> BTreeMap<BackendId, CheckPolicy> {
    let asked = snapshot.backends.iter().filter(|one| one.policy.health != CheckPolicy::default());
    asked.map(|one| (one.id.clone(), one.policy.health.clone())).collect()
}

fn backend(generation: &Generation, position: usize) -> Option<BackendId> {
    generation.table.backends().get(position).map(|backend| backend.id.clone())
}

/// What is listed and not shown, and what shall be shown and is not listed.
fn withheld(generation: &Generation, kind: Kind) -> Vec<Withheld> {
    let (catalog, id) = (&generation.catalogs[kind], |position| backend(generation, position));
    let withheld = catalog.withheld().iter().filter_map(|withheld| {
        let reason = match withheld.reason {
            Reason::Collision { owner } => format!("server `{}` has a {} of that name", id(owner)?, kind.noun()),
            Reason::NotShown => "the configuration does not list it under `tools`".to_owned(),
            Reason::Duplicate => "the server lists it twice".to_owned(),
        };
        Some(Withheld { backend: id(withheld.backend)?, name: withheld.name.clone(), reason })
    });
    let absent = catalog.absent().iter().filter_map(|(backend, name)| {
        let reason = "the configuration lists it under `tools`, the server does not offer it".to_owned();
        Some(Withheld { backend: id(*backend)?, name: name.clone(), reason })
    });
    withheld.chain(absent).collect()
}

/// The element of a sorted sequence that is equal by `order`, after those that come before it.
fn at<T>(sorted: &mut Peekable<impl Iterator<Item = T>>, order: impl Fn(&T) -> Ordering) -> Option<T> {
    loop {
        match order(sorted.peek()?) {
            Ordering::Less => drop(sorted.next()),
            Ordering::Equal => return sorted.next(),
            Ordering::Greater => return None,
        }
    }
}

/// Elements that the servers of the live snapshot list and that cannot be shown.
fn left_out(roster: &Roster) -> impl Iterator<Item = Withheld> {
    let lacking = roster.known().iter().filter(|(_, offered)| !offered.left_out.is_empty());
    let lacking: BTreeSet<_> = lacking.map(|(key, _)| &key.backend).collect();
    let live = roster.layout().into_iter().flat_map(|layout| &layout.backends);
    let live = live.filter(move |one| lacking.contains(&one.backend.id));
    let offers = live.filter_map(|backend| Some((&backend.backend.id, roster.offer(backend)?)));
    offers.flat_map(|(backend, offer)| {
        let left_out = offer.left_out().map(|one| Withheld {
            backend: backend.clone(),
            name: one.name.clone(),
            reason: one.reason.to_string(),
        });
        left_out.collect::<Vec<_>>()
    })
}

/// Warnings about the configuration together with the servers' lists: names that lead nowhere, and names that are
/// taken.
fn warnings(generation: &Generation, kind: Kind) -> Vec<(BackendId, String)> {
    let (catalog, noun) = (&generation.catalogs[kind], kind.noun());
    let id = |position| backend(generation, position);
    let absent = catalog.absent().iter().filter_map(|(at, name)| {
        let backend = id(*at)?;
        let offered = catalog.offered(*at);
        let text = named_in_vain(backend.as_str(), name, offered);
        Some((backend, text))
    });
    let withheld = catalog.withheld().iter().filter_map(|withheld| {
        let name = &withheld.name;
        let text = match withheld.reason {
            Reason::Collision { owner } => {
                format!("its {noun} `{name}` is not shown: `{}` has one of that name", id(owner)?)
            }
            Reason::Duplicate => format!("it lists the {noun} `{name}` twice; the first is shown"),
            Reason::NotShown => return None,
        };
        Some((id(withheld.backend)?, text))
    });
    absent.chain(withheld).collect()
}
