//! How a server is, in the one word that every status, metric and answer of the gateway uses.

use std::fmt;
use std::str::FromStr;

use crate::verdict::Verdict;

/// The state of one endpoint of a server. The order is that in which the worst of several endpoints is chosen to stand
/// for their server: one that leaves says nothing about the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// Switched off where it is configured: a server without endpoints.
    Disabled,
    /// Takes no new calls, and either is no longer in the live revision or still has calls in flight. One that is
    /// starting, unhealthy or failing is shown as that, unless the live revision has it no more, or an operator has
    /// switched it off.
    Draining,
    /// Operators keep new calls from it, and none is in flight.
    Cordoned,
    Healthy,
    /// Works, with failures among its answers.
    Degraded,
    /// It was never probed or used, or its last outcome is too old to count.
    Unknown,
    /// Not up yet: being connected or initialised, or waiting for its next attempt.
    Starting,
    /// Up, and does not answer as it should.
    Unhealthy,
    /// Not up, after several attempts in a row that failed or did not last.
    Failing,
}

/// What an endpoint's state follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    pub verdict: Verdict,
    /// It takes no new calls.
    pub cordoned: bool,
    /// An operator has switched it off: it need not come up.
    pub disabled: bool,
    /// The live revision has it no more.
    pub leaving: bool,
    pub in_flight: u64,
}

/// Whether a person has to look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Concern {
    None,
    /// It may still come right by itself, or works in part.
    Warning,
    Problem,
}

impl Condition {
    /// Each once.
    pub const ALL: [Self; 9] = [
        Self::Disabled,
        Self::Draining,
        Self::Cordoned,
        Self::Healthy,
        Self::Degraded,
        Self::Unknown,
        Self::Starting,
        Self::Unhealthy,
        Self::Failing,
    ];

    /// As they are written, in the same order.
    pub const NAMES: [&'static str; 9] = {
        let mut names = [""; 9];
        let mut at = 0;
        while at < names.len() {
            names[at] = Self::ALL[at].as_str();
            at += 1;
        }
        names
    };

    /// A cordon hides no trouble: a cordoned endpoint that is not well is shown as what it is. One that leaves, or is
    /// switched off, is shown as that, well or not.
    #[must_use]
    pub fn of(facts: Facts) -> Self {
        let Facts { verdict, cordoned, disabled, leaving, in_flight } = facts;
        let held = if in_flight > 0 { Self::Draining } else { Self::Cordoned };
        match verdict {
            _ if cordoned && leaving => Self::Draining,
            _ if disabled => held,
            Verdict::Starting => Self::Starting,
            Verdict::Unhealthy => Self::Unhealthy,
            Verdict::Failing => Self::Failing,
            Verdict::Healthy | Verdict::Degraded | Verdict::Unknown if cordoned => held,
            Verdict::Healthy => Self::Healthy,
            Verdict::Degraded => Self::Degraded,
            Verdict::Unknown => Self::Unknown,
        }
    }

    /// `failed`: an attempt to bring it up has failed, or it was lost. Before that, `starting` is only news.
    #[must_use]
    pub fn concern(self, failed: bool) -> Concern {
        match self {
            Self::Unhealthy | Self::Failing => Concern::Problem,
            Self::Starting if failed => Concern::Problem,
            Self::Starting | Self::Degraded => Concern::Warning,
            Self::Disabled | Self::Healthy | Self::Unknown | Self::Draining | Self::Cordoned => Concern::None,
        }
    }

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Draining => "draining",
            Self::Cordoned => "cordoned",
            Self::Healthy => Verdict::Healthy.as_str(),
            Self::Degraded => Verdict::Degraded.as_str(),
            Self::Unknown => Verdict::Unknown.as_str(),
            Self::Starting => Verdict::Starting.as_str(),
            Self::Unhealthy => Verdict::Unhealthy.as_str(),
            Self::Failing => Verdict::Failing.as_str(),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// No word for a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no state of a server")]
pub struct NoCondition;

impl FromStr for Condition {
    type Err = NoCondition;

    fn from_str(text: &str) -> Result<Self, NoCondition> {
        Self::ALL.into_iter().find(|one| one.as_str() == text).ok_or(NoCondition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cordon_hides_no_trouble_and_who_leaves_is_in_none() {
        let of = |verdict, cordoned, leaving, in_flight| {
            Condition::of(Facts { verdict, cordoned, disabled: false, leaving, in_flight }).as_str()
        };
        for verdict in Verdict::ALL {
            assert_eq!(of(verdict, false, false, 1), verdict.as_str());
            assert_eq!(of(verdict, false, true, 1), verdict.as_str(), "it stays for a while, and gets calls");
            assert_eq!(of(verdict, true, true, 0), "draining");
        }
        for verdict in [Verdict::Healthy, Verdict::Degraded, Verdict::Unknown] {
            assert_eq!([1, 0].map(|calls| of(verdict, true, false, calls)), ["draining", "cordoned"]);
        }
        for verdict in [Verdict::Starting, Verdict::Unhealthy, Verdict::Failing] {
            assert_eq!(of(verdict, true, false, 0), verdict.as_str());
            let off = |in_flight| Facts { verdict, cordoned: true, disabled: true, leaving: false, in_flight };
            assert_eq!([1, 0].map(|calls| Condition::of(off(calls)).as_str()), ["draining", "cordoned"]);
        }
    }

    #[test]
    fn who_is_not_up_after_an_attempt_is_a_problem() {
        let of = |failed| Condition::ALL.map(|condition| condition.concern(failed));
        use Concern::{None as Fine, Problem, Warning};
        assert_eq!(of(true), [Fine, Fine, Fine, Fine, Warning, Fine, Problem, Problem, Problem]);
        assert_eq!(of(false), [Fine, Fine, Fine, Fine, Warning, Fine, Warning, Problem, Problem]);
        assert!(Condition::ALL.is_sorted());
        for condition in Condition::ALL {
            assert_eq!(condition.as_str().parse(), Ok(condition));
        }
        assert_eq!("dead".parse::<Condition>(), Err(NoCondition));
    }
}
