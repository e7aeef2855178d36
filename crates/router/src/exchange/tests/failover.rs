//! Calls to a server with several endpoints, of which one is gone.

use std::sync::atomic::Ordering;

use model::Verdict;
use tokio::time::Instant;

use super::*;

/// Two endpoints of one server; the session is at home at the first one.
async fn twins() -> (Case, Arc<Endpoint>, Server) {
    let case = Case::start("always_on").await;
    case.call("echo", "{}", &[]).await;
    case.session.known.homes.move_to(case.endpoint.number, |_| None);
    let server = Server::start().await;
    let other = endpoint(&server, &case.endpoint.upstreams).await;
    for endpoint in [&case.endpoint, &other] {
        endpoint.set_verdict(Verdict::Healthy);
    }
    case.core.shared.live.publish(Generation { turn: 2, ..generation(&[&case.endpoint, &other]) });
    case.call("echo", "{}", &[]).await;
    assert_eq!((case.server.arrived().len(), server.arrived().len()), (2, 0));
    (case, other, server)
}

fn counts(endpoint: &Endpoint) -> [u64; 3] {
    let stats = &endpoint.stats;
    [stats.admitted.load(Ordering::Relaxed), stats.answered(), stats.failed.load(Ordering::Relaxed)]
}

#[test]
fn a_call_goes_to_another_endpoint_at_once_where_its_own_refuses_connections() {
    run(async {
        let (mut case, other, server) = twins().await;
        case.spans();
        case.server.end().await;
        let begun = Instant::now();
        let answer = case.call("echo", "{}", &[]).await;
        assert!(answer.contains("result"), "{answer}");
        assert!(begun.elapsed() < Duration::from_secs(1), "the dead address is not tried for long");
        assert_eq!((counts(&case.endpoint), counts(&other)), ([3, 2, 1], [1, 1, 0]));
        let spans = case.spans();
        let rerouted = spans.iter().flat_map(|span| &span.events.events).filter(|event| event.name == "rerouted");
        assert_eq!(rerouted.count(), 1, "{spans:?}");

        let homes = &case.session.known.homes;
        assert!(homes.has(other.number) && !homes.has(case.endpoint.number), "the session has moved");
        let stranger = Homes::default();
        for random in 0..20 {
            let admitted = case.core.shared.live.admit(Kind::Tool, "s__echo", random, &stranger, |_| true).unwrap();
            assert_eq!(admitted.lease.endpoint.number, other.number, "others avoid it too");
        }
        case.call("echo", "{}", &[]).await;
        assert_eq!((case.endpoint.stats.admitted.load(Ordering::Relaxed), server.arrived().len()), (3, 2));
    });
}

#[test]
fn a_call_waits_for_its_endpoint_where_no_other_one_may_be_chosen() {
    run(async {
        let (case, other, _server) = twins().await;
        other.cordon();
        case.server.end().await;
        tokio::time::pause();
        let begun = Instant::now();
        let answer = case.call("echo", "{}", &[]).await;
        assert!(answer.contains("cannot be reached"), "{answer}");
        assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
        assert_eq!((counts(&case.endpoint), counts(&other)), ([3, 2, 1], [0, 0, 0]));
        assert!(case.endpoint.is_unreachable());
    });
}

#[test]
fn a_call_is_not_sent_round_among_endpoints_that_are_all_gone() {
    run(async {
        let (case, other, server) = twins().await;
        case.server.end().await;
        server.end().await;
        tokio::time::pause();
        let answer = case.call("echo", "{}", &[]).await;
        assert!(answer.contains("cannot be reached"), "{answer}");
        assert_eq!((counts(&case.endpoint), counts(&other)), ([3, 2, 1], [1, 0, 1]));
    });
}
