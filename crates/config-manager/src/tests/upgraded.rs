//! What an earlier release has left in the log: it holds as it is, and stands in the way of no change.

use std::collections::BTreeMap;
use std::sync::Arc;

use config_file::{Format, Source};
use model::{Digest, Owner, WallTime};
use runtime::state_dir::StateDir;
use wire::pb::config::v1::{self as pb, outcome::Result as Ended};

use super::world::{World, applied, servers};
use crate::LOG_FILE;
use crate::log::{Layer, Log, Written, tests::entry};

const AT_REQUEST: &str = "hot_reload: { enabled: false }\n";
const EXTRA: &str = "servers:\n  - id: extra\n    transport: { type: http, url: \"http://127.0.0.1:9/x\" }\n";
const MARK: &str = "***(1a2b3c4d)";

/// A layer with one server, which is sent this text.
fn layer(secret: &str) -> String {
    let headers = format!("headers: {{ X-Key: \"{secret}\" }}");
    format!("servers:\n  - id: old\n    transport: {{ type: http, url: \"http://127.0.0.1:9/old\", {headers} }}\n")
}

fn canonical(texts: &[(Owner, String)]) -> String {
    let source = |(owner, text): &(Owner, String)| Source {
        owner: owner.clone(),
        name: owner.0.as_str().into(),
        format: Format::Yaml,
        text: text.clone(),
    };
    let sources: Vec<_> = texts.iter().map(source).collect();
    String::from_utf8(config_file::parse(&sources).unwrap().canonical().0).unwrap()
}

impl World {
    /// Revision 1 is in the log, with this content and the layers that it was made of; the file is that of its layer.
    fn upgraded(content: &str, texts: &[(Owner, String)]) -> Self {
        let mut world = Self::new();
        let state = StateDir::lock(&world.state).unwrap();
        let log = Log::open(&world.state.join(LOG_FILE), WallTime(0)).unwrap().log;
        let layers: BTreeMap<_, _> = texts
            .iter()
            .map(|(owner, text)| {
                (owner.clone(), Layer { name: owner.to_string(), text: text.clone(), ..Layer::default() })
            })
            .collect();
        let file = layers[&Owner::file()].text.clone();
        let mut entry = entry(1, 1);
        entry.record.digest = Digest::of_bytes(content.as_bytes());
        entry.content = Some((content.as_bytes().into(), Arc::new(layers)));
        entry.cursors = BTreeMap::from([(Owner::file(), Digest::of_bytes(file.as_bytes()))]);
        assert!(matches!(log.append(&entry), Written::Durable));
        drop((log, state));
        world.write(&file);
        world.start();
        world
    }
}

#[tokio::test]
async fn a_masked_secret_in_a_layer_that_is_in_force_is_told_and_refuses_no_other_change() {
    let texts = |secret: &str| [(Owner::file(), servers(1, AT_REQUEST)), (Owner("api:old".to_owned()), layer(secret))];
    let content = canonical(&texts("secret")).replace("\"secret\"", &format!("\"{MARK}\""));
    let world = World::upgraded(&content, &texts(MARK));
    let router = world.router("r1").await;
    assert_eq!(router.live(), 1, "it holds as it is");
    let told = |outcome: &pb::Outcome| {
        let said = &outcome.warnings[0];
        assert!(said.contains(MARK) && said.contains("is not the secret"), "{outcome:?}");
    };
    world.write(&servers(2, AT_REQUEST));
    let outcome = world.reload(pb::ReloadRequest::default()).await;
    assert_eq!(applied(&outcome), 2);
    told(&outcome);
    let outcome = world.apply("ops", EXTRA, 0).await.unwrap();
    assert_eq!(applied(&outcome), 3);
    told(&outcome);
    // A change of that layer itself is refused until the mark is gone.
    let outcome = world.apply("old", &format!("{}# a word\n", layer(MARK)), 0).await.unwrap();
    assert_eq!((outcome.result(), outcome.violations.len()), (Ended::Refused, 1), "{outcome:?}");
    assert!(outcome.violations[0].message.contains(MARK), "{outcome:?}");
    let outcome = world.apply("old", &layer("secret"), 0).await.unwrap();
    assert_eq!(applied(&outcome), 4);
    assert!(!outcome.warnings.iter().any(|warning| warning.contains("is not the secret")), "{outcome:?}");
}

#[tokio::test]
async fn a_file_that_says_nothing_of_the_history_has_the_new_default_without_an_edit() {
    let texts = [(Owner::file(), servers(1, ""))];
    let world = World::upgraded(&canonical(&texts), &texts);
    world.router("r1").await;
    let contents = |world: &World| world.status().snapshot.as_ref().map(|live| live.policy.history.contents());
    assert_eq!(contents(&world), Some(100));
    let outcome = world.reload(pb::ReloadRequest { force: true, ..pb::ReloadRequest::default() }).await;
    assert_eq!((outcome.result(), outcome.revision), (Ended::NoChange, 1), "{outcome:?}");
}

/// Releases in which 10 was the default left it out of what they stored.
#[tokio::test]
async fn a_history_of_ten_that_was_the_default_once_is_all_that_changes() {
    let text = |more: &str| [(Owner::file(), servers(2, more))];
    let ten = "rollback: { history: { max_snapshots: 10 } }\n";
    let world = World::upgraded(&canonical(&text("")), &text(ten));
    let router = world.router("r1").await;
    let outcome = world.reload(pb::ReloadRequest::default()).await;
    assert_eq!((outcome.result(), outcome.revision), (Ended::NoChange, 1), "nothing was edited: {outcome:?}");
    let outcome = world.reload(pb::ReloadRequest { force: true, ..pb::ReloadRequest::default() }).await;
    assert_eq!(applied(&outcome), 2);
    let last = &world.history(false).await[0];
    let keys: Vec<_> = last.policy_keys.iter().map(|key| (key.key.as_str(), key.new.as_str())).collect();
    assert_eq!((keys, last.diff.len()), (vec![("rollback.history.max_snapshots", "10")], 0), "{last:?}");
    assert_eq!(world.status().snapshot.as_ref().map(|live| live.policy.history.contents()), Some(10));
    assert_eq!(router.live(), 2);
}
