//! Makes a generation of what the fleet is and knows.

use std::collections::BTreeMap;
use std::sync::Arc;

use fleet::{BackendLayout, Roster, Serial, State, merge};
use mcp::Owners;
use routing::{BackendRoutes, RouteTable, ToolEntry, VariantRoutes};

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
