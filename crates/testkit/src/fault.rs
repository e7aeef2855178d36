//! Why a test cannot go on: one type that takes every error, since no code decides by the kind of error.

use std::fmt;

/// What went wrong, in words, with the causes.
pub struct Fault(String);

/// A fault that says `text`.
pub fn fault(text: impl Into<String>) -> Fault {
    Fault(text.into())
}

impl Fault {
    /// The same, told as part of something larger.
    pub fn during(self, what: impl fmt::Display) -> Self {
        Self(format!("{what}: {}", self.0))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// As `Display`: it is what a test that returns a fault prints.
impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Fault {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        Self(text)
    }
}
