//! From the file to a revision, and back.

use std::io::Write as _;

use futures_util::StreamExt as _;
use wire::pb::config::v1::{self as pb, outcome::Result as Ended};

use super::world::{World, applied, overwrite, servers};
use crate::SourceState;

const EAGER: &str = "hot_reload: { watcher: { poll_interval_ms: 100, debounce_ms: 50 } }\n";

#[tokio::test]
async fn the_file_becomes_revisions_that_routers_hold() {
    let world = World::with(&servers(2, "")).await;
    let router = world.router("r1").await;
    assert_eq!(router.live(), 1);
    world.write(&servers(3, ""));
    router.has(2).await;
    world.until("following", |status| status.source.state == SourceState::Following).await;
    assert_eq!(router.seen(), ["offer", "prepare", "commit"], "a difference is sent, not the whole");

    // Comments are no difference.
    world.write(&format!("# only words\n{}", servers(3, "")));
    let outcome = world.reload(pb::ReloadRequest::default()).await;
    assert_eq!((outcome.result(), outcome.revision), (Ended::NoChange, 2));

    world.write(&servers(1, ""));
    let outcome = world.reload(pb::ReloadRequest::default()).await;
    assert_eq!(applied(&outcome), 3);
    let names: Vec<_> = outcome.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(names, ["parse", "validate", "prepare", "append", "swap"]);
    assert_eq!(router.live(), 3, "the answer comes after the swap");

    let history = world.history(false).await;
    let brief: Vec<_> = history.iter().map(|r| (r.revision, r.parent, r.actor.as_str(), r.source.as_str())).collect();
    // The change that the watcher saw first has no operator's name on it.
    assert_eq!(brief[1..], [(2, 1, "file", "file"), (1, 0, "file", "file")]);
    assert_eq!((brief[0].0, brief[0].1, brief[0].3), (3, 2, "file"));
    let removed: Vec<_> = history[0].diff.iter().map(|d| (d.server.as_str(), d.change.as_str())).collect();
    assert_eq!(removed, [("s1", "removed"), ("s2", "removed")]);
    let content = world.content(0).await;
    assert_eq!(model::Digest::of_bytes(content.content.as_bytes()).to_string(), history[0].digest);
    let status = world.client().get_status(pb::GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.revision, status.routers.len(), status.routers[0].state.as_str()), (3, 1, "live"));
}

#[tokio::test]
async fn a_restart_offers_the_same_revision_in_a_new_epoch() {
    let mut world = World::with(&servers(2, "")).await;
    let before = world.status();
    world.stop().await;
    world.start();
    let after = world.status();
    assert_eq!((after.revision, after.digest, &after.log), (before.revision, before.digest, &before.log));
    assert_eq!(after.epoch, before.epoch + 1);
    let router = world.router("r1").await;
    assert_eq!(router.live(), 1);
    let outcome = world.reload(pb::ReloadRequest::default()).await;
    assert_eq!((outcome.result(), outcome.revision), (Ended::NoChange, 1));
    assert_eq!(world.history(true).await.len(), 1, "nothing to do is no attempt");
}

#[tokio::test]
async fn what_a_rollback_undid_stays_undone_until_the_file_changes() {
    let mut world = World::with(&servers(1, EAGER)).await;
    let router = world.router("r1").await;
    world.write(&servers(2, EAGER));
    router.has(2).await;
    world.until("applied", |status| status.attempt.is_none()).await;
    assert_eq!(applied(&world.roll_back(0).await.unwrap()), 3);
    assert_eq!(world.content(3).await.content, world.content(1).await.content, "byte for byte");
    assert_eq!(world.history(false).await[0].source, "rollback to 1");

    // Ten looks at the file, counted by their interval because a look that does nothing leaves no trace.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert_eq!(world.status().revision.0, 3);
    let outcome = world.reload(pb::ReloadRequest::default()).await;
    assert_eq!((outcome.result(), outcome.refusals.len()), (Ended::Refused, 1), "{outcome:?}");
    assert!(outcome.refusals[0].reason.contains("undone by a rollback"), "{outcome:?}");
    assert!(world.status().source.refusals[0].reason.ends_with("or by `only1mcp reload --force`"));
    world.stop().await;
    world.start();
    let router = world.attach("r1", None, None);
    router.has(3).await;
    let outcome = world.reload(pb::ReloadRequest::default()).await;
    assert_eq!((outcome.result(), outcome.revision, outcome.refusals.len()), (Ended::Refused, 3, 1));
    assert_eq!(world.status().source.refusals.len(), 1, "that the file is undone is shown");

    // Neither a change of another source nor another start makes it less undone.
    let extra = "servers:\n  - id: extra\n    transport: { type: http, url: \"http://127.0.0.1:9/x\" }\n";
    assert_eq!(applied(&world.apply("ops", extra, 0).await.unwrap()), 4);
    router.has(4).await;
    world.stop().await;
    world.start();
    let router = world.attach("r1", None, None);
    router.has(4).await;
    let outcome = world.reload(pb::ReloadRequest::default()).await;
    assert_eq!((outcome.result(), outcome.revision, outcome.refusals.len()), (Ended::Refused, 4, 1));
    assert_eq!(world.status().source.refusals.len(), 1);

    world.write(&servers(4, EAGER));
    router.has(5).await;
    assert_eq!(world.status().snapshot.as_ref().unwrap().backends.len(), 5);
    assert_eq!(world.status().source.refusals, []);
    let missing = world.roll_back(99).await.unwrap_err();
    assert_eq!(missing.code(), tonic::Code::NotFound);
    assert!(missing.message().contains("the log has 1 to 5"), "{missing}");
}

