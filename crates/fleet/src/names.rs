//! Under which names clients see what the servers of a snapshot offer.

use std::collections::BTreeSet;
use std::sync::Arc;

use mcp::catalog::{Offer, PAGE_SIZE, Reason};
use mcp::{Catalog, Owners};
use model::{Naming, Snapshot};

use super::{BackendLayout, Layout, Offered, Roster};

/// Names that two servers of `next` want and that are not in dispute already: a change must not bring them, though a
/// restore may.
pub(crate) fn new_collisions(roster: &Roster, next: &Layout) -> Vec<String> {
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

/// What clients see of what `backends` have `offered`, in the same order. `missing` says why a backend's tools are not
/// known; `owners` who keeps a name that is disputed.
pub(crate) fn merge(
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
