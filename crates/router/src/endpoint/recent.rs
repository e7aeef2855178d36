//! How the calls of the last minutes ended, and how long they took: for status displays.
//!
//! Each core that sends calls to an endpoint has a ring of minutes of its own for it, and is the only one that writes
//! there. A call costs a few plain stores: no lock, no allocation, no line of memory that two cores write. A display
//! adds up what the cores have; it may see a call that is being counted in part.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::Time;

/// Shown are the present minute and those before it.
const MINUTES: usize = 5;
const MINUTE: u64 = 60_000_000_000;
/// Durations are counted in cells, two for each doubling, from 131 µs to 14 minutes.
const CELLS: usize = 48;
/// The unit of a duration, in bits of its nanoseconds: 65.5 µs.
const UNIT_BITS: u32 = 16;
/// Of a hundred calls, this many took at most what is shown.
const PERCENT: u64 = 95;

/// How a call ended, as far as it says something about its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Answered,
    /// The server gave no answer, or says that the fault is its own.
    Failed,
    /// The gateway waited no longer.
    TimedOut,
    /// The tool says that it failed: its server has answered.
    ToolError,
}

/// The calls that one core has sent to one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    ring: [Minute; MINUTES],
}

#[derive(Debug, Default)]
struct Minute {
    /// One more than the minutes before it, since the clock's origin; 0: it has had no call yet.
    number: AtomicU64,
    /// By [`Ended`].
    ended: [AtomicU32; 4],
    cells: Cells,
}

#[derive(Debug)]
struct Cells([AtomicU32; CELLS]);

impl Default for Cells {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU32::new(0)))
    }
}

/// The last minutes of an endpoint, over all cores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Summary {
    /// The time that it covers: up to five minutes.
    pub(crate) window: Duration,
    pub(crate) answered: u64,
    pub(crate) failed: u64,
    pub(crate) timed_out: u64,
    /// Of the answered ones, those in which the tool says that it failed.
    pub(crate) tool_errors: u64,
    /// What 95 of 100 calls took at most, to within half of it; none without calls.
    pub(crate) p95: Option<Duration>,
}

/// The rings of all cores, one each.
#[derive(Debug, Default)]
pub(crate) struct Rings(Mutex<Vec<Arc<Recent>>>);

impl Rings {
    /// A ring for one core, for as long as the core counts there.
    pub(crate) fn open(&self) -> Arc<Recent> {
        let ring = Arc::<Recent>::default();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&ring));
        ring
    }

    pub(crate) fn summary(&self, now: Time) -> Summary {
        let rings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = number(now);
        let shown = last.saturating_sub(MINUTES as u64 - 1).max(1)..=last;
        let (mut ended, mut cells) = ([0_u64; 4], [0_u64; CELLS]);
        let minutes = rings.iter().flat_map(|ring| &ring.ring);
        for minute in minutes.filter(|minute| shown.contains(&minute.number.load(Ordering::Relaxed))) {
            let add = |sums: &mut [u64], counts: &[AtomicU32]| {
                for (sum, count) in sums.iter_mut().zip(counts) {
                    *sum += u64::from(count.load(Ordering::Relaxed));
                }
            };
            add(&mut ended, &minute.ended);
            add(&mut cells, &minute.cells.0);
        }
        let [answered, failed, timed_out, tool_errors] = ended;
        let window = Duration::from_nanos(now.as_nanos() - (shown.start() - 1) * MINUTE);
        Summary { window, answered: answered + tool_errors, failed, timed_out, tool_errors, p95: p95(&cells) }
    }
}

impl Recent {
    /// A call has ended now. For the core that the ring is of, and no other.
    pub(crate) fn note(&self, now: Time, took: Duration, ended: Ended) {
        let number = number(now);
        let minute = &self.ring[usize::try_from(number % MINUTES as u64).unwrap_or_default()];
        if minute.number.load(Ordering::Relaxed) != number {
            minute.begin(number);
        }
        count(&minute.ended[ended as usize]);
        count(&minute.cells.0[cell(took)]);
    }
}

