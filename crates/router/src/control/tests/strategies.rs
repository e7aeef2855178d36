//! How endpoints leave by another strategy than the default.

use model::{DrainStrategy, ProgressivePolicy, Weight};

use super::*;
use crate::endpoint::Endpoint;

fn leaving(strategy: DrainStrategy) -> Policy {
    let mut policy = quick();
    policy.drain.strategy = strategy;
    let interval = Duration::from_secs(1);
    policy.drain.progressive =
        ProgressivePolicy { rate: 10, weight_reduction: 50, interval, ..ProgressivePolicy::default() };
    policy
}

/// Where a call of that session goes, which has no other call there if it is `idle`.
fn call(case: &Case, session: u64, homes: &Homes, idle: bool) -> Arc<Endpoint> {
    let random = session.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let admitted = case.started.live.admit(Kind::Tool, "one", random, homes, |_| idle);
    Arc::clone(&admitted.unwrap().lease.endpoint)
}

#[test]
fn what_leaves_step_by_step_loses_its_share_and_its_sessions_to_what_takes_over() {
    run(|directory| async move {
        let (a, b) = (Server::start(&["one"]).await, Server::start(&["one"]).await);
        let mut case = Case::start(&directory).await;
        let policy = leaving(DrainStrategy::Progressive);
        let both = backend("a", &[a.url.as_str(), b.url.as_str()], ReplaceMode::Beside);
        case.swap(1, &content(policy.clone(), &[both]), None).await;
        case.up(2).await;
        let sessions: Vec<_> = (1..20)
            .map(|session| {
                let homes = Homes::default();
                let home = call(&case, session, &homes, true);
                (session, homes, home)
            })
            .collect();

        case.swap(2, &content(policy, &[at("a", &b.url)]), None).await;
        let (session, homes, old) = sessions.iter().find(|(.., home)| home.is_left()).expect("sessions are spread");
        while !old.lets_go() {
            tokio::task::yield_now().await;
        }
        assert_eq!(call(&case, *session, homes, false).number, old.number, "it has a call there");
        assert_ne!(call(&case, *session, homes, true).number, old.number);
        assert_ne!(call(&case, *session, homes, true).number, old.number, "it has moved for good");
        while old.weight() == Weight::FULL {
            tokio::task::yield_now().await;
        }
        case.status(|status| status.endpoints.len() == 1).await;
        assert_eq!(old.admission.state(), drain::State::Closed);
        assert!(sessions.iter().all(|(session, homes, _)| call(&case, *session, homes, true).number != old.number));
        case.stop().await;
    });
}

#[test]
fn what_leaves_at_once_has_its_calls_ended_at_once() {
    run(|directory| async move {
        let (a, b) = (Server::start(&["one"]).await, Server::start(&["two"]).await);
        let mut case = Case::start(&directory).await;
        let mut policy = leaving(DrainStrategy::Immediate);
        policy.drain.timeout = Duration::from_secs(3600);
        case.swap(1, &content(policy.clone(), &[at("a", &a.url), at("b", &b.url)]), None).await;
        case.up(2).await;
        let admitted = case.started.live.admit(Kind::Tool, "two", 1, &Homes::default(), |_| true).unwrap();
        case.calls.0.lock().unwrap().push(admitted.lease);
        case.swap(2, &content(policy, &[at("a", &a.url)]), None).await;
        let status = case.status(|status| status.endpoints.len() == 1).await;
        let departure = &status.departures[0];
        assert_eq!((departure.total, departure.finished, departure.evicted), (1, 0, 1));
        case.stop().await;
    });
}
