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
    let started = tokio::time::Instant::now();
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

#[tokio::test]
async fn the_second_signal_forces() {
    let shutdown = Shutdown::new();
    let signals = signals().unwrap();
    let send = || nix::sys::signal::raise(nix::sys::signal::Signal::SIGTERM).unwrap();
    let operator = async {
        send();
        shutdown.triggered().await;
        assert_eq!(shutdown.phase(), Phase::Unready);
        send();
    };
    let main = shutdown.wind_down(Duration::from_secs(600), Duration::ZERO, std::future::pending());
    let main = async {
        shutdown.triggered().await;
        main.await
    };
    let (ended, (), ()) = tokio::join!(main, operator, shutdown.clone().follow(signals));
    assert_eq!(ended, WoundDown::Forced);
}
