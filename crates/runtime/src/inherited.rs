//! Listening sockets that the service manager has opened for this process, and keeps open while the process is
//! restarted, so that no client is ever refused: `LISTEN_FDS` and `LISTEN_FDNAMES`, as systemd passes them.
//!
//! A socket is known by its name (`FileDescriptorName=`), and takes the place of the address in the settings.

use std::{
    env, io,
    net::TcpListener,
    os::{fd::AsFd, unix::net::UnixListener},
};

use listenfd::ListenFd;
use nix::sys::socket::{getsockopt, sockopt::AcceptConn};

/// The admin API: TCP or Unix, any number of them.
pub const ADMIN: &str = "admin";
/// The ops listener: TCP.
pub const OPS: &str = "ops";

/// The sockets that were handed over and are not in use yet.
#[derive(Debug, Default)]
pub struct Inherited {
    tcp: Vec<(String, TcpListener)>,
    unix: Vec<UnixListener>,
}

/// The sockets that were handed over do not fit this process.
#[derive(Debug, thiserror::Error)]
pub enum InheritError {
    #[error("the inherited socket {fd} is named {name:?}; expected one of: {}", .expected.join(", "))]
    Name { fd: usize, name: String, expected: Vec<&'static str> },
    #[error("{count} sockets are inherited, but LISTEN_FDNAMES has {names} names; name each with FileDescriptorName=")]
    Names { count: usize, names: usize },
    #[error("the inherited socket {fd}, {name:?}, is not a listening TCP socket{}", or_unix(.name))]
    Kind { fd: usize, name: String, source: io::Error },
    #[error("more than one inherited socket is named {name:?}; only one can be used")]
    Twice { name: String },
}

fn or_unix(name: &str) -> &'static str {
    if name == ADMIN { ", nor a listening Unix socket" } else { "" }
}

/// The descriptor of the first socket.
const FIRST: usize = 3;

impl Inherited {
    /// Takes the sockets that were meant for this process, and removes their variables from its environment. No other
    /// thread may run yet. Children inherit neither sockets nor variables.
    ///
    /// # Errors
    /// When a socket is none of `expected`, besides [`ADMIN`] and [`OPS`], or cannot be listened on.
    pub fn take(expected: &[&'static str]) -> Result<Self, InheritError> {
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let names: Vec<_> = names.split(':').filter(|name| !name.is_empty()).collect();
        let mut sockets = ListenFd::from_env();
        let count = sockets.len();
        if count == 0 {
            return Ok(Self::default());
        }
        if names.len() != count {
            return Err(InheritError::Names { count, names: names.len() });
        }
        let mut inherited = Self::default();
        for (index, name) in names.into_iter().enumerate() {
            let (fd, name) = (FIRST + index, name.to_owned());
            let expected: Vec<_> = [ADMIN, OPS].into_iter().chain(expected.iter().copied()).collect();
            if !expected.contains(&name.as_str()) {
                return Err(InheritError::Name { fd, name, expected });
            }
            match take(&mut sockets, index, name == ADMIN) {
                Ok(Kind::Tcp(socket)) => inherited.add(name, socket)?,
                Ok(Kind::Unix(socket)) => inherited.unix.push(socket),
                Err(source) => return Err(InheritError::Kind { fd, name, source }),
            }
        }
        Ok(inherited)
    }

    fn add(&mut self, name: String, socket: TcpListener) -> Result<(), InheritError> {
        if name != ADMIN && self.tcp.iter().any(|(known, _)| *known == name) {
            return Err(InheritError::Twice { name });
        }
        self.tcp.push((name, socket));
        Ok(())
    }

    /// The TCP socket of that name, once.
    pub fn tcp(&mut self, name: &str) -> Option<TcpListener> {
        let index = self.tcp.iter().position(|(known, _)| known == name)?;
        Some(self.tcp.remove(index).1)
    }

    /// The Unix socket of the admin API, once.
    pub fn unix(&mut self) -> Option<UnixListener> {
        self.unix.pop()
    }
}

enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Ready for tokio, and closed on exec.
fn take(sockets: &mut ListenFd, index: usize, unix: bool) -> io::Result<Kind> {
    let gone = || io::Error::other("it was taken before");
    let tcp = sockets.take_tcp_listener(index);
    if tcp.is_err() && unix {
        let socket = sockets.take_unix_listener(index)?.ok_or_else(gone)?;
        listening(&socket)?;
        socket.set_nonblocking(true)?;
        return Ok(Kind::Unix(socket));
    }
    let socket = tcp?.ok_or_else(gone)?;
    listening(&socket)?;
    socket.set_nonblocking(true)?;
    Ok(Kind::Tcp(socket))
}

fn listening(socket: &impl AsFd) -> io::Result<()> {
    if getsockopt(socket, AcceptConn)? { Ok(()) } else { Err(io::Error::other("it does not listen")) }
}