#[tokio::test]
async fn a_file_that_says_something_else_is_no_longer_undone() {
    let mut world = World::with(&servers(1, EAGER)).await;
    let router = world.router("r1").await;
    world.write(&servers(2, EAGER));
    router.has(2).await;
    applied(&world.roll_back(1).await.unwrap());
    assert_eq!(world.status().source.refusals.len(), 1);
    // As it was before: what is live, and so nothing to do, but nothing undone either.
    world.write(&servers(1, EAGER));
    world.until("nothing undone", |status| status.source.refusals.is_empty()).await;
    world.stop().await;
    world.start();
    let router = world.attach("r1", None, None);
    router.has(3).await;
    world.until("nothing undone", |status| status.source.refusals.is_empty()).await;
    // Forward again to what the file had said, which it then says.
    world.write(&servers(2, EAGER));
    world.revision(4).await;
    applied(&world.roll_back(3).await.unwrap());
    assert_eq!(world.status().source.refusals.len(), 1);
    applied(&world.roll_back(4).await.unwrap());
    assert_eq!(world.status().source.refusals, [], "the file says what is live");
    // A refusal is shown instead of what was undone before it.
    world.write("servers: 1\n");
    let status = world.until("refused", |status| !status.source.violations.is_empty()).await;
    assert_eq!(status.source.refusals, []);
}

#[tokio::test]
async fn force_brings_back_what_was_undone() {
    let world = World::with(&servers(1, EAGER)).await;
    let router = world.router("r1").await;
    world.write(&servers(2, EAGER));
    router.has(2).await;
    applied(&world.roll_back(1).await.unwrap());
    let outcome = world.reload(pb::ReloadRequest { force: true, ..pb::ReloadRequest::default() }).await;
    assert_eq!(applied(&outcome), 4);
    assert_eq!(world.history(false).await[0].actor, "internal");
}

#[tokio::test]
async fn fifty_reloads_at_once_are_one_change() {
    let world = World::with(&servers(1, "hot_reload: { enabled: false }\n")).await;
    let router = world.router("r1").await;
    world.write(&servers(2, "hot_reload: { enabled: false }\n"));
    let client = world.client();
    let reloads = (0..50).map(|_| {
        let mut client = client.clone();
        async move { client.reload(pb::ReloadRequest::default()).await.unwrap().into_inner().outcome.unwrap() }
    });
    let outcomes = futures_util::future::join_all(reloads).await;
    assert!(outcomes.iter().all(|outcome| outcome.revision == 2), "{outcomes:?}");
    assert!(outcomes.iter().any(|outcome| outcome.result() == Ended::Applied));
    assert_eq!((router.live(), world.history(true).await.len()), (2, 2));
}

#[tokio::test]
async fn layers_of_the_api_survive_a_reload_of_the_file() {
    let world = World::with(&servers(1, "")).await;
    let router = world.router("r1").await;
    let extra = "servers:\n  - id: extra\n    transport: { type: http, url: \"http://127.0.0.1:9/x\" }\n";
    assert_eq!(applied(&world.apply("ops", extra, 1).await.unwrap()), 2);
    let stale = world.apply("ops", "", 1).await.unwrap_err();
    assert_eq!(stale.code(), tonic::Code::Aborted, "{stale}");
    world.write(&servers(2, ""));
    router.has(3).await;
    let names = |status: &crate::Status| -> Vec<String> {
        status.snapshot.as_ref().unwrap().backends.iter().map(|backend| backend.id.to_string()).collect()
    };
    assert_eq!(names(&world.status()), ["s0", "s1", "extra"]);
    assert_eq!(applied(&world.apply("ops", "", 0).await.unwrap()), 4);
    assert_eq!(names(&world.status()), ["s0", "s1"]);
    let history = world.history(true).await;
    let brief: Vec<_> = history.iter().map(|r| (r.revision, r.source.as_str(), r.result.as_str())).collect();
    assert_eq!(
        brief,
        [
            (4, "api:ops", "applied"),
            (3, "file", "applied"),
            (0, "api:ops", "refused"),
            (2, "api:ops", "applied"),
            (1, "file", "applied")
        ]
    );
    let duplicate = world.apply("ops", &servers(1, ""), 0).await.unwrap();
    assert_eq!((duplicate.result(), duplicate.violations.len()), (Ended::Refused, 1), "{duplicate:?}");
    assert_eq!(duplicate.violations[0].file, "api:ops");
}

