//! Long-lived streams between services. This end keeps one to a peer attached: opens it, waits for its end, backs off,
//! opens it again. The serving end is in [`attached`]. Also: changes as a stream for a watcher.

pub mod attached;
mod changes;

use std::{
    fmt::Display,
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};

use backoff::Backoff;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::Instant;

use crate::Gate;

pub use changes::changes;

/// A stream that ends sooner after it was attached has not lasted.
const SETTLED: Duration = Duration::from_secs(10);

/// The peer takes nothing: hang up.
#[derive(Debug, thiserror::Error)]
#[error("the peer does not take what it is told")]
pub struct Stuck;

/// Puts a message into the queue of a stream. Where the stream is gone its end is told in a moment, so that is no
/// error.
///
/// # Errors
/// When the queue is full.
pub fn say<T>(queue: &mpsc::Sender<T>, message: T) -> Result<(), Stuck> {
    match queue.try_send(message) {
        Ok(()) | Err(TrySendError::Closed(_)) => Ok(()),
        Err(TrySendError::Full(_)) => Err(Stuck),
    }
}

/// Handed to each try, which reports through it that the peer has answered.
#[derive(Clone, Debug)]
pub struct Attempt {
    gate: Gate,
    attached: Arc<OnceLock<Instant>>,
}

impl Attempt {
    /// The peer has accepted the stream. If that lasts, the next failure starts the back-off anew.
    pub fn attached(&self) {
        if self.attached.set(Instant::now()).is_ok() {
            self.gate.open();
            metrics::gauge!("only1mcp_stream_attached", "stream" => self.gate.name()).set(1.0);
            tracing::info!(stream = self.gate.name(), "attached");
        }
    }
}

/// Runs `attach` again and again, until it is dropped. `peer` is open while it is attached.
///
/// `attach` opens the stream, calls [`Attempt::attached`] once the peer has answered, and serves it until it ends; its
/// result says why. Ending well and failing are treated alike: wait, then attach again. The waits grow while the peer
/// refuses, and also while it ends each stream soon, as two routers of one name have it do to each other.
pub async fn keep_attached<F, Fut, E>(peer: Gate, backoff: Backoff, mut attach: F)
where
    F: FnMut(Attempt) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Display,
{
    let name = peer.name();
    let gauge = metrics::gauge!("only1mcp_stream_attached", "stream" => name);
    let ends = metrics::counter!("only1mcp_stream_ends_total", "stream" => name);
    // Tries in a row that were refused, and streams in a row that did not last.
    let (mut refused, mut short) = (0_u32, 0_u32);
    loop {
        gauge.set(0.0);
        let attempt = Attempt { gate: peer.clone(), attached: Arc::default() };
        let ended = attach(attempt.clone()).await;
        gauge.set(0.0);
        ends.increment(1);
        (refused, short) = match attempt.attached.get() {
            None => (refused.saturating_add(1), short),
            Some(since) if since.elapsed() < SETTLED => (0, short.saturating_add(1)),
            Some(_) => (0, 0),
        };
        let delay = backoff.delay(refused.max(short).saturating_sub(1), rand::random());
        let reason = ended.err().map_or_else(|| "the peer ended it".to_owned(), |error| error.to_string());
        if refused <= 1 {
            tracing::warn!(stream = name, reason, ?delay, "detached; will attach again");
        } else {
            tracing::debug!(stream = name, reason, refused, ?delay, "still detached");
        }
        peer.close(reason);
        tokio::time::sleep(delay).await;
    }
}

#[cfg(test)]
mod tests;
