//! What clients see of one kind: what all backends offer of it, merged into one list of distinct names.
//!
//! Merging decides by rule only, so that every router with the same input shows the same list: entries are in the order
//! of their exposed names, and a name that two backends claim goes to its present owner, else to the first in the
//! order of the configuration.

mod page;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use crate::item::Item;
use crate::kind::Kind;
use crate::names::Naming;

pub use page::{InvalidCursor, PAGE_BYTES, Page};

/// Elements per page of a list: more than clients that ignore cursors are likely to miss.
pub const PAGE_SIZE: NonZeroUsize = NonZeroUsize::new(1000).expect("not zero");

/// What one backend offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer<'a> {
    pub backend: &'a str,
    pub items: &'a [Arc<Item>],
    /// The names (the backend's own) to show; None shows all.
    pub shown: Option<&'a [String]>,
    /// Why nothing of it is in the list, for clients, if it has not said what it offers.
    pub missing: Option<&'a str>,
}

/// Which backend had each exposed name.
pub type Owners = BTreeMap<Box<str>, Box<str>>;

/// One exposed element.
#[derive(Clone, Debug)]
pub struct Entry {
    pub exposed: Box<str>,
    /// Position in the offers merged.
    pub backend: usize,
    pub item: Arc<Item>,
}

/// An element that is offered but not exposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withheld {
    /// Position in the offers merged.
    pub backend: usize,
    /// The backend's own name for it.
    pub name: Box<str>,
    pub reason: Reason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Another backend has the exposed name.
    Collision { owner: usize },
    /// The configuration shows others of this backend only.
    NotShown,
    /// The backend itself listed the name before.
    Duplicate,
}

/// The merged list.
#[derive(Debug)]
pub struct Catalog {
    naming: Naming,
    /// What was merged.
    offers: Vec<Kept>,
    entries: Vec<Entry>,
    withheld: Vec<Withheld>,
    absent: Vec<(usize, Box<str>)>,
    renamed: Vec<usize>,
    listing: page::Listing,
}

/// An offer that was merged.
#[derive(Debug)]
struct Kept {
    backend: Box<str>,
    items: Box<[Arc<Item>]>,
    shown: Option<Box<[String]>>,
    missing: Option<Box<str>>,
}

impl Kept {
    fn of(offer: &Offer<'_>) -> Self {
        Self {
            backend: offer.backend.into(),
            items: offer.items.into(),
            shown: offer.shown.map(Into::into),
            missing: offer.missing.map(Into::into),
        }
    }

    fn offer(&self) -> Offer<'_> {
        let Self { backend, items, shown, missing } = self;
        Offer { backend, items, shown: shown.as_deref(), missing: missing.as_deref() }
    }
}

