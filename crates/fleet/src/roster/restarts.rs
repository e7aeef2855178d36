//! When a hanging server is ended and started again by itself: at once the first time, then more and more seldom,
//! until a process has lasted. It is never given up: a server whose fault passes comes back without an operator.

use std::time::Duration;

use model::Time;

/// Between two restarts, doubled from one to the next.
const FIRST: Duration = Duration::from_secs(10);
const MOST: Duration = Duration::from_secs(300);
/// A process that was left alone for so long has lasted: earlier restarts do not count any more.
const LASTED: Duration = Duration::from_secs(600);

/// The restarts of one server by its policy.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    last: Option<Time>,
    in_a_row: u32,
}

impl Restarts {
    /// The time from which the next restart is allowed.
    pub(super) fn due(&self, now: Time) -> Time {
        match self.last {
            Some(last) if now.since(last) < LASTED => {
                let doublings = self.in_a_row.saturating_sub(1).min(16);
                (last + FIRST.saturating_mul(1 << doublings).min(MOST)).max(now)
            }
            Some(_) | None => now,
        }
    }

    pub(super) fn restarted(&mut self, now: Time) {
        let lasted = self.last.is_none_or(|last| now.since(last) >= LASTED);
        self.in_a_row = if lasted { 1 } else { self.in_a_row.saturating_add(1) };
        self.last = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_become_seldom_and_are_forgiven() {
        let (mut restarts, mut now) = (Restarts::default(), Time::ZERO);
        let mut waits = Vec::new();
        for _ in 0..8 {
            let due = restarts.due(now);
            waits.push(due.since(now).as_secs());
            now = due;
            restarts.restarted(now);
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
        now = now + LASTED;
        assert_eq!(restarts.due(now), now);
        restarts.restarted(now);
        assert_eq!(restarts.due(now).since(now), FIRST);
    }
}