impl Minute {
    #[cold]
    fn begin(&self, number: u64) {
        for count in self.ended.iter().chain(&self.cells.0) {
            count.store(0, Ordering::Relaxed);
        }
        self.number.store(number, Ordering::Relaxed);
    }
}

/// By the one core that writes there.
fn count(count: &AtomicU32) {
    count.store(count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

fn number(now: Time) -> u64 {
    now.as_nanos() / MINUTE + 1
}

fn cell(took: Duration) -> usize {
    let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
    let units = (nanos >> UNIT_BITS).max(1);
    let doublings = units.ilog2();
    // In the upper half of its doubling, it is in the cell after.
    let half = (units << 1 >> doublings) & 1;
    usize::try_from(2 * u64::from(doublings) + half).map_or(CELLS - 1, |cell| cell.min(CELLS - 1))
}

/// Where the cell ends. The first doubling has one cell, which is that of all shorter times, too.
fn end(cell: usize) -> Duration {
    let cell = cell.max(1);
    let (doublings, half) = (cell / 2, cell as u64 % 2);
    Duration::from_nanos(((3 + half) << doublings) << UNIT_BITS >> 1)
}

fn p95(cells: &[u64; CELLS]) -> Option<Duration> {
    let all: u64 = cells.iter().sum();
    let mut left = (all * PERCENT).div_ceil(100);
    let found = cells.iter().position(|count| {
        left = left.saturating_sub(*count);
        left == 0
    });
    found.filter(|_| all > 0).map(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn a_cell_ends_where_the_next_one_begins() {
        let step = Duration::from_nanos(1);
        for nth in 2..CELLS - 1 {
            let end = end(nth);
            assert_eq!((cell(end - step), cell(end)), (nth, nth + 1), "{end:?}");
        }
        assert_eq!([Duration::ZERO, Duration::from_micros(130), Duration::MAX].map(cell), [0, 0, CELLS - 1]);
    }

    #[test]
    fn it_adds_up_what_the_cores_saw_in_the_last_minutes_and_forgets_the_rest() {
        let rings = Rings::default();
        let (one, other) = (rings.open(), rings.open());
        let none = Summary {
            window: Duration::from_secs(10),
            answered: 0,
            failed: 0,
            timed_out: 0,
            tool_errors: 0,
            p95: None,
        };
        assert_eq!(rings.summary(at(10)), none);
        one.note(at(10), Duration::from_secs(400), Ended::TimedOut);
        for _ in 0..19 {
            other.note(at(70), Duration::from_millis(10), Ended::Answered);
        }
        one.note(at(100), Duration::from_secs(2), Ended::Failed);
        let seen = rings.summary(at(130));
        assert_eq!((seen.answered, seen.failed, seen.timed_out), (19, 1, 1));
        assert_eq!(
            (seen.window, seen.p95.map(cell)),
            (Duration::from_secs(130), Some(cell(Duration::from_secs(2)) + 1))
        );
        // The first minute is over the edge; with its call gone, 19 of 20 took 10 ms.
        let seen = rings.summary(at(300));
        assert_eq!((seen.answered, seen.failed, seen.timed_out), (19, 1, 0));
        assert_eq!(seen.window, Duration::from_secs(240));
        let p95 = seen.p95.expect("there were calls");
        assert!((Duration::from_millis(10)..Duration::from_millis(15)).contains(&p95), "{p95:?}");
        // The place of that minute is taken by the one five minutes later.
        one.note(at(310), Duration::ZERO, Ended::ToolError);
        let seen = rings.summary(at(310));
        assert_eq!((seen.answered, seen.failed, seen.timed_out, seen.tool_errors), (20, 1, 0, 1));
        assert_eq!(rings.summary(at(10_000)), Summary { window: Duration::from_secs(280), ..none });
    }
}
