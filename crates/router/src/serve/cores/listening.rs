//! The socket that accepts clients, and each core's share of it.

use std::io;
use std::net::{SocketAddr, TcpListener};

use runtime::Held;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::settings::{Listen, MCP, OWN_MCP};

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

/// Sockets for each core, all on one address.
#[derive(Debug)]
pub(crate) struct Listening {
    pub(super) sockets: Vec<Vec<TcpListener>>,
    pub(crate) address: SocketAddr,
    /// Another process holds the socket as well, and it goes on listening when the router ends.
    pub(super) kept: bool,
}

impl Listening {
    pub(crate) fn open(listen: Listen, cores: usize) -> Result<Self, ListenError> {
        match listen {
            Listen::At(address) => Self::bind(address, cores).map_err(|source| ListenError::At { address, source }),
            Listen::On { sockets, kept } => Self::share(&sockets, cores, kept).map_err(ListenError::On),
        }
    }

    /// Adds the sockets to what a successor would get.
    pub(crate) fn hold(&self, held: &Held) -> Result<(), ListenError> {
        let name = if self.kept { MCP } else { OWN_MCP };
        self.sockets.iter().flatten().try_for_each(|socket| held.add(name, socket)).map_err(ListenError::On)
    }

    /// One socket per core: each core is woken only by the connections that the system gives to its socket.
    fn bind(address: SocketAddr, cores: usize) -> io::Result<Self> {
        // Sockets that share a port would share it with another program's, too: check first that the port is free.
        let alone = socket(address, false)?;
        let address = alone.local_addr()?;
        drop(alone);
        let sockets = (0..cores.max(1)).map(|_| Ok(vec![socket(address, true)?])).collect::<io::Result<_>>()?;
        Ok(Self { sockets, address, kept: false })
    }

    /// Sockets that were opened by another process. Each socket has a core and each core has a socket: clients wait in
    /// each socket's own queue. A connection wakes all cores that have its socket, and the least busy one accepts it.
    fn share(sockets: &[TcpListener], cores: usize, kept: bool) -> io::Result<Self> {
        let mut of_cores: Vec<_> = (0..cores.max(1)).map(|_| Vec::new()).collect();
        let first = sockets.first().ok_or(io::ErrorKind::InvalidInput)?;
        for index in 0..sockets.len().max(of_cores.len()) {
            let socket = &sockets[index % sockets.len()];
            set_unsent(&SockRef::from(socket));
            let core = index % of_cores.len();
            of_cores[core].push(socket.try_clone()?);
        }
        Ok(Self { sockets: of_cores, address: first.local_addr()?, kept })
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

/// A core's listening sockets.
pub(super) struct Door {
    pub(super) sockets: Vec<TcpListener>,
    /// Whether the sockets outlive the process: connections in their queues are left to the next process that accepts
    /// them.
    pub(super) kept: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_inherited_socket_has_a_core_and_each_core_a_socket() {
        let sockets: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let address = |socket: &TcpListener| socket.local_addr().unwrap();
        for cores in 1..6 {
            let listening = Listening::share(&sockets, cores, false).unwrap();
            assert_eq!(listening.sockets.len(), cores);
            assert!(listening.sockets.iter().all(|core| !core.is_empty()));
            let served: std::collections::BTreeSet<_> = listening.sockets.iter().flatten().map(address).collect();
            assert_eq!(served, sockets.iter().map(address).collect());
        }
    }
}
