//! What clients see of a gateway that stops, and that its secrets are shown nowhere.

use std::{fs, net::TcpStream, time::Duration};

use nix::sys::signal::Signal;
use serde_json::json;
use testkit::{Document, Fault, Gateway, Scratch, demo, wait};
use tokio::time::Instant;

use super::{
    Stage, lines_of,
    raw::{LIMIT, Raw, call},
};

fn stage(name: &str) -> Result<Stage, Fault> {
    Stage::new(name, |scratch| Ok(Document::default().with(demo::stdio("demo", "demo", scratch)?)))
}

#[test]
fn a_gateway_that_stops_finishes_what_it_has_and_says_so() -> Result<(), Fault> {
    let mut stage = stage("stops")?;
    let session = Raw::open(stage.gateway.mcp)?;
    let (mut idle, mut stream, mut running, mut events) =
        (session.again()?, session.again()?, session.again()?, session.again()?);
    idle.works()?;
    stream.listen()?;
    running.say(&call("runs", "demo__sleep", json!({ "ms": 1000, "id": "runs" })))?;
    let mut message = call("events", "demo__progress", json!({ "steps": 10, "interval_ms": 100, "id": "events" }));
    message["params"]["_meta"] = json!({ "progressToken": 1 });
    events.say(&message)?;
    stage.carried_out("runs")?;
    stage.carried_out("events")?;
    stage.gateway.process.signal(Signal::SIGTERM);
    // The gateway closes idle connections at once, and turns new clients away at once.
    idle.is_closed()?;
    assert_eq!(stream.event()?, None);
    stream.is_closed()?;
    let mcp = stage.gateway.mcp;
    wait::until_true("new clients to be refused", LIMIT, || {
        TcpStream::connect_timeout(&mcp, Duration::from_millis(500))
            .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    })?;
    // A client that waits for an answer gets it. The connection ends with it; a head not yet sent announces that.
    let answer = running.response()?;
    assert!(answer.json()["result"].is_object() && answer.closes(), "{answer:?}");
    running.is_closed()?;
    assert!(events.response()?.json()["result"].is_object());
    events.is_closed()?;
    assert!(stage.gateway.process.wait(LIMIT)?.success());
    Ok(())
}

#[test]
fn what_is_cut_off_in_the_end_is_told() -> Result<(), Fault> {
    let mut stage = stage("cut")?;
    let session = Raw::open(stage.gateway.mcp)?;
    let (mut whole, mut events) = (session.again()?, session.again()?);
    for (client, id) in [(&mut whole, "whole"), (&mut events, "events")] {
        let mut message = call(id, "demo__sleep", json!({ "ms": 60_000, "id": id }));
        if id == "events" {
            message["params"]["_meta"] = json!({ "progressToken": 1 });
        }
        client.say(&message)?;
        stage.carried_out(id)?;
    }
    let mut idle = session.again()?;
    idle.works()?;
    // Two signals at once are one request to stop. A later signal means: do not wait.
    stage.gateway.process.signal(Signal::SIGTERM);
    stage.gateway.process.signal(Signal::SIGINT);
    idle.is_closed()?;
    // The gateway has seen the first signal, so that its one second is over when ours is.
    let heard = Instant::now();
    wait::until("the next wish", LIMIT, || (heard.elapsed() > Duration::from_secs(1)).then_some(()))?;
    assert!(stage.gateway.process.is_alive(), "a doubled signal cut off what was in flight");
    stage.gateway.process.signal(Signal::SIGTERM);
    for (client, id) in [(&mut whole, "whole"), (&mut events, "events")] {
        let answer = client.response()?;
        assert_eq!((answer.code(), answer.json()["id"].as_str()), (Some(1410), Some(id)), "{answer:?}");
        client.is_closed()?;
    }
    assert!(!stage.gateway.process.wait(LIMIT)?.success(), "something was cut off");
    Ok(())
}

#[test]
fn secrets_are_seen_by_nobody_but_the_server() -> Result<(), Fault> {
    const SECRET: &str = "correct-horse-battery-staple";
    let scratch = Scratch::new("secret")?;
    let secret = scratch.file("secret");
    fs::write(&secret, format!("{SECRET}\n"))?;
    let reference = format!("${{file:{}}}", secret.display());
    let backend = testkit::DemoServer::start("http", &scratch, &[])?;
    let document = Document::default()
        .with(demo::stdio("stdio", "stdio", &scratch)?.env("PASSWORD", &reference))
        .with(
            testkit::Server::http("http", &backend.url())
                .transport("headers", json!({ "Authorization": format!("Bearer {reference}") })),
        )
        // The failure shows what was tried, but not the header's value.
        .with(
            testkit::Server::http("away", "http://127.0.0.1:1/mcp").transport("headers", json!({ "X-Key": reference })),
        );
    let file = testkit::ConfigFile::create(scratch.file("only1mcp.yaml"), &document.yaml())?;
    // The most verbose log.
    let gateway = Gateway::up_with(&scratch, file.path(), &[("ONLY1MCP_LOG", "trace")])?;
    let mut raw = Raw::open(gateway.mcp)?;
    let answer = raw.ask(&call(1, "stdio__env", json!({ "name": "PASSWORD" })))?.json();
    assert_eq!(answer["result"]["content"][0]["text"], SECRET, "the server has it: {answer}");
    assert_eq!(raw.ask(&call(2, "http__whoami", json!({})))?.status, 200);
    let mut shown = Vec::new();
    for args in [&["status"][..], &["status", "--output", "json"], &["history", "--output", "json"]] {
        let cli = gateway.cli(args)?;
        shown.push(format!("{}{}", cli.stdout, cli.stderr));
    }
    shown.push(testkit::client::http_get(gateway.ops, "/metrics")?.1);
    for folder in [scratch.folder("logs")?, gateway.state_dir().to_owned()] {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_file() {
                shown.push(lines_of(&path)?);
            }
        }
    }
    assert!(shown.len() > 6 && shown.iter().any(|text| text.contains("away")));
    for text in shown {
        assert!(!text.contains(SECRET), "{text}");
    }
    Ok(())
}
