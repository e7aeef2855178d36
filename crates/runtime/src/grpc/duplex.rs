//! An in-memory listener and its connector, for services that share a process.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{io::DuplexStream, sync::mpsc};

/// Connections that wait to be accepted.
const BACKLOG: usize = 16;
/// Bytes in flight each way of a connection.
const BUFFER_BYTES: usize = 256 << 10;

/// The accepting end. Connections to it fail once it is dropped.
#[derive(Debug)]
pub struct DuplexListener {
    accepted: mpsc::Receiver<DuplexStream>,
}

/// The dialling end; its holder is trusted as a part of this process.
#[derive(Clone, Debug)]
pub struct DuplexConnector {
    /// Of the newest listener.
    accept: Arc<Mutex<mpsc::Sender<DuplexStream>>>,
}

pub fn duplex() -> (DuplexListener, DuplexConnector) {
    let (accept, accepted) = mpsc::channel(BACKLOG);
    (DuplexListener { accepted }, DuplexConnector { accept: Arc::new(Mutex::new(accept)) })
}

impl DuplexListener {
    /// `None` once every connector is gone.
    pub(super) async fn accept(&mut self) -> Option<DuplexStream> {
        self.accepted.recv().await
    }
}

impl DuplexConnector {
    /// Another accepting end, which takes the place of the one before.
    #[must_use]
    pub fn listen_again(&self) -> DuplexListener {
        let (accept, accepted) = mpsc::channel(BACKLOG);
        *self.accept.lock().unwrap_or_else(PoisonError::into_inner) = accept;
        DuplexListener { accepted }
    }

    pub(super) async fn connect(&self) -> io::Result<DuplexStream> {
        let (ours, theirs) = tokio::io::duplex(BUFFER_BYTES);
        let refused = |_| io::Error::new(io::ErrorKind::ConnectionRefused, "the service in this process has ended");
        let accept = self.accept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        accept.send(theirs).await.map_err(refused)?;
        Ok(ours)
    }
}
