//! The configuration file that servers are added to: read once, and replaced as a whole if it is still the same.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use config_file::{Format, ReadError, Source};
use model::Owner;
use runtime::state_dir::{self, create_private, create_private_file, write_atomic};

use crate::{failure::Failure, place::PlaceArgs};

#[derive(Debug)]
pub(super) struct Target {
    pub(super) path: PathBuf,
    /// `None` if there is no such file yet.
    text: Option<String>,
}

impl Target {
    /// The file that is named, or that `up` would serve, or else one that it will serve once it is there.
    pub(super) fn find(named: Option<&Path>) -> Result<Self, Failure> {
        let place = PlaceArgs { config: named.map(Path::to_owned), state_dir: None }.find()?;
        let home = state_dir::config_home().filter(|_| place.is_demo);
        let path = home.map_or(place.config, |home| home.join("only1mcp.yaml"));
        match config_file::read(&path) {
            Ok(text) => {
                // A link stays a link.
                let path = fs::canonicalize(&path).map_err(|source| ReadError::Open { path, source })?;
                Ok(Self { path, text: Some(text) })
            }
            Err(ReadError::Missing { .. }) => Ok(Self { path, text: None }),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn source(&self) -> Source {
        Source {
            owner: Owner::file(),
            name: self.path.display().to_string().into(),
            format: Format::of(&self.path),
            text: self.text.clone().unwrap_or_default(),
        }
    }

    /// Replaces the file, or makes it, unless another program has done either since it was read.
    pub(super) fn write(&self, text: &str) -> Result<(), Failure> {
        let failed = |source: io::Error| Failure::Write { path: self.path.clone(), source };
        let is_ours = match &self.text {
            None => {
                self.path.parent().map_or(Ok(()), create_private).map_err(failed)?;
                create_private_file(&self.path, text.as_bytes()).map_err(failed)?
            }
            Some(before) => self.replace(before, text).map_err(failed)?,
        };
        if is_ours { Ok(()) } else { Err(Failure::ChangedMeanwhile { path: self.path.clone() }) }
    }

    /// Whether the file was as it had been read, and is the new one now. Another import that replaces it waits for the
    /// lock of the old file, and finds that the name leads to another one by then.
    fn replace(&self, before: &str, text: &str) -> io::Result<bool> {
        let file = File::open(&self.path)?;
        file.lock()?;
        let (held, named) = (file.metadata()?, fs::metadata(&self.path)?);
        let is_same = (held.dev(), held.ino()) == (named.dev(), named.ino());
        if !is_same || config_file::read(&self.path).ok().as_deref() != Some(before) {
            return Ok(false);
        }
        write_atomic(&self.path, text.as_bytes(), held.permissions().mode() & 0o7777)?;
        Ok(true)
    }
}
