//! Layers merged, typed, and not yet checked: the author's values, each with its place in the text.

mod advice;
mod check;
mod http;
mod literal;
mod lookalike;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use advice::{MAX_ADVICE, command_not_found, may_download};
pub use http::OWNED_HEADERS;
pub use literal::is_secret_argument;
pub use lookalike::lookalike;

use crate::{BackendPolicy, FixedBackend, Policy, Position};

/// A value and where its author wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<T> {
    pub value: T,
    pub at: Position,
    /// As `servers[2].transport.url`.
    pub path: Arc<str>,
}

/// What [`Draft::into_snapshot`] makes a snapshot of, or all violations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Single values are checked where they are spelled; here they are already of their type and in range.
    pub policy: Policy,
    /// In the order of layers, then of the file.
    pub backends: Vec<DraftBackend>,
    /// Servers that were judged before under the same policy, and have not changed: each with the number of `backends`
    /// before it.
    pub known: Vec<(usize, Arc<FixedBackend>)>,
    /// Where `servers` stands, or the document begins.
    pub at: Position,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DraftBackend {
    pub at: Position,
    /// As `servers[2]`.
    pub path: Arc<str>,
    /// Its layer is in force as it is: what it says is no part of the change that is judged.
    pub in_force: bool,
    pub id: Option<Located<String>>,
    pub transport: Option<DraftTransport>,
    pub tools: Option<Vec<Located<String>>>,
    pub policy: BackendPolicy,
    /// The keys of `policy` that were written, each with the place of its value.
    pub written: Vec<Located<&'static str>>,
}

#[derive(Clone, PartialEq, Eq)]
pub enum DraftTransport {
    Stdio {
        at: Position,
        command: Option<Located<String>>,
        args: Vec<Located<String>>,
        env: Vec<(Located<String>, Located<String>)>,
        cwd: Option<Located<String>>,
    },
    /// `url` and `urls` alike.
    Http { at: Position, urls: Vec<Located<String>>, headers: Vec<(Located<String>, Located<String>)> },
}

/// Without the values, as [`crate::Transport`].
impl std::fmt::Debug for DraftTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, at) = match self {
            Self::Stdio { at, .. } => ("Stdio", at),
            Self::Http { at, .. } => ("Http", at),
        };
        f.debug_struct(name).field("at", at).finish_non_exhaustive()
    }
}
