//! A file's text, or exactly why there is none.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use model::Violation;

use crate::MAX_BYTES;

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("{}: there is no such file", path.display())]
    Missing { path: PathBuf },
    #[error("{}: is a directory; expected a file", path.display())]
    Directory { path: PathBuf },
    #[error("{}: cannot be opened: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("{}: cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: larger than {MAX_BYTES} bytes", path.display())]
    TooLarge { path: PathBuf },
    #[error("{}: not UTF-8 at byte {offset} (line {line})", path.display())]
    NotUtf8 { path: PathBuf, offset: usize, line: usize },
}

impl From<ReadError> for Violation {
    /// In the form of all other reasons to refuse a configuration; there is no position to name.
    fn from(error: ReadError) -> Self {
        Self::new(None, "", error.to_string())
    }
}

/// The text of a file of at most [`MAX_BYTES`].
pub fn read(path: &Path) -> Result<String, ReadError> {
    let owned = || path.to_path_buf();
    let file = File::open(path).map_err(|source| {
        if source.kind() == io::ErrorKind::NotFound {
            ReadError::Missing { path: owned() }
        } else {
            ReadError::Open { path: owned(), source }
        }
    })?;
    let failed = |source: io::Error| ReadError::Read { path: owned(), source };
    if file.metadata().map_err(failed)?.is_dir() {
        return Err(ReadError::Directory { path: owned() });
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(ReadError::TooLarge { path: owned() });
    }
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count();
        ReadError::NotUtf8 { path: owned(), offset, line }
    })
}
