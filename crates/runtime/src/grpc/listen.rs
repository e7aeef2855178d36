//! Where a gRPC server accepts connections: TCP, a Unix socket, or an in-memory pipe.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use super::{
    credential::Auth,
    duplex::DuplexListener,
    socket::{Accepted, Socket},
};
use crate::{
    inherited::{ADMIN, Inherited},
    places::{Places, Standing},
    state_dir::create_private,
    telemetry::Sparing,
};

/// Connections that a listener serves at once. The next one takes the place of the oldest that has sent nothing, or
/// that has no admitted call; while there is none, it waits in the queue. The limit is per listener, so that a crowd on
/// TCP cannot lock out the operator's socket.
pub(super) const CONNECTIONS_MAX: usize = 1024;
/// Accepting fails while the process is out of descriptors; retrying at once would only burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
static CANNOT_ACCEPT: Sparing = Sparing::new("cannot_accept", 10, Duration::from_secs(10));

/// A bound source of connections.
#[derive(Debug)]
pub struct Listener {
    source: Source,
    label: String,
}

#[derive(Debug)]
enum Source {
    Tcp(TcpListener, SocketAddr),
    Unix { listener: UnixListener, _file: Option<SocketFile> },
    Duplex(DuplexListener),
}

/// Why a gRPC listener cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error(
        "refusing to listen on {address} without a credential: everyone who can reach it could start commands here; \
         pass --token-file FILE, or listen on a loopback address"
    )]
    Unprotected { address: SocketAddr },
    #[error("an inherited socket cannot be used")]
    Inherited(#[source] io::Error),
    #[error("cannot listen on {address}")]
    Tcp { address: SocketAddr, source: io::Error },
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

impl Listener {
    /// Port 0 takes a free one. TCP callers present the token of `auth`; without one only loopback is allowed.
    pub async fn tcp(address: SocketAddr, auth: &Auth) -> Result<Self, ListenError> {
        protected(address, auth)?;
        let failed = |source| ListenError::Tcp { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        Ok(Self { source: Source::Tcp(listener, bound), label: bound.to_string() })
    }

    /// A socket file that only this user may open (mode 0600), removed when the listener is dropped. What a killed
    /// process left under that name is replaced; a socket that answers is not.
    pub async fn unix(path: impl Into<PathBuf>) -> Result<Self, ListenError> {
        let path = path.into();
        prepare_directory(&path)?;
        remove_stale(&path).await?;
        let failed = |source| ListenError::Unix { path: path.clone(), source };
        let listener = UnixListener::bind(&path).map_err(failed)?;
        // Until here another user might have connected, but peer credentials are checked on each call as well.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let file = SocketFile::of(path.clone()).map_err(failed)?;
        let label = path.display().to_string();
        Ok(Self { source: Source::Unix { listener, _file: Some(file) }, label })
    }

    /// All sockets that were handed over for the admin API. A Unix socket's file is left in place at the end. The
    /// process that made the socket decides which users may open it; the caller's uid is checked on each call as
    /// always.
    pub(crate) fn inherited(sockets: &mut Inherited, auth: &Auth) -> Result<Vec<Self>, ListenError> {
        let mut listeners = Vec::new();
        while let Some(socket) = sockets.tcp(ADMIN) {
            let address = socket.local_addr().map_err(ListenError::Inherited)?;
            protected(address, auth)?;
            let listener = TcpListener::from_std(socket).map_err(ListenError::Inherited)?;
            listeners.push(Self { source: Source::Tcp(listener, address), label: format!("{address}, inherited") });
        }
        while let Some(socket) = sockets.unix() {
            let label = format!("{:?}, inherited", socket.local_addr().map_err(ListenError::Inherited)?);
            let listener = UnixListener::from_std(socket).map_err(ListenError::Inherited)?;
            listeners.push(Self { source: Source::Unix { listener, _file: None }, label });
        }
        Ok(listeners)
    }

    /// The address bound, of a TCP listener.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.source {
            Source::Tcp(_, address) => Some(*address),
            Source::Unix { .. } | Source::Duplex(_) => None,
        }
    }

    /// Yields connections until dropped; `cut` ends the accepted ones.
    pub(super) fn into_incoming(self, cut: CancellationToken) -> BoxStream<'static, io::Result<Socket>> {
        tracing::info!(listener = self.label, "accepting gRPC");
        let places = Places::new("grpc_connections", CONNECTIONS_MAX);
        let accepting = (self.source, self.label, cut, places);
        stream::unfold(accepting, |(mut source, label, cut, places)| async move {
            loop {
                match source.accept().await {
                    Ok(Some(accepted)) => {
                        // A connection from this process needs no credential.
                        let inside = matches!(accepted, Accepted::Duplex(_));
                        let place = places.take(if inside { Standing::Known } else { Standing::Silent }).await;
                        let socket = Socket::new(accepted, cut.clone(), place);
                        return Some((Ok(socket), (source, label, cut, places)));
                    }
                    Ok(None) => return None,
                    Err(error) => {
                        if let Some(left_out) = CANNOT_ACCEPT.line() {
                            tracing::warn!(listener = label, %error, left_out, "cannot accept a gRPC connection");
                        }
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        })
        .boxed()
    }
}

impl From<DuplexListener> for Listener {
    fn from(listener: DuplexListener) -> Self {
        Self { source: Source::Duplex(listener), label: "in-process".to_owned() }
    }
}

impl Source {
    /// `None` when no more can come.
    async fn accept(&mut self) -> io::Result<Option<Accepted>> {
        Ok(match self {
            Self::Tcp(listener, _) => {
                let (stream, from) = listener.accept().await?;
                Some(Accepted::Tcp(stream, from))
            }
            Self::Unix { listener, .. } => Some(Accepted::Unix(listener.accept().await?.0)),
            Self::Duplex(listener) => listener.accept().await.map(Accepted::Duplex),
        })
    }
}

fn protected(address: SocketAddr, auth: &Auth) -> Result<(), ListenError> {
    let open = !auth.has_token() && !address.ip().to_canonical().is_loopback();
    if open { Err(ListenError::Unprotected { address }) } else { Ok(()) }
}

/// Creates the socket's directory, and makes sure that no other user planted it in a shared directory such as `/tmp`.
fn prepare_directory(path: &Path) -> Result<(), ListenError> {
    let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else { return Ok(()) };
    let failed = |source| ListenError::Directory { path: path.to_owned(), source };
    create_private(directory).map_err(failed)?;
    let uid = fs::metadata(directory).map_err(failed)?.uid();
    if uid == 0 || uid == nix::unistd::geteuid().as_raw() {
        return Ok(());
    }
    Err(ListenError::ForeignDirectory { path: directory.to_owned(), uid })
}

async fn remove_stale(path: &Path) -> Result<(), ListenError> {
    let owned = || path.to_owned();
    let file = match fs::symlink_metadata(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(ListenError::Stale { path: owned(), source }),
    };
    if !file.file_type().is_socket() {
        return Err(ListenError::NotASocket { path: owned() });
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        Ok(_) | Err(_) => return Err(ListenError::InUse { path: owned() }),
    }
    fs::remove_file(path).map_err(|source| ListenError::Stale { path: owned(), source })
}

/// Removes the socket file at the end, unless another process has replaced the file meanwhile.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl SocketFile {
    fn of(path: PathBuf) -> io::Result<Self> {
        let inode = fs::symlink_metadata(&path)?.ino();
        Ok(Self { path, inode })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "the socket file stays behind");
        }
    }
}
