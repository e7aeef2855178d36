//! Files that are for their owner alone: made with mode 0600, checked when they are opened again, replaced as a whole,
//! and durable together with their name before a function returns.
//!
//! All functions block on the disk.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;

use super::{create_atomic, sync_parent, write_atomic};

/// The mode of files that this process makes: only the owner can read and write them.
const PRIVATE: u32 = 0o600;
/// The bits that let a group or others in.
const OTHERS: u32 = 0o077;
/// The bits that let everyone in.
const EVERYONE: u32 = 0o007;

/// The maker of a file. It decides what is done about a mode that lets others in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// This process, or one before it: the mode is repaired, since an older release or a copy may have left it wide.
    Us,
    /// The operator, who named it. A group may read it, as orchestrators hand a secret to the user of a container; one
    /// that everyone can read is refused, since its content must be taken as known.
    Operator,
}

/// Why a private file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    #[error("cannot open {path}")]
    Open { path: PathBuf, source: io::Error },
    #[error("{path} is no regular file")]
    NotRegular { path: PathBuf },
    #[error("{path} can be read or written by everyone (mode {mode:04o}); run: chmod 600 {path}")]
    Exposed { path: PathBuf, mode: u32 },
    #[error(
        "{path} can be read or written by others (mode {mode:04o}) and is not ours to close; run: chmod 600 {path}"
    )]
    Repair { path: PathBuf, mode: u32, source: io::Error },
    #[error("{path} holds more than {most} bytes")]
    TooLong { path: PathBuf, most: u64 },
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot make the name of {path} durable")]
    Name { path: PathBuf, source: io::Error },
}

/// Replaces `path` by `content`: after a crash at any point it is the old file or the new one.
///
/// # Errors
/// As the operating system says; then `path` is untouched, unless only the last flush of the directory failed.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    write_atomic(path, content, PRIVATE)
}

/// Creates `path` with `content`, both or neither; `false` when `path` exists already, which is left as it is.
pub fn create_private_file(path: &Path, content: &[u8]) -> io::Result<bool> {
    create_atomic(path, content, PRIVATE)
}

/// The content of `path`, of at most `most` bytes; `None` when there is no such file. Does not wait for another
/// process, as the opening of a pipe would.
///
/// # Errors
/// Also when users other than the owner may read it and the mode cannot or must not be repaired: see [`Maker`].
pub fn read_private(path: &Path, maker: Maker, most: u64) -> Result<Option<Vec<u8>>, PrivateFileError> {
    let opened = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(PrivateFileError::Open { path: path.to_owned(), source }),
    };
    check(path, &file, maker)?;
    let mut content = Vec::new();
    let read = file.take(most + 1).read_to_end(&mut content);
    read.map_err(|source| PrivateFileError::Read { path: path.to_owned(), source })?;
    if content.len() as u64 > most {
        return Err(PrivateFileError::TooLong { path: path.to_owned(), most });
    }
    Ok(Some(content))
}

/// Opens a file of ours to be read and written in place (a database, a journal), or creates it empty. Its name is
/// durable before this returns; what is written into it is the caller's to flush.
///
/// # Errors
/// Also when others may read it and its mode cannot be repaired.
pub fn open_private(path: &Path) -> Result<File, PrivateFileError> {
    let failed = |source| PrivateFileError::Open { path: path.to_owned(), source };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(PRIVATE)
        // Without this flag, opening a pipe of that name would wait.
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)
        .map_err(failed)?;
    check(path, &file, Maker::Us)?;
    sync_parent(path).map_err(|source| PrivateFileError::Name { path: path.to_owned(), source })?;
    Ok(file)
}

/// Renames a file that cannot be understood, so that it is not overwritten and people can look at it:
/// `<name>.unreadable`, or with a number when an earlier one is still there. Returns where it is now.
///
/// # Errors
/// As the operating system says; then the file is where it was.
pub fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy().into_owned();
    for number in 1_u32.. {
        let suffix = if number == 1 { String::new() } else { format!("-{number}") };
        let aside = path.with_file_name(format!("{name}.unreadable{suffix}"));
        // A link, unlike a rename, fails when the name is taken.
        match fs::hard_link(path, &aside) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(error),
        }
        fs::remove_file(path)?;
        sync_parent(path)?;
        return Ok(aside);
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Checks that the file is a regular one, and that its mode is right or can be repaired.
fn check(path: &Path, file: &File, maker: Maker) -> Result<(), PrivateFileError> {
    let metadata = file.metadata().map_err(|source| PrivateFileError::Open { path: path.to_owned(), source })?;
    if !metadata.is_file() {
        return Err(PrivateFileError::NotRegular { path: path.to_owned() });
    }
    let mode = metadata.mode() & 0o7777;
    match maker {
        Maker::Us if mode & OTHERS != 0 => file
            .set_permissions(Permissions::from_mode(PRIVATE))
            .map_err(|source| PrivateFileError::Repair { path: path.to_owned(), mode, source }),
        Maker::Operator if mode & EVERYONE != 0 => Err(PrivateFileError::Exposed { path: path.to_owned(), mode }),
        Maker::Us | Maker::Operator => Ok(()),
    }
}

#[cfg(test)]
mod tests;
