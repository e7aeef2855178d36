//! When a stream is tried again, and what a slow watcher gets.

use std::{cell::Cell, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{Readiness, Shutdown};

fn peer() -> Gate {
    Readiness::new(Shutdown::new()).dependency("test")
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_ends_each_stream_soon_is_called_ever_more_slowly() {
    let (backoff, stop) = (Backoff::new(Duration::from_secs(1), Duration::from_secs(64)), CancellationToken::new());
    let (tries, ended, peer) = (Cell::new(0), Cell::new(Instant::now()), peer());
    let gate = peer.clone();
    let kept = keep_attached(gate, backoff, |attempt| {
        let (number, gap) = (tries.replace(tries.get() + 1), ended.get().elapsed());
        let (stop, backoff, ended) = (stop.clone(), &backoff, &ended);
        async move {
            let failures = match number {
                0..=1 => 0,
                // After one that lived for a while it begins anew.
                7..=8 => 0,
                9.. => number - 8,
                _ => number - 1,
            };
            assert!(gap <= backoff.ceiling(failures) + Duration::from_millis(1), "{number}: {gap:?}");
            attempt.attached();
            if number == 6 {
                tokio::time::sleep(SETTLED).await;
            }
            if number == 9 {
                stop.cancel();
                std::future::pending::<()>().await;
            }
            ended.set(Instant::now());
            Err("another stream took its place")
        }
    });
    assert!(stop.run_until_cancelled(kept).await.is_none());
    assert_eq!(tries.get(), 10);
    // The total of seven waits is random below the ceilings, but the waits must grow.
    let mut failures = 0;
    let stop = CancellationToken::new();
    let begun = Instant::now();
    let kept = keep_attached(peer, Backoff::new(Duration::from_secs(1), Duration::from_secs(64)), |attempt| {
        failures += 1;
        let stop = (failures == 40).then(|| stop.clone());
        async move {
            attempt.attached();
            if let Some(stop) = stop {
                stop.cancel();
                std::future::pending::<()>().await;
            }
            Err("another stream took its place")
        }
    });
    assert!(stop.run_until_cancelled(kept).await.is_none());
    assert!(begun.elapsed() > Duration::from_secs(200), "40 times in {:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn backs_off_while_refused_and_starts_anew_once_attached() {
    let (backoff, stop) = (Backoff::new(Duration::from_secs(1), Duration::from_secs(64)), CancellationToken::new());
    let (tries, last) = (Cell::new(0), Cell::new(Instant::now()));
    let kept = keep_attached(peer(), backoff, |attempt| {
        let (number, gap) = (tries.replace(tries.get() + 1), last.replace(Instant::now()).elapsed());
        let (stop, backoff) = (stop.clone(), &backoff);
        async move {
            match number {
                0 => {}
                // Try n follows n failures in a row, so the wait before it came from the one before it.
                1..=8 => assert!(gap <= backoff.ceiling(number - 1) + Duration::from_millis(1), "{number}: {gap:?}"),
                // The eighth was attached.
                9 => assert!(gap <= backoff.ceiling(0) + Duration::from_millis(1), "{gap:?}"),
                _ => {
                    stop.cancel();
                    std::future::pending::<()>().await;
                }
            }
            if number == 8 {
                attempt.attached();
                return Ok(());
            }
            Err("refused")
        }
    });
    assert!(stop.run_until_cancelled(kept).await.is_none());
    assert_eq!(tries.get(), 11);
}

#[tokio::test]
async fn a_slow_watcher_is_told_how_many_changes_it_missed() {
    let sender = tokio::sync::broadcast::Sender::new(2);
    let watched = changes(sender.subscribe(), |_| ());
    for change in 1..=5 {
        sender.send(change).unwrap();
    }
    drop(sender);
    let watched: Vec<_> = futures_util::StreamExt::collect(watched).await;
    assert_eq!(watched, [(4, 3), (5, 0)]);
}
