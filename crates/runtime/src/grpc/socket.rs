//! An accepted connection of any kind. It remembers its peer, and ends when it is cut off, displaced, or too slow to
//! send the HTTP/2 preface.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    net::{TcpStream, UnixStream},
    sync::Semaphore,
    time::{Sleep, sleep},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use crate::places::{Place, Shown, Standing};

/// Health calls of one connection at once: every client may make them, and watch for ever.
pub(super) const HEALTH_CALLS: usize = 16;
/// How long a connection may take to send the HTTP/2 preface. After that, pings find out whether it is alive.
const PREFACE_TIME: Duration = Duration::from_secs(10);
/// `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n`; the server ends a connection that says anything else.
const PREFACE_BYTES: usize = 24;

/// The peer, as far as the operating system tells.
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

/// The connection that a request came over. An extension of every request.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) peer: Peer,
    /// What the connection has shown.
    pub(super) shown: Shown,
    /// Places for the calls of the connection that need no credential.
    pub(super) health: Arc<Semaphore>,
}

/// A connection as the operating system gives it.
pub(super) enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
    Duplex(DuplexStream),
}

pub(super) struct Socket {
    stream: Box<dyn Stream>,
    peer: Peer,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    displaced: Pin<Box<WaitForCancellationFutureOwned>>,
    /// How many bytes of the preface are missing, and their deadline.
    preface: Option<(usize, Pin<Box<Sleep>>)>,
    place: Place,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Socket {
    pub(super) fn new(accepted: Accepted, cut: CancellationToken, place: Place) -> Self {
        let (stream, peer): (Box<dyn Stream>, _) = match accepted {
            Accepted::Tcp(stream, from) => {
                // Small messages must not wait for the acknowledgement of earlier ones. A socket that refuses the
                // option is about to report its own end.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, %from, "cannot set TCP_NODELAY");
                }
                (Box::new(stream), Peer::Tcp(from))
            }
            Accepted::Unix(stream) => {
                let uid = stream.peer_cred().ok().map(|credential| credential.uid());
                (Box::new(stream), Peer::Unix { uid })
            }
            Accepted::Duplex(stream) => (Box::new(stream), Peer::Internal),
        };
        let preface = (peer != Peer::Internal).then(|| (PREFACE_BYTES, Box::pin(sleep(PREFACE_TIME))));
        let displaced = Box::pin(place.displaced());
        Self { stream, peer, cut: Box::pin(cut.cancelled_owned()), displaced, preface, place }
    }

    /// Fails when the connection must end, whatever its peer does.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.cut.as_mut().poll(cx).is_ready() || self.displaced.as_mut().poll(cx).is_ready() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let late = self.preface.as_mut().is_some_and(|(_, late)| late.as_mut().poll(cx).is_ready());
        if late { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }

    fn has_read(&mut self, bytes: usize) {
        let Some((left, _)) = &mut self.preface else { return };
        *left = left.saturating_sub(bytes);
        if *left == 0 {
            self.preface = None;
            self.place.shown().reaches(Standing::Stranger);
        }
    }
}

impl Connected for Socket {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        Caller { peer: self.peer, shown: self.place.shown(), health: Arc::new(Semaphore::new(HEALTH_CALLS)) }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_end(cx)?;
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.has_read(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // Where nothing can be written, the server does not read either.
        self.poll_end(cx)?;
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
        self.poll_end(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
