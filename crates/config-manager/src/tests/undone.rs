//! What a rollback undoes, and that it stays undone.

use std::sync::Arc;

use model::Revision;
use rollout::{Content, Refusal};
use runtime::grpc::refusal;
use tonic::Code;
use wire::pb::config::v1::{self as pb, outcome::Result as Ended};

use super::world::{World, applied, servers};
use crate::SourceState;

const EAGER: &str = "hot_reload: { watcher: { poll_interval_ms: 100, debounce_ms: 50 } }\n";
const AT_REQUEST: &str = "hot_reload: { enabled: false }\n";
const EXTRA: &str = "servers:\n  - id: extra\n    transport: { type: http, url: \"http://127.0.0.1:9/x\" }\n";
/// So many servers take long to be taken apart.
const LARGE: usize = 5000;

impl World {
    /// At revision 2, and a large file has begun to be judged.
    async fn judging(more: &str) -> Self {
        let world = Self::with(&servers(1, EAGER)).await;
        world.router("r1").await;
        world.write(&servers(2, EAGER));
        world.revision(2).await;
        world.until("applied", |status| status.attempt.is_none()).await;
        world.write(&servers(LARGE, &format!("{EAGER}{more}")));
        world.until("judged", |status| status.pending.iter().any(|pending| pending.source == "file")).await;
        world
    }

    /// The same; a small file has come into the place of the large one, and before that is judged, 3 brings back 1. Now
    /// and then the small file is faster than the rollback, which is then about it.
    async fn undone_while_judging() -> Self {
        for _ in 0..20 {
            let world = Self::judging("").await;
            world.write(&servers(3, EAGER));
            while world.history(true).await.iter().all(|record| record.result != "superseded") {}
            if applied(&world.roll_back(1).await.unwrap()) == 3 {
                return world;
            }
        }
        panic!("the file is always judged before the rollback");
    }

    async fn sources(&self) -> Vec<String> {
        self.history(false).await.into_iter().map(|revision| revision.source).collect()
    }
}

#[tokio::test]
async fn what_waits_to_be_judged_does_not_go_live_after_the_rollback() {
    let world = World::undone_while_judging().await;
    // It is taken apart after both.
    assert_eq!(applied(&world.apply("ops", EXTRA, 0).await.unwrap()), 4);
    assert_eq!(world.sources().await, ["api:ops", "rollback to 1", "file", "file"]);
    let source = world.status().source.clone();
    assert_eq!((source.state, source.refusals.len()), (SourceState::RolledBack, 1), "{source:?}");
    world.depends(Some("rolled back")).await;
    let since = |status: &crate::Status| status.provenance.since.values().map(|since| since.0).collect::<Vec<_>>();
    // Of the layer of `ops` and of the file, which the rollback to 1 made what it is.
    assert_eq!(since(&world.status()), [4, 3]);
    world.write(&servers(4, EAGER));
    let status = world.revision(5).await;
    assert_eq!(since(&status), [4, 5]);
    world.depends(None).await;
}

#[tokio::test]
async fn what_is_found_wrong_after_the_rollback_is_not_said_of_the_file() {
    let mut world = World::judging("unknown: 1\n").await;
    assert_eq!(applied(&world.roll_back(1).await.unwrap()), 3);
    assert_eq!(applied(&world.apply("ops", EXTRA, 0).await.unwrap()), 4);
    let undone = |source: &crate::SourceStatus| {
        assert_eq!((source.state, source.refusals.len()), (SourceState::RolledBack, 1), "{source:?}");
        assert_eq!(source.violations, []);
    };
    undone(&world.status().source);
    let came_from = world.status().provenance.clone();
    world.stop().await;
    world.start();
    assert_eq!(world.status().provenance, came_from);
    let outcome = world.reload(pb::ReloadRequest::default()).await;
    assert_eq!((outcome.result(), outcome.refusals.len()), (Ended::Refused, 1), "{outcome:?}");
    undone(&world.status().source);
}

#[tokio::test]
async fn an_edit_before_the_rollback_does_not_undo_it() {
    let world = World::with(&servers(1, EAGER)).await;
    world.router("r1").await;
    world.write(&servers(2, AT_REQUEST));
    world.until("read at request", |status| status.source.state == SourceState::Disabled).await;
    world.write(&servers(3, EAGER));
    assert_eq!(applied(&world.roll_back(1).await.unwrap()), 3);
    let outcome = world.reload(pb::ReloadRequest::default()).await;
    assert_eq!((outcome.result(), outcome.revision, outcome.refusals.len()), (Ended::Refused, 3, 1), "{outcome:?}");
    assert_eq!(world.sources().await, ["rollback to 1", "file", "file"]);
    world.write(&servers(4, EAGER));
    world.revision(4).await;
}