impl Catalog {
    /// Merges `offers`, given in the order of the configuration. `owners` are those of the catalog now live; none when
    /// the order of the configuration alone shall decide.
    pub fn merge(kind: Kind, naming: Naming, offers: &[Offer<'_>], owners: &Owners, page_size: NonZeroUsize) -> Self {
        let mut withheld = Vec::new();
        let mut absent = Vec::new();
        let mut claims: BTreeMap<Box<str>, Vec<Entry>> = BTreeMap::new();
        for (backend, offer) in offers.iter().enumerate() {
            let mut own = BTreeMap::new();
            for item in offer.items {
                let reason = if own.insert(item.name(), ()).is_some() {
                    Reason::Duplicate
                } else if offer.shown.is_some_and(|shown| !shown.iter().any(|name| name == item.name())) {
                    Reason::NotShown
                } else {
                    let exposed: Box<str> = exposed(kind, naming, offer.backend, item.name()).into();
                    let entry = Entry { exposed: exposed.clone(), backend, item: Arc::clone(item) };
                    claims.entry(exposed).or_default().push(entry);
                    continue;
                };
                withheld.push(Withheld { backend, name: item.name().into(), reason });
            }
            let missing = offer.shown.unwrap_or_default().iter().filter(|name| !own.contains_key(name.as_str()));
            absent.extend(missing.map(|name| (backend, name.as_str().into())));
        }
        let mut entries = Vec::with_capacity(claims.len());
        for (exposed, mut claimants) in claims {
            let present = owners.get(&exposed);
            let keeps =
                claimants.iter().position(|claim| present.is_some_and(|id| **id == *offers[claim.backend].backend));
            let winner = claimants.remove(keeps.unwrap_or(0));
            let reason = Reason::Collision { owner: winner.backend };
            withheld.extend(claimants.iter().map(|claim| Withheld {
                backend: claim.backend,
                name: claim.item.name().into(),
                reason,
            }));
            entries.push(winner);
        }
        withheld.sort_by(|a, b| (a.backend, &a.name).cmp(&(b.backend, &b.name)));
        let missing = offers.iter().filter_map(|offer| Some((offer.backend, offer.missing?)));
        let listing = page::Listing::new(kind, missing, page_size);
        let plain = |entry: &Entry| plain(kind, naming, offers[entry.backend].backend, entry.item.name());
        let renamed = entries.iter().enumerate().filter(|(_, entry)| *entry.exposed != plain(entry)).map(|(at, _)| at);
        let renamed = renamed.collect();
        Self { naming, offers: offers.iter().map(Kept::of).collect(), entries, withheld, absent, renamed, listing }
    }

    /// Whether merging these offers leads to this catalog again: with the same owners, or with its own.
    pub fn is_of(&self, naming: Naming, offers: &[Offer<'_>]) -> bool {
        self.naming == naming && self.offers.iter().map(Kept::offer).eq(offers.iter().copied())
    }

    /// Whether two backends want one name.
    pub fn is_disputed(&self) -> bool {
        self.withheld.iter().any(|withheld| matches!(withheld.reason, Reason::Collision { .. }))
    }

    /// The catalog of no backends.
    pub fn empty(kind: Kind) -> Self {
        Self::merge(kind, Naming::Prefix, &[], &Owners::new(), PAGE_SIZE)
    }

    /// In the order of their exposed names.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub fn find(&self, exposed: &str) -> Option<&Entry> {
        let position = self.entries.binary_search_by(|entry| (*entry.exposed).cmp(exposed)).ok()?;
        self.entries.get(position)
    }

    /// By backend, then name.
    pub fn withheld(&self) -> &[Withheld] {
        &self.withheld
    }

    /// Names the configuration wants shown that the backend (by position) does not offer.
    pub fn absent(&self) -> &[(usize, Box<str>)] {
        &self.absent
    }

    /// The own names of what a backend (by position) offers.
    pub fn offered(&self, backend: usize) -> impl Iterator<Item = &str> + Clone {
        self.offers.get(backend).into_iter().flat_map(|offer| &offer.items).map(|item| item.name())
    }

    /// The name under which clients see what a backend (by position) calls `own`, if they see it.
    pub fn shown_as(&self, backend: usize, own: &str) -> Option<&str> {
        let exposed = exposed(self.listing.kind(), self.naming, &self.offers.get(backend)?.backend, own);
        let entry = self.find(&exposed).filter(|entry| entry.backend == backend && entry.item.name() == own)?;
        Some(&entry.exposed)
    }

    /// Entries whose exposed name is not simply made of the backend's name and their own, in order.
    pub fn renamed(&self) -> impl Iterator<Item = &Entry> {
        self.renamed.iter().filter_map(|at| self.entries.get(*at))
    }

    /// There is a backend, and no backend has listed anything yet: the list is not empty but unknown.
    pub fn is_unknown(&self) -> bool {
        !self.offers.is_empty() && self.offers.iter().all(|offer| offer.missing.is_some())
    }

    /// Backends of which the list knows nothing, each with the reason.
    pub fn missing(&self) -> impl Iterator<Item = (&str, &str)> {
        self.offers.iter().filter_map(|offer| Some((&*offer.backend, offer.missing.as_deref()?)))
    }

    /// The owners for the next merge, so that names stay with their present backends.
    pub fn owners(&self) -> Owners {
        let owner = |entry: &Entry| (entry.exposed.clone(), self.offers[entry.backend].backend.clone());
        self.entries.iter().map(owner).collect()
    }

    /// Clients see exactly the same list: nothing to notify.
    pub fn same_list(&self, other: &Self) -> bool {
        fn seen(entry: &Entry) -> (&str, &Arc<Item>) {
            (&entry.exposed, &entry.item)
        }
        std::ptr::eq(self, other) || self.entries.iter().map(seen).eq(other.entries.iter().map(seen))
    }

    /// The answer to a request for the list.
    ///
    /// # Errors
    /// [`InvalidCursor`] (answer -32602) for a cursor this gateway did not give out.
    pub fn page(&self, cursor: Option<&str>) -> Result<Page<'_>, InvalidCursor> {
        self.listing.page(&self.entries, cursor)
    }
}

/// Names are made distinct. A URI is not changed, and belongs to the first backend that has it.
fn exposed(kind: Kind, naming: Naming, backend: &str, own: &str) -> String {
    if kind.is_renamed() { naming.exposed(backend, own) } else { own.to_owned() }
}

fn plain(kind: Kind, naming: Naming, backend: &str, own: &str) -> String {
    if kind.is_renamed() { naming.plain(backend, own) } else { own.to_owned() }
}
