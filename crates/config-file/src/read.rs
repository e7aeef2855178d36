//! A file's text, or exactly why there is none.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use model::Violation;
use nix::fcntl::OFlag;

use crate::MAX_BYTES;

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("{}: there is no such file", path.display())]
    Missing { path: PathBuf },
    #[error("{}: is a directory; expected a file", path.display())]
    Directory { path: PathBuf },
    #[error("{}: is no regular file", path.display())]
    NotRegular { path: PathBuf },
    #[error("{}: cannot be opened: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("{}: cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: larger than {MAX_BYTES} bytes", path.display())]
    TooLarge { path: PathBuf },
    #[error("{}: is UTF-16; save it as UTF-8", path.display())]
    Utf16 { path: PathBuf },
    #[error("{}: not UTF-8 at byte {offset} (line {line})", path.display())]
    NotUtf8 { path: PathBuf, offset: usize, line: usize },
}

impl From<ReadError> for Violation {
    /// In the form of all other reasons to refuse a configuration; there is no position to name.
    fn from(error: ReadError) -> Self {
        Self::new(None, "", error.to_string())
    }
}

/// The text of a regular file of at most [`MAX_BYTES`]. Never waits for another process, as opening a pipe would.
pub fn read(path: &Path) -> Result<String, ReadError> {
    let owned = || path.to_path_buf();
    let opened = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    let file = opened.map_err(|source| {
        if source.kind() == io::ErrorKind::NotFound {
            ReadError::Missing { path: owned() }
        } else {
            ReadError::Open { path: owned(), source }
        }
    })?;
    let metadata = file.metadata().map_err(|source| ReadError::Read { path: owned(), source })?;
    if metadata.is_dir() {
        return Err(ReadError::Directory { path: owned() });
    }
    if !metadata.is_file() {
        return Err(ReadError::NotRegular { path: owned() });
    }
    if metadata.len() > MAX_BYTES {
        return Err(ReadError::TooLarge { path: owned() });
    }
    read_stream(path, file)
}

/// The text of a stream of at most [`MAX_BYTES`], until its end; `path` is what errors call it.
pub fn read_stream(path: &Path, stream: impl Read) -> Result<String, ReadError> {
    let owned = || path.to_path_buf();
    let mut bytes = Vec::new();
    let read = stream.take(MAX_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|source| ReadError::Read { path: owned(), source })?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(ReadError::TooLarge { path: owned() });
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(ReadError::Utf16 { path: owned() });
    }
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count();
        ReadError::NotUtf8 { path: owned(), offset, line }
    })
}
