//! Answers that servers have begun and not finished. All unfinished answers of one server get a part of what may be
//! held, so that a server which begins many and finishes none takes no room from other servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Budget, Charge, PART, size};

/// All unfinished answers of one server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unfinished(Arc<OfServer>);

#[derive(Debug)]
struct OfServer {
    bytes: AtomicUsize,
    /// The only permit. Of the waiting answers, the one that began to wait first has it until that answer is complete.
    first: Arc<Semaphore>,
}

impl Default for OfServer {
    fn default() -> Self {
        Self { bytes: AtomicUsize::default(), first: Arc::new(Semaphore::new(1)) }
    }
}

/// The charge for the part of an answer that has arrived. Dropping it ends the charge.
#[derive(Debug)]
pub(crate) struct Begun {
    server: Unfinished,
    charge: Charge,
    /// The permit of the first answer: other unfinished answers of its server cannot hold it up, or each could wait for
    /// the others.
    first: Option<OwnedSemaphorePermit>,
}

#[cfg(test)]
impl Unfinished {
    pub(super) fn bytes(&self) -> usize {
        self.0.bytes.load(Ordering::Relaxed)
    }
}

impl Begun {
    /// An answer of which nothing has arrived yet.
    pub(crate) fn of(server: &Unfinished, budget: &Budget) -> Self {
        Self { server: server.clone(), charge: budget.nothing_yet(), first: None }
    }

    /// Sets the charge if its server stays within its part of `limit`, or if the answer has the permit or is the
    /// server's only one; and only if the whole budget has room for it.
    pub(crate) fn try_set(&mut self, bytes: usize, limit: u64) -> bool {
        let (own, of_server) = (self.charge.bytes, self.server.0.bytes.load(Ordering::Relaxed));
        let others = of_server.saturating_sub(own);
        // Two cores that check at once may exceed the part by a piece of a body each.
        let within = others.saturating_add(bytes) <= size(limit) / PART;
        if !(bytes <= own || others == 0 || within || self.first.is_some()) {
            return false;
        }
        if bytes <= own {
            // This comes before `set`, which wakes the tasks that wait for room.
            self.server.0.bytes.fetch_sub(own - bytes, Ordering::Relaxed);
            self.charge.set(bytes);
            return true;
        }
        let set = self.charge.try_set(bytes, limit);
        if set {
            self.server.0.bytes.fetch_add(bytes - own, Ordering::Relaxed);
        }
        set
    }

    /// As [`Self::try_set`], once there is room. Returns whether there was room within `patience`.
    pub(crate) async fn set_within(&mut self, patience: Duration, bytes: usize, limit: u64) -> bool {
        let budget = self.charge.budget.clone();
        let fits = async {
            let mut turn = std::pin::pin!(Arc::clone(&self.server.0.first).acquire_owned());
            loop {
                // Registered before the try, so that no wake-up is missed between the try and the wait.
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
