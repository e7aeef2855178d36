//! One clock, its instants and its sleeps agree.

use super::*;

#[tokio::test(start_paused = true)]
async fn sleeps_until_what_it_calls_that_time() {
    let clock = Clock::start();
    clock.sleep_until(Some(3_000_000_000)).await;
    assert_eq!(clock.instant_at(3_000_000_000), Instant::now());
    assert_eq!(clock.now_nanos() / 1_000_000, 3_000);
    clock.sleep_until(Some(1)).await;
    assert_eq!(clock.now_nanos() / 1_000_000, 3_000);
    for never in [None, Some(u64::MAX)] {
        tokio::time::timeout(Duration::from_secs(1_000_000), clock.sleep_until(never)).await.unwrap_err();
    }
    assert!(clock.unix_millis() > 1_700_000_000_000);
}
