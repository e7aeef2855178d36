//! The file in which drains survive this process.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use drain::ledger::Image;
use runtime::state_dir::{create_private, write_atomic};

const FILE: &str = "drains.json";
/// Where a record goes that nobody understands, for people to look at.
const SET_ASIDE: &str = "drains.json.unreadable";

#[derive(Debug, Clone)]
pub(crate) struct Record {
    path: PathBuf,
}

/// The state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("cannot create the state directory {path}")]
    Directory { path: PathBuf, source: io::Error },
    #[error("cannot read the record of drains {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot set the unreadable record of drains {path} aside")]
    SetAside { path: PathBuf, source: io::Error },
}

impl Record {
    /// The record of that directory, and what is in it.
    ///
    /// Routers go on with what they have, so a record that cannot be understood is no reason not to start; but
    /// operators' cordons in it are lost.
    pub(crate) fn open(directory: &Path) -> Result<(Self, Image), RecordError> {
        let failed = |source| RecordError::Directory { path: directory.to_owned(), source };
        create_private(directory).map_err(failed)?;
        let path = directory.join(FILE);
        let image = match fs::read(&path) {
            Ok(content) => match serde_json::from_slice(&content) {
                Ok(image) => image,
                Err(error) => {
                    let aside = directory.join(SET_ASIDE);
                    tracing::error!(
                        path = %path.display(), kept_as = %aside.display(), %error,
                        "the record of drains cannot be understood; operators' cordons in it are lost"
                    );
                    let failed = |source| RecordError::SetAside { path: path.clone(), source };
                    fs::rename(&path, &aside).map_err(failed)?;
                    Image::default()
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Image::default(),
            Err(source) => return Err(RecordError::Read { path, source }),
        };
        Ok((Self { path }, image))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces what is on disk. Blocks until it is there.
    pub(crate) fn write(&self, image: &Image) -> io::Result<()> {
        let content = serde_json::to_vec(image).map_err(io::Error::other)?;
        write_atomic(&self.path, &content, 0o600)
    }
}
