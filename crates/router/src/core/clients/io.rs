//! The socket of a client as hyper uses it. Reads and writes are noted, and a connection that the sweep has closed ends
//! with an error.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::{Client, Takes, Told};
use crate::core::Core;
use crate::core::in_flight::Presence;

pub(crate) struct Io {
    socket: TokioIo<TcpStream>,
    client: Rc<Client>,
    core: Rc<Core>,
}

impl Io {
    pub(crate) fn new(core: &Rc<Core>, socket: TcpStream) -> Self {
        Self { socket: TokioIo::new(socket), client: core.clients.enter(), core: Rc::clone(core) }
    }

    pub(crate) fn client(&self) -> Rc<Client> {
        Rc::clone(&self.client)
    }

    fn check(&self) -> io::Result<()> {
        match self.client.told.get() {
            None => Ok(()),
            Some(told) => self.obey(told),
        }
    }

    #[cold]
    fn obey(&self, told: Told) -> io::Result<()> {
        match told {
            Told::Close(why) => Err(io::Error::new(io::ErrorKind::TimedOut, why.as_str())),
            Told::Look => {
                self.client.told.set(None);
                self.look()
            }
        }
    }

    /// Uses what the runtime knows of the socket already: no system call. A client that has closed its side may still
    /// read; a client whose connection was reset does not.
    fn look(&self) -> io::Result<()> {
        let Some(ready) = self.socket.inner().ready(Interest::READABLE | Interest::WRITABLE).now_or_never() else {
            return Ok(());
        };
        let ready = ready?;
        if ready.is_write_closed() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if ready.is_read_closed() {
            self.client.note_presence(Presence::Ended, &self.core.in_flight);
        }
        Ok(())
    }

    /// Nothing is read from a client that listens, so this checks whether the client has closed its side.
    fn check_listener(&self, context: &mut Context<'_>) -> io::Result<()> {
        let mut byte = [0];
        let mut byte = tokio::io::ReadBuf::new(&mut byte);
        match self.socket.inner().poll_peek(context, &mut byte) {
            Poll::Ready(Ok(0)) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Ready(Err(error)) => Err(error),
            // The client may send its next request before this answer ends.
            Poll::Ready(Ok(_)) | Poll::Pending => Ok(()),
        }
    }
}

impl Read for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.check()?;
        let Self { socket, client, core } = &mut *self;
        client.waits(core.clients.now());
        let read = Pin::new(socket).poll_read(context, buffer);
        if read.is_ready() {
            client.speaks(core.clients.now());
        }
        read
    }
}

impl Write for Io {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        let Self { socket, client, core } = &mut *self;
        let written = Pin::new(socket).poll_write(context, bytes);
        match written {
            Poll::Pending => {
                core.clients.stalls(client);
                client.owes(bytes.len(), &core.shared.budget);
            }
            Poll::Ready(Ok(taken)) => client.moves(taken),
            Poll::Ready(Err(_)) => {}
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        if self.client.takes.get() == Takes::Notifications && !self.client.reading.get() {
            self.check_listener(context)?;
        }
        // What is written to a socket needs no flush.
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        self.client.note_presence(Presence::Gone, &self.core.in_flight);
        self.core.clients.leave(&self.client);
    }
}
