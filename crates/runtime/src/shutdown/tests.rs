//! Order and ends of the phases.

use super::*;

#[test]
fn phases_only_move_forward() {
    let shutdown = Shutdown::new();
    shutdown.advance(Phase::Ready);
    assert!(!shutdown.is_triggered());
    shutdown.advance(Phase::Draining);
    assert!(shutdown.is_triggered());
    shutdown.trigger();
    shutdown.advance(Phase::Ready);
    assert_eq!(shutdown.phase(), Phase::Draining);
}

#[tokio::test(start_paused = true)]
async fn wind_down_keeps_its_order_and_its_deadline() {
    let (min_drain, grace) = (Duration::from_secs(5), Duration::from_secs(30));
    let shutdown = Shutdown::new();
    let started = Instant::now();
    let seen = async {
        shutdown.reached(Phase::Draining).await;
        assert_eq!(started.elapsed(), min_drain);
    };
    let (ended, ()) = tokio::join!(shutdown.wind_down(min_drain, grace, std::future::pending()), seen);
    assert_eq!((ended, started.elapsed()), (WoundDown::Forced, min_drain + grace));
    assert_eq!(shutdown.phase(), Phase::Closing);

    let shutdown = Shutdown::new();
    let ended = shutdown.wind_down(Duration::ZERO, grace, async {}).await;
    assert_eq!(ended, WoundDown::Drained);
}

#[tokio::test(start_paused = true)]
async fn a_second_wish_forces_and_a_doubled_signal_is_one_wish() {
    let shutdown = Shutdown::new();
    let waits = [Duration::ZERO, Duration::from_micros(20), Duration::from_secs(2)];
    let signals = pin!(stream::iter(waits).then(async |wait| {
        tokio::time::sleep(wait).await;
        Wish::Stop("SIGTERM")
    }));
    let started = Instant::now();
    let ended = async {
        shutdown.triggered().await;
        shutdown.wind_down(Duration::from_secs(600), Duration::ZERO, std::future::pending()).await
    };
    let (ended, ()) = tokio::join!(ended, shutdown.obey(signals));
    assert_eq!((ended, started.elapsed().as_secs()), (WoundDown::Forced, 2));
}

#[tokio::test]
async fn a_signal_of_the_system_triggers() {
    use nix::sys::signal::Signal::{SIGHUP, SIGINT, SIGTERM};
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        let (shutdown, signals) = (Shutdown::new(), signals().unwrap());
        // As under `nohup`.
        if signal == SIGHUP && signals.hangup.is_none() {
            assert!(ignores_hangup());
            continue;
        }
        nix::sys::signal::raise(signal).unwrap();
        let main = async {
            shutdown.triggered().await;
            shutdown.advance(Phase::Closing);
        };
        tokio::join!(main, shutdown.clone().follow(signals));
    }
}

#[tokio::test(start_paused = true)]
async fn a_hangup_without_a_terminal_asks_for_a_reload() {
    let shutdown = Shutdown::new();
    let wishes = pin!(stream::iter([Wish::Reload, Wish::Reload, Wish::Stop("SIGTERM")]));
    shutdown.obey(wishes).await;
    assert!(shutdown.is_triggered());
    shutdown.reload_wanted().await;
    let again = timeout(Duration::from_secs(1), shutdown.reload_wanted()).await;
    again.expect_err("two at once are one");
}
