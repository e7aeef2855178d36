//! The names under which clients see what the servers of a snapshot offer.

use std::collections::BTreeSet;
use std::sync::Arc;

use mcp::catalog::{Offer as Claim, PAGE_SIZE, Reason};
use mcp::{Catalog, Kind, Owners};
use model::{MAX_ADVICE, Naming, Snapshot};

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

/// What `tools` of servers of `next` name and their servers do not offer, as far as is known; of those that are as in
/// the live layout it was told before. Each is a sentence.
pub(crate) fn names_of_nothing(roster: &Roster, next: &Layout) -> Vec<String> {
    let unlike = next.backends.iter().filter(|one| {
        let live = roster.layout().and_then(|live| live.backend(&one.backend.id));
        live.is_none_or(|live| !Arc::ptr_eq(live, one))
    });
    let absent = unlike.filter_map(|one| {
        let (tools, offer) = (one.backend.tools.as_deref()?, roster.offer(one)?);
        let merged = offer.merged(Kind::Tool);
        let offered: BTreeSet<&str> = merged.items.iter().map(|item| item.name()).collect();
        let id = one.backend.id.as_str();
        let absent = tools.iter().filter(|name| !offered.contains(name.as_str()));
        let told = absent.map(|name| format!("server `{id}`: {}", named_in_vain(id, name, offered.iter().copied())));
        Some(told.collect::<Vec<_>>())
    });
    absent.flatten().take(MAX_ADVICE).collect()
}

/// About a name under `tools` that the server does not offer.
#[must_use]
pub fn named_in_vain<'a>(backend: &str, name: &str, offered: impl Iterator<Item = &'a str> + Clone) -> String {
    let meant = meant(backend, name, offered).map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
    format!("`tools` of its configuration names `{name}`, which it does not offer{meant}")
}

/// What the author of a filter may have had in mind: names there are the server's own, in its own case.
fn meant<'a>(backend: &str, name: &str, mut offered: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let own = name.strip_prefix(backend).and_then(|rest| rest.strip_prefix("__"));
    let exact = offered.clone().find(|tool| Some(*tool) == own);
    exact.or_else(|| offered.find(|tool| tool.eq_ignore_ascii_case(own.unwrap_or(name))))
}

/// Whether two servers can want one name. With prefixes names are distinct by construction, but for those that no
/// prefix is put before.
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

/// What `backends` have `offered` of one kind, in the same order, for merging. `missing` says why the offer of a
/// backend is not known.
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

#[cfg(test)]
mod tests {
    use super::meant;

    #[test]
    fn a_filter_that_names_nothing_is_told_what_it_may_mean() {
        let of = |name| meant("q", name, ["t", "read_file"].into_iter());
        assert_eq!(
            (of("q__t"), of("Read_File"), of("q__READ_FILE"), of("x")),
            (Some("t"), Some("read_file"), Some("read_file"), None)
        );
    }
}
