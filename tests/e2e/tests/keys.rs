//! Keys of a configuration, by what they do, and what `validate --try` says of them before they do it.

use std::{collections::BTreeSet, fs, path::Path, thread, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use testkit::{
    Client, ConfigFile, Document, Fault, Gateway, Scratch, Server, System, binaries, demo, fault,
    raw::{Raw, call},
    wait,
};
use tokio::time::Instant;

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
    assert_eq!(b["state"], "disabled", "{status}");
    let shown = || gateway.metric("only1mcp_server_state", r#"state="disabled""#) == 1;
    wait::until_true("the state of the one that is off", SOON, shown)?;

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

/// Both servers lose their processes, and their program is away for a while.
#[test]
fn a_server_that_died_answers_as_one_that_never_came_up() -> Result<(), Fault> {
    let scratch = Scratch::new("dead")?;
    let (program, away) = (scratch.file("server"), scratch.file("away"));
    std::os::unix::fs::symlink(binaries::path("only1mcp")?, &program)?;
    let server = |id: &str, dead: &str| {
        let server = Server::stdio(id, &program, &["demo-server", "--stdio", "--name", id]);
        server.key("tools_when_dead", json!(dead))
    };
    let document = Document::default().with(server("keeps", "keep")).with(server("holds", "hold"));
    let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &document.yaml())?;
    let mut gateway = Gateway::up(&scratch, file.path())?;
    let mut raw = Raw::open(gateway.mcp)?;
    let ask = |raw: &mut Raw, tool: &str| raw.ask(&call(1, tool, json!({}))).map(|answer| answer.json());
    for tool in ["keeps__whoami", "holds__whoami"] {
        let answer = ask(&mut raw, tool)?;
        assert!(answer["result"].is_object(), "{answer}");
    }
    fs::rename(&program, &away)?;
    for server in gateway.status()?["servers"].as_array().into_iter().flatten() {
        let pid = server["endpoints"][0]["pid"].as_i64().unwrap_or_default();
        kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGKILL)?;
    }
    let mut hint = || ask(&mut raw, "keeps__whoami").is_ok_and(|said| said["error"]["data"]["retryAfterMs"].is_u64());
    wait::until_true("an error that says when to try again", SOON, &mut hint)?;
    let begun = Instant::now();
    assert!(hint() && begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());

    let mut other = raw.again()?;
    let answer = thread::scope(|scope| {
        let held = scope.spawn(|| ask(&mut other, "holds__whoami"));
        wait::until_true("a call that is held", SOON, || gateway.metric("only1mcp_router_exchanges", "") == 1)?;
        fs::rename(&away, &program)?;
        let begun = Instant::now();
        let answer = held.join().map_err(|_| fault("the client panicked"))?;
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        answer
    })?;
    assert!(answer["result"].is_object(), "{answer}");
    gateway.process.stop()?;
    Ok(())
}
