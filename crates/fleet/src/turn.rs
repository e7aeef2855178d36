//! What a router serves by, made from the present members and what they offer.

use std::sync::Arc;

use mcp::catalog::PAGE_SIZE;
use mcp::{ByKind, Catalog, Kind, Owners};
use model::{EndpointKey, Instructions, Revision};
use rollout::Content;
use routing::{Entry, Having, Route, RouteTable};

use crate::names::{claims, is_disputable, merged, naming};
use crate::offered::{Merged, Offer};
use crate::plan::{BackendLayout, Layout};
use crate::roster::{Roster, Serial};

/// One revision with what its servers offer at one moment. `E` is the handle of an endpoint.
#[derive(Debug)]
pub struct Turn<E> {
    pub revision: Revision,
    pub content: Content,
    pub table: RouteTable<E>,
    pub catalogs: ByKind<Arc<Catalog>>,
    /// For clients, at the beginning of a session.
    pub instructions: Option<String>,
    /// Per backend that is not switched off, in the order of the snapshot.
    pub arrivals: Box<[Arrival]>,
}

/// Of the turn that was served last.
#[derive(Debug)]
pub struct Before<'a, E> {
    pub table: &'a RouteTable<E>,
    pub catalogs: &'a ByKind<Arc<Catalog>>,
}

impl<E> Clone for Before<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Before<'_, E> {}

/// Whether waiting for a backend makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// The backend is up, or failed to come up: its present answer is final.
    Settled { offers: bool },
    /// The first endpoint of the backend is being brought up.
    Connecting { offers: bool },
    /// The new endpoint waits for the old one to end (`replace: stop_first`).
    AfterOld { offers: bool },
}

impl Arrival {
    #[must_use]
    pub fn is_pending(self) -> bool {
        !matches!(self, Self::Settled { .. })
    }

    /// Whether the backend is still arriving and it is unknown what it will offer.
    #[must_use]
    pub fn is_unknown(self) -> bool {
        matches!(self, Self::Connecting { offers: false } | Self::AfterOld { offers: false })
    }
}

/// `staying`: endpoints that the live snapshot lacks and that still get calls. `before` is what was served last: what
/// does not differ from it is not made again.
pub(crate) fn make<E>(
    roster: &Roster,
    staying: &[&EndpointKey],
    by_file: bool,
    before: Option<Before<'_, E>>,
    endpoint: impl Fn(Serial) -> Option<E>,
) -> Option<Turn<E>> {
    let layout = roster.layout()?;
    let snapshot = &layout.content.snapshot;
    let naming = naming(snapshot);
    let looks: Vec<_> = layout.backends.iter().map(|backend| roster.look(backend)).collect();
    let hidden: Vec<_> =
        layout.backends.iter().zip(&looks).map(|(one, look)| layout.hides(&one.backend) && look.is_dead()).collect();
    let offers: Vec<_> = looks.iter().zip(&hidden).map(|(look, hidden)| look.offer().filter(|_| !hidden)).collect();
    // Of what is hidden it is known that clients see nothing of it.
    let missing = looks.iter().zip(&offers).zip(&hidden);
    let missing: Vec<_> =
        missing.map(|((look, offer), hidden)| look.missing(offer.as_ref()).filter(|_| !hidden)).collect();
    let stays: Vec<Vec<_>> = layout.backends.iter().map(|backend| of_backend(backend, staying).collect()).collect();
    let mut backends: Vec<_> = looks.iter().zip(&stays).map(|(look, stays)| look.routes(stays, &endpoint)).collect();
    let (mut entries, mut known) = (Vec::new(), ByKind::default());
    let catalogs = ByKind::from_fn(|kind| {
        if !Kind::SERVED.contains(&kind) {
            return Arc::new(Catalog::empty(kind));
        }
        let merged = merged(&offers, kind);
        for ((routes, merged), stays) in backends.iter_mut().zip(&merged).zip(&stays) {
            routes.having[kind] = having(roster, kind, routes.variants.len(), merged.as_ref(), stays);
        }
        let claims = claims(kind, &layout.backends, &merged, &missing);
        let same = before.filter(|before| {
            let catalog = &before.catalogs[kind];
            catalog.is_of(naming, &claims) && !(by_file && catalog.is_disputed())
        });
        if let Some(before) = same {
            known[kind] = Some(Arc::clone(before.table.names(kind)));
            return Arc::clone(&before.catalogs[kind]);
        }
        let owners = before.filter(|_| !by_file && is_disputable(kind, snapshot));
        let owners = owners.map_or_else(Owners::new, |before| before.catalogs[kind].owners());
        let catalog = Catalog::merge(kind, naming, &claims, &owners, PAGE_SIZE);
        entries.extend(catalog.entries().iter().map(|entry| {
            let route = Route { kind, item: Arc::clone(&entry.item), backend: entry.backend };
            Entry { exposed: entry.exposed.clone(), route }
        }));
        Arc::new(catalog)
    });
    let table = RouteTable::build_with(backends, entries, &known)
        .expect("a catalog has each name once, of one of the backends it was merged from");
    let instructions = instructions(layout, &offers, &catalogs);
    let arrivals = looks.iter().zip(&offers).map(|(look, offer)| look.arrival(offer.is_some())).collect();
    let (revision, content) = (roster.revision(), layout.content.clone());
    Some(Turn { revision, content, table, instructions, arrivals, catalogs })
}

fn instructions(layout: &Layout, offers: &[Option<Offer<'_>>], catalogs: &ByKind<Arc<Catalog>>) -> Option<String> {
    let snapshot = &layout.content.snapshot;
    let of_servers = || {
        let said = layout.backends.iter().zip(offers).enumerate();
        let said =
            said.filter_map(|(at, (one, offer))| Some((at, one.backend.id.as_str(), offer.as_ref()?.instructions()?)));
        mcp::instructions::merged(said, |backend, own| {
            let mut kinds = Kind::SERVED.into_iter().filter(|kind| kind.is_renamed());
            kinds.find_map(|kind| catalogs[kind].shown_as(backend, own))
        })
    };
    match &snapshot.policy.instructions {
        Instructions::Merge => of_servers(),
        Instructions::Off => None,
        Instructions::Text(text) => Some(text.clone()),
    }
}

/// The endpoints that stay, each with its position beyond the variants of the backend.
fn of_backend<'a>(
    backend: &'a BackendLayout,
    staying: &'a [&'a EndpointKey],
) -> impl Iterator<Item = (usize, &'a EndpointKey)> {
    let of_it = staying.iter().copied().filter(|key| key.backend == backend.backend.id);
    (backend.variants.len()..).zip(of_it)
}

/// Which variants, and which endpoints that stay, have what a backend offers.
fn having(
    roster: &Roster,
    kind: Kind,
    variants: usize,
    merged: Option<&Merged<'_>>,
    stays: &[(usize, &EndpointKey)],
) -> Having {
    let having = merged.map_or_else(Having::default, |merged| merged.having.clone());
    if stays.is_empty() {
        return having;
    }
    let names = merged.into_iter().flat_map(|merged| merged.items.iter().map(|item| item.name()));
    let each = names.map(|name| {
        // If only the list of a former endpoint has the name, any present endpoint may have it and may be tried. An
        // endpoint that stays has a list of its own, and is tried only for what is in it.
        let present = having.variants(name).below(variants);
        let stay = stays.iter().filter(|(_, key)| roster.offers(key, kind, name));
        (name.into(), stay.fold(present, |all, (position, _)| all.and(*position)))
    });
    Having::Each(each.collect())
}
