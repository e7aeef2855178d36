//! The file in which drains survive this process.

use std::io;
use std::path::{Path, PathBuf};

use drain::ledger::Image;
use runtime::state_dir::{Maker, PrivateFileError, create_private, read_private, set_aside, write_private};

const FILE: &str = "drains.json";
/// Far more than the drains of a fleet take.
const BYTES_MAX: u64 = 1 << 30;

#[derive(Debug, Clone)]
pub(crate) struct Record {
    path: PathBuf,
}

/// The state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("cannot create the state directory {path}")]
    Directory { path: PathBuf, source: io::Error },
    #[error("cannot read the record of drains")]
    Read(#[from] PrivateFileError),
    #[error("cannot set the unreadable record of drains {path} aside")]
    SetAside { path: PathBuf, source: io::Error },
}

impl Record {
    /// The record of that directory, and what is in it.
    ///
    /// Routers go on with what they have, so a record that cannot be understood does not prevent a start; but the
    /// operators' cordons in it are lost.
    pub(crate) fn open(directory: &Path) -> Result<(Self, Image), RecordError> {
        let failed = |source| RecordError::Directory { path: directory.to_owned(), source };
        create_private(directory).map_err(failed)?;
        let path = directory.join(FILE);
        let content = read_private(&path, Maker::Us, BYTES_MAX)?;
        let image = content.map_or_else(|| Ok(Image::default()), |content| serde_json::from_slice(&content));
        let image = match image {
            Ok(image) => image,
            Err(error) => {
                let failed = |source| RecordError::SetAside { path: path.clone(), source };
                let aside = set_aside(&path).map_err(failed)?;
                tracing::error!(
                    path = %path.display(), kept_as = %aside.display(), %error,
                    "the record of drains cannot be understood; operators' cordons in it are lost"
                );
                Image::default()
            }
        };
        Ok((Self { path }, image))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces what is on disk. Blocks until it is there.
    pub(crate) fn write(&self, image: &Image) -> io::Result<()> {
        let content = serde_json::to_vec(image).map_err(io::Error::other)?;
        write_private(&self.path, &content)
    }
}
