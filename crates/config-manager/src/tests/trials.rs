//! Trials: `validate --try`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use rollout::Refusal;
use rollout::desk::TRIALS_MAX;
use rollout::reconciler::RouterState;
use tokio::task::JoinSet;
use wire::pb::config::v1::{self as pb, outcome::Result as Ended};

use super::world::{World, servers};

const BRIEF: &str = "hot_reload: { validation: { timeout_seconds: 1 } }\n";
const EXTRA: &str = "servers:\n  - id: extra\n    transport: { type: http, url: \"http://127.0.0.1:9/x\" }\n";

fn trial(document: String) -> pb::ValidateRequest {
    pb::ValidateRequest { document, trial: true, ..pb::ValidateRequest::default() }
}

/// Until the only router is one that votes.
async fn is_live(world: &World) {
    let live = |status: &crate::Status| matches!(&status.routers[..], [one] if one.router.state == RouterState::Live);
    world.until("the router is live", live).await;
}

#[tokio::test]
async fn a_trial_asks_routers_and_changes_nothing() {
    let world = World::with(&servers(2, "")).await;
    let tried = async |document: String| world.client().validate(trial(document)).await.unwrap().into_inner().trial;
    let alone = tried(servers(3, "")).await.unwrap();
    assert_eq!((alone.accepted, &*alone.refusals[0].reason), (false, "no router is there to try it"));
    let router = world.router("r1").await;
    is_live(&world).await;
    let accepted = tried(servers(3, "")).await.unwrap();
    assert!(accepted.accepted && accepted.routers[0].node == "r1" && accepted.refusals.is_empty(), "{accepted:?}");
    router.refuse(Some(Refusal::Names("read".into())));
    let refused = tried(servers(3, "")).await.unwrap();
    assert!(!refused.accepted && !refused.timed_out && refused.refusals[0].reason.contains("collide"), "{refused:?}");
    assert_eq!(tried("servers: 3".into()).await, None, "there is nothing to try");
    assert_eq!(world.history(true).await.len(), 1, "neither is in the history");
    assert!(!router.seen().contains(&"commit".to_owned()), "{:?}", router.seen());
    // What was tried can be applied afterwards.
    router.refuse(None);
    world.write(&servers(3, ""));
    router.has(2).await;
}

#[tokio::test]
async fn a_trial_whose_caller_has_gone_ends_and_gives_its_place() {
    let world = World::with(&servers(2, "")).await;
    let router = world.router("r1").await;
    is_live(&world).await;
    router.refuse(Some(Refusal::Silent));
    let ask = || {
        let mut client = world.client();
        async move { client.validate(trial(servers(3, ""))).await }
    };
    let mut callers = JoinSet::new();
    (0..TRIALS_MAX).for_each(|_| drop(callers.spawn(ask())));
    world.until("all are wanted", |status| status.pending.len() == TRIALS_MAX).await;
    let more = ask().await.unwrap_err();
    assert_eq!(more.code(), tonic::Code::ResourceExhausted, "{more}");
    callers.abort_all();
    world.until("none is wanted any more", |status| status.pending.is_empty()).await;
    router.refuse(None);
    assert!(ask().await.unwrap().into_inner().trial.is_some_and(|trial| trial.accepted));
}

#[tokio::test]
async fn a_trial_ends_when_its_caller_has_waited_long_enough() {
    let world = World::with(&servers(2, "")).await;
    let router = world.router("r1").await;
    is_live(&world).await;
    router.refuse(Some(Refusal::Silent));
    let brief = wire::duration_to_pb(std::time::Duration::from_millis(100));
    let request = pb::ValidateRequest { timeout: Some(brief), ..trial(servers(3, "")) };
    let tried = world.client().validate(request).await.unwrap().into_inner().trial.unwrap();
    assert_eq!((tried.accepted, tried.timed_out), (false, true));
    assert_eq!(&*tried.refusals[0].reason, "routers have not answered in time");
    world.until("it is not wanted any more", |status| status.pending.is_empty()).await;
}

/// Counts votes of no.
#[derive(Default)]
struct Nacks(Arc<AtomicU64>);

impl Recorder for Nacks {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        if key.name() == "only1mcp_config_nacks_total" { Counter::from_arc(self.0.clone()) } else { Counter::noop() }
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::test]
async fn a_no_to_a_trial_is_its_answer_and_no_nack_of_a_change() {
    let nacks = Nacks::default();
    let _counts = metrics::set_default_local_recorder(&nacks);
    let world = World::with(&servers(2, BRIEF)).await;
    let router = world.router("r1").await;
    is_live(&world).await;
    for (refusal, expected) in [(Refusal::Names("read".into()), 1), (Refusal::Silent, 2)] {
        router.refuse(Some(refusal));
        let before = nacks.0.load(Ordering::Relaxed);
        let tried = world.client().validate(trial(servers(3, BRIEF))).await.unwrap().into_inner().trial.unwrap();
        assert!(!tried.accepted, "{tried:?}");
        assert_eq!(nacks.0.load(Ordering::Relaxed), before);
        let outcome = world.apply("ops", EXTRA, 0).await.unwrap();
        assert_eq!(outcome.result(), Ended::Refused, "{outcome:?}");
        assert_eq!(nacks.0.load(Ordering::Relaxed), expected);
    }
}
