//! Keys of a configuration, by what they do, and what `validate --try` says of them before they do it.

use std::{collections::BTreeSet, path::Path, time::Duration};

use serde_json::{Value, json};
use testkit::{Client, ConfigFile, Document, Fault, Gateway, Scratch, Server, demo};

const SOON: Duration = Duration::from_secs(20);

/// The servers whose tools a client sees.
fn seen(gateway: &Gateway, revision: u64) -> Result<BTreeSet<String>, Fault> {
    let mut client = Client::open(gateway.mcp)?;
    client.wait_revision(revision, SOON)?;
    let tools = client.tools()?;
    Ok(tools.iter().filter_map(|tool| Some(tool.split_once("__")?.0.to_owned())).collect())
}

#[test]
fn a_server_is_switched_off_and_on_and_what_is_said_of_one_is_shown() -> Result<(), Fault> {
    let scratch = Scratch::new("enabled")?;
    let document = |enabled: bool| -> Result<String, Fault> {
        let said = demo::stdio("a", "a", &scratch)?.key("description", json!("the first"));
        let said = said.key("labels", json!({ "team": "x" }));
        let switched = demo::stdio("b", "b", &scratch)?.key("enabled", json!(enabled));
        Ok(Document::default().with(said).with(switched).yaml())
    };
    let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &document(false)?)?;
    let mut gateway = Gateway::up(&scratch, file.path())?;
    assert_eq!(seen(&gateway, 1)?, BTreeSet::from(["a".to_owned()]));
    let status = gateway.cli(&["status"])?.expect(0)?.stdout;
    assert!(status.contains("disabled in the configuration"), "{status}");
    let status = gateway.cli(&["status", "--output", "json"])?.json()?;
    let [a, b] = [&status["servers"][0], &status["servers"][1]];
    assert_eq!(
        (&a["enabled"], &a["description"], &a["labels"]),
        (&true.into(), &"the first".into(), &json!({ "team": "x" }))
    );
    assert_eq!((&b["id"], &b["enabled"], &b["endpoints"]), (&"b".into(), &false.into(), &json!([])), "{status}");

    file.replace(&document(true)?)?;
    assert_eq!(seen(&gateway, 2)?.len(), 2);
    file.replace(&document(false)?)?;
    assert_eq!(seen(&gateway, 3)?.len(), 1);
    gateway.process.stop()?;
    Ok(())
}

#[test]
fn a_file_is_tried_and_nothing_changes() -> Result<(), Fault> {
    let scratch = Scratch::new("trial")?;
    let plain = Document::default().with(demo::stdio("a", "a", &scratch)?);
    let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &plain.yaml())?;
    let mut gateway = Gateway::up(&scratch, file.path())?;
    let missing = |critical: bool| {
        let server = Server::stdio("missing", Path::new("/no/such/program"), &[]);
        server.key("critical", json!(critical))
    };
    let filtered = demo::stdio("a", "a", &scratch)?.key("tools", json!(["Echo", "a__echo"]));
    let tried = plain.with(filtered).with(demo::stdio("b", "b", &scratch)?);
    let edited = ConfigFile::create(scratch.file("edited.yaml"), &tried.clone().with(missing(false)).yaml())?;
    let path = edited.path().to_str().expect("a plain path");

    let said = gateway.cli(&["validate", path, "--try"])?.expect(0)?;
    for words in ["b ", "up in", "not up: ", "it would be applied; nothing has changed"] {
        assert!(said.stdout.contains(words), "{words}: {}", said.stdout);
    }
    for words in ["there is no such program here", "`Echo`, which it does not offer; did you mean `echo`?"] {
        assert!(said.stderr.contains(words), "{words}: {}", said.stderr);
    }
    edited.replace(&tried.with(missing(true)).yaml())?;
    let refused = gateway.cli(&["validate", path, "--try", "--output", "json"])?.expect(1)?.json()?;
    assert_eq!(refused["trial"]["accepted"], Value::Bool(false), "{refused:#}");
    assert!(refused["trial"]["refusals"][0].as_str().is_some_and(|why| why.contains("missing")), "{refused:#}");
    let results = refused["trial"]["routers"][0]["servers"].as_array().cloned().unwrap_or_default();
    let results: Vec<_> = results.iter().filter_map(|one| one["result"].as_str()).collect();
    assert_eq!(results, ["up", "not_up"]);
    // A client sees what it saw, and the history has nothing of it.
    assert_eq!(seen(&gateway, 1)?, BTreeSet::from(["a".to_owned()]));
    let history = gateway.cli(&["history", "--output", "json"])?.expect(0)?.json()?;
    assert_eq!(history.as_array().map(Vec::len), Some(1), "{history:#}");
    gateway.process.stop()?;
    Ok(())
}
