//! When a stream is tried again, and what a slow watcher gets.

use std::{cell::Cell, time::Duration};

use tokio::time::Instant;

use super::*;

#[tokio::test(start_paused = true)]
async fn backs_off_while_refused_and_starts_anew_once_attached() {
    let (backoff, stop) = (Backoff::new(Duration::from_secs(1), Duration::from_secs(64)), CancellationToken::new());
    let (tries, last) = (Cell::new(0), Cell::new(Instant::now()));
    keep_attached("test", backoff, stop.clone(), |attempt| {
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
    })
    .await;
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
