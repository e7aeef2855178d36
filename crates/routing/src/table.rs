//! The table: exposed tool names, the backends behind them, their variants and endpoints.

use std::sync::Arc;

use ahash::RandomState;
use model::{BackendId, VariantId};

#[expect(clippy::disallowed_types, reason = "only looked up by name, never iterated")]
type Names = std::collections::HashMap<Box<str>, Tool, RandomState>;

/// An immutable routing value. `E` is the handle of an endpoint.
#[derive(Debug)]
pub struct RouteTable<E> {
    tools: Names,
    backends: Box<[BackendRoutes<E>]>,
}

/// All there is to choose from for one backend.
#[derive(Debug, Clone)]
pub struct BackendRoutes<E> {
    pub id: BackendId,
    pub variants: Box<[VariantRoutes<E>]>,
}

/// One version of a backend. With weight 0 it gets nothing, whatever becomes of the others.
#[derive(Debug, Clone)]
pub struct VariantRoutes<E> {
    pub id: VariantId,
    pub weight: u32,
    pub endpoints: Box<[E]>,
}

/// What is said about one tool when the table is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolEntry {
    /// As clients see it.
    pub exposed: Box<str>,
    /// Position of its backend in the list the table is built from.
    pub backend: usize,
    /// As its server calls it.
    pub own: Arc<str>,
    /// The same as raw JSON, quotes included: what is put into a call.
    pub own_json: Arc<str>,
    /// The server says that calling twice is as good as calling once.
    pub idempotent: bool,
}

/// What a name leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// As its server calls it.
    pub own: Arc<str>,
    /// The same as raw JSON, quotes included.
    pub own_json: Arc<str>,
    pub idempotent: bool,
    /// Position of its backend in the list the table was built from.
    pub backend: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    #[error("two tools are to be shown as `{name}`: one of `{first}`, one of `{second}`")]
    Duplicate { name: String, first: BackendId, second: BackendId },
    #[error("tool `{name}` names backend number {backend}, there are {backends}")]
    NoBackend { name: String, backend: usize, backends: usize },
}

impl<E> RouteTable<E> {
    /// # Errors
    /// When two tools have one name, or a tool names a backend that is not in the list: a fault of whoever merged the
    /// names, since a table never decides who keeps one.
    pub fn build(backends: Vec<BackendRoutes<E>>, entries: Vec<ToolEntry>) -> Result<Self, BuildError> {
        let mut tools = Names::with_capacity_and_hasher(entries.len(), RandomState::new());
        for entry in entries {
            let Some(owner) = backends.get(entry.backend) else {
                let name = entry.exposed.into();
                return Err(BuildError::NoBackend { name, backend: entry.backend, backends: backends.len() });
            };
            let tool =
                Tool { own: entry.own, own_json: entry.own_json, idempotent: entry.idempotent, backend: entry.backend };
            if let Some(first) = tools.get(&entry.exposed) {
                let first = backends[first.backend].id.clone();
                return Err(BuildError::Duplicate { name: entry.exposed.into(), first, second: owner.id.clone() });
            }
            tools.insert(entry.exposed, tool);
        }
        Ok(Self { tools, backends: backends.into() })
    }

    /// What clients call `exposed`.
    pub fn tool(&self, exposed: &str) -> Option<&Tool> {
        self.tools.get(exposed)
    }

    /// The backend of a tool of this table.
    ///
    /// # Panics
    /// May panic on a tool of another table.
    pub fn backend(&self, tool: &Tool) -> &BackendRoutes<E> {
        &self.backends[tool.backend]
    }

    /// In the order the table was built from.
    pub fn backends(&self) -> &[BackendRoutes<E>] {
        &self.backends
    }

    /// How many names lead anywhere.
    pub fn tools(&self) -> usize {
        self.tools.len()
    }
}

impl<E> Default for RouteTable<E> {
    fn default() -> Self {
        Self { tools: Names::default(), backends: Box::default() }
    }
}

#[cfg(test)]
mod tests;
