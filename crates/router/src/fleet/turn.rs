//! Makes a generation of what the fleet is and knows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mcp::catalog::{Offer, PAGE_SIZE, Reason};
use mcp::{Catalog, Owners};
use model::{Naming, Snapshot};
use routing::{BackendRoutes, RouteTable, ToolEntry, VariantRoutes};

use super::offered::Offered;
use super::plan::{BackendLayout, Layout};
use super::roster::{Roster, Serial, State};
use crate::endpoint::Endpoint;
use crate::generation::{Arrival, Generation};

/// All endpoints there are, by serial number.
pub(super) type Endpoints = BTreeMap<Serial, Arc<Endpoint>>;

/// The generation of the live snapshot, or nothing when there is none. `owners`: who keeps a name that is disputed.
pub(super) fn generation(roster: &Roster, endpoints: &Endpoints, owners: &Owners, turn: u64) -> Option<Generation> {
    let layout = roster.layout()?;
    let snapshot = &layout.content.snapshot;
    let offered: Vec<_> = layout.backends.iter().map(|backend| roster.offered(backend)).collect();
    let missing: Vec<_> = layout.backends.iter().map(|backend| roster.missing(backend)).collect();
    let catalog = merge(snapshot, &layout.backends, &offered, &missing, owners);
    let entries = catalog.entries().iter().map(|entry| ToolEntry {
        exposed: entry.exposed.clone(),
        backend: entry.backend,
        own: entry.tool.name().into(),
        own_json: serde_json::Value::from(entry.tool.name()).to_string().into(),
        idempotent: entry.tool.may_repeat(),
    });
    let routes = layout.backends.iter().map(|backend| routes(backend, roster, endpoints));
    let table = RouteTable::build(routes.collect(), entries.collect())
        .expect("a catalog has each name once, of one of the backends it was merged from");
    let parts = layout.backends.iter().zip(&offered).filter_map(|(backend, offered)| {
        Some((backend.backend.id.as_str(), offered.as_ref()?.instructions.as_deref()?))
    });
    Some(Generation {
        revision: roster.revision(),
        turn,
        list_turn: turn,
        digest: Some(layout.content.digest),
        policy: snapshot.policy.clone(),
        snapshot: Arc::clone(snapshot),
        table,
        instructions: mcp::initialize::joined_instructions(parts),
        arrivals: layout
            .backends
            .iter()
            .zip(&offered)
            .map(|(one, known)| arrival(roster, one, known.is_some()))
            .collect(),
        catalog,
    })
}

/// Names that two servers of `next` want and that are not in dispute already: a change must not bring them, though a
/// restore may.
pub(super) fn new_collisions(roster: &Roster, next: &Layout) -> Vec<String> {
    if next.content.snapshot.policy.naming == Naming::Prefix {
        // Prefixed names are distinct by construction.
        return Vec::new();
    }
    let disputed = |layout: &Layout| -> BTreeSet<String> {
        let offered: Vec<_> = layout.backends.iter().map(|backend| roster.offered(backend)).collect();
        let catalog = merge(&layout.content.snapshot, &layout.backends, &offered, &[], &Owners::new());
        let id = |backend: usize| &layout.backends[backend].backend.id;
        let collisions = catalog.withheld().iter().filter_map(|withheld| match withheld.reason {
            Reason::Collision { owner } => {
                Some(format!("`{}` of `{}` and of `{}`", withheld.tool, id(owner), id(withheld.backend)))
            }
            Reason::NotShown | Reason::Duplicate => None,
        });
        collisions.collect()
    };
    let before = roster.layout().map(|live| disputed(live)).unwrap_or_default();
    disputed(next).difference(&before).cloned().collect()
}

fn merge(
    snapshot: &Snapshot,
    backends: &[BackendLayout],
    offered: &[Option<&Offered>],
    missing: &[Option<Arc<str>>],
    owners: &Owners,
) -> Catalog {
    let offers: Vec<_> = backends
        .iter()
        .zip(offered)
        .enumerate()
        .map(|(at, (backend, offered))| Offer {
            backend: backend.backend.id.as_str(),
            tools: offered.map_or(&[], |offered| &offered.tools),
            shown: backend.backend.tools.as_deref(),
            missing: missing.get(at).and_then(Option::as_deref),
        })
        .collect();
    let naming = match snapshot.policy.naming {
        Naming::Prefix => mcp::Naming::Prefix,
        Naming::None => mcp::Naming::None,
    };
    Catalog::merge(naming, &offers, owners, PAGE_SIZE)
}

fn routes(backend: &BackendLayout, roster: &Roster, endpoints: &Endpoints) -> BackendRoutes<Arc<Endpoint>> {
    let variants = backend.variants.iter().map(|variant| VariantRoutes {
        id: variant.id.clone(),
        weight: variant.weight,
        endpoints: variant
            .endpoints
            .iter()
            .filter_map(|key| endpoints.get(&roster.members().get(key)?.serial))
            .cloned()
            .collect(),
    });
    BackendRoutes { id: backend.backend.id.clone(), variants: variants.collect() }
}

fn arrival(roster: &Roster, backend: &BackendLayout, offers: bool) -> Arrival {
    let mut keys = backend.variants.iter().flat_map(|variant| &variant.endpoints);
    if !roster.is_arriving(backend) {
        Arrival::Settled { offers }
    } else if keys.any(|key| roster.members().get(key).is_some_and(|member| member.state == State::Arriving)) {
        Arrival::Connecting { offers }
    } else {
        Arrival::AfterOld { offers }
    }
}
