//! Long-lived streams between services. This end keeps one to a peer attached: opens it, waits for its end, backs off,
//! opens it again. The serving end is in [`attached`]. Also: changes as a stream for a watcher.

pub mod attached;
mod changes;

use std::{
    fmt::Display,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use backoff::Backoff;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::Instant;

use crate::Gate;

pub use changes::changes;

/// A stream that was displaced sooner after its try began counts as a failed try.
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
    attached: Arc<AtomicBool>,
    displaced: Arc<AtomicBool>,
}

impl Attempt {
    /// The peer has accepted the stream: the next failure starts the back-off anew.
    pub fn attached(&self) {
        if !self.attached.swap(true, Ordering::Relaxed) {
            self.gate.open();
            metrics::gauge!("only1mcp_stream_attached", "stream" => self.gate.name()).set(1.0);
            tracing::info!(stream = self.gate.name(), "attached");
        }
    }

    /// The peer ended the stream because another stream took its place. Unless this stream had lived for a while, it
    /// counts as never accepted; otherwise two streams would displace each other as fast as they can.
    pub fn displaced(&self) {
        self.displaced.store(true, Ordering::Relaxed);
    }
}

/// Runs `attach` again and again, until it is dropped. `peer` is open while it is attached.
///
/// `attach` opens the stream, calls [`Attempt::attached`] once the peer has answered, and serves it until it ends; its
/// result says why. Ending well and failing are treated alike: wait, then attach again.
pub async fn keep_attached<F, Fut, E>(peer: Gate, backoff: Backoff, mut attach: F)
where
    F: FnMut(Attempt) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Display,
{
    let name = peer.name();
    let gauge = metrics::gauge!("only1mcp_stream_attached", "stream" => name);
    let ends = metrics::counter!("only1mcp_stream_ends_total", "stream" => name);
    let mut failures = 0;
    loop {
        gauge.set(0.0);
        let attempt = Attempt { gate: peer.clone(), attached: Arc::default(), displaced: Arc::default() };
        let began = Instant::now();
        let ended = attach(attempt.clone()).await;
        gauge.set(0.0);
        ends.increment(1);
        let was_attached = attempt.attached.load(Ordering::Relaxed);
        let displaced = attempt.displaced.load(Ordering::Relaxed) && began.elapsed() < SETTLED;
        failures = if was_attached && !displaced { 0 } else { failures + 1_u32 };
        let delay = backoff.delay(failures.saturating_sub(1), rand::random());
        let reason = ended.err().map_or_else(|| "the peer ended it".to_owned(), |error| error.to_string());
        if was_attached || failures == 1 {
            tracing::warn!(stream = name, reason, ?delay, "detached; will attach again");
        } else {
            tracing::debug!(stream = name, reason, failures, ?delay, "still detached");
        }
        peer.close(reason);
        tokio::time::sleep(delay).await;
    }
}

#[cfg(test)]
mod tests;
