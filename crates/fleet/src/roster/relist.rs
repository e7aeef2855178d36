//! When the offer of one endpoint is listed again.
//!
//! Servers announce a change several times in a row, and some answer each listing with the next announcement. So only
//! one listing is under way at a time, and announcements meanwhile ask for one more. Each waits longer the more recent
//! listings there were. These are forgotten with time alone: no pace of announcements makes a server new.

use std::time::Duration;

use backoff::Backoff;
use model::Time;

/// The wait from an announcement to its listing; longer the more listings are remembered.
pub(super) const AFTER: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(10));

/// How long one listing is remembered; two are for twice as long. A server that never stops is listed this often.
const REMEMBERED: Duration = Duration::from_secs(8);
/// How many listings are remembered: the first number with the longest wait. A calm minute clears all but one.
const MOST: u32 = 8;

/// The pause between two listings, for each element or each KiB: all servers wait while a list is merged with theirs,
/// and the list is written to disk.
const EACH: Duration = Duration::from_millis(1);

#[derive(Debug, Default)]
pub(super) struct Relist {
    due: Option<Time>,
    under_way: bool,
    /// Announced since the listing under way began.
    again: bool,
    /// When the last listing ended.
    last: Option<Time>,
    /// From then on no other listing begins for this time.
    pause: Duration,
    /// When all listings are forgotten, if no further one comes.
    forgotten: Time,
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
            let soonest = now + AFTER.ceiling(self.remembered(now));
            self.due = Some(self.last.map_or(soonest, |last| soonest.max(last + self.pause)));
            let memory = self.forgotten.since(now) + REMEMBERED;
            self.forgotten = now + memory.min(REMEMBERED * MOST);
        }
    }

    /// How many recent listings there were, or are due.
    fn remembered(&self, now: Time) -> u32 {
        let listings = self.forgotten.since(now).as_nanos().div_ceil(REMEMBERED.as_nanos());
        u32::try_from(listings).unwrap_or(MOST)
    }

    /// True when it is time to list. An endpoint that is not `up` is listed as it comes up, maybe already.
    pub(super) fn begins(&mut self, now: Time, up: bool) -> bool {
        let is_due = self.due.take_if(|due| *due <= now).is_some();
        self.again |= is_due && !up;
        self.under_way |= is_due && up;
        is_due && up
    }

    /// A list has come, which may have missed an announcement during the bring-up.
    pub(super) fn came_up(&mut self, now: Time) {
        if std::mem::take(&mut self.again) {
            self.announced(now);
        }
    }

    /// The list of the next bring-up will contain what was announced. The recent listings are not forgotten, or a
    /// server would only have to end to be new.
    pub(super) fn lost(&mut self) {
        let Self { last, pause, forgotten, .. } = *self;
        *self = Self { last, pause, forgotten, ..Self::default() };
    }

    /// So many `items` have come, which are so many `bytes` of JSON.
    pub(super) fn listed(&mut self, now: Time, items: usize, bytes: usize) {
        let size = u32::try_from(items.max(bytes / 1024)).unwrap_or(u32::MAX);
        self.pause = EACH.saturating_mul(size).min(AFTER.cap);
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
                relist.listed(now, 1, 100);
            }
            if relist.begins(now, true) {
                assert!(ends.replace(now + Duration::from_millis(5)).is_none(), "two at a time");
                listings += 1;
            }
        }
        assert!((8..=16).contains(&listings), "{listings} listings");
        // Calm for a while: the next change is listed as soon as the first was.
        relist.listed(at(60_000), 1, 100);
        relist.begins(at(80_000), true);
        relist.listed(at(80_000), 1, 100);
        relist.announced(at(200_000));
        assert_eq!(relist.due(), Some(at(200_000) + AFTER.base));
    }

    /// When the listings of ten minutes began, in milliseconds, and the longest wait for one that was asked for after a
    /// calm minute. `announces` is asked each millisecond, with the end of the last listing.
    fn ten_minutes(mut announces: impl FnMut(u64, Option<u64>) -> bool) -> (Vec<u64>, u64) {
        let (mut relist, mut began) = (Relist::default(), Vec::new());
        let (mut ends, mut ended, mut announced, mut after_calm) = (None, None, None, None);
        let mut longest = 0;
        for now in 0..10 * 60_000 {
            if announces(now, ended) {
                let calm = announced.replace(now).is_none_or(|last| now - last >= 60_000);
                after_calm = after_calm.or_else(|| calm.then_some(now));
                relist.announced(at(now));
            }
            if ends.take_if(|ends| *ends <= now).is_some() {
                relist.listed(at(now), 1, 100);
                ended = Some(now);
            }
            if relist.begins(at(now), true) {
                ends = Some(now + 5);
                began.push(now);
                longest = longest.max(after_calm.take().map_or(0, |asked| now - asked));
            }
        }
        (began, longest)
    }

    fn most_in_a_minute(began: &[u64]) -> usize {
        let within = |from: &u64| began.iter().filter(|one| (*from..*from + 60_000).contains(one)).count();
        began.iter().map(within).max().unwrap_or(0)
    }

    #[test]
    fn no_pace_of_announcements_has_a_server_listed_at_that_pace() {
        for pace in [1, 49, 110, 450, 2_000, 5_000] {
            let by_the_clock = ten_minutes(|now, _| now.is_multiple_of(pace));
            let after_each = ten_minutes(|now, ended| now == ended.map_or(0, |ended| ended + pace));
            for (began, longest) in [by_the_clock, after_each] {
                let later: Vec<_> = began.iter().copied().filter(|one| *one > 2 * 60_000).collect();
                assert!(most_in_a_minute(&began) <= 17, "{pace} ms: {:?}", &began[..20]);
                assert!(most_in_a_minute(&later) <= if pace < 5_000 { 9 } else { 12 }, "{pace} ms: {:?}", &later[..20]);
                assert!(later.len() >= 40, "{pace} ms: it goes on to be listed: {later:?}");
                assert!(longest <= 100, "{pace} ms: {longest} ms");
            }
        }
    }

    #[test]
    fn bursts_between_calm_times_are_no_way_around() {
        for (burst, calm) in [(500, 2_000), (2_000, 10_000), (5_000, 20_000), (10_000, 40_000), (8_000, 60_000)] {
            let (began, longest) = ten_minutes(|now, _| now % (burst + calm) < burst && now.is_multiple_of(110));
            assert!(most_in_a_minute(&began) <= 17, "{burst} ms, then {calm} ms of calm: {:?}", &began[..20]);
            assert!(longest <= 100, "{burst} ms, then {calm} ms of calm: {longest} ms");
        }
    }

    #[test]
    fn a_server_that_announces_now_and_then_is_listed_at_once() {
        for pace in [10_000, 60_000] {
            let (began, _) = ten_minutes(|now, _| now.is_multiple_of(pace));
            assert_eq!(began.len() as u64, 10 * 60_000 / pace);
            assert!(began.iter().all(|one| one % pace <= 100), "{pace} ms: {began:?}");
        }
    }

    #[test]
    fn a_long_list_is_asked_for_less_often() {
        for (tools, kib, pause) in
            [(20, 20, 20), (2_000, 400, 2_000), (2, 3_000, 3_000), (10_000, 4_096, 10_000), (60_000, 60_000, 10_000)]
        {
            let mut relist = Relist::default();
            relist.announced(at(0));
            assert_eq!(relist.due(), Some(at(50)), "the first change is listed at once");
            relist.begins(at(50), true);
            relist.listed(at(60), tools, kib << 10);
            relist.announced(at(500));
            assert_eq!(relist.due(), Some(at(600.max(60 + pause))), "{tools} tools, {kib} KiB");
        }
    }

    #[test]
    fn a_change_that_is_announced_while_listing_is_not_forgotten() {
        let mut relist = Relist::default();
        relist.announced(at(0));
        assert!(relist.begins(at(50), true));
        relist.announced(at(51));
        assert_eq!(relist.due(), None, "one at a time");
        relist.listed(at(60), 1, 100);
        assert!(relist.due().is_some());
        assert!(!relist.begins(at(1000), false));
        assert_eq!(relist.due(), None, "not up: it is being listed, or will be");
        relist.came_up(at(1500));
        let due = relist.due().expect("that list may have been made before the change");
        assert!(due <= at(1500) + AFTER.base * 4 && relist.begins(due, true), "{due:?}");
        relist.listed(at(1800), 1, 100);
        relist.came_up(at(2000));
        assert_eq!(relist.due(), None);
    }

    #[test]
    fn who_ends_and_comes_again_is_no_new_one() {
        let mut relist = Relist::default();
        for now in (0..5).map(|n| at(n * 1_000)) {
            relist.announced(now);
            assert!(relist.begins(now + AFTER.cap, true));
            relist.listed(now, 1, 100);
        }
        relist.announced(at(5_000));
        let patient = relist.due();
        relist.lost();
        assert_eq!(relist.due(), None, "it is listed as it comes up");
        relist.came_up(at(5_000));
        relist.announced(at(5_000));
        assert!(relist.due() > patient, "{:?} {patient:?}", relist.due());
    }
}
