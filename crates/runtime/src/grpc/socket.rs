//! An accepted connection of any kind, which remembers who is at the other end and can be cut off.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    net::{TcpStream, UnixStream},
    sync::OwnedSemaphorePermit,
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

/// Who is at the other end, as far as the operating system tells. An extension of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Tcp(SocketAddr),
    /// `None` when the system would not say.
    Unix {
        uid: Option<u32>,
    },
    /// Another part of this process.
    Internal,
}

pub(super) struct Socket {
    stream: Box<dyn Stream>,
    peer: Peer,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    _slot: OwnedSemaphorePermit,
}

/// What every connection of a listener is given.
pub(super) struct Admitted {
    pub(super) cut: CancellationToken,
    /// Its place among the connections the listener serves at once.
    pub(super) slot: OwnedSemaphorePermit,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Socket {
    pub(super) fn tcp(stream: TcpStream, from: SocketAddr, admitted: Admitted) -> Self {
        // Small messages must not wait for the acknowledgement of earlier ones. A socket that refuses this is about to
        // report its own end.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, %from, "cannot set TCP_NODELAY");
        }
        Self::new(Box::new(stream), Peer::Tcp(from), admitted)
    }

    pub(super) fn unix(stream: UnixStream, admitted: Admitted) -> Self {
        let uid = stream.peer_cred().ok().map(|credential| credential.uid());
        Self::new(Box::new(stream), Peer::Unix { uid }, admitted)
    }

    pub(super) fn duplex(stream: DuplexStream, admitted: Admitted) -> Self {
        Self::new(Box::new(stream), Peer::Internal, admitted)
    }

    fn new(stream: Box<dyn Stream>, peer: Peer, admitted: Admitted) -> Self {
        Self { stream, peer, cut: Box::pin(admitted.cut.cancelled_owned()), _slot: admitted.slot }
    }
}

impl Connected for Socket {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // The server always reads, so this is where it learns that it must end.
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
