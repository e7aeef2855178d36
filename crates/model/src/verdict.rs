//! The verdict on an endpoint's health.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The state of an endpoint after hysteresis. One bad probe changes no verdict by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Healthy,
    /// Works, with failures among its answers.
    Degraded,
    Unhealthy,
    /// The endpoint was never probed or used, or its last outcome is too old to count.
    #[default]
    Unknown,
    /// Not up yet: connecting, initialising, or waiting for its next attempt.
    Starting,
    /// Not up, after several attempts in a row that failed or did not last: it will be tried again, and will most
    /// likely fail again.
    Failing,
}

impl Verdict {
    /// Each verdict once: to count endpoints by verdict, and to test what must hold for any.
    pub const ALL: [Self; 6] =
        [Self::Healthy, Self::Degraded, Self::Unhealthy, Self::Unknown, Self::Starting, Self::Failing];

    /// As they are written, in the same order.
    pub const NAMES: [&'static str; 6] = {
        let mut names = [""; 6];
        let mut at = 0;
        while at < names.len() {
            names[at] = Self::ALL[at].as_str();
            at += 1;
        }
        names
    };

    /// Whether new exchanges may go there. Not knowing is no reason to refuse.
    pub fn is_routable(self) -> bool {
        matches!(self, Self::Healthy | Self::Degraded | Self::Unknown)
    }

    /// Of several endpoints, the verdict with the most of it is shown for all.
    pub fn badness(self) -> u8 {
        match self {
            Self::Healthy => 0,
            Self::Degraded => 1,
            Self::Unknown => 2,
            Self::Starting => 3,
            Self::Unhealthy => 4,
            Self::Failing => 5,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
            Self::Unknown => "unknown",
            Self::Starting => "starting",
            Self::Failing => "failing",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
