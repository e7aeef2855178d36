//! Routers that agree, refuse, are late or are not there.

use std::time::Duration;

use rollout::Refusal;
use rollout::reconciler::RouterState;
use wire::pb::config::v1::{self as pb, outcome::Result as Ended};

use super::world::{World, applied, servers};

fn no_secret() -> Option<Refusal> {
    Some(Refusal::Secret("${env:TOKEN}".into()))
}

#[tokio::test]
async fn one_router_without_a_secret_holds_up_the_fleet_and_a_late_one_does_not() {
    let world = World::with(&servers(1, "")).await;
    let (one, two) = (world.router("r1").await, world.router("r2").await);
    two.refuse(no_secret());
    world.write(&servers(2, ""));
    let outcome = world.reload(pb::ReloadRequest::default()).await;
    assert_eq!((outcome.result(), outcome.revision), (Ended::Refused, 1));
    assert_eq!(outcome.refusals.len(), 1, "{outcome:?}");
    assert_eq!(outcome.refusals[0].node, "r2");
    assert!(outcome.refusals[0].reason.contains("${env:TOKEN}"), "{outcome:?}");
    assert!(outcome.next_try.is_some(), "the secret may come: {outcome:?}");
    assert_eq!((one.live(), two.live(), world.history(false).await.len()), (1, 1, 1));
    assert_eq!(world.status().source.refusals.len(), 1);
    let status = world.client().get_status(pb::GetStatusRequest {}).await.unwrap().into_inner();
    assert!(status.source.is_some_and(|source| source.next_try.is_some()));

    // Without the one that refuses it goes on, and no number was used up.
    two.leave();
    world.until("alone", |status| status.routers.len() == 1).await;
    let outcome = world.reload(pb::ReloadRequest::default()).await;
    assert_eq!(applied(&outcome), 2);
    assert_eq!(one.live(), 2);

    // The same router, late: behind, shown, and no voter.
    let two = world.attach("r2", None, no_secret());
    let behind = |state: &RouterState| matches!(state, RouterState::Behind { .. });
    world.until("behind", |status| status.routers.iter().any(|view| behind(&view.router.state))).await;
    world.write(&servers(3, ""));
    one.has(3).await;
    let status = world.client().get_status(pb::GetStatusRequest {}).await.unwrap().into_inner();
    let second = status.routers.iter().find(|router| router.node == "r2").unwrap();
    assert_eq!(second.state, "behind");
    assert!(second.reason.contains("${env:TOKEN}"), "{second:?}");
    // It heals by itself.
    two.refuse(None);
    two.has(3).await;
    world.until("caught up", |status| status.routers.iter().all(|view| view.router.state == RouterState::Live)).await;
}

#[tokio::test]
async fn a_router_left_out_by_name_does_not_vote_and_the_record_says_so() {
    let world = World::with(&servers(1, "")).await;
    let (one, two) = (world.router("r1").await, world.router("r2").await);
    two.refuse(no_secret());
    world.write(&servers(2, ""));
    let outcome = world.reload(pb::ReloadRequest { without: vec!["r2".into()], ..pb::ReloadRequest::default() }).await;
    // Whether or not the watcher has proposed the same content meanwhile, to both routers.
    assert_eq!(applied(&outcome), 2);
    assert_eq!((one.live(), two.live()), (2, 1));
    assert_eq!(world.history(false).await[0].without, ["r2"]);
}

/// The file is read at request only.
const AT_REQUEST: &str = "hot_reload: { enabled: false }\n";

fn without(routers: &[&str]) -> pb::ReloadRequest {
    pb::ReloadRequest { without: routers.iter().map(ToString::to_string).collect(), ..pb::ReloadRequest::default() }
}

#[tokio::test]
async fn a_reload_lets_a_router_vote_that_an_earlier_one_left_out_when_no_other_is_left() {
    for force in [false, true] {
        let world = World::with(&servers(1, AT_REQUEST)).await;
        let (one, two) = (world.router("r1").await, world.router("r2").await);
        two.refuse(Some(Refusal::Silent));
        world.write(&servers(2, AT_REQUEST));
        let stuck = async {
            two.is_asked().await;
            two.leave();
            let left_out = |pending: &crate::Pending| pending.stage.as_str() == "without_voter";
            let status = world.until("stuck", |status| status.pending.iter().any(left_out)).await;
            assert_eq!(status.pending[0].left_out.iter().map(ToString::to_string).collect::<Vec<_>>(), ["r1"]);
            world.reload(pb::ReloadRequest { force, ..without(&[]) }).await
        };
        let (first, second) = tokio::join!(world.reload(without(&["r1"])), stuck);
        assert_eq!((applied(&first), applied(&second), one.live()), (2, 2, 2));
        assert_eq!(world.history(false).await[0].without, [""; 0]);
    }
}

