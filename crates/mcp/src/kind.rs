//! The kinds of what servers list and clients use by name.

use std::fmt;
use std::ops::{Index, IndexMut};

/// What is aggregated over servers. Everything about it that differs from kind to kind is said here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Tool,
    Prompt,
    Resource,
    /// Of resources.
    Template,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Tool, Self::Prompt, Self::Resource, Self::Template];
    /// Those that the gateway lists and serves.
    pub const SERVED: [Self; 1] = [Self::Tool];

    /// The method that lists them.
    #[must_use]
    pub const fn list(self) -> &'static str {
        match self {
            Self::Tool => "tools/list",
            Self::Prompt => "prompts/list",
            Self::Resource => "resources/list",
            Self::Template => "resources/templates/list",
        }
    }

    /// The kind that `method` lists, if it is served.
    #[must_use]
    pub fn listed_by(method: &str) -> Option<Self> {
        Self::SERVED.into_iter().find(|kind| kind.list() == method)
    }

    /// The member of a list's result that has them.
    #[must_use]
    pub const fn array(self) -> &'static str {
        match self {
            Self::Tool => "tools",
            Self::Prompt => "prompts",
            Self::Resource => "resources",
            Self::Template => "resourceTemplates",
        }
    }

    /// The member of one of them that says which it is.
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Self::Tool | Self::Prompt => "name",
            Self::Resource => "uri",
            Self::Template => "uriTemplate",
        }
    }

    /// Whether clients see another name than the server's: a URI is not changed.
    #[must_use]
    pub const fn is_renamed(self) -> bool {
        match self {
            Self::Tool | Self::Prompt => true,
            Self::Resource | Self::Template => false,
        }
    }

    /// The method that says that the list is another one.
    #[must_use]
    pub const fn list_changed(self) -> &'static str {
        match self {
            Self::Tool => "notifications/tools/list_changed",
            Self::Prompt => "notifications/prompts/list_changed",
            Self::Resource | Self::Template => "notifications/resources/list_changed",
        }
    }

    /// Whether `method` says that the list of a kind that is served is another one.
    #[must_use]
    pub fn is_changed_by(method: &str) -> bool {
        Self::SERVED.into_iter().any(|kind| kind.list_changed() == method)
    }

    /// One of them, in a sentence.
    #[must_use]
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Prompt => "prompt",
            Self::Resource => "resource",
            Self::Template => "resource template",
        }
    }
}

/// Several of them, in a sentence.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s", self.noun())
    }
}

/// One value for each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByKind<T>([T; Kind::ALL.len()]);

impl<T> ByKind<T> {
    pub fn from_fn(make: impl FnMut(Kind) -> T) -> Self {
        Self(Kind::ALL.map(make))
    }

    pub fn iter(&self) -> impl Iterator<Item = (Kind, &T)> {
        Kind::ALL.into_iter().zip(&self.0)
    }
}

impl<T> Index<Kind> for ByKind<T> {
    type Output = T;

    fn index(&self, kind: Kind) -> &T {
        &self.0[kind as usize]
    }
}

impl<T> IndexMut<Kind> for ByKind<T> {
    fn index_mut(&mut self, kind: Kind) -> &mut T {
        &mut self.0[kind as usize]
    }
}
