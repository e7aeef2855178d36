//! Bounds of the waits.

use super::*;

#[test]
fn waits_are_bounded_spread_and_repeatable() {
    let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    for (failures, ceiling_ms) in [(0, 100), (1, 200), (5, 3_200), (6, 5_000), (31, 5_000), (u32::MAX, 5_000)] {
        let ceiling = Duration::from_millis(ceiling_ms);
        assert_eq!(backoff.ceiling(failures), ceiling);
        assert_eq!(backoff.delay(failures, 0), FLOOR);
        assert!(backoff.delay(failures, u64::MAX) <= ceiling);
        assert!(backoff.delay(failures, u64::MAX) > ceiling - Duration::from_micros(1));
        assert_eq!(backoff.delay(failures, u64::MAX / 2).as_millis(), (ceiling / 2).as_millis().saturating_sub(1));
    }
}
