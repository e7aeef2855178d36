//! The table: exposed names by kind, the backends behind them, their variants and endpoints.

use std::collections::BTreeMap;
use std::sync::Arc;

use ahash::RandomState;
use mcp::{ByKind, Item, Kind};
use model::{BackendId, VariantId};

/// All names of one kind.
#[derive(Debug, Default)]
#[expect(clippy::disallowed_types, reason = "only looked up by name, never iterated")]
pub struct Names(std::collections::HashMap<Box<str>, Route, RandomState>);

/// An immutable routing value. `E` is the handle of an endpoint.
#[derive(Debug)]
pub struct RouteTable<E> {
    names: ByKind<Arc<Names>>,
    backends: Box<[BackendRoutes<E>]>,
}

/// All there is to choose from for one backend.
#[derive(Debug, Clone)]
pub struct BackendRoutes<E> {
    pub id: BackendId,
    pub variants: Box<[VariantRoutes<E>]>,
    pub having: ByKind<Having>,
}

/// Which variants of a backend, and which of its staying endpoints, have what the backend offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Having {
    Alike(Variants),
    /// By the backend's own name for it.
    Each(BTreeMap<Box<str>, Variants>),
}

impl Having {
    /// The variants that have the element of that name.
    pub fn variants(&self, own: &str) -> Variants {
        match self {
            Self::Alike(all) => *all,
            Self::Each(by_name) => by_name.get(own).copied().unwrap_or(Variants::ALL),
        }
    }
}

impl Default for Having {
    fn default() -> Self {
        Self::Alike(Variants::ALL)
    }
}

/// One version of a backend. With weight 0 it gets nothing, whatever happens to the others.
#[derive(Debug, Clone)]
pub struct VariantRoutes<E> {
    pub id: VariantId,
    pub weight: u32,
    pub endpoints: Box<[E]>,
    /// Endpoints that the configuration has no more and that take calls until their weight has fallen to nothing. Each
    /// offers what it offered, so each has a position of its own in [`Variants`], beyond those of the variants.
    pub staying: Box<[(usize, E)]>,
}

/// One name for the table to be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name that clients see.
    pub exposed: Box<str>,
    pub route: Route,
}

/// What a name leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub kind: Kind,
    /// As its server lists it.
    pub item: Arc<Item>,
    /// Position of its backend in the list the table is built from.
    pub backend: usize,
}

/// A set of variants and staying endpoints of one backend, by position. Those beyond the first 63 count as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variants(u64);

impl Variants {
    pub const ALL: Self = Self(u64::MAX);

    pub fn has(self, position: usize) -> bool {
        self.0 >> position.min(63) & 1 == 1
    }

    #[must_use]
    pub fn and(self, position: usize) -> Self {
        Self(self.0 | 1 << position.min(63))
    }

    /// Those of them that are at a lower position.
    #[must_use]
    pub fn below(self, position: usize) -> Self {
        let lower = u32::try_from(position).ok().and_then(|position| 1_u64.checked_shl(position));
        Self(self.0 & lower.map_or(u64::MAX, |bit| bit - 1))
    }
}

impl FromIterator<usize> for Variants {
    fn from_iter<T: IntoIterator<Item = usize>>(positions: T) -> Self {
        positions.into_iter().fold(Self(0), Self::and)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    #[error("two of a kind are to be shown as `{name}`: one of `{first}`, one of `{second}`")]
    Duplicate { name: String, first: BackendId, second: BackendId },
    #[error("`{name}` names backend number {backend}, there are {backends}")]
    NoBackend { name: String, backend: usize, backends: usize },
}

impl<E> RouteTable<E> {
    /// # Errors
    /// When two entries of a kind have one name, or one names a backend that is not in the list. The fault is then in
    /// the merge of the names: a table never decides which entry keeps one.
    pub fn build(backends: Vec<BackendRoutes<E>>, entries: Vec<Entry>) -> Result<Self, BuildError> {
        Self::build_with(backends, entries, &ByKind::default())
    }

    /// As [`Self::build`]; `known` are the names of kinds that have no entries, from a table of the same backends.
    pub fn build_with(
        backends: Vec<BackendRoutes<E>>,
        entries: Vec<Entry>,
        known: &ByKind<Option<Arc<Names>>>,
    ) -> Result<Self, BuildError> {
        let mut names = ByKind::<Names>::from_fn(|_| Names::default());
        for Entry { exposed, route } in entries {
            let Some(owner) = backends.get(route.backend) else {
                let (name, backend) = (exposed.into(), route.backend);
                return Err(BuildError::NoBackend { name, backend, backends: backends.len() });
            };
            if let Some(first) = names[route.kind].0.get(&exposed) {
                let first = backends[first.backend].id.clone();
                return Err(BuildError::Duplicate { name: exposed.into(), first, second: owner.id.clone() });
            }
            names[route.kind].0.insert(exposed, route);
        }
        let names = ByKind::from_fn(|kind| match &known[kind] {
            Some(known) => Arc::clone(known),
            None => Arc::new(std::mem::take(&mut names[kind])),
        });
        Ok(Self { names, backends: backends.into() })
    }

    /// The route of the name that clients call `exposed`.
    pub fn find(&self, kind: Kind, exposed: &str) -> Option<&Route> {
        self.names[kind].0.get(exposed)
    }

    /// The backend of a route of this table.
    ///
    /// # Panics
    /// May panic on a route of another table.
    pub fn backend(&self, route: &Route) -> &BackendRoutes<E> {
        &self.backends[route.backend]
    }

    /// In the order the table was built from.
    pub fn backends(&self) -> &[BackendRoutes<E>] {
        &self.backends
    }

    /// How many names of that kind lead anywhere.
    pub fn count(&self, kind: Kind) -> usize {
        self.names[kind].0.len()
    }

    /// For [`Self::build_with`].
    pub fn names(&self, kind: Kind) -> &Arc<Names> {
        &self.names[kind]
    }
}

impl<E> Default for RouteTable<E> {
    fn default() -> Self {
        Self { names: ByKind::default(), backends: Box::default() }
    }
}

#[cfg(test)]
mod tests;
