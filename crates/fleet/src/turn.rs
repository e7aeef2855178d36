//! What a router serves by, made from the present members and what they offer.

use mcp::{ByKind, Catalog, Kind, Owners};
use model::{EndpointKey, Revision};
use rollout::Content;
use routing::{BackendRoutes, Entry, Route, RouteTable, VariantRoutes, Variants};

use crate::names::{is_disputable, merge, merged};
use crate::plan::BackendLayout;
use crate::roster::{Roster, Serial, State};

/// One revision with what its servers offer at one moment. `E` is the handle of an endpoint.
#[derive(Debug)]
pub struct Turn<E> {
    pub revision: Revision,
    pub content: Content,
    pub table: RouteTable<E>,
    pub catalogs: ByKind<Catalog>,
    /// What the servers say about themselves.
    pub instructions: Option<String>,
    /// Per backend, in the order of the snapshot.
    pub arrivals: Box<[Arrival]>,
}

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

/// `staying`: endpoints that the live snapshot lacks and that still get calls.
pub(crate) fn make<E>(
    roster: &Roster,
    staying: &[&EndpointKey],
    by_file: bool,
    before: Option<&ByKind<Catalog>>,
    endpoint: impl Fn(Serial) -> Option<E>,
) -> Option<Turn<E>> {
    let layout = roster.layout()?;
    let snapshot = &layout.content.snapshot;
    let offers: Vec<_> = layout.backends.iter().map(|backend| roster.offer(backend)).collect();
    let missing: Vec<_> = layout.backends.iter().map(|backend| roster.missing(backend)).collect();
    let mut entries = Vec::new();
    let catalogs = ByKind::from_fn(|kind| {
        if !Kind::SERVED.contains(&kind) {
            return Catalog::empty(kind);
        }
        let owners = before
            .filter(|_| !by_file && is_disputable(kind, snapshot))
            .map_or_else(Owners::new, |before| before[kind].owners());
        let merged = merged(&offers, kind);
        let catalog = merge(kind, snapshot, &layout.backends, &merged, &missing, &owners);
        entries.extend(catalog.entries().iter().map(|entry| {
            let (item, offered) = (&entry.item, merged[entry.backend].as_ref());
            let variants = offered.map_or(Variants::ALL, |offered| offered.variants_of(item.name()));
            let backend = &layout.backends[entry.backend];
            // What is known of a former endpoint alone is asked of the present ones, which may have it; of those that
            // stay it is known what they have.
            let variants = variants.below(backend.variants.len());
            let stay = of_backend(backend, staying).filter(|(_, key)| roster.offers(key, kind, item.name()));
            let route = Route {
                own: item.name().into(),
                own_json: item.name_json().into(),
                idempotent: item.may_repeat(),
                backend: entry.backend,
                variants: stay.fold(variants, |variants, (position, _)| variants.and(position)),
            };
            Entry { kind, exposed: entry.exposed.clone(), route }
        }));
        catalog
    });
    let routes = layout.backends.iter().map(|backend| routes(backend, roster, staying, &endpoint));
    let table = RouteTable::build(routes.collect(), entries)
        .expect("a catalog has each name once, of one of the backends it was merged from");
    let parts = layout
        .backends
        .iter()
        .zip(&offers)
        .filter_map(|(backend, offer)| Some((backend.backend.id.as_str(), offer.as_ref()?.instructions()?)));
    let instructions = mcp::initialize::joined_instructions(parts);
    let arrivals = layout.backends.iter().zip(&offers);
    let arrivals = arrivals.map(|(backend, offer)| arrival(roster, backend, offer.is_some())).collect();
    let (revision, content) = (roster.revision(), layout.content.clone());
    Some(Turn { revision, content, table, instructions, arrivals, catalogs })
}

/// The endpoints that stay, each with its position beyond the variants of the backend.
fn of_backend<'a>(
    backend: &'a BackendLayout,
    staying: &'a [&'a EndpointKey],
) -> impl Iterator<Item = (usize, &'a EndpointKey)> {
    let of_it = staying.iter().copied().filter(|key| key.backend == backend.backend.id);
    (backend.variants.len()..).zip(of_it)
}

fn routes<E>(
    backend: &BackendLayout,
    roster: &Roster,
    staying: &[&EndpointKey],
    endpoint: impl Fn(Serial) -> Option<E>,
) -> BackendRoutes<E> {
    let handle = |key| endpoint(roster.members().get(key)?.serial);
    let variants = backend.variants.iter().enumerate().map(|(at, variant)| {
        // What stays of a variant that is gone counts as one of the first.
        let home = |key: &EndpointKey| backend.variants.iter().position(|one| one.id == key.variant).unwrap_or(0);
        let leaving = of_backend(backend, staying).filter(|(_, key)| home(key) == at);
        VariantRoutes {
            id: variant.id.clone(),
            weight: variant.weight,
            endpoints: variant.endpoints.iter().filter_map(handle).collect(),
            leaving: leaving.filter_map(|(position, key)| Some((position, handle(key)?))).collect(),
        }
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
