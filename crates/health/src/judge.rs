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
    last_ok: Option<Time>,
    /// The last failure with its time, in its own words; it stays when the endpoint is well again.
    last_failure: Option<(Time, String)>,
    /// Outcomes in a row that say the same.
    streak: u32,
    failing: bool,
    /// How often it became unhealthy since its last long row of successes.
    falls: u32,
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

    pub fn last_ok(&self) -> Option<Time> {
        self.last_ok
    }

    pub fn last_failure(&self) -> Option<(Time, &str)> {
        self.last_failure.as_ref().map(|(at, why)| (*at, why.as_str()))
    }

    pub fn streak(&self) -> u32 {
        self.streak
    }

    /// Failures in a row, up to now.
    pub fn failures_in_a_row(&self) -> u32 {
        if self.failing { self.streak } else { 0 }
    }

    /// The last failure, or what the endpoint waits for. A success takes it away only if the endpoint is healthy then.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Takes one outcome and returns the verdict it leads to.
    ///
    /// Failing takes `unhealthy_threshold` failures in a row, coming back `healthy_threshold` successes: twice as many
    /// each time that it falls again without a long row of successes in between, so that what flaps stays away. For an
    /// endpoint that was unknown, or that just came up, the first success is enough: it has proved that it works.
    pub fn take(&mut self, now: Time, policy: &HealthPolicy, outcome: &Outcome) -> Verdict {
        self.last_seen = Some(now);
        match outcome {
            Outcome::Ok { .. } => {
                self.last_ok = Some(now);
                self.succeeded(policy);
            }
            Outcome::Failed { reason } => {
                self.reason = Some(reason.clone());
                self.last_failure = Some((now, reason.clone()));
                self.failed(policy);
            }
            Outcome::Starting { reason, failing } => {
                let verdict = if *failing { Verdict::Failing } else { Verdict::Starting };
                *self = Self { verdict, reason: Some(reason.clone()), ..self.forgetful() };
            }
        }
        self.verdict
    }

    /// Outcomes that are too old do not count any more. An unknown verdict is no reason to keep traffic away.
    pub fn age(&mut self, now: Time, policy: &HealthPolicy) -> Verdict {
        if self.stale_at(policy).is_some_and(|at| at <= now) {
            *self = Self { reason: self.reason.take(), ..self.forgetful() };
        }
        self.verdict
    }

    /// When [`Judge::age`] will forget; none when there is nothing to forget.
    pub fn stale_at(&self, policy: &HealthPolicy) -> Option<Time> {
        let seen = self.last_seen.filter(|_| self.verdict != Verdict::Unknown)?;
        Some(seen + stale_after(policy))
    }

    /// Without anything that a verdict follows from.
    fn forgetful(&mut self) -> Self {
        let Self { last_seen, last_ok, .. } = *self;
        Self { last_seen, last_ok, last_failure: self.last_failure.take(), ..Self::default() }
    }

    fn succeeded(&mut self, policy: &HealthPolicy) {
        self.count(false);
        self.verdict = match self.verdict {
            Verdict::Unhealthy if self.streak < self.enough(policy) => Verdict::Unhealthy,
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
        if self.streak >= WINDOW {
            self.falls = 0;
        }
    }

    /// So many successes in a row make it healthy again.
    fn enough(&self, policy: &HealthPolicy) -> u32 {
        let least = policy.healthy_threshold.max(1);
        let doubled = least.saturating_mul(1 << self.falls.saturating_sub(1).min(WINDOW));
        doubled.min(WINDOW.max(least))
    }

    fn failed(&mut self, policy: &HealthPolicy) {
        self.count(true);
        if self.streak >= policy.unhealthy_threshold.max(1) {
            self.falls = self.falls.saturating_add(u32::from(self.verdict != Verdict::Unhealthy));
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
