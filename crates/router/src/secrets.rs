//! References to secrets become their values here, at the moment they are used, and nowhere else.
//!
//! A value never leaves this module inside anything that can be printed: errors name the reference, and [`Secret`] shows
//! only that there is one.

use std::fmt;

use model::{Piece, Reference, Template, TemplateError};

/// A text with its references replaced. Prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A variable of the router's own environment, if it has it.
    #[must_use]
    pub fn inherited(name: &str) -> Option<Self> {
        std::env::var(name).ok().map(Self)
    }

    /// The value, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why a text with references has no value. `place` is where the text stands in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("{place}: {source}")]
    Template { place: String, source: TemplateError },
    #[error("{place}: `{reference}` is not set in the router's environment")]
    NotSet { place: String, reference: Reference },
    #[error("{place}: `{reference}` cannot be read by the router: {cause}")]
    Unreadable { place: String, reference: Reference, cause: std::io::ErrorKind },
    #[error("{place}: `{reference}` is not UTF-8 text")]
    NotText { place: String, reference: Reference },
}

/// The value of a configured text at `place`.
///
/// # Errors
/// [`SecretError`], naming the reference and never its value.
pub fn resolve(place: &str, text: &str) -> Result<Secret, SecretError> {
    let template = Template::parse(text).map_err(|source| SecretError::Template { place: place.into(), source })?;
    let mut value = String::new();
    for piece in &template.0 {
        match piece {
            Piece::Text(text) => value.push_str(text),
            Piece::Reference(reference) => value.push_str(&look_up(place, reference)?),
        }
    }
    Ok(Secret(value))
}

fn look_up(place: &str, reference: &Reference) -> Result<String, SecretError> {
    let (place, named) = (|| place.to_owned(), || reference.clone());
    match reference {
        Reference::Env(name) => std::env::var(name).map_err(|error| match error {
            std::env::VarError::NotPresent => SecretError::NotSet { place: place(), reference: named() },
            std::env::VarError::NotUnicode(_) => SecretError::NotText { place: place(), reference: named() },
        }),
        Reference::File(path) => {
            let bytes = std::fs::read(path).map_err(|error| SecretError::Unreadable {
                place: place(),
                reference: named(),
                cause: error.kind(),
            })?;
            let text =
                String::from_utf8(bytes).map_err(|_| SecretError::NotText { place: place(), reference: named() })?;
            let text = text.strip_suffix('\n').unwrap_or(&text);
            Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
        }
    }
}

#[cfg(test)]
mod tests;
