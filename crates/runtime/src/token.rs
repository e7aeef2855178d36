//! The admin token: a secret in a file; every operator who may administer over TCP can read that file.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use data_encoding::HEXLOWER;
use rand::{TryRngCore, rngs::OsRng};
use subtle::ConstantTimeEq;

use crate::fault;
use crate::state_dir::{Maker, PrivateFileError, create_private, create_private_file, read_private};

/// Shorter ones can be guessed.
const LENGTH_MIN: usize = 16;
/// Longer ones do not fit a header, and are some other file.
const LENGTH_MAX: usize = 4096;

/// A secret that is compared in constant time and never shown.
#[derive(Clone)]
pub struct AdminToken(Arc<str>);

/// Why a token file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("cannot create the directory of the token file {path}")]
    Directory { path: PathBuf, source: io::Error },
    #[error("the operating system gives no randomness for {path}")]
    Random { path: PathBuf, source: io::Error },
    #[error("cannot create the token file {path}")]
    Create { path: PathBuf, source: io::Error },
    #[error("there is no token file {path}")]
    Missing { path: PathBuf },
    #[error("the token file cannot be used: {}", fault::chain(.0))]
    File(PrivateFileError),
    #[error("the token file {path} holds {length} bytes; expected one line of 16 to 4096 visible ASCII characters")]
    Malformed { path: PathBuf, length: usize },
}

impl AdminToken {
    /// What its file is called in a state directory.
    pub const FILE: &str = "admin.token";

    /// Reads the token of `path`, or creates it there (mode 0600, 256 random bits in hex). Of several processes that do
    /// so at once, one creates it and all get the same.
    ///
    /// # Errors
    /// See [`TokenError`]; a file that everyone may read is refused, since its secret must be taken as known.
    pub fn load_or_create(path: &Path) -> Result<Self, TokenError> {
        if !path.exists() {
            let failed = |source| TokenError::Directory { path: path.to_owned(), source };
            path.parent().map_or(Ok(()), create_private).map_err(failed)?;
            let token = random(path)?;
            let failed = |source| TokenError::Create { path: path.to_owned(), source };
            create_private_file(path, token.as_bytes()).map_err(failed)?;
        }
        Self::load(path)
    }

    /// Reads the token of `path`.
    pub fn load(path: &Path) -> Result<Self, TokenError> {
        // A group may read it, even if this process made it: see `Maker::Operator`.
        let content = read_private(path, Maker::Operator, LENGTH_MAX as u64 + 2).map_err(TokenError::File)?;
        let content = content.ok_or_else(|| TokenError::Missing { path: path.to_owned() })?;
        let text = content.trim_ascii();
        let valid = (LENGTH_MIN..=LENGTH_MAX).contains(&text.len()) && text.iter().all(u8::is_ascii_graphic);
        let text = std::str::from_utf8(text).ok().filter(|_| valid);
        text.map(|text| Self(text.into()))
            .ok_or_else(|| TokenError::Malformed { path: path.to_owned(), length: content.len() })
    }

    /// Whether `presented` is this token, in a time that does not tell how much of it is right.
    pub fn matches(&self, presented: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(presented).into()
    }

    /// The secret, to be sent and nothing else.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(…)")
    }
}

fn random(path: &Path) -> Result<String, TokenError> {
    let mut bytes = [0; 32];
    OsRng
        .try_fill_bytes(&mut bytes)
        .map_err(|error| TokenError::Random { path: path.to_owned(), source: io::Error::other(error) })?;
    Ok(HEXLOWER.encode(&bytes) + "\n")
}

#[cfg(test)]
mod tests;
