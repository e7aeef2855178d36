//! A Unix socket with a name in the file system: bound there, and removed at the end.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::UnixListener as StdUnixListener,
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::net::{UnixListener, UnixStream};

use crate::state_dir::create_private;

/// Why there is no socket of that name.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("cannot create the directory of the socket {path}")]
    Directory { path: PathBuf, source: io::Error },
    #[error(
        "the directory {path} belongs to uid {uid}, who could replace a socket in it; choose another state directory"
    )]
    ForeignDirectory { path: PathBuf, uid: u32 },
    #[error("{path} exists and is not a socket; remove it or choose another path")]
    NotASocket { path: PathBuf },
    #[error("another process listens on {path}; stop it or choose another path")]
    InUse { path: PathBuf },
    #[error("cannot remove the stale socket {path}")]
    Stale { path: PathBuf, source: io::Error },
    #[error("cannot listen on the socket {path}")]
    Unix { path: PathBuf, source: io::Error },
}

/// Binds a socket file that only this user may open (mode 0600), or takes the socket that another process has bound
/// there.
pub(crate) async fn bind_unix(
    path: &Path,
    bound: Option<StdUnixListener>,
    ours: Ours,
) -> Result<(UnixListener, SocketFile), SocketError> {
    let failed = |source| SocketError::Unix { path: path.to_owned(), source };
    let listener = match bound {
        Some(bound) => UnixListener::from_std(bound).map_err(failed)?,
        None => {
            prepare_directory(path)?;
            remove_stale(path).await?;
            let listener = UnixListener::bind(path).map_err(failed)?;
            // Until here another user might have connected, but the peer's credentials are checked each time as well.
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
            listener
        }
    };
    let inode = fs::symlink_metadata(path).map_err(failed)?.ino();
    Ok((listener, SocketFile { path: path.to_owned(), inode, ours }))
}

/// Creates the socket's directory, and makes sure that no other user planted it in a shared directory such as `/tmp`.
fn prepare_directory(path: &Path) -> Result<(), SocketError> {
    let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else { return Ok(()) };
    let failed = |source| SocketError::Directory { path: path.to_owned(), source };
    create_private(directory).map_err(failed)?;
    let uid = fs::metadata(directory).map_err(failed)?.uid();
    if uid == 0 || uid == nix::unistd::geteuid().as_raw() {
        return Ok(());
    }
    Err(SocketError::ForeignDirectory { path: directory.to_owned(), uid })
}

async fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let owned = || path.to_owned();
    let file = match fs::symlink_metadata(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(SocketError::Stale { path: owned(), source }),
    };
    if !file.file_type().is_socket() {
        return Err(SocketError::NotASocket { path: owned() });
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        Ok(_) | Err(_) => return Err(SocketError::InUse { path: owned() }),
    }
    fs::remove_file(path).map_err(|source| SocketError::Stale { path: owned(), source })
}

/// Whether the socket files of this process are its to remove, and not those of a predecessor or a successor.
#[derive(Clone, Debug)]
pub(crate) struct Ours(Arc<AtomicBool>);

impl Default for Ours {
    fn default() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }
}

impl Ours {
    pub(crate) fn set(&self, ours: bool) {
        self.0.store(ours, Ordering::Relaxed);
    }
}

/// Removes the socket file at the end, unless another process has replaced the file meanwhile, or serves there.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    inode: u64,
    ours: Ours,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let same = || fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode);
        let removes = self.ours.0.load(Ordering::Relaxed) && same();
        if removes && let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "the socket file stays behind");
        }
    }
}