#[tokio::test]
async fn an_edit_that_waits_for_a_request_still_does_after_a_rollback() {
    let world = World::with(&servers(1, AT_REQUEST)).await;
    world.router("r1").await;
    world.write(&servers(2, AT_REQUEST));
    assert_eq!(applied(&world.reload(pb::ReloadRequest::default()).await), 2);
    world.write(&servers(3, AT_REQUEST));
    assert_eq!(applied(&world.roll_back(0).await.unwrap()), 3);
    assert_eq!(applied(&world.reload(pb::ReloadRequest::default()).await), 4);
}

#[tokio::test]
async fn who_asks_for_a_rollback_twice_undoes_once() {
    let world = World::with(&servers(1, EAGER)).await;
    world.router("r1").await;
    for revision in 2..=3 {
        world.write(&servers(usize::try_from(revision).unwrap(), EAGER));
        world.revision(revision).await;
    }
    world.until("applied", |status| status.attempt.is_none()).await;
    let (one, other) = tokio::join!(world.roll_back(0), world.roll_back(0));
    let (done, refused): (Vec<_>, Vec<_>) = [one, other].into_iter().partition(Result::is_ok);
    assert_eq!(done.len(), 1, "{refused:?}");
    let again = world.roll_back(0).await.unwrap_err();
    assert_eq!(again.code(), Code::FailedPrecondition);
    assert_eq!(again.message(), "revision 4 is live, by a rollback to 2 already");
    assert_eq!(refusal::next_of(&again).unwrap(), "to go further back: `only1mcp rollback 1`");
    let request = pb::RollbackRequest { base_revision: 3, ..pb::RollbackRequest::default() };
    let stale = world.client().rollback(request).await.unwrap_err();
    assert_eq!(stale.code(), Code::Aborted);
    assert!(stale.message().contains("made for revision 3, and revision 4 is live"), "{stale}");
    assert_eq!(world.content(0).await.content, world.content(2).await.content);
    // With a number there is no doubt.
    let outcome = world.roll_back(1).await.unwrap();
    assert_eq!(applied(&outcome), 5);
    assert!(outcome.warnings[0].contains("does not say what is live"), "{outcome:?}");
    let back = format!(
        "change in it what `only1mcp diff {}` shows. Do not write `only1mcp show` over it",
        world.file.display()
    );
    assert!(outcome.warnings[0].contains(&back), "{outcome:?}");
    assert_eq!(world.roll_back(1).await.unwrap().result(), Ended::NoChange);
    let oldest = world.roll_back(0).await.unwrap_err();
    let others = "nothing from before that is kept; what can be brought back: 2 to 4, by `only1mcp rollback NUMBER`";
    assert_eq!(oldest.message(), "revision 5 is live, by a rollback to 1 already");
    assert_eq!(refusal::next_of(&oldest).unwrap(), others);
}

#[tokio::test]
async fn it_is_told_that_the_file_still_says_what_was_undone_only_where_it_does() {
    let world = World::with(&servers(1, EAGER)).await;
    world.router("r1").await;
    // The file has never had the layer of `ops`.
    assert_eq!(applied(&world.apply("ops", EXTRA, 0).await.unwrap()), 2);
    let outcome = world.roll_back(0).await.unwrap();
    assert_eq!((applied(&outcome), outcome.warnings.len()), (3, 0), "{outcome:?}");
    assert_eq!(world.status().source.state, SourceState::Following);
    world.write(&servers(2, EAGER));
    world.revision(4).await;
    world.until("applied", |status| status.attempt.is_none()).await;
    let outcome = world.roll_back(3).await.unwrap();
    assert_eq!(applied(&outcome), 5);
    assert!(outcome.warnings[0].contains("still says what was undone"), "{outcome:?}");
    // What the file says is not what this one undoes.
    assert_eq!(applied(&world.apply("ops", EXTRA, 0).await.unwrap()), 6);
    let outcome = world.roll_back(0).await.unwrap();
    assert_eq!(applied(&outcome), 7);
    assert!(outcome.warnings[0].contains("does not say what is live"), "{outcome:?}");
    assert_eq!(world.status().source.state, SourceState::RolledBack);
}

