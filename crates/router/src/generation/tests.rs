//! How long what is not there yet is waited for.

use std::num::NonZeroUsize;

use mcp::{Naming, Offer};
use model::{BackendPolicy, Limits, Policy, Snapshot};
use tokio::time::timeout;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Servers on their way, each with the time it may take to connect, if it has its own. The gateway's is 10 s.
fn arriving(servers: &[(&str, Option<Duration>)]) -> Generation {
    let backend = |(id, connect): &(&str, Option<Duration>)| {
        let policy = BackendPolicy { connect: *connect, ..BackendPolicy::default() };
        let backend = Backend { id: BackendId::new(id).unwrap(), variants: Vec::new(), tools: None, policy };
        Arc::new(backend.into())
    };
    let limits = Limits { connect: 10 * SECOND, ..Limits::default() };
    let policy = Policy { limits, ..Policy::default() };
    let offer = |&(backend, _)| Offer { backend, items: &[], shown: None, missing: Some("starting") };
    let offers: Vec<Offer<'_>> = servers.iter().map(offer).collect();
    let list = |kind| Catalog::merge(kind, Naming::Prefix, &offers, &Default::default(), NonZeroUsize::MIN);
    Generation {
        revision: Revision(1),
        snapshot: Arc::new(Snapshot { policy, backends: servers.iter().map(backend).collect() }),
        catalogs: ByKind::from_fn(|kind| Arc::new(list(kind))),
        arrivals: servers.iter().map(|_| Arrival::Connecting { offers: false }).collect(),
        ..Generation::nothing()
    }
}

#[test]
fn a_server_without_a_limit_of_its_own_has_the_time_of_the_gateway_beside_any_other() {
    for (own, longest) in [(SECOND, 10 * SECOND), (60 * SECOND, 60 * SECOND)] {
        let generation = arriving(&[("a", None), ("b", Some(own))]);
        assert_eq!(generation.patience(None), longest);
        let of = |id| generation.patience(Some(&BackendId::new(id).unwrap()));
        assert_eq!((of("a"), of("b"), of("c")), (10 * SECOND, own, 10 * SECOND));
    }
}

#[test]
fn a_held_call_waits_for_a_server_on_its_way_as_long_as_for_any_that_is_down() {
    let mut generation = arriving(&[("a", None)]);
    let snapshot = Snapshot::clone(&generation.snapshot);
    let dead = model::DeadServers::Hold;
    let limits = Limits { hold: Some(40 * SECOND), ..snapshot.policy.limits };
    generation.snapshot = Arc::new(Snapshot { policy: Policy { dead, limits, ..snapshot.policy }, ..snapshot });
    assert_eq!(generation.patience(Some(&BackendId::new("a").unwrap())), 40 * SECOND);
    assert_eq!(generation.patience(None), 10 * SECOND, "a list waits for none that is down");
    let refused =
        Unroutable::Arriving { revision: Revision(1), backend: BackendId::new("a").unwrap(), after_old: false };
    assert_eq!(refused.hint().as_deref(), Some(r#"{"retryAfterMs":500}"#));
}

#[test]
fn while_nothing_is_live_it_is_not_known_what_is_unknown() {
    let live = Live::new();
    let refused = live.admit(Kind::Tool, "a__echo", 1, &Homes::default(), |_| true).unwrap_err();
    assert_eq!((&refused, refused.revision(), refused.may_pass()), (&Unroutable::NothingLive, Revision::NONE, false));
    assert_eq!(live.load().no_list(Kind::Tool), Some(refused.to_string()));
}

#[tokio::test(start_paused = true)]
async fn a_list_waits_for_as_long_as_the_slowest_server_may_take() {
    let live = Live::new();
    live.publish(arriving(&[("a", Some(60 * SECOND))]));
    let begun = Instant::now();
    timeout(120 * SECOND, live.listed(Kind::Tool)).await.unwrap();
    assert_eq!(begun.elapsed(), 60 * SECOND);
}