#[tokio::test]
async fn changes_of_many_owners_at_once_are_all_live_in_the_end() {
    let world = World::with(&servers(1, EAGER)).await;
    let router = world.router("r1").await;
    let layer = |i: usize| {
        format!("servers:\n  - id: extra{i}\n    transport: {{ type: http, url: \"http://127.0.0.1:9/x{i}\" }}\n")
    };
    let applies = (0..8).map(|i| {
        let world = &world;
        async move { applied(&world.apply(&format!("l{i}"), &layer(i), 0).await.unwrap()) }
    });
    let writes = async {
        for n in 2..=6 {
            world.write(&servers(n, EAGER));
            world.reload(pb::ReloadRequest::default()).await;
        }
    };
    let (mut numbers, ()) = tokio::join!(futures_util::future::join_all(applies), writes);
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 8, "a number each");
    let status = world.until("complete", |status| status.snapshot.as_ref().unwrap().backends.len() == 14).await;
    router.has(status.revision.0).await;
    let revisions: Vec<_> = world.history(false).await.iter().map(|record| (record.revision, record.parent)).collect();
    assert!(revisions.iter().all(|(revision, parent)| *parent == revision - 1), "{revisions:?}");
}

#[tokio::test]
async fn a_slow_watcher_is_told_what_it_missed_and_delays_nobody() {
    let world = World::with(&servers(1, "")).await;
    let router = world.router("r1").await;
    let mut slow = world.watch();
    // The watcher is not read meanwhile.
    for i in 0..300 {
        let outcome = world.apply("ops", &servers(1, ""), 0).await.unwrap();
        assert_eq!(outcome.result(), Ended::Refused);
        if i % 100 == 0 {
            world.write(&servers(2 + i, ""));
            router.has(2 + i as u64 / 100).await;
        }
    }
    let first = slow.next().await.unwrap().unwrap();
    assert_eq!((first.kind.as_str(), first.revision), ("missed", 4), "{first:?}");
    let newest = async { while slow.next().await.unwrap().unwrap().revision < 4 {} };
    tokio::time::timeout(std::time::Duration::from_secs(30), newest).await.unwrap();
}

#[tokio::test]
async fn a_write_in_place_waits_until_it_holds_still() {
    let world = World::with(&servers(3, EAGER)).await;
    let router = world.router("r1").await;
    // Half of it would be a good file with fewer servers.
    overwrite(&world.file, &servers(1, EAGER));
    world.until("settling", |status| status.source.state == SourceState::Settling).await;
    overwrite(&world.file, &servers(4, EAGER));
    router.has(2).await;
    assert_eq!(world.status().snapshot.as_ref().unwrap().backends.len(), 4);
}

#[tokio::test]
async fn a_writer_that_stalls_in_the_middle_takes_no_server_away() {
    let world = World::with(&servers(3, EAGER)).await;
    let router = world.router("r1").await;
    let mut writer = std::fs::File::create(&world.file).unwrap();
    // A valid beginning.
    writer.write_all(servers(1, EAGER).as_bytes()).unwrap();
    world.until("settling", |status| status.source.state == SourceState::Settling).await;
    // Another file that was written later, and closed, has been read by now.
    let other = World::with(&servers(1, EAGER)).await;
    let of_other = other.router("r1").await;
    overwrite(&other.file, &servers(2, EAGER));
    of_other.has(2).await;
    assert_eq!((world.status().source.state, world.status().revision.0), (SourceState::Settling, 1));
    let whole = servers(4, EAGER);
    writer.write_all(&whole.as_bytes()[servers(1, EAGER).len()..]).unwrap();
    drop(writer);
    router.has(2).await;
    assert_eq!(world.status().snapshot.as_ref().unwrap().backends.len(), 4);
    assert_eq!(world.history(true).await.len(), 2, "nothing was tried in between");
}

#[tokio::test]
async fn a_layer_in_toml_stays_one_over_a_restart() {
    let mut world = World::with(&servers(1, "")).await;
    let router = world.router("r1").await;
    let layer = "[[servers]]\nid = \"more\"\ntransport = { type = \"stdio\", command = \"x\" }\n";
    let request = |format: i32| pb::ApplyRequest {
        name: "ops".into(),
        document: layer.into(),
        format,
        ..pb::ApplyRequest::default()
    };
    let refused = world.client().apply(request(9)).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    let as_yaml = world.client().apply(request(0)).await.unwrap().into_inner().outcome.unwrap();
    assert_eq!(as_yaml.result(), Ended::Refused);
    let answer = world.client().apply(request(pb::Format::Toml.into())).await.unwrap();
    assert_eq!(applied(&answer.into_inner().outcome.unwrap()), 2);
    router.has(2).await;
    drop(router);
    world.stop().await;
    world.start();
    let router = world.router("r1").await;
    world.write(&servers(2, ""));
    router.has(3).await;
    assert!(world.content(3).await.content.contains("more"));
}
