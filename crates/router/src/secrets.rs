//! References to secrets become their values here, at the moment they are used, and nowhere else.
//!
//! A value never leaves this module inside anything that can be printed: errors name the reference, and [`Secret`]
//! shows only that there is one. Files are read first, away from the threads that serve ([`Secrets::of`]); with them in
//! hand every text has its value at once ([`Secrets::resolve`]).

mod echo;
mod file;
mod said;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use model::{Piece, Reference, Template, TemplateError, Transport};

pub(crate) use echo::{Echo, Given};
pub(crate) use file::FileFault;
pub(crate) use said::Said;

/// A text with its references replaced. Prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// A variable of the router's own environment, if it has it.
    pub(crate) fn inherited(name: &str) -> Option<Self> {
        std::env::var(name).ok().map(Self)
    }

    /// The value, for the one place that needs it.
    pub(crate) fn expose(&self) -> &str {
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
    #[error("{place}: `{reference}` cannot be read by the router: {fault}")]
    Unreadable { place: String, reference: Reference, fault: FileFault },
    #[error("{place}: `{reference}` is not UTF-8 text")]
    NotText { place: String, reference: Reference },
}

/// How long the files of one server may take to be read, unless less time is left.
pub(crate) const READ_LIMIT: Duration = Duration::from_secs(5);

/// The files that some texts refer to, as they were when they were read.
#[derive(Debug, Default)]
pub(crate) struct Secrets {
    files: BTreeMap<String, Result<Secret, FileFault>>,
    /// What is not to be shown while these values are in use, if a server is given them.
    given: Arc<Given>,
}

impl Secrets {
    /// The files of everything that is needed to reach a server.
    pub(crate) async fn of(transport: &Transport, limit: Duration) -> Self {
        let templates = transport.templates();
        Self::of_texts(templates.iter().map(|(_, text)| *text), limit).await
    }

    /// Whether anything of what is needed to reach a server may become another value.
    pub(crate) fn are_in(transport: &Transport) -> bool {
        !references_in(transport).is_empty()
    }

    /// Reads all files at the same time. Ready at once where there are none.
    pub(crate) async fn of_texts(texts: impl Iterator<Item = &str>, limit: Duration) -> Self {
        let paths = references(texts).into_iter().filter_map(|reference| match reference {
            Reference::File(path) => Some(path),
            Reference::Env(_) => None,
        });
        let paths: BTreeSet<_> = paths.collect();
        let reads = paths.into_iter().map(|path| async move {
            let read = file::read(&path, limit).await;
            (path, read)
        });
        Self { files: futures_util::future::join_all(reads).await.into_iter().collect(), given: Arc::default() }
    }

    /// The value of a configured text at `place`, which must be among those that the files were read for.
    ///
    /// # Errors
    /// [`SecretError`], naming the reference and never its value.
    pub(crate) fn resolve(&self, place: &str, text: &str) -> Result<Secret, SecretError> {
        let template = Template::parse(text).map_err(|source| SecretError::Template { place: place.into(), source })?;
        let mut value = String::new();
        for piece in &template.0 {
            match piece {
                Piece::Text(text) => value.push_str(text),
                Piece::Reference(reference) => value.push_str(self.look_up(place, reference)?.expose()),
            }
        }
        Ok(Secret(value))
    }

    /// Held by whatever uses these values.
    pub(crate) fn given(&self) -> Arc<Given> {
        Arc::clone(&self.given)
    }

    fn look_up(&self, place: &str, reference: &Reference) -> Result<Secret, SecretError> {
        let (place, named) = (|| place.to_owned(), || reference.clone());
        match reference {
            Reference::Env(name) => std::env::var(name).map(Secret).map_err(|error| match error {
                std::env::VarError::NotPresent => SecretError::NotSet { place: place(), reference: named() },
                std::env::VarError::NotUnicode(_) => SecretError::NotText { place: place(), reference: named() },
            }),
            Reference::File(path) => match self.files.get(path) {
                Some(Ok(secret)) => Ok(secret.clone()),
                Some(Err(FileFault::NotText)) => Err(SecretError::NotText { place: place(), reference: named() }),
                Some(Err(fault)) => Err(SecretError::Unreadable { place: place(), reference: named(), fault: *fault }),
                None => Err(SecretError::Unreadable { place: place(), reference: named(), fault: FileFault::NotRead }),
            },
        }
    }
}

fn references_in(transport: &Transport) -> Vec<Reference> {
    references(transport.templates().into_iter().map(|(_, text)| text))
}

/// The references in the texts, as far as the texts can be parsed.
fn references<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<Reference> {
    let pieces = texts.filter(|text| text.contains("${")).flat_map(Template::parse).flat_map(|template| template.0);
    let references = pieces.filter_map(|piece| match piece {
        Piece::Reference(reference) => Some(reference),
        Piece::Text(_) => None,
    });
    references.collect()
}

#[cfg(test)]
mod tests;
