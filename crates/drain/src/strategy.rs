//! What a leaving endpoint still gets, and until when: the one place that knows what a drain policy says.
//!
//! With the strategy `progressive` the share of an endpoint falls in a straight line: with each step it loses the same part
//! of the whole (100 %, 90 %, 80 % … by the defaults), so that no step is a leap and the end is known from the beginning.
//! Its last step is the cordon, and the calls that run then have the drain timeout, as with `graceful`. Meanwhile sessions
//! of clients may move away from it, so many a second.

use std::time::Duration;

use model::{DrainOverlay, DrainPolicy, DrainStrategy, ProgressivePolicy, Time, Weight};

/// How long exchanges have from the cordon to their eviction.
pub(crate) fn term(policy: &DrainPolicy) -> Duration {
    match policy.strategy {
        DrainStrategy::Immediate => Duration::ZERO,
        DrainStrategy::Graceful | DrainStrategy::Progressive => policy.timeout,
    }
}

/// The longest time from the removal of an endpoint to the eviction of its exchanges.
pub(crate) fn at_most(policy: &DrainPolicy) -> Duration {
    match policy.strategy {
        DrainStrategy::Immediate | DrainStrategy::Graceful => term(policy),
        DrainStrategy::Progressive => stay(policy).saturating_add(term(policy)),
    }
}

/// The longest time that an endpoint keeps a share after its removal.
fn stay(policy: &DrainPolicy) -> Duration {
    match policy.strategy {
        DrainStrategy::Immediate => Duration::ZERO,
        DrainStrategy::Graceful => term(policy),
        DrainStrategy::Progressive => fall(&policy.progressive, Weight::FULL).saturating_add(term(policy)),
    }
}

/// What an operator's keys make of the configured policy. A time that is given is meant to be had.
pub(crate) fn asked(own: &DrainOverlay, configured: &DrainPolicy) -> DrainPolicy {
    let policy = own.over(configured);
    let at_once = own.strategy.is_none() && own.timeout.is_some() && policy.strategy == DrainStrategy::Immediate;
    DrainPolicy { strategy: if at_once { DrainStrategy::Graceful } else { policy.strategy }, ..policy }
}

/// What is left of the share `from` when it has fallen for that long.
pub(crate) fn fallen(pace: &ProgressivePolicy, from: Weight, elapsed: Duration) -> Weight {
    let lost = u64::from(steps(pace, elapsed)) * u64::from(step(pace));
    let left = u64::from(from.permille()).saturating_sub(lost);
    u16::try_from(left).ok().and_then(Weight::of).unwrap_or(Weight::NONE)
}

/// How long the share `from` takes to fall to nothing.
pub(crate) fn fall(pace: &ProgressivePolicy, from: Weight) -> Duration {
    interval(pace).saturating_mul(u32::from(from.permille()).div_ceil(step(pace)))
}

/// The steps in that time.
pub(crate) fn steps(pace: &ProgressivePolicy, elapsed: Duration) -> u32 {
    u32::try_from(elapsed.as_nanos() / interval(pace).as_nanos()).unwrap_or(u32::MAX)
}

/// In thousandths.
fn step(pace: &ProgressivePolicy) -> u32 {
    pace.weight_reduction.clamp(1, 100) * 10
}

/// Whole milliseconds, as records have them, and never none, whatever a message says.
pub(crate) fn interval(pace: &ProgressivePolicy) -> Duration {
    Duration::from_millis(u64::try_from(pace.interval.as_millis()).unwrap_or(u64::MAX).max(1))
}

/// The way of one endpoint from its removal to its cordon, while another endpoint of its backend is beside it.
#[derive(Debug)]
pub(crate) struct Course {
    pub(crate) policy: DrainPolicy,
    /// When the share began to fall: at the removal, or when what takes over was well again.
    begun: Time,
    /// When it has no share any more, whatever becomes of what takes over.
    until: Time,
    /// What takes over is not well enough: it has its whole share meanwhile.
    strained: bool,
}

