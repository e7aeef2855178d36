//! How soon a lost session is replaced: at once, unless the session before was lost as soon as it was made.
//!
//! A server that forgets every session could otherwise be asked for new ones, and its tools listed, in a loop.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use backoff::Backoff;
use model::Time;

const PAUSE: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
/// A session that lived for this long has proved itself.
const LIVED: Duration = Duration::from_secs(10);

/// Of one endpoint.
#[derive(Debug, Default)]
pub(super) struct Renewals {
    /// When the present session began, in nanoseconds of the router's clock.
    began: AtomicU64,
    /// Sessions in a row that did not live.
    short: AtomicU32,
}

impl Renewals {
    pub(super) fn begins(&self, now: Time) {
        self.began.store(now.as_nanos(), Ordering::Relaxed);
    }

    /// How long to wait before the present session is replaced.
    pub(super) fn pause(&self, now: Time) -> Duration {
        if now.since(Time::from_nanos(self.began.load(Ordering::Relaxed))) >= LIVED {
            self.short.store(0, Ordering::Relaxed);
            return Duration::ZERO;
        }
        match self.short.fetch_add(1, Ordering::Relaxed) {
            0 => Duration::ZERO,
            before => PAUSE.ceiling(before - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sessions_that_do_not_live_are_waited_for() {
        let (renewals, at) = (Renewals::default(), |seconds: u64| Time::from_nanos(seconds * 1_000_000_000));
        renewals.begins(at(100));
        let pauses = [101, 102, 103, 104].map(|second| renewals.pause(at(second)).as_millis());
        assert_eq!(pauses, [0, 100, 200, 400]);
        for _ in 0..100 {
            assert!(renewals.pause(at(105)) <= PAUSE.cap);
        }
        assert_eq!(renewals.pause(at(110)), Duration::ZERO, "it has lived");
        renewals.begins(at(110));
        assert_eq!([renewals.pause(at(111)), renewals.pause(at(111))], [Duration::ZERO, PAUSE.base]);
    }
}
