//! Why an endpoint is not up.

use std::fmt;
use std::sync::Arc;

/// Why an endpoint is not, or was not, up. Displayed it is for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// For MCP clients.
    pub plain: Arc<str>,
    /// With what the server said.
    pub full: Arc<str>,
    /// Of the log line that has it.
    pub reference: Option<LogReference>,
}

impl Reason {
    /// One that holds no word of the server.
    #[must_use]
    pub fn own(text: &str) -> Self {
        let text: Arc<str> = text.into();
        Self { plain: Arc::clone(&text), full: text, reference: None }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.full)
    }
}

/// A short name for one log line. Random, so that lines of two runs of a router do not share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogReference(pub u32);

impl fmt::Display for LogReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}
