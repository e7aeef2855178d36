//! What failed calls do to the choice among several endpoints.

use std::sync::atomic::Ordering;

use health::shares;
use model::{EjectionPolicy, Standing};

use super::*;
use crate::control::line::health_monitor::pools::Pools;

#[test]
fn an_endpoint_whose_calls_fail_gets_none_while_the_others_answer() {
    run(|directory| async move {
        let servers = [Server::start(&["one"]).await, Server::start(&["one"]).await];
        let urls: Vec<_> = servers.iter().map(|server| server.url.as_str()).collect();
        let mut case = Case::start(&directory).await;
        case.swap(1, &content(quick(), &[backend("a", &urls, ReplaceMode::Beside)]), None).await;
        let status = case.up(2).await;
        let [bad, good] = [0, 1].map(|at| Arc::clone(&status.endpoints[at].endpoint));
        let time = |seconds| Time::ZERO + Duration::from_secs(seconds);
        let mut pools = Pools::default();
        assert!(!pools.any());
        let come = status.endpoints.iter().map(|one| one.endpoint.key.clone()).collect();
        let change = shares::Event::Change { come, gone: Vec::new(), policy: EjectionPolicy::default() };
        pools.handle(time(0), &status, change);
        pools.look(time(0), &status);
        assert!(pools.any() && bad.standing() == Standing::Full);

        bad.stats.failed.fetch_add(5, Ordering::Relaxed);
        for endpoint in [&bad, &good] {
            endpoint.stats.finished.fetch_add(5, Ordering::Relaxed);
        }
        pools.look(time(1), &status);
        assert_eq!((bad.standing(), good.standing()), (Standing::Ejected, Standing::Full));
        assert_eq!(pools.take_untold(), [(bad.key.clone(), Standing::Ejected)], "drains must know");
        let ejection = bad.ejection().unwrap();
        assert_eq!(
            (ejection.why.as_str(), ejection.until),
            ("5 of its last 5 calls failed, 0 of 5 at the others", time(11))
        );
        let admit = |session: u64| {
            let random = session.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            case.started.live.admit(Kind::Tool, "one", random, &Homes::default(), |_| true).unwrap().lease
        };
        let at_bad = || {
            let leases: Vec<_> = (0..500).map(admit).collect();
            leases.iter().filter(|lease| lease.endpoint.number == bad.number).count()
        };
        assert_eq!(at_bad(), 0);

        pools.look(time(11), &status);
        assert_eq!(bad.standing(), Standing::OnTrial);
        assert_eq!([at_bad(), at_bad()], [1, 1], "the next one when that one has left, however it ended");
        let long: Vec<_> = (0..500).map(admit).filter(|lease| lease.endpoint.number == bad.number).collect();
        assert_eq!((long.len(), at_bad()), (1, 0));
        pools.look(time(11), &status);
        pools.look(time(11) + bad.limits().idle * 2, &status);
        assert_eq!(bad.standing(), Standing::OnTrial, "two of three answers");
        assert_eq!(at_bad(), 1, "a call that lasts is alive");
        drop(long);
        let later = time(11) + bad.limits().idle * 2;
        pools.look(later, &status);
        assert!(matches!(bad.standing(), Standing::Growing(_)) && bad.ejection().is_none());
        pools.look(later + Duration::from_secs(10), &status);
        assert_eq!(bad.standing(), Standing::Full);
        drop((bad, good, status));
        case.stop().await;
    });
}

#[test]
fn a_session_stays_with_one_of_several_endpoints_while_that_may_be_chosen() {
    run(|directory| async move {
        let servers = [Server::start(&["one"]).await, Server::start(&["one"]).await, Server::start(&["one"]).await];
        let urls: Vec<_> = servers.iter().map(|server| server.url.as_str()).collect();
        let mut case = Case::start(&directory).await;
        case.swap(1, &content(quick(), &[backend("a", &urls, ReplaceMode::Beside)]), None).await;
        let status = case.up(3).await;
        let at = |random: u64, homes: &Homes| {
            case.started.live.admit(Kind::Tool, "one", random, homes, |_| true).unwrap().lease.endpoint.clone()
        };
        let spread = |seed: u64| seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut used = BTreeSet::new();
        for session in 1..20 {
            let homes = Homes::default();
            let home = at(spread(session), &homes);
            let again = (0..50).map(|call| at(spread(session * 100 + call), &homes).number);
            assert_eq!(again.collect::<BTreeSet<_>>(), BTreeSet::from([home.number]), "session {session}");
            used.insert(home.number);
        }
        assert_eq!(used.len(), 3, "sessions are spread");
        let homes = Homes::default();
        let first = at(1, &homes);
        first.set_verdict(Verdict::Unhealthy);
        let second = at(2, &homes);
        assert_ne!(first.number, second.number);
        let not_up_with = |unhealthy: usize| {
            let mut judged = Status::clone(&status);
            for one in &mut judged.endpoints[..unhealthy] {
                Arc::make_mut(one).verdict = Verdict::Unhealthy;
            }
            judged.not_up().into_values().collect::<Vec<_>>()
        };
        assert_eq!(not_up_with(2), [], "another one serves");
        assert_eq!(not_up_with(3), [model::Condition::Unhealthy]);
        status.endpoints.iter().for_each(|one| one.endpoint.set_verdict(Verdict::Healthy));
        assert!((0..50).all(|call| at(spread(call), &homes).number == second.number), "its state is there now");
        drop((first, second, status));
        case.stop().await;
    });
}