#[tokio::test]
async fn callers_who_leave_out_different_routers_leave_somebody_to_vote_together() {
    let world = World::with(&servers(1, AT_REQUEST)).await;
    let (one, two) = (world.router("r1").await, world.router("r2").await);
    two.refuse(Some(Refusal::Silent));
    world.write(&servers(2, AT_REQUEST));
    let brief = wire::duration_to_pb(Duration::from_millis(100));
    let second = async {
        two.is_asked().await;
        let second = world.reload(pb::ReloadRequest { timeout: Some(brief), ..without(&["r2"]) }).await;
        assert_eq!(second.result(), Ended::Pending);
        // The first caller has no other voter, and the second caller lets r1 vote.
        two.leave();
    };
    let (first, ()) = tokio::join!(world.reload(without(&["r1"])), second);
    assert_eq!((applied(&first), one.live(), world.history(false).await[0].without.len()), (2, 2, 0));
}

#[tokio::test]
async fn a_pending_change_says_which_routers_are_left_out_and_what_to_do() {
    let world = World::with(&servers(1, AT_REQUEST)).await;
    let (_one, two) = (world.router("r1").await, world.router("r2").await);
    two.refuse(Some(Refusal::Silent));
    world.write(&servers(2, AT_REQUEST));
    let brief = wire::duration_to_pb(Duration::from_secs(1));
    let leaves = async {
        two.is_asked().await;
        two.leave();
    };
    let request = pb::ReloadRequest { timeout: Some(brief), ..without(&["r1"]) };
    let (outcome, ()) = tokio::join!(world.reload(request), leaves);
    assert_eq!(outcome.result(), Ended::Pending);
    let told = "without_voter; left out: r1; to let them vote, `reload` without leaving them out";
    assert!(outcome.warnings.last().is_some_and(|last| last.ends_with(told)), "{:?}", outcome.warnings);
}

#[tokio::test]
async fn whoever_leaves_out_every_router_or_a_stranger_is_told_so_and_nothing_waits_for_it() {
    let world = World::with(&servers(1, "")).await;
    let (one, _two) = (world.router("r1").await, world.router("r2").await);
    world.write(&servers(2, ""));
    for (without, expected) in [
        (vec!["r1".into(), "r2".into()], "`without`: without r1, r2 no router is left to vote"),
        (vec!["r3".into()], "`without`: no router `r3` is attached; there are: r1, r2"),
    ] {
        let request = pb::ReloadRequest { without, ..pb::ReloadRequest::default() };
        let refused = world.client().reload(request).await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (tonic::Code::InvalidArgument, expected));
    }
    one.has(2).await;
}

#[tokio::test]
async fn without_a_voter_a_change_is_pending_until_one_comes() {
    let world = World::with(&servers(1, "")).await;
    world.write(&servers(2, ""));
    let brief = wire::duration_to_pb(Duration::from_millis(100));
    let outcome = world.reload(pb::ReloadRequest { timeout: Some(brief), ..pb::ReloadRequest::default() }).await;
    assert_eq!((outcome.result(), outcome.revision), (Ended::Pending, 1));
    let pending: Vec<_> = world.status().pending.iter().map(|pending| pending.stage.as_str()).collect();
    assert_eq!(pending, ["without_voter"]);
    let router = world.attach("r1", None, None);
    router.has(2).await;
    assert_eq!(router.seen(), ["offer", "prepare", "commit"]);
}

#[tokio::test]
async fn a_reload_and_a_rollback_are_one_trace_in_every_message() {
    let world = World::with(&servers(1, "")).await;
    let _router = world.router("r1").await;
    let mut events = world.client().watch(pb::WatchRequest {}).await.unwrap().into_inner();
    world.write(&servers(2, "hot_reload: { enabled: false }\n"));
    let mut request = tonic::Request::new(pb::ReloadRequest::default());
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    request.metadata_mut().insert("traceparent", parent.parse().unwrap());
    // The answer is the same, whichever side reads the file first.
    world.client().reload(request).await.unwrap();
    world.revision(2).await;
    world.write(&servers(3, "hot_reload: { enabled: false }\n"));
    let mut request = tonic::Request::new(pb::ReloadRequest::default());
    request.metadata_mut().insert("traceparent", parent.parse().unwrap());
    world.client().reload(request).await.unwrap();
    let mut of_trace = Vec::new();
    let found = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            let event = events.message().await.unwrap().unwrap();
            if event.traceparent.contains("0af7651916cd43dd8448eb211c80319c") {
                of_trace.push(event.kind.clone());
            }
            if event.kind == "committed" && event.revision == 3 {
                return;
            }
        }
    });
    found.await.unwrap();
    assert!(of_trace.ends_with(&["attempt_started".into(), "vote".into(), "committed".into()]), "{of_trace:?}");
}

#[tokio::test]
async fn a_log_from_a_backup_takes_an_epoch_above_what_a_router_has_obeyed() {
    let mut world = World::with(&servers(1, "")).await;
    let first = world.router("r1").await;
    first.has(1).await;
    let later = world.attach("r2", None, Some(Refusal::Stale { epoch: 4 }));
    later.has(1).await;
    assert_eq!(world.status().epoch, 5);
    world.write(&servers(2, ""));
    for router in [&first, &later] {
        router.has(2).await;
    }
    world.stop().await;
    world.start();
    world.until("it is kept", |status| status.epoch == 6).await;
    world.stop().await;
}
