//! What an endpoint gets beside the other endpoints of its server, by how its calls went.

use crate::weight::Weight;

/// A verdict says whether an endpoint works at all; this says whether others should be preferred to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Standing {
    /// Its whole share.
    #[default]
    Full,
    /// It came back a moment ago: that much of its share.
    Growing(Weight),
    /// It was ejected before: one call at a time, until it has shown what it does.
    OnTrial,
    /// Too many of its calls failed: nothing, as long as another endpoint may be chosen.
    Ejected,
}

impl Standing {
    /// What the standing leaves of its share. An ejected one is chosen only where none is better.
    #[must_use]
    pub fn weight(self) -> Weight {
        match self {
            Self::Full | Self::Ejected => Weight::FULL,
            Self::Growing(weight) => weight,
            Self::OnTrial => Weight::TENTH,
        }
    }

    /// In one word, for displays; empty for its whole share.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "",
            Self::Growing(_) => "growing",
            Self::OnTrial => "on_trial",
            Self::Ejected => "ejected",
        }
    }

    /// As one number, which [`Self::unpacked`] reads.
    #[must_use]
    pub fn packed(self) -> u16 {
        match self {
            Self::Full => FULL,
            Self::Growing(weight) => weight.permille(),
            Self::OnTrial => ON_TRIAL,
            Self::Ejected => EJECTED,
        }
    }

    #[must_use]
    pub fn unpacked(number: u16) -> Self {
        match number {
            ON_TRIAL => Self::OnTrial,
            EJECTED => Self::Ejected,
            other => Weight::of(other).map_or(Self::Full, Self::Growing),
        }
    }
}

/// More than any weight.
const ON_TRIAL: u16 = 1001;
const EJECTED: u16 = 1002;
const FULL: u16 = 1003;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_one_is_unpacked_as_it_was() {
        for standing in [Standing::Full, Standing::OnTrial, Standing::Ejected, Standing::Growing(Weight::TENTH)] {
            assert_eq!(Standing::unpacked(standing.packed()), standing);
            assert!(!standing.weight().is_none());
        }
    }
}
