//! The kinds of what servers list and clients use by name. Only those in [`Kind::SERVED`] are served so far.

use std::fmt;
use std::ops::{Index, IndexMut};

use crate::error_code::ErrorCode;

/// What is aggregated over servers. All that the protocol says of a kind is in its [`Row`]; what templates need besides
/// is in CONTRIBUTING.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Tool,
    Prompt,
    Resource,
    /// Of resources.
    Template,
}

/// What the protocol says about one kind.
struct Row {
    noun: &'static str,
    capability: &'static str,
    list: &'static str,
    array: &'static str,
    key: &'static str,
    list_changed: &'static str,
    method: &'static str,
    named_in: Named,
    unknown: ErrorCode,
    attribute: &'static str,
    expected: bool,
}

/// Where a request says which one it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// `params.name`.
    Name,
    /// `params.uri`.
    Uri,
}

const TOOL: Row = Row {
    noun: "tool",
    capability: "tools",
    list: "tools/list",
    array: "tools",
    key: "name",
    list_changed: "notifications/tools/list_changed",
    method: "tools/call",
    named_in: Named::Name,
    unknown: ErrorCode::INVALID_PARAMS,
    attribute: "gen_ai.tool.name",
    expected: true,
};
const PROMPT: Row = Row {
    noun: "prompt",
    capability: "prompts",
    list: "prompts/list",
    array: "prompts",
    key: "name",
    list_changed: "notifications/prompts/list_changed",
    method: "prompts/get",
    named_in: Named::Name,
    unknown: ErrorCode::INVALID_PARAMS,
    attribute: "gen_ai.prompt.name",
    expected: false,
};
const RESOURCE: Row = Row {
    noun: "resource",
    capability: "resources",
    list: "resources/list",
    array: "resources",
    key: "uri",
    list_changed: "notifications/resources/list_changed",
    method: "resources/read",
    named_in: Named::Uri,
    unknown: ErrorCode::RESOURCE_NOT_FOUND,
    attribute: "mcp.resource.uri",
    expected: false,
};
const TEMPLATE: Row = Row {
    noun: "resource template",
    list: "resources/templates/list",
    array: "resourceTemplates",
    key: "uriTemplate",
    ..RESOURCE
};

impl Kind {
    pub const ALL: [Self; 4] = [Self::Tool, Self::Prompt, Self::Resource, Self::Template];
    /// Those that the gateway lists and serves.
    pub const SERVED: [Self; 1] = [Self::Tool];

    const fn row(self) -> &'static Row {
        match self {
            Self::Tool => &TOOL,
            Self::Prompt => &PROMPT,
            Self::Resource => &RESOURCE,
            Self::Template => &TEMPLATE,
        }
    }

    /// The member of a server's `capabilities` that says that it has some.
    #[must_use]
    pub const fn capability(self) -> &'static str {
        self.row().capability
    }

    /// Whether a server is asked for them though it does not declare them: some have tools and declare nothing.
    #[must_use]
    pub const fn is_expected(self) -> bool {
        self.row().expected
    }

    /// The method that lists them.
    #[must_use]
    pub const fn list(self) -> &'static str {
        self.row().list
    }

    /// The kind that `method` lists, if it is served.
    #[must_use]
    pub fn listed_by(method: &str) -> Option<Self> {
        Self::SERVED.into_iter().find(|kind| kind.list() == method)
    }

    /// The method that uses one of them.
    #[must_use]
    pub const fn method(self) -> &'static str {
        self.row().method
    }

    /// The kind of what `method` uses, if it is served.
    #[must_use]
    pub fn used_by(method: &str) -> Option<Self> {
        Self::SERVED.into_iter().find(|kind| kind.method() == method)
    }

    pub(crate) const fn named_in(self) -> Named {
        self.row().named_in
    }

    /// The member of a list's result that has them.
    #[must_use]
    pub const fn array(self) -> &'static str {
        self.row().array
    }

    /// The member of one of them that says which it is.
    pub(crate) const fn key(self) -> &'static str {
        self.row().key
    }

    /// Whether clients see another name than the server's: a URI is not changed.
    #[must_use]
    pub const fn is_renamed(self) -> bool {
        matches!(self.named_in(), Named::Name)
    }

    /// The method that says that the list is another one.
    #[must_use]
    pub const fn list_changed(self) -> &'static str {
        self.row().list_changed
    }

    /// Whether `method` says that the list of a kind that is served is another one.
    #[must_use]
    pub fn is_changed_by(method: &str) -> bool {
        Self::SERVED.into_iter().any(|kind| kind.list_changed() == method)
    }

    /// The error for one that no server has.
    #[must_use]
    pub const fn unknown(self) -> ErrorCode {
        self.row().unknown
    }

    /// One of them, in a sentence.
    #[must_use]
    pub const fn noun(self) -> &'static str {
        self.row().noun
    }

    /// The attribute of a span that names one, by OpenTelemetry's conventions for MCP.
    #[must_use]
    pub const fn attribute(self) -> &'static str {
        self.row().attribute
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
