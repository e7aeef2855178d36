//! What became of the latest calls.

use std::ops::Add;
use std::time::Duration;

use model::Time;

/// Counted are the calls of the present part and of the one before it.
const PART: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub(super) answered: u64,
    pub(super) failed: u64,
}

impl Counts {
    pub(super) fn all(self) -> u64 {
        self.answered.saturating_add(self.failed)
    }
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let answered = self.answered.saturating_add(other.answered);
        Self { answered, failed: self.failed.saturating_add(other.failed) }
    }
}

/// Between five and ten seconds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Window {
    since: Time,
    present: Counts,
    before: Counts,
}

impl Window {
    pub(super) fn add(&mut self, now: Time, counts: Counts) {
        *self = self.at(now);
        self.present = self.present + counts;
    }

    pub(super) fn sum(self, now: Time) -> Counts {
        let Self { present, before, .. } = self.at(now);
        present + before
    }

    /// Without what is too old.
    fn at(self, now: Time) -> Self {
        let passed = now - self.since;
        if passed < PART {
            self
        } else if passed < PART * 2 {
            Self { since: self.since + PART, present: Counts::default(), before: self.present }
        } else {
            Self { since: now, ..Self::default() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_does_not_count() {
        let at = |seconds| Time::ZERO + Duration::from_secs(seconds);
        let one = Counts { answered: 1, failed: 2 };
        let mut window = Window::default();
        window.add(at(100), one);
        window.add(at(104), one);
        assert_eq!(window.sum(at(104)), one + one);
        window.add(at(106), one);
        assert_eq!(window.sum(at(109)), one + one + one);
        assert_eq!(window.sum(at(111)), one);
        assert_eq!(window.sum(at(115)), Counts::default());
    }
}
