//! Time for everything that must not read it: the shells ask here and hand the answer to the pure cores.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Monotonic time since this clock was started, normally once at the start of the process and copied from there.
///
/// A value rather than a global, because a test that pauses tokio's clock must not disturb another. Times of two clocks
/// cannot be compared: pass copies of one.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Nanoseconds since the start. Saturates after 584 years.
    pub fn now_nanos(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The instant that `now_nanos` will call `nanos`.
    pub fn instant_at(&self, nanos: u64) -> Instant {
        self.origin + Duration::from_nanos(nanos)
    }

    /// Returns when `now_nanos() >= nanos`; at once if that has passed; never for `None`, so that an absent deadline is
    /// a branch of `select!` like any other.
    pub async fn sleep_until(&self, nanos: Option<u64>) {
        match nanos {
            // Beyond 30 years tokio's timer wheel cannot hold it: a deadline that far away is none.
            Some(nanos) if nanos < 1_000_000_000_000_000_000 => {
                tokio::time::sleep_until(self.instant_at(nanos)).await;
            }
            _ => std::future::pending().await,
        }
    }

    /// Wall time in milliseconds since the Unix epoch, for records that people read. Never for ordering.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
    pub fn unix_millis(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests;
