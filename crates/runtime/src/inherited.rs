//! Descriptors that another process has opened for this one: listening sockets that the service manager keeps open
//! while the process is restarted, so that no client is ever refused (`LISTEN_FDS` and `LISTEN_FDNAMES`, as systemd
//! passes them), and all that a predecessor hands over (see [`crate::handover`]).
//!
//! A socket is known by its name (`FileDescriptorName=`), and takes the place of the address in the settings.

use std::{
    env, io,
    net::TcpListener,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::UnixListener,
    },
};

use listenfd::ListenFd;
use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, getsockname, getsockopt, sockopt::AcceptConn};

/// The admin API: TCP or Unix, any number of them.
pub const ADMIN: &str = "admin";
/// The ops listener: TCP.
pub const OPS: &str = "ops";

/// The descriptors that were handed over and are not in use yet, each with its name.
#[derive(Debug, Default)]
pub struct Inherited {
    all: Vec<(String, OwnedFd)>,
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
            if name != ADMIN && inherited.all.iter().any(|(known, _)| *known == name) {
                return Err(InheritError::Twice { name });
            }
            match take(&mut sockets, index, name == ADMIN) {
                Ok(socket) => inherited.all.push((name, socket)),
                Err(source) => return Err(InheritError::Kind { fd, name, source }),
            }
        }
        Ok(inherited)
    }

    pub(crate) fn of(all: Vec<(String, OwnedFd)>) -> Self {
        Self { all }
    }

    /// A TCP socket of that name, each once.
    pub fn tcp(&mut self, name: &str) -> Option<TcpListener> {
        self.find(name, |socket| !is_unix(socket)).map(TcpListener::from)
    }

    /// All TCP sockets of that name.
    pub fn all_tcp(&mut self, name: &str) -> Vec<TcpListener> {
        std::iter::from_fn(|| self.tcp(name)).collect()
    }

    /// A Unix socket of that name, each once.
    pub fn unix(&mut self, name: &str) -> Option<UnixListener> {
        self.find(name, is_unix).map(UnixListener::from)
    }

    /// What has that name, once.
    pub fn descriptor(&mut self, name: &str) -> Option<OwnedFd> {
        self.find(name, |_| true)
    }

    fn find(&mut self, name: &str, fits: impl Fn(&OwnedFd) -> bool) -> Option<OwnedFd> {
        let index = self.all.iter().position(|(known, descriptor)| known == name && fits(descriptor))?;
        Some(self.all.remove(index).1)
    }
}

fn is_unix(socket: &OwnedFd) -> bool {
    let name = getsockname::<SockaddrStorage>(socket.as_raw_fd());
    name.is_ok_and(|name| name.family() == Some(AddressFamily::Unix))
}

/// Ready for tokio, and closed on exec.
fn take(sockets: &mut ListenFd, index: usize, unix: bool) -> io::Result<OwnedFd> {
    let gone = || io::Error::other("it was taken before");
    let tcp = sockets.take_tcp_listener(index);
    if tcp.is_err() && unix {
        let socket = sockets.take_unix_listener(index)?.ok_or_else(gone)?;
        listening(&socket)?;
        socket.set_nonblocking(true)?;
        return Ok(socket.into());
    }
    let socket = tcp?.ok_or_else(gone)?;
    listening(&socket)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn listening(socket: &impl AsFd) -> io::Result<()> {
    if getsockopt(socket, AcceptConn)? { Ok(()) } else { Err(io::Error::other("it does not listen")) }
}
