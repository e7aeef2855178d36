//! What servers have begun to say and not ended. All of one server's get a part of what may be held, so that a server
//! which begins much and ends nothing takes no room from the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Budget, PART, Weight, size};

/// All answers that one server has begun.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unfinished(Arc<OfServer>);

#[derive(Debug)]
struct OfServer {
    bytes: AtomicUsize,
    /// Of those that wait, the one that began to wait first has its only permit until its answer is complete.
    first: Arc<Semaphore>,
}

impl Default for OfServer {
    fn default() -> Self {
        Self { bytes: AtomicUsize::default(), first: Arc::new(Semaphore::new(1)) }
    }
}

/// An answer, as far as it has come. Dropped, it is held no more.
#[derive(Debug)]
pub(crate) struct Begun {
    server: Unfinished,
    weight: Weight,
    /// It is the first, so that what its server has begun besides cannot hold it up: each could wait for the others.
    first: Option<OwnedSemaphorePermit>,
}

#[cfg(test)]
impl Unfinished {
    pub(super) fn bytes(&self) -> usize {
        self.0.bytes.load(Ordering::Relaxed)
    }
}

impl Begun {
    /// Nothing yet.
    pub(crate) fn of(server: &Unfinished, budget: &Budget) -> Self {
        Self { server: server.clone(), weight: budget.nothing_yet(), first: None }
    }

    /// If its server has no more than its part of `limit` with it, or it is the first or the only one of it; and if all
    /// have room for it.
    pub(crate) fn try_set(&mut self, bytes: usize, limit: u64) -> bool {
        let (own, of_server) = (self.weight.bytes, self.server.0.bytes.load(Ordering::Relaxed));
        let others = of_server.saturating_sub(own);
        // Two cores that look at once may pass the part by a piece of a body each.
        let within = others.saturating_add(bytes) <= size(limit) / PART;
        if !(bytes <= own || others == 0 || within || self.first.is_some()) {
            return false;
        }
        if bytes <= own {
            // Before others are woken by what the weight gives back.
            self.server.0.bytes.fetch_sub(own - bytes, Ordering::Relaxed);
            self.weight.set(bytes);
            return true;
        }
        let set = self.weight.try_set(bytes, limit);
        if set {
            self.server.0.bytes.fetch_add(bytes - own, Ordering::Relaxed);
        }
        set
    }

    /// As [`Self::try_set`], once there is room; whether there was within `patience`.
    pub(crate) async fn set_within(&mut self, patience: Duration, bytes: usize, limit: u64) -> bool {
        let budget = self.weight.budget.clone();
        let fits = async {
            let mut turn = std::pin::pin!(Arc::clone(&self.server.0.first).acquire_owned());
            loop {
                // Counts from here, so that nothing is missed between the try and the wait.
                let freed = budget.0.freed.notified();
                if self.try_set(bytes, limit) {
                    return;
                }
                tokio::select! {
                    () = freed => {}
                    first = &mut turn, if self.first.is_none() => self.first = first.ok(),
                }
            }
        };
        tokio::time::timeout(patience, fits).await.is_ok()
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.try_set(0, 0);
    }
}
