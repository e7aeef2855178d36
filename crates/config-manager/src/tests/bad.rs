//! Configurations that must not serve.

use rollout::Refusal;
use tokio_stream::StreamExt;
use wire::pb::config::v1::{self as pb, outcome::Result as Ended};

use super::world::{World, applied, overwrite, servers};
use crate::SourceState;

#[tokio::test]
async fn a_hundred_bad_candidates_change_nothing() {
    let mut world = World::with(&servers(2, "")).await;
    let router = world.router("r1").await;
    let before = world.status();
    for i in 0..100 {
        world.write(&servers(3, &format!("unknown_key_{i}: 1\n")));
        let outcome = world.reload(pb::ReloadRequest::default()).await;
        assert_eq!((outcome.result(), outcome.revision), (Ended::Refused, 1), "{outcome:?}");
        assert_eq!((outcome.violations.len(), outcome.violations[0].line), (1, 2), "{outcome:?}");
    }
    let after = world.status();
    assert_eq!((after.revision, after.digest), (before.revision, before.digest));
    assert_eq!((after.source.state, after.source.violations.len()), (SourceState::Refused, 1));
    assert_eq!(router.seen(), ["offer"]);
    let refused = world.history(true).await.iter().filter(|record| record.result == "refused").count();
    assert!(refused >= 100, "{refused}");
    // The alarm is not lost by a restart, and neither is what is live.
    world.stop().await;
    world.start();
    let status = world.until("refused", |status| status.source.state == SourceState::Refused).await;
    assert_eq!((status.revision, status.source.violations.len()), (before.revision, 1));
    let router = world.router("r1").await;
    world.write(&servers(3, ""));
    router.has(2).await;
}

#[tokio::test]
async fn a_refusal_is_shown_at_once_though_the_file_may_still_be_written() {
    let world = World::with(&servers(1, "hot_reload: { watcher: { debounce_ms: 5000 } }\n")).await;
    overwrite(&world.file, &servers(1, "unknown: 1\n"));
    world.until("settling", |status| status.source.state == SourceState::Settling).await;
    assert_eq!(world.reload(pb::ReloadRequest::default()).await.result(), Ended::Refused);
    let source = world.status().source.clone();
    assert_eq!((source.state, source.violations.len()), (SourceState::Refused, 1), "{source:?}");
    world.depends(Some("refused")).await;
}

#[tokio::test]
async fn a_retry_that_ends_as_before_in_other_words_is_no_news_for_the_record() {
    let world = World::with(&servers(1, "")).await;
    let router = world.router("r1").await;
    router.refuse(Some(Refusal::Critical { backend: "s1".into(), reason: "no database".into() }));
    let mut events = world.watch();
    world.write(&servers(2, ""));
    for _ in 0..2 {
        while events.next().await.unwrap().unwrap().kind != "refused" {}
    }
    // What is wrong now is shown, …
    let reason = |status: &crate::Status| status.source.refusals[0].reason.clone();
    world.until("shown", |status| reason(status).ends_with("(reference 1.3)")).await;
    // … and records are written one after the other: this one is the last.
    assert_eq!(world.reload(pb::ReloadRequest::default()).await.result(), Ended::Refused);
    let refused = world.history(true).await.iter().filter(|record| record.result == "refused").count();
    assert_eq!(refused, 2, "the first, and the one that somebody asked for");
}

#[tokio::test]
async fn the_record_of_a_refusal_is_short_however_much_is_wrong() {
    let mut world = World::with(&servers(2, "")).await;
    let keys: String = (0..1000).map(|i| format!("unknown_key_{i}: 1\n")).collect();
    for round in 0..12 {
        world.write(&servers(3, &format!("{keys}round_{round}: 1\n")));
        let outcome = world.reload(pb::ReloadRequest::default()).await;
        assert_eq!((outcome.result(), outcome.violations.len()), (Ended::Refused, 1001));
    }
    world.stop().await;
    let bytes = std::fs::metadata(world.state.join(crate::LOG_FILE)).unwrap().len();
    assert!(bytes < 1 << 20, "{bytes}");
}

#[tokio::test]
async fn without_any_good_revision_all_violations_are_shown_until_there_is_one() {
    let mut world = World::new();
    world.write("servers:\n  - id: \"no spaces\"\n  - transport: { type: carrier-pigeon }\n");
    world.start();
    let status = world.until("judged", |status| status.nothing_good().is_some()).await;
    assert!(status.nothing_good().unwrap().violations.len() >= 3, "{:#?}", status.source);
    world.write(&servers(1, ""));
    let status = world.revision(1).await;
    assert!(status.nothing_good().is_none());
}

#[tokio::test]
async fn a_missing_file_is_an_alarm_and_not_a_change() {
    let world = World::with(&servers(2, "hot_reload: { watcher: { poll_interval_ms: 100, debounce_ms: 50 } }\n")).await;
    std::fs::remove_file(&world.file).unwrap();
    let status = world.until("missing", |status| status.source.state == SourceState::Missing).await;
    assert_eq!(status.revision.0, 1);
    let outcome = world.reload(pb::ReloadRequest::default()).await;
    assert_eq!((outcome.result(), outcome.violations.len()), (Ended::Refused, 1));
    let _router = world.router("r1").await;
    world.write(&servers(3, ""));
    let status = world.revision(2).await;
    assert_eq!(status.source.violations, []);
}

#[tokio::test]
async fn the_last_good_revision_serves_when_the_file_is_gone_at_the_start() {
    let mut world = World::with(&servers(2, "")).await;
    world.stop().await;
    std::fs::remove_file(&world.file).unwrap();
    world.start();
    assert_eq!(world.router("r1").await.live(), 1);
    world.until("missing", |status| status.source.state == SourceState::Missing).await;
}

#[tokio::test]
async fn validate_says_what_would_change_and_changes_nothing() {
    let world = World::with(&servers(2, "")).await;
    let validate = async |document: String| {
        let request = pb::ValidateRequest { name: "mine.yaml".into(), document, ..pb::ValidateRequest::default() };
        world.client().validate(request).await.unwrap().into_inner()
    };
    let good = validate(servers(3, "")).await;
    assert_eq!((good.violations.len(), good.diff.len(), good.digest.len()), (0, 1, 64), "{good:?}");
    assert_eq!(model::Digest::of_bytes(good.content.as_bytes()).to_string(), good.digest);
    let bad = validate("servers: 3\nnamign: none\n".into()).await;
    assert_eq!((bad.violations.len(), bad.violations[1].suggestion.as_str()), (2, "naming"), "{bad:?}");
    assert_eq!(world.history(true).await.len(), 1);
    let router = world.router("r1").await;
    world.write(&servers(3, ""));
    router.has(2).await;
    assert_eq!(good.digest, world.history(false).await[0].digest);
    applied(&world.roll_back(1).await.unwrap());
}

#[tokio::test]
async fn a_pipe_in_place_of_the_file_is_refused_and_holds_nobody_up() {
    let world = World::with(&servers(2, "hot_reload: { watcher: { poll_interval_ms: 100, debounce_ms: 50 } }\n")).await;
    std::fs::remove_file(&world.file).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&world.file).status().unwrap().success());
    let outcome = world.reload(pb::ReloadRequest::default()).await;
    assert_eq!((outcome.result(), outcome.violations.len()), (Ended::Refused, 1), "{outcome:?}");
    assert!(outcome.violations[0].message.ends_with("is no regular file"), "{outcome:?}");
    let router = world.router("r1").await;
    std::fs::remove_file(&world.file).unwrap();
    world.write(&servers(3, ""));
    router.has(2).await;
}
