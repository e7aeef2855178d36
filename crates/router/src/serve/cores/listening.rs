//! The socket that accepts clients, and each core's share of it.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::settings::Listen;

/// How many connections wait for a core to let them in.
pub(super) const BACKLOG: u16 = 4096;
/// How much of an answer the system holds beyond the client's window. This bounds memory outside the process. It also
/// sets how finely a slow client can be told from one that does not read: below half of it, more is written.
const UNSENT: u32 = 128 << 10;

/// Why the MCP endpoint cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("cannot listen for MCP clients at {address}")]
    At { address: SocketAddr, source: io::Error },
    #[error("cannot listen for MCP clients on the inherited socket")]
    On(#[source] io::Error),
}

/// A socket for each core, all on one address.
#[derive(Debug)]
pub(crate) struct Listening {
    pub(super) sockets: Vec<TcpListener>,
    pub(crate) address: SocketAddr,
    /// Another process holds the socket as well, and it goes on listening when the router ends.
    pub(super) kept: bool,
}

impl Listening {
    pub(crate) fn open(listen: Listen, cores: usize) -> Result<Self, ListenError> {
        match listen {
            Listen::At(address) => Self::bind(address, cores).map_err(|source| ListenError::At { address, source }),
            Listen::On(socket) => Self::share(&socket, cores).map_err(ListenError::On),
        }
    }

    /// One socket per core: each core is woken only by the connections that the system gives to its socket.
    fn bind(address: SocketAddr, cores: usize) -> io::Result<Self> {
        // Sockets that share a port would share it with another program's, too: check first that the port is free.
        let alone = socket(address, false)?;
        let address = alone.local_addr()?;
        drop(alone);
        let sockets = (0..cores.max(1)).map(|_| socket(address, true)).collect::<Result<_, _>>()?;
        Ok(Self { sockets, address, kept: false })
    }

    /// One socket for all cores: a connection wakes each core, and the least busy core accepts it.
    fn share(socket: &TcpListener, cores: usize) -> io::Result<Self> {
        set_unsent(&SockRef::from(socket));
        let sockets = (0..cores.max(1)).map(|_| socket.try_clone()).collect::<Result<_, _>>()?;
        Ok(Self { sockets, address: socket.local_addr()?, kept: true })
    }
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    set_unsent(&socket);
    socket.bind(&address.into())?;
    socket.listen(BACKLOG.into())?;
    Ok(socket.into())
}

/// Accepted connections inherit this option from the listening socket.
fn set_unsent(socket: &Socket) {
    if let Err(error) = socket.set_tcp_notsent_lowat(UNSENT) {
        tracing::debug!(%error, "the system buffers as much as it likes for each client");
    }
}

/// A core's listening socket.
pub(super) struct Door {
    pub(super) socket: TcpListener,
    /// Whether the socket outlives the core: connections in its queue are left to the next process that accepts them.
    pub(super) kept: bool,
}
