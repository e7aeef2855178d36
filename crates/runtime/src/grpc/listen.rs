//! Where a gRPC server accepts connections: TCP, a Unix socket, or an in-memory pipe.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use super::{
    credential::Auth,
    duplex::DuplexListener,
    socket::{Accepted, Socket},
};
use crate::{
    held::Held,
    inherited::{ADMIN, Inherited},
    places::{Places, Standing},
    socket_file::{Ours, SocketError, SocketFile, bind_unix},
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
    #[error(transparent)]
    Socket(#[from] SocketError),
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
        Self::unix_at(&path.into(), None, Ours::default()).await
    }

    /// As [`Self::unix`], on the socket that another process has bound there, if there is one.
    pub(crate) async fn unix_at(
        path: &Path,
        bound: Option<std::os::unix::net::UnixListener>,
        ours: Ours,
    ) -> Result<Self, ListenError> {
        let (listener, file) = bind_unix(path, bound, ours).await?;
        let label = path.display().to_string();
        Ok(Self { source: Source::Unix { listener, _file: Some(file) }, label })
    }

    /// Adds the socket to what a successor would get.
    pub(crate) fn hold(&self, held: &Held, name: &str) -> Result<(), ListenError> {
        let held = match &self.source {
            Source::Tcp(listener, _) => held.add(name, listener),
            Source::Unix { listener, .. } => held.add(name, listener),
            Source::Duplex(_) => Ok(()),
        };
        held.map_err(ListenError::Inherited)
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
        while let Some(socket) = sockets.unix(ADMIN) {
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
