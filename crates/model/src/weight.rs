//! How much of its usual share of the calls something gets.

use std::fmt;

use serde::{Deserialize, Serialize};

/// In thousandths. The weights of several causes multiply: a half of a half is a quarter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Weight(u16);

impl Weight {
    /// Gets nothing: it is cordoned.
    pub const NONE: Self = Self(0);
    pub const FULL: Self = Self(1000);
    pub const TENTH: Self = Self(100);

    /// Absent for more than [`Weight::FULL`].
    pub fn of(permille: u16) -> Option<Self> {
        Some(Self(permille)).filter(|weight| *weight <= Self::FULL)
    }

    pub fn permille(self) -> u16 {
        self.0
    }

    pub fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// Of a flag: a percentage above zero, with one decimal at most.
    ///
    /// # Errors
    /// What was expected, for the command line to show.
    pub fn percentage(text: &str) -> Result<Self, String> {
        let permille = || {
            let number = text.strip_suffix('%')?;
            let (percent, tenths) = number.split_once('.').unwrap_or((number, "0"));
            // `parse` takes a sign, too.
            (tenths.len() == 1 && !number.contains('+')).then_some(())?;
            percent.parse::<u16>().ok()?.checked_mul(10)?.checked_add(tenths.parse().ok()?)
        };
        let weight = permille().and_then(Self::of).filter(|weight| !weight.is_none());
        weight.ok_or_else(|| format!("expected a percentage from 0.1% to 100%, not {text:?}"))
    }

    /// Both together. Nothing but [`Weight::NONE`] makes nothing.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let product = (u32::from(self.0) * u32::from(other.0)).div_ceil(1000);
        Self(u16::try_from(product).expect("at most 1000"))
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (percent, tenths) = (self.0 / 10, self.0 % 10);
        if tenths == 0 { write!(f, "{percent}%") } else { write!(f, "{percent}.{tenths}%") }
    }
}

impl From<Weight> for u16 {
    fn from(weight: Weight) -> Self {
        weight.0
    }
}

impl TryFrom<u16> for Weight {
    type Error = String;

    fn try_from(permille: u16) -> Result<Self, String> {
        Self::of(permille).ok_or_else(|| format!("a weight has at most 1000 thousandths, not {permille}"))
    }
}

#[cfg(test)]
mod tests {
    use super::Weight;

    #[test]
    fn percentages_are_read_as_they_are_written() {
        for text in ["0.1%", "25%", "12.5%", "100%"] {
            assert_eq!(Weight::percentage(text).unwrap().to_string(), text);
        }
        for text in ["", "%", "25", "0%", "0.0%", "100.1%", "12.55%", "12.05%", "-1%", "1.+2%", "1e1%", "65537%"] {
            assert!(Weight::percentage(text).is_err(), "{text}");
        }
    }

    #[test]
    fn weights_multiply_and_only_nothing_makes_nothing() {
        let weight = |permille| Weight::of(permille).unwrap();
        assert_eq!(weight(500).and(weight(500)), weight(250));
        assert_eq!(weight(1).and(weight(1)), weight(1));
        assert_eq!((weight(7).and(Weight::FULL), weight(7).and(Weight::NONE)), (weight(7), Weight::NONE));
        assert_eq!(Weight::of(1001), None);
    }
}
