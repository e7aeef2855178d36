//! Names and numbers: which node, backend or owner is meant, and which revision or attempt.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// Why a text is no identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid {kind}: {expected}")]
pub struct InvalidId {
    pub kind: &'static str,
    pub text: String,
    pub expected: &'static str,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Letters, digits, `_`, `-` and `.`, 1 to 64 of them, beginning with a letter or digit.
            pub fn new(text: &str) -> Result<Self, InvalidId> {
                let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
                let good = (1..=64).contains(&text.len())
                    && text.chars().all(legal)
                    && text.starts_with(|c: char| c.is_ascii_alphanumeric());
                if good {
                    Ok(Self(text.into()))
                } else {
                    Err(InvalidId {
                        kind: $kind,
                        text: text.into(),
                        expected: "1 to 64 letters, digits, `_`, `-` or `.`, beginning with a letter or digit",
                    })
                }
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().into()
            }
        }
    };
}

text_id!(
    /// A named MCP server as configured (`servers[].id` in the file).
    BackendId,
    "server id"
);
text_id!(
    /// One version of a backend.
    VariantId,
    "variant id"
);
text_id!(
    /// One process of this system, as it names itself: usually a router.
    NodeId,
    "node id"
);

impl VariantId {
    /// The variant of a backend that has only one.
    pub fn only() -> Self {
        Self("default".into())
    }
}

/// The owner of a layer: `file` for the watched file, `api:NAME` for a layer that came over the API.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Owner(pub String);

impl Owner {
    pub fn file() -> Self {
        Self("file".into())
    }

    pub fn api(name: &str) -> Self {
        Self(format!("api:{name}"))
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The number that a snapshot gets when it is committed. Only grows; 0 means "nothing was ever committed".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Revision {
    pub const NONE: Self = Self(0);

    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One try to make a snapshot live. Unique over restarts, because each start of config-manager has its own epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptId {
    pub epoch: u64,
    pub sequence: u64,
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.sequence)
    }
}

/// The identity of one revision log, minted when the log is created. A router that meets another log starts over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogId(pub String);

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which endpoint: equal keys share sockets, child process and upstream session over any number of revisions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EndpointKey {
    pub backend: BackendId,
    pub variant: VariantId,
    /// The digest of everything that needs a new connection when it changes, and of nothing else.
    pub digest: Digest,
}

impl EndpointKey {
    /// Comes before the keys of that backend, and after those of the backends before it.
    pub fn before_all_of(backend: &BackendId) -> Self {
        Self { backend: backend.clone(), variant: VariantId("".into()), digest: Digest::from_bytes([0; 32]) }
    }
}

impl fmt::Display for EndpointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.backend, self.variant, self.digest.short())
    }
}
