//! What a server may say that no call asked for, per time: a server that floods is read more slowly, so that it holds up
//! itself and nobody else on the thread that all children share.

use std::time::Duration;

use tokio::time::Instant;

/// What one message costs: so many a second are read for ever.
const COST: Duration = Duration::from_micros(100);
/// So much may be owed before reading stops: 2,000 messages at once.
const CREDIT: Duration = Duration::from_millis(200);
/// So many bytes cost what a message costs.
const BYTES: usize = 4 << 10;
/// After as much at a time, others come first.
const TURN: u32 = 32;

#[derive(Debug, Default)]
pub(super) struct Unasked {
    /// Said since it was last charged.
    said: u32,
    paid_until: Option<Instant>,
}

impl Unasked {
    pub(super) fn add(&mut self, bytes: usize) {
        let pieces = u32::try_from(bytes / BYTES).unwrap_or(u32::MAX);
        self.said = self.said.saturating_add(1).saturating_add(pieces);
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.said == 0
    }

    /// Whether others should come first now, and until when nothing more may be read.
    pub(super) fn charge(&mut self, now: Instant) -> (bool, Option<Instant>) {
        let said = std::mem::take(&mut self.said);
        let paid_until = self.paid_until.map_or(now, |until| until.max(now)) + COST.saturating_mul(said);
        self.paid_until = Some(paid_until);
        (said >= TURN, (paid_until > now + CREDIT).then(|| paid_until - CREDIT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_read_at_the_rate_of_its_cost() {
        let (mut unasked, start) = (Unasked::default(), Instant::now());
        let say = |unasked: &mut Unasked, messages: u32, at: u64| {
            (0..messages).for_each(|_| unasked.add(60));
            let now = start + Duration::from_millis(at);
            let (turn, until) = unasked.charge(now);
            (turn, until.map(|until| until.since(start)))
        };
        assert_eq!(say(&mut unasked, 31, 0), (false, None));
        assert_eq!(say(&mut unasked, 1_969, 0), (true, None));
        assert_eq!(say(&mut unasked, 1_000, 0), (true, Some(100)));
        assert_eq!(say(&mut unasked, 1, 100), (false, Some(100)), "all of the credit is used");
        assert_eq!(say(&mut unasked, 1, 10_000), (false, None), "and is had back with time");
        unasked.add(16 << 20);
        assert!(unasked.charge(start + Duration::from_secs(10)).1.is_some(), "bytes count, too");
    }

    trait Since {
        fn since(self, start: Instant) -> u128;
    }

    impl Since for Instant {
        fn since(self, start: Instant) -> u128 {
            (self - start).as_millis()
        }
    }
}
