//! When the tools of one endpoint are listed again.
//!
//! Servers announce a change several times in a row, and some answer each listing with the next announcement. So one
//! listing is under way at a time, announcements meanwhile ask for one more, and what follows a listing at once waits
//! longer each time.

use std::time::Duration;

use model::Time;
use runtime::Backoff;

/// From an announcement to its listing; longer for those that each listing is answered with.
pub(super) const AFTER: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(10));

/// Between two listings, for each tool: all servers wait while a list is merged with theirs.
const EACH: Duration = Duration::from_millis(1);

#[derive(Debug, Default)]
pub(super) struct Relist {
    due: Option<Time>,
    under_way: bool,
    /// Announced since the listing under way began.
    again: bool,
    /// When the last listing ended.
    last: Option<Time>,
    /// From then on no other one begins for as long.
    pause: Duration,
    /// Announcements that followed a listing at once.
    in_a_row: u32,
    failures: u32,
}

impl Relist {
    pub(super) fn due(&self) -> Option<Time> {
        self.due
    }

    pub(super) fn announced(&mut self, now: Time) {
        if self.under_way {
            self.again = true;
        } else if self.due.is_none() {
            let soon = AFTER.ceiling(self.in_a_row) * 2;
            let at_once = self.last.is_some_and(|last| now.since(last) <= soon);
            self.in_a_row = if at_once { self.in_a_row.saturating_add(1) } else { 0 };
            let soonest = now + AFTER.ceiling(self.in_a_row);
            self.due = Some(self.last.map_or(soonest, |last| soonest.max(last + self.pause)));
        }
    }

    /// True when it is time to list. One that is not `up` is listed as it comes up, maybe already.
    pub(super) fn begins(&mut self, now: Time, up: bool) -> bool {
        let is_due = self.due.take_if(|due| *due <= now).is_some();
        self.again |= is_due && !up;
        self.under_way |= is_due && up;
        is_due && up
    }

    /// A list has come, which what was announced meanwhile may have missed.
    pub(super) fn came_up(&mut self, now: Time) {
        if std::mem::take(&mut self.again) {
            self.announced(now);
        }
    }

    pub(super) fn listed(&mut self, now: Time, tools: usize) {
        self.pause = EACH.saturating_mul(u32::try_from(tools).unwrap_or(u32::MAX)).min(AFTER.cap);
        self.under_way = false;
        self.failures = 0;
        self.last = Some(now);
        self.came_up(now);
    }

    pub(super) fn failed(&mut self, now: Time, wait: impl Fn(u32) -> Duration) {
        self.under_way = false;
        self.again = false;
        self.due.get_or_insert_with(|| now + wait(self.failures));
        self.failures = self.failures.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn a_server_that_announces_without_end_is_listed_less_and_less_often() {
        let mut relist = Relist::default();
        let mut listings = 0;
        // An announcement each millisecond for a minute; a listing takes 5 ms.
        let mut ends = None;
        for now in (0..60_000).map(at) {
            relist.announced(now);
            if ends.is_some_and(|ends| ends <= now) {
                ends = None;
                relist.listed(now, 1);
            }
            if relist.begins(now, true) {
                assert!(ends.replace(now + Duration::from_millis(5)).is_none(), "two at a time");
                listings += 1;
            }
        }
        assert!((8..=16).contains(&listings), "{listings} listings");
        // Calm for a while: the next change is listed as soon as the first was.
        relist.listed(at(60_000), 1);
        relist.begins(at(80_000), true);
        relist.listed(at(80_000), 1);
        relist.announced(at(200_000));
        assert_eq!(relist.due(), Some(at(200_000) + AFTER.base));
    }

    #[test]
    fn a_long_list_is_asked_for_less_often() {
        for (tools, pause) in [(20, 0), (2_000, 2_000), (10_000, 10_000), (60_000, 10_000)] {
            let mut relist = Relist::default();
            relist.announced(at(0));
            assert_eq!(relist.due(), Some(at(50)), "the first change is listed at once");
            relist.begins(at(50), true);
            relist.listed(at(60), tools);
            relist.announced(at(500));
            assert_eq!(relist.due(), Some(at(550.max(60 + pause))), "{tools} tools");
        }
    }

    #[test]
    fn a_change_that_is_announced_while_listing_is_not_forgotten() {
        let mut relist = Relist::default();
        relist.announced(at(0));
        assert!(relist.begins(at(50), true));
        relist.announced(at(51));
        assert_eq!(relist.due(), None, "one at a time");
        relist.listed(at(60), 1);
        assert!(relist.due().is_some());
        assert!(!relist.begins(at(1000), false));
        assert_eq!(relist.due(), None, "not up: it is being listed, or will be");
        relist.came_up(at(1500));
        assert!(relist.begins(at(1550), true), "that list may have been made before the change");
        relist.listed(at(1560), 1);
        relist.came_up(at(2000));
        assert_eq!(relist.due(), None);
    }
}
