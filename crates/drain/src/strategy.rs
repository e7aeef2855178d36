//! What a leaving endpoint still gets, and until when: the one place that knows what a drain policy says.

use std::time::Duration;

use model::{DrainPolicy, Time, Weight};

/// How long exchanges have from the cordon to their eviction.
pub(crate) fn term(policy: &DrainPolicy) -> Duration {
    policy.timeout
}

/// The way of one endpoint from its removal to its cordon, while another endpoint of its backend is beside it.
#[derive(Debug)]
pub(crate) struct Course {
    pub(crate) policy: DrainPolicy,
    pub(crate) begun: Time,
}

impl Course {
    /// What the policy leaves of its share of the calls, before operators' weights: all of it until the deadline if an
    /// operator gave that very endpoint a weight (`held`), and nothing otherwise.
    pub(crate) fn share(&self, now: Time, held: bool) -> Weight {
        if held && now < self.begun + term(&self.policy) { Weight::FULL } else { Weight::NONE }
    }

    /// When the share may be another one by time alone.
    pub(crate) fn next_change(&self, now: Time) -> Option<Time> {
        Some(self.begun + term(&self.policy)).filter(|at| *at > now)
    }
}
