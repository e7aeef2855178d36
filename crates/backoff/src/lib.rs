//! How long to wait before trying again: exponential with full jitter, so that many clients do not return together.

#![forbid(unsafe_code)]

use std::time::Duration;

/// The limits of a series of waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Upper limit of the first wait.
    pub base: Duration,
    /// Upper limit of every wait.
    pub cap: Duration,
}

/// The shortest wait; without it, a peer that refuses at once would be called in a hot loop.
const FLOOR: Duration = Duration::from_millis(1);

impl Backoff {
    pub const fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap }
    }

    /// The wait after `failures` consecutive failures (0 is the first), uniform in `(0, min(cap, base * 2^failures)]`.
    /// `random` decides where: equal arguments give equal waits.
    pub fn delay(&self, failures: u32, random: u64) -> Duration {
        let ceiling = self.ceiling(failures).as_nanos();
        let nanos = (ceiling * u128::from(random)) >> 64;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).max(FLOOR)
    }

    /// The longest wait possible after `failures` consecutive failures.
    pub fn ceiling(&self, failures: u32) -> Duration {
        let factor = 2_u32.checked_pow(failures).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap).min(Duration::from_secs(86_400))
    }
}

impl Default for Backoff {
    /// For peers of one installation: 50 ms doubling to 5 s.
    fn default() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(5))
    }
}

#[cfg(test)]
mod tests;