impl Course {
    pub(crate) fn new(policy: DrainPolicy, now: Time) -> Self {
        Self { until: now + stay(&policy), policy, begun: now, strained: false }
    }

    /// What the policy leaves of its share of the calls, before operators' weights. If an operator gave that very
    /// endpoint a weight (`held`), a graceful drain leaves all of it until the deadline.
    pub(crate) fn share(&self, now: Time, held: bool) -> Weight {
        if now >= self.until {
            return Weight::NONE;
        }
        match self.policy.strategy {
            DrainStrategy::Progressive if self.strained => Weight::FULL,
            DrainStrategy::Progressive => fallen(&self.policy.progressive, Weight::FULL, now.since(self.begun)),
            DrainStrategy::Graceful if held => Weight::FULL,
            DrainStrategy::Graceful | DrainStrategy::Immediate => Weight::NONE,
        }
    }

    /// How long it takes until the last of its calls is ended, as it goes.
    pub(crate) fn remaining(&self, now: Time) -> Duration {
        let fallen = self.falls().filter(|_| !self.strained);
        let fallen = fallen.map(|pace| self.begun + fall(pace, Weight::FULL));
        let until = fallen.map_or(self.until, |fallen| fallen.min(self.until));
        until.since(now).saturating_add(term(&self.policy))
    }

    /// How many sessions may move away per second while the endpoint keeps a share.
    pub(crate) fn rate(&self) -> Option<u32> {
        self.falls().filter(|_| !self.strained).map(|pace| pace.rate)
    }

    /// How the share falls, if it does.
    pub(crate) fn falls(&self) -> Option<&ProgressivePolicy> {
        (self.policy.strategy == DrainStrategy::Progressive).then_some(&self.policy.progressive)
    }

    pub(crate) fn is_strained(&self) -> bool {
        self.strained
    }

    /// What takes over has become too unwell, or is well again: then the share falls from the beginning.
    pub(crate) fn strain(&mut self, now: Time, strained: bool) {
        if self.strained && !strained {
            self.begun = now;
        }
        self.strained = strained;
    }

    /// When the share may be another one by time alone.
    pub(crate) fn next_change(&self, now: Time) -> Option<Time> {
        let passed = |pace: &ProgressivePolicy| steps(pace, now.since(self.begun)).saturating_add(1);
        let step = self.falls().filter(|_| !self.strained).map(|pace| interval(pace).saturating_mul(passed(pace)));
        let step = step.map(|after| self.begun + after);
        step.into_iter().chain([self.until]).filter(|at| *at > now && *at <= self.until).min()
    }
}

/// The sessions that may move away from an endpoint.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Per second.
    rate: u32,
    begun: Time,
    granted: u64,
    /// When more may be granted at the earliest.
    next: Time,
}

/// The shortest time between two grants.
const GRANT: Duration = Duration::from_millis(50);
const NANOS: u128 = 1_000_000_000;

impl Pace {
    pub(crate) fn new(rate: u32, now: Time) -> Self {
        let mut new = Self { rate: rate.max(1), begun: now, granted: 0, next: now };
        new.grant(now);
        new
    }

    /// Whether it grants as many a second.
    pub(crate) fn is(&self, rate: u32) -> bool {
        self.rate == rate.max(1)
    }

    /// How many more may move by now. What was granted before and not used may still be used.
    pub(crate) fn grant(&mut self, now: Time) -> u32 {
        let due = now.since(self.begun).as_nanos().saturating_mul(self.rate.into()) / NANOS;
        let due = u64::try_from(due).unwrap_or(u64::MAX).max(self.granted);
        let more = due - self.granted;
        self.granted = due;
        let of_one = (u128::from(due) + 1).saturating_mul(NANOS).div_ceil(self.rate.into());
        let due = self.begun + Duration::from_nanos(u64::try_from(of_one).unwrap_or(u64::MAX));
        self.next = due.max(now + GRANT);
        u32::try_from(more).unwrap_or(u32::MAX)
    }

    pub(crate) fn next(&self) -> Time {
        self.next
    }
}

#[cfg(test)]
mod tests;
