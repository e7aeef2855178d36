//! The names under which clients see what the servers of a snapshot offer.

use std::collections::BTreeSet;
use std::sync::Arc;

use mcp::catalog::{Offer as Claim, PAGE_SIZE, Reason};
use mcp::{Catalog, Kind, Owners};
use model::{Naming, Snapshot};

use crate::offered::{Merged, Offer};
use crate::plan::{BackendLayout, Layout};
use crate::roster::Roster;

/// Names that two servers of `next` want and that are not disputed already: a change must not bring them, though a
/// restore may.
pub(crate) fn new_collisions(roster: &Roster, next: &Layout) -> Vec<String> {
    if !Kind::SERVED.into_iter().any(|kind| is_disputable(kind, &next.content.snapshot)) {
        return Vec::new();
    }
    let disputed = |layout: &Layout| -> BTreeSet<String> {
        let offers: Vec<_> = layout.backends.iter().map(|backend| roster.offer(backend)).collect();
        Kind::SERVED.into_iter().flat_map(|kind| disputed(layout, &merged(&offers, kind), kind)).collect()
    };
    let before = roster.layout().map(|live| disputed(live)).unwrap_or_default();
    disputed(next).difference(&before).cloned().collect()
}

/// Whether two servers can want one name. With prefixes names are distinct by construction, but for those that no prefix
/// is put before.
pub(crate) fn is_disputable(kind: Kind, snapshot: &Snapshot) -> bool {
    snapshot.policy.naming != Naming::Prefix || !kind.is_renamed()
}

fn disputed(layout: &Layout, merged: &[Option<Merged<'_>>], kind: Kind) -> Vec<String> {
    let naming = naming(&layout.content.snapshot);
    let catalog = Catalog::merge(kind, naming, &claims(kind, &layout.backends, merged, &[]), &Owners::new(), PAGE_SIZE);
    let id = |backend: usize| &layout.backends[backend].backend.id;
    let collisions = catalog.withheld().iter().filter_map(|withheld| match withheld.reason {
        Reason::Collision { owner } => {
            Some(format!("`{}` of `{}` and of `{}`", withheld.name, id(owner), id(withheld.backend)))
        }
        Reason::NotShown | Reason::Duplicate => None,
    });
    collisions.collect()
}

/// What each backend offers of one kind, in the same order.
pub(crate) fn merged<'a>(offers: &[Option<Offer<'a>>], kind: Kind) -> Vec<Option<Merged<'a>>> {
    offers.iter().map(|offer| offer.as_ref().map(|offer| offer.merged(kind))).collect()
}

/// What `backends` have `offered` of one kind, in the same order, for merging. `missing` says why the offer of a backend
/// is not known.
pub(crate) fn claims<'a>(
    kind: Kind,
    backends: &'a [Arc<BackendLayout>],
    offered: &'a [Option<Merged<'_>>],
    missing: &'a [Option<Arc<str>>],
) -> Vec<Claim<'a>> {
    let claim = |(at, (backend, offered)): (usize, (&'a Arc<BackendLayout>, &'a Option<Merged<'_>>))| Claim {
        backend: backend.backend.id.as_str(),
        items: offered.as_ref().map_or(&[], |offered| &offered.items),
        // The key `tools` of a server.
        shown: backend.backend.tools.as_deref().filter(|_| kind == Kind::Tool),
        missing: missing.get(at).and_then(Option::as_deref),
    };
    backends.iter().zip(offered).enumerate().map(claim).collect()
}

pub(crate) fn naming(snapshot: &Snapshot) -> mcp::Naming {
    match snapshot.policy.naming {
        Naming::Prefix => mcp::Naming::Prefix,
        Naming::None => mcp::Naming::None,
    }
}
