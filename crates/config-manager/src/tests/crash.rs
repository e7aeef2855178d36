//! What is live after the process ended at the worst moment. Only in the build with fail points.

use std::time::Duration;

use rollout::Refusal;
use wire::pb::config::v1::{self as pb, outcome::Result as Ended};

use super::world::{World, servers};

#[tokio::test]
async fn the_append_decides_what_is_live_after_a_crash() {
    // Before it: the change never was, and the same process goes on.
    let mut world = World::with(&servers(1, "hot_reload: { enabled: false }\n")).await;
    let router = world.router("r1").await;
    fail::cfg("append-before", "1*return").unwrap();
    world.write(&servers(2, "hot_reload: { enabled: false }\n"));
    let outcome = world.reload(pb::ReloadRequest::default()).await;
    assert_eq!((outcome.result(), outcome.revision, router.live()), (Ended::Refused, 1, 1), "{outcome:?}");
    assert_eq!(world.history(false).await.len(), 1);
    world.stop().await;
    world.start();
    assert_eq!(world.status().revision.0, 1);

    // After it: the new head is offered, although no router was told.
    let router = world.router("r1").await;
    fail::cfg("append-after", "1*panic").unwrap();
    let mut client = world.client();
    client.reload(pb::ReloadRequest::default()).await.unwrap_err();
    world.crashed().await;
    assert_eq!(router.live(), 1);
    world.start();
    assert_eq!(world.status().revision.0, 2);
    let router = world.router("r1").await;
    assert_eq!((router.live(), router.seen()), (2, vec!["offer".to_owned()]));
    assert_eq!(world.history(true).await.iter().filter(|record| record.result == "applied").count(), 2);

    // Between the append and the commit the manager stands still; the router is served from what it has.
    world.write(&servers(3, "hot_reload: { enabled: false }\n"));
    fail::cfg("commit-before-send", "1*delay(200)").unwrap();
    let outcome = tokio::time::timeout(Duration::from_secs(30), world.reload(pb::ReloadRequest::default())).await;
    assert_eq!((outcome.unwrap().revision, router.live()), (3, 3));

    // The disk did it and did not say so: the log is opened anew, and what it holds counts.
    world.write(&servers(4, "hot_reload: { enabled: false }\n"));
    fail::cfg("append-after", "1*return").unwrap();
    let outcome = world.reload(pb::ReloadRequest::default()).await;
    assert_eq!((outcome.result(), outcome.revision, router.live()), (Ended::Applied, 4, 4), "{outcome:?}");
}

#[tokio::test]
async fn a_refusal_that_could_not_be_recorded_is_recorded_by_its_retry() {
    let world = World::with(&servers(1, "")).await;
    let router = world.router("r1").await;
    router.refuse(Some(Refusal::Critical { backend: "s1".into(), reason: "no database".into() }));
    fail::cfg("audit-before", "1*return").unwrap();
    world.write(&servers(2, ""));
    let recorded = async { while !world.history(true).await.iter().any(|record| record.result == "refused") {} };
    tokio::time::timeout(Duration::from_secs(30), recorded).await.unwrap();
    assert!(router.seen().iter().filter(|name| *name == "prepare").count() > 1, "{:?}", router.seen());
}
