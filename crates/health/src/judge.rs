//! From a row of outcomes of one endpoint to its verdict. The rules are the same for probes and for real traffic.

use std::time::Duration;

use model::{HealthPolicy, Time, Verdict};

use crate::Outcome;

/// Outcomes remembered for telling "mixed" from "well".
const WINDOW: u32 = 16;
/// So many failures among them make a working endpoint degraded; at most one makes it healthy again.
const MIXED_FAILURES: u32 = 4;
const CLEAN_FAILURES: u32 = 1;

/// The verdict on one endpoint, and the reason.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Judge {
    verdict: Verdict,
    last_seen: Option<Time>,
    /// Outcomes in a row that say the same.
    streak: u32,
    failing: bool,
    /// The latest outcomes, a bit each, failures set, the latest lowest.
    window: u32,
    reason: Option<String>,
}

impl Judge {
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    pub fn last_seen(&self) -> Option<Time> {
        self.last_seen
    }

    pub fn streak(&self) -> u32 {
        self.streak
    }

    /// The last failure, or what the endpoint waits for. A success takes it away only if the endpoint is healthy then.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Takes one outcome and returns the verdict it leads to.
    ///
    /// Failing takes `unhealthy_threshold` failures in a row, coming back `healthy_threshold` successes. For an
    /// endpoint that was unknown, or that just came up, the first success is enough: it has proved that it works.
    pub fn take(&mut self, now: Time, policy: &HealthPolicy, outcome: &Outcome) -> Verdict {
        self.last_seen = Some(now);
        match outcome {
            Outcome::Ok { .. } => self.succeeded(policy),
            Outcome::Failed { reason } => {
                self.reason = Some(reason.clone());
                self.failed(policy);
            }
            Outcome::Starting { reason, failing } => {
                let verdict = if *failing { Verdict::Failing } else { Verdict::Starting };
                *self = Self { verdict, last_seen: Some(now), ..Self::default() };
                self.reason = Some(reason.clone());
            }
        }
        self.verdict
    }

    /// Outcomes that are too old do not count any more. An unknown verdict is no reason to keep traffic away.
    pub fn age(&mut self, now: Time, policy: &HealthPolicy) -> Verdict {
        if self.stale_at(policy).is_some_and(|at| at <= now) {
            *self = Self { reason: self.reason.take(), last_seen: self.last_seen, ..Self::default() };
        }
        self.verdict
    }

    /// When [`Judge::age`] will forget; none when there is nothing to forget.
    pub fn stale_at(&self, policy: &HealthPolicy) -> Option<Time> {
        let seen = self.last_seen.filter(|_| self.verdict != Verdict::Unknown)?;
        Some(seen + stale_after(policy))
    }

    fn succeeded(&mut self, policy: &HealthPolicy) {
        self.count(false);
        self.verdict = match self.verdict {
            Verdict::Unhealthy if self.streak < policy.healthy_threshold.max(1) => Verdict::Unhealthy,
            Verdict::Unhealthy => {
                // It is judged by what it does from now on.
                self.window = 0;
                Verdict::Healthy
            }
            Verdict::Degraded if self.failures() > CLEAN_FAILURES => Verdict::Degraded,
            Verdict::Healthy if self.failures() >= MIXED_FAILURES => Verdict::Degraded,
            Verdict::Healthy | Verdict::Degraded | Verdict::Unknown | Verdict::Starting | Verdict::Failing => {
                Verdict::Healthy
            }
        };
        if self.verdict == Verdict::Healthy {
            self.reason = None;
        }
    }

    fn failed(&mut self, policy: &HealthPolicy) {
        self.count(true);
        if self.streak >= policy.unhealthy_threshold.max(1) {
            self.verdict = Verdict::Unhealthy;
        } else if self.verdict == Verdict::Healthy && self.failures() >= MIXED_FAILURES {
            self.verdict = Verdict::Degraded;
        }
    }

    fn count(&mut self, failing: bool) {
        self.streak = if self.failing == failing { self.streak.saturating_add(1) } else { 1 };
        self.failing = failing;
        self.window = (self.window << 1 | u32::from(failing)) & ((1 << WINDOW) - 1);
    }

    fn failures(&self) -> u32 {
        self.window.count_ones()
    }
}

/// Three rounds without an outcome, each with the time that its probe may take.
pub(crate) fn stale_after(policy: &HealthPolicy) -> Duration {
    (policy.interval + policy.timeout) * 3
}

#[cfg(test)]
mod tests;
