//! The right of one exchange to use an endpoint.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use model::{Revision, Standing};

use super::Endpoint;

/// What came and went. Counters only grow; they are observed, never corrected.
#[derive(Debug, Default)]
pub struct Stats {
    /// Exchanges let in.
    pub admitted: AtomicU64,
    /// Exchanges that left, however they ended.
    pub finished: AtomicU64,
    /// Of `finished`: ended by a drain's deadline: counted where they are ended.
    pub evicted: AtomicU64,
    /// Of `finished`: without an answer: counted where the failure is reported.
    pub failed: AtomicU64,
    /// Of `finished`: no sign of the server's health, because the client cancelled, or sent what the server or the
    /// gateway refuses.
    pub spared: AtomicU64,
}

impl Stats {
    /// Exchanges that the server has answered.
    pub(crate) fn answered(&self) -> u64 {
        // `finished` is read first, so that an exchange which leaves meanwhile is not taken for an answer: it is
        // counted among the others before it is counted here.
        let finished = self.finished.load(Ordering::Acquire);
        let others = [&self.evicted, &self.failed, &self.spared].map(|count| count.load(Ordering::Relaxed));
        finished.saturating_sub(others.iter().sum())
    }
}

/// Whether an endpoint that is on trial has its one call.
#[derive(Debug, Default)]
pub(super) struct Trial(AtomicBool);

impl Trial {
    /// Whether there was no such call yet.
    fn begin(&self) -> bool {
        !self.0.swap(true, Ordering::Relaxed)
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn end(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// A held admission: keeps the endpoint and the revision that admitted the exchange, never the generation. The exchange
/// leaves when the lease is dropped.
#[derive(Debug)]
pub struct Lease {
    pub endpoint: Arc<Endpoint>,
    pub revision: Revision,
    /// It is the one call of an endpoint on trial, until it leaves, however it ends.
    tries: bool,
}

impl Lease {
    /// `None` when the endpoint is cordoned or closed: load the generation again and route anew.
    #[must_use]
    pub fn admit(endpoint: &Arc<Endpoint>, revision: Revision) -> Option<Self> {
        endpoint.admission.enter().then(|| {
            endpoint.stats.admitted.fetch_add(1, Ordering::Relaxed);
            let tries = endpoint.standing() == Standing::OnTrial && endpoint.trial.begin();
            Self { endpoint: Arc::clone(endpoint), revision, tries }
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.tries {
            self.endpoint.trial.end();
        }
        // Counted before the exchange leaves: once no exchange is in flight, the counters are complete.
        self.endpoint.stats.finished.fetch_add(1, Ordering::Release);
        if self.endpoint.admission.leave() {
            self.endpoint.tell(super::EndpointEvent::Empty);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_or_the_gateway_ended_is_no_answer_of_the_server() {
        let stats =
            Stats { finished: 10.into(), evicted: 1.into(), failed: 2.into(), spared: 3.into(), ..Stats::default() };
        assert_eq!(stats.answered(), 4);
    }
}