#[tokio::test]
async fn a_file_that_is_gone_says_nothing_that_was_undone() {
    let world = World::with(&servers(1, EAGER)).await;
    world.router("r1").await;
    world.write(&servers(2, EAGER));
    world.revision(2).await;
    world.until("applied", |status| status.attempt.is_none()).await;
    std::fs::remove_file(&world.file).unwrap();
    let outcome = world.roll_back(0).await.unwrap();
    assert_eq!((applied(&outcome), outcome.warnings.len()), (3, 0), "{outcome:?}");
    let status = world.until("gone", |status| status.source.state == SourceState::Missing).await;
    assert_eq!(status.source.refusals, []);
}

#[tokio::test]
async fn what_is_live_already_is_not_brought_back_once_more() {
    let world = World::with(&servers(1, EAGER)).await;
    world.router("r1").await;
    // It is the default, so the content is the same.
    assert_eq!(applied(&world.apply("ops", "naming: prefix\n", 0).await.unwrap()), 2);
    let outcome = world.roll_back(1).await.unwrap();
    assert_eq!((outcome.result(), outcome.revision), (Ended::NoChange, 2));
    assert_eq!(world.content(0).await.layers.len(), 2);
    // Without a number the last change is undone, whatever it changed.
    assert_eq!(applied(&world.roll_back(0).await.unwrap()), 3);
    assert_eq!(world.content(0).await.layers.len(), 1);
}

#[tokio::test]
async fn a_file_that_was_refused_stays_so_when_another_layer_is_rolled_back() {
    let mut world = World::with(&servers(1, EAGER)).await;
    let router = world.router("r1").await;
    world.write(&servers(2, &format!("unknown: 1\n{EAGER}")));
    let refused = |status: &crate::Status| status.source.state == SourceState::Refused;
    world.until("refused", refused).await;
    assert_eq!(applied(&world.apply("ops", EXTRA, 0).await.unwrap()), 2);
    assert_eq!(applied(&world.apply("ops", "", 0).await.unwrap()), 3);
    let outcome = world.roll_back(0).await.unwrap();
    assert_eq!((applied(&outcome), outcome.warnings.len()), (4, 0), "{outcome:?}");
    let still = |status: &crate::Status| {
        let source = &status.source;
        assert_eq!((source.state, source.violations.len(), source.refusals.len()), (SourceState::Refused, 1, 0));
        assert_eq!(source.next_try, None);
    };
    still(&world.status());
    let outcome = world.reload(pb::ReloadRequest::default()).await;
    assert_eq!((outcome.result(), outcome.violations.len(), outcome.refusals.len()), (Ended::Refused, 1, 0));
    still(&world.status());
    world.depends(Some("refused")).await;
    drop(router);
    world.stop().await;
    world.start();
    let router = world.router("r1").await;
    still(world.until("refused", refused).await.as_ref());

    // A router refuses it, which may heal: it is not made live by itself, but for a caller.
    router.refuse(Some(Refusal::Critical { backend: "s1".into(), reason: "no database".into() }));
    world.write(&servers(2, EAGER));
    world.until("refused by the router", |status| refused(status) && status.source.next_try.is_some()).await;
    router.refuse(None);
    assert_eq!(applied(&world.roll_back(3).await.unwrap()), 5);
    let status = world.status();
    assert_eq!(
        (refused(&status), status.source.refusals.len(), status.source.next_try),
        (true, 1, None),
        "{status:#?}"
    );
    assert_eq!(applied(&world.reload(pb::ReloadRequest::default()).await), 6);
}

/// A router that has been at that revision of another log.
fn ahead(world: &World, node: &str, revision: u64) {
    world.attach(node, Some((Revision(revision), Content::new(Arc::default()))), None);
}

