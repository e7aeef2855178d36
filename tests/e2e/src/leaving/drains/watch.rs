//! The moment at which a server stopped taking calls as before, as a client sees it.

use std::{
    net::SocketAddr,
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::json;
use testkit::{Client, Fault, fault};
use tokio::{sync::oneshot, time::Instant};

use super::LIMIT;

/// Short against the tolerance.
const EVERY: Duration = Duration::from_millis(1);

/// A client that calls a server again and again.
pub(super) struct Watch(JoinHandle<Result<Instant, Fault>>);

impl Watch {
    /// Returns once the server has answered.
    pub(super) fn begin(endpoint: SocketAddr, server: &str) -> Result<Self, Fault> {
        let tool = format!("{server}__echo");
        let (ready, answered) = oneshot::channel();
        let watch = thread::Builder::new().name("watch".to_owned()).spawn(move || watch(endpoint, &tool, ready))?;
        match answered.blocking_recv() {
            Ok(()) => Ok(Self(watch)),
            Err(_) => Err(Self(watch).end().err().unwrap_or_else(|| fault("the watching client ended at once"))),
        }
    }

    /// When the last call was sent that was answered as before: what came after it is later by a few milliseconds at
    /// most.
    pub(super) fn end(self) -> Result<Instant, Fault> {
        self.0.join().map_err(|_| fault("the watching client panicked"))?
    }
}

fn watch(endpoint: SocketAddr, tool: &str, ready: oneshot::Sender<()>) -> Result<Instant, Fault> {
    let mut client = Client::open(endpoint)?;
    let mut probe = || client.call(tool, &json!({ "text": "watch" }));
    let start = Instant::now();
    let first = probe()?;
    first.text()?;
    // The scenario has failed meanwhile, if nothing waits for this any more.
    ready.send(()).map_err(|()| fault("there is no need to watch"))?;
    let mut last = start;
    while start.elapsed() < LIMIT {
        let sent = Instant::now();
        let reply = probe()?;
        if reply.revision != first.revision || reply.text().is_err() {
            return Ok(last);
        }
        last = sent;
        // The pace of the calls.
        thread::sleep(EVERY);
    }
    Err(fault("the server takes calls as before"))
}
