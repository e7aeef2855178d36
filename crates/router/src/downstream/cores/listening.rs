//! The socket where clients come in, and what each core has of it.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::settings::Listen;

/// How many connections wait for a core to let them in.
pub(super) const BACKLOG: u16 = 4096;
/// What the system holds of an answer beyond what its client's window takes. It bounds memory that is not ours, and it is
/// how finely a slow client can be told from one that does not read: below half of it, more is written.
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
    /// Somebody else holds the socket as well, and it goes on listening when the router ends.
    pub(super) kept: bool,
}

impl Listening {
    pub(crate) fn open(listen: Listen, cores: usize) -> Result<Self, ListenError> {
        match listen {
            Listen::At(address) => Self::bind(address, cores).map_err(|source| ListenError::At { address, source }),
            Listen::On(socket) => Self::share(&socket, cores).map_err(ListenError::On),
        }
    }

    /// One socket per core: each is woken by the connections that the system gives to it, and no other one is.
    fn bind(address: SocketAddr, cores: usize) -> io::Result<Self> {
        // Sockets that share a port would share it with a stranger's, too: see first that nobody has it.
        let alone = socket(address, false)?;
        let address = alone.local_addr()?;
        drop(alone);
        let sockets = (0..cores.max(1)).map(|_| socket(address, true)).collect::<Result<_, _>>()?;
        Ok(Self { sockets, address, kept: false })
    }

    /// One socket for all cores: each is woken by a connection, and the one that is least busy is there first.
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

/// Connections have it from the socket that they come in by.
fn set_unsent(socket: &Socket) {
    if let Err(error) = socket.set_tcp_notsent_lowat(UNSENT) {
        tracing::debug!(%error, "the system buffers as much as it likes for each client");
    }
}

/// Where a core's clients come in.
pub(super) struct Door {
    pub(super) socket: TcpListener,
    /// Whoever waits in its queue when the core closes is for whoever serves it next.
    pub(super) kept: bool,
}
