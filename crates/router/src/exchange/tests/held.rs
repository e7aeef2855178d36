//! Calls to a server that was up and is not there any more.

use tokio::time::{Instant, sleep};

use super::*;
use crate::endpoint::EndpointEvent;

const SECOND: Duration = Duration::from_secs(1);

impl Case {
    /// Calls wait for the server, for so long at most.
    fn hold(&self, hold: Duration) {
        self.endpoint.set_limits(Arc::new(Limits { hold: Some(hold), ..Limits::default() }));
    }

    /// Its process ends, as a stdio server's does; the fleet tries again after `next`.
    fn dies(&self, next: Duration) {
        let link = self.endpoint.link().expect("it is up");
        assert!(self.endpoint.unlink(link.number()));
        self.endpoint.set_next_attempt(Some(next));
    }
}

#[test]
fn while_a_server_that_died_is_not_tried_calls_fail_at_once_and_say_when_it_will_be() {
    run(async {
        let case = Case::start("always_on").await;
        tokio::time::pause();
        case.dies(8 * SECOND);
        let begun = Instant::now();
        let answer = case.call("echo", "{}", &[]).await;
        assert!(answer.contains("server `s` is down") && answer.contains(r#""retryAfterMs":8000"#), "{answer}");
        assert!(begun.elapsed() < SECOND, "{:?}", begun.elapsed());
    });
}

#[test]
fn a_held_call_has_a_server_that_died_tried_sooner_and_goes_on_when_it_is_up() {
    run(async {
        let case = Case::start("always_on").await;
        case.hold(20 * SECOND);
        case.dies(30 * SECOND);
        let call = case.call("echo", "{}", &[]);
        let fleet = async {
            let (number, event) = case.endpoint.upstreams.signals.next().await;
            assert_eq!((number, event), (case.endpoint.number, EndpointEvent::Wanted));
            case.endpoint.bring_up(Instant::now() + 10 * SECOND).await.unwrap();
        };
        let (answer, ()) = tokio::join!(call, fleet);
        assert!(answer.contains("result"), "{answer}");
    });
}

#[test]
fn a_held_call_waits_until_its_server_accepts_connections_again() {
    run(async {
        let mut case = Case::start("always_on").await;
        case.hold(20 * SECOND);
        case.call("echo", "{}", &[]).await;
        case.server.end().await;
        tokio::time::pause();
        let begun = Instant::now();
        let call = case.call("echo", "{}", &[]);
        let back = async {
            sleep(10 * SECOND).await;
            case.server.start_again().await;
        };
        let (answer, ()) = tokio::join!(call, back);
        assert!(answer.contains("result"), "{answer}");
        assert!((10 * SECOND..12 * SECOND).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    });
}

#[test]
fn a_held_call_waits_for_so_long_and_no_longer() {
    run(async {
        let case = Case::start("always_on").await;
        case.call("echo", "{}", &[]).await;
        case.server.end().await;
        tokio::time::pause();
        case.hold(6 * SECOND);
        for _ in 0..2 {
            // The second one finds a server that has been away for longer than calls are tried again without `hold`.
            let begun = Instant::now();
            let answer = case.call("echo", "{}", &[]).await;
            assert!(answer.contains("cannot be reached") && answer.contains(r#""retryAfterMs":1000"#), "{answer}");
            assert!((6 * SECOND..7 * SECOND).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        }
        case.endpoint.set_limits(Arc::default());
        let begun = Instant::now();
        let answer = case.call("echo", "{}", &[]).await;
        assert!(answer.contains(r#""retryAfterMs":1000"#), "{answer}");
        assert!(begun.elapsed() < SECOND, "{:?}", begun.elapsed());
    });
}
