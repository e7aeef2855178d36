//! The right of one exchange to use an endpoint.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use model::Revision;

use super::Endpoint;

/// What came and went. Counters only grow; they are observed, never corrected.
#[derive(Debug, Default)]
pub struct Stats {
    /// Exchanges let in.
    pub admitted: AtomicU64,
    /// Exchanges that left, however they ended.
    pub finished: AtomicU64,
    /// Of those, the ones ended by a drain's deadline: counted by whoever ends them.
    pub evicted: AtomicU64,
    /// Of those, the ones without an answer: counted by whoever reports the failure.
    pub failed: AtomicU64,
}

/// Admission, held: keeps the endpoint and the revision that admitted, never the generation. Leaves when dropped.
#[derive(Debug)]
pub struct Lease {
    pub endpoint: Arc<Endpoint>,
    pub revision: Revision,
}

impl Lease {
    /// `None` when the endpoint is cordoned or closed: load the generation again and route anew.
    #[must_use]
    pub fn admit(endpoint: &Arc<Endpoint>, revision: Revision) -> Option<Self> {
        endpoint.admission.enter().then(|| {
            endpoint.stats.admitted.fetch_add(1, Ordering::Relaxed);
            Self { endpoint: Arc::clone(endpoint), revision }
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Counted before it leaves: whoever sees nobody in flight finds the counters complete.
        self.endpoint.stats.finished.fetch_add(1, Ordering::Release);
        if self.endpoint.admission.leave() {
            self.endpoint.tell(super::EndpointEvent::Empty);
        }
    }
}
