//! The revisions of the protocol, and which of them this gateway serves.

use std::fmt;

/// A published protocol revision. Ordered by date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProtocolVersion {
    V2024_11_05,
    V2025_03_26,
    V2025_06_18,
    V2025_11_25,
    V2026_07_28,
}

/// A `MCP-Protocol-Version` header that does not fit the session: HTTP 400.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("MCP-Protocol-Version {found:?} is not supported here; supported: {}", ProtocolVersion::SERVED.map(ProtocolVersion::as_str).join(", "))]
pub struct UnsupportedVersion {
    pub found: String,
}

impl ProtocolVersion {
    pub const KNOWN: [Self; 5] =
        [Self::V2024_11_05, Self::V2025_03_26, Self::V2025_06_18, Self::V2025_11_25, Self::V2026_07_28];
    /// What clients may speak to the gateway.
    pub const SERVED: [Self; 2] = [Self::V2025_06_18, Self::V2025_11_25];
    /// What the gateway offers, as client and as server.
    pub const LATEST: Self = Self::V2025_11_25;

    pub fn parse(text: &str) -> Option<Self> {
        Self::KNOWN.into_iter().find(|version| version.as_str() == text)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V2024_11_05 => "2024-11-05",
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }

    pub fn is_served(self) -> bool {
        Self::SERVED.contains(&self)
    }

    /// Begins with `initialize` and may have a session; later revisions are stateless.
    pub fn has_initialize(self) -> bool {
        self <= Self::V2025_11_25
    }

    /// The version to answer `initialize` with: the requested one if served, else the latest served.
    pub fn negotiate(requested: &str) -> Self {
        Self::parse(requested).filter(|version| version.is_served()).unwrap_or(Self::LATEST)
    }

    /// The version of a message after `initialize`, from its header and what the session negotiated. What was
    /// negotiated binds: another served version in the header does not change it.
    ///
    /// # Errors
    /// [`UnsupportedVersion`] (HTTP 400) if the header names a version not served.
    pub fn of_message(header: Option<&str>, negotiated: Self) -> Result<Self, UnsupportedVersion> {
        match header.map(str::trim) {
            Some(found) if !Self::parse(found).is_some_and(Self::is_served) => {
                Err(UnsupportedVersion { found: found.to_owned() })
            }
            _ => Ok(negotiated),
        }
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