#[tokio::test]
async fn what_is_live_by_a_rollback_still_is_under_another_number() {
    let mut world = World::with(&servers(1, EAGER)).await;
    world.router("r1").await;
    world.write(&servers(2, EAGER));
    world.revision(2).await;
    assert_eq!(applied(&world.roll_back(1).await.unwrap()), 3);
    ahead(&world, "r2", 7);
    let rolled_back = |status: &crate::Status| {
        assert_eq!((status.revision, status.provenance.rolled_back_to), (Revision(8), Some(Revision(1))));
        assert_eq!(status.source.state, SourceState::RolledBack);
    };
    rolled_back(world.revision(8).await.as_ref());
    assert_eq!(world.sources().await, ["config-manager", "rollback to 1", "file", "file"]);
    let again = world.roll_back(0).await.unwrap_err();
    let others = "nothing from before that is kept; what can be brought back: 2, by `only1mcp rollback NUMBER`";
    assert_eq!(again.message(), "revision 8 is live, by a rollback to 1 already");
    assert_eq!(refusal::next_of(&again).unwrap(), others);
    world.stop().await;
    world.start();
    rolled_back(world.until("read", |status| status.source.state != SourceState::Starting).await.as_ref());

    // A change that has got another number is undone like any other.
    world.router("r1").await;
    world.write(&servers(3, EAGER));
    assert_eq!(world.revision(9).await.provenance.rolled_back_to, None);
    ahead(&world, "r3", 20);
    world.revision(21).await;
    assert_eq!(applied(&world.roll_back(0).await.unwrap()), 22);
    assert_eq!(world.content(0).await.content, world.content(1).await.content);
}

#[tokio::test]
async fn a_layer_that_changes_nothing_is_on_record_all_the_same() {
    let mut world = World::with(&servers(1, EAGER)).await;
    let router = world.router("r1").await;
    assert_eq!(applied(&world.apply("ops", &format!("naming: prefix\n{EXTRA}"), 0).await.unwrap()), 2);
    assert_eq!(applied(&world.apply("ops", "naming: prefix\n", 0).await.unwrap()), 3);
    let in_other_words = world.apply("ops", "# as it was\nnaming: 'prefix'\n", 0).await.unwrap();
    assert_eq!((in_other_words.result(), in_other_words.revision), (Ended::NoChange, 3));
    world.write(&servers(1, &format!("naming: none\n{EAGER}")));
    world.until("refused", |status| !status.source.violations.is_empty()).await;
    // It is the default, so nothing that is live changes with it.
    assert_eq!(applied(&world.apply("ops", "", 0).await.unwrap()), 4);
    world.stop().await;
    world.start();
    drop(router);
    let router = world.router("r1").await;
    assert_eq!(world.reload(pb::ReloadRequest::default()).await.violations, []);
    router.has(5).await;
    // With the layers of then, which a change of the file meets again.
    assert_eq!(applied(&world.roll_back(3).await.unwrap()), 6);
    world.write(&servers(2, &format!("naming: none\n{EAGER}")));
    world.until("refused", |status| !status.source.violations.is_empty()).await;
}

#[tokio::test]
async fn a_file_that_differs_in_comments_from_what_is_brought_back_is_not_undone() {
    let mut world = World::with(&servers(1, EAGER)).await;
    world.router("r1").await;
    world.write(&format!("# only words\n{}", servers(1, EAGER)));
    assert_eq!(world.reload(pb::ReloadRequest::default()).await.result(), Ended::NoChange);
    assert_eq!(applied(&world.apply("ops", EXTRA, 0).await.unwrap()), 2);
    assert_eq!(applied(&world.roll_back(1).await.unwrap()), 3);
    assert_eq!(world.status().source.refusals, []);
    world.stop().await;
    world.start();
    let outcome = world.reload(pb::ReloadRequest::default()).await;
    assert_eq!((outcome.result(), outcome.refusals.len()), (Ended::NoChange, 0), "{outcome:?}");
    assert_eq!(world.status().source.refusals, []);
}

#[tokio::test]
async fn the_history_names_keys_and_a_revision_its_layers_and_endpoints() {
    let world = World::with(&servers(1, EAGER)).await;
    world.router("r1").await;
    assert_eq!(applied(&world.apply("ops", "naming: none\n", 0).await.unwrap()), 2);
    let [newest, first] = &world.history(false).await[..] else { panic!("two revisions") };
    let keys: Vec<_> = newest.policy_keys.iter().map(|one| [&*one.key, &*one.old, &*one.new]).collect();
    assert_eq!(keys, [["naming", r#""prefix""#, r#""none""#]]);
    assert!(first.diff.iter().all(|one| one.change == "added" && one.keys.is_empty()), "{first:?}");
    let (before, after) = (world.content(1).await, world.content(2).await);
    let owners = |one: &pb::GetRevisionResponse| one.layers.iter().map(|one| one.owner.clone()).collect::<Vec<_>>();
    assert_eq!((owners(&before), owners(&after)), (vec!["file".to_owned()], vec!["api:ops".into(), "file".into()]));
    assert_eq!(before.layers[0], after.layers[1], "the file says what it said");
    assert_eq!((before.endpoints.len(), &before.endpoints), (1, &after.endpoints));
}
