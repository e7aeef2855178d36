//! The strategies of drains, as operators and clients see them: at once, and step by step.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Client, ConfigFile, DemoServer, Document, Fault, Gateway, Scratch, Server, fault, raw, raw::Raw, wait};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn at_once_every_stream_has_an_end_that_says_why() -> Result<(), Fault> {
    const CLIENTS: usize = 20;
    let scratch = Scratch::new("at-once")?;
    let server = DemoServer::start("sse", &scratch, &["--reply", "sse"])?;
    let document = Document::default().with(Server::http("demo", &server.url()));
    let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &document.yaml())?;
    let mut gateway = Gateway::up(&scratch, file.path())?;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = Raw::open(gateway.mcp)?;
        let mut message = raw::call(7, "demo__progress", json!({ "steps": 10_000, "interval_ms": 20 }));
        message["params"]["_meta"] = json!({ "progressToken": 1 });
        client.say(&message)?;
        client.head_of_response()?;
        assert_eq!(client.event()?.unwrap_or_default()["method"], "notifications/progress");
        clients.push(client);
    }
    gateway.cli(&["drain", "demo", "--strategy", "immediate", "--wait"])?.expect(1)?;
    for client in &mut clients {
        let last = loop {
            let event = client.event()?.ok_or_else(|| fault("a stream that ends without an answer"))?;
            if event["method"].is_null() {
                break event;
            }
        };
        assert_eq!((&last["id"], &last["error"]["code"]), (&json!(7), &json!(1410)), "{last}");
        assert_eq!(client.event()?, None);
    }
    let drains = gateway.cli(&["drains", "--all", "--output", "json"])?.json()?;
    let (drain, ended) = (&drains[0], json!(CLIENTS));
    assert_eq!((&drain["strategy"], &drain["evicted"]), (&json!("immediate"), &ended), "{drain}");
    let stats = gateway.cli(&["stats", "--drains", "--output", "json"])?.json()?;
    assert_eq!((&stats["drains"]["count"], &stats["drains"]["evicted"]), (&json!(1), &ended), "{stats}");
    gateway.process.stop()?;
    Ok(())
}

fn answering(client: &mut Client) -> Result<String, Fault> {
    let said: Value = serde_json::from_str(&client.text("demo__whoami", &json!({}))?)?;
    Ok(said["name"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn step_by_step_sessions_move_to_what_takes_over_and_a_cancelled_drain_gives_the_share_back() -> Result<(), Fault> {
    let scratch = Scratch::new("step-by-step")?;
    let [one, other] = ["one", "other"].map(|name| DemoServer::start(name, &scratch, &[]));
    let (one, other) = (one?, other?);
    let server = Server::http("demo", &one.url()).transport("urls", json!([other.url()]));
    let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &Document::default().with(server).yaml())?;
    let mut gateway = Gateway::up(&scratch, file.path())?;
    let mut clients = Vec::new();
    for _ in 0..32 {
        let mut client = Client::open(gateway.mcp)?;
        let home = answering(&mut client)?;
        clients.push((client, home));
    }
    let [(digest, 1000), (_, 1000)] = &gateway.weights("demo")?[..] else {
        return Err(fault("two with their whole share"));
    };
    let drain = |more: &[&str]| {
        let arguments = ["drain", "demo", "--endpoint", digest, "--strategy", "progressive", "--rate", "1000"];
        gateway.cli(&[&arguments[..], &["--weight-reduction", "25", "--interval", "1s"], more].concat())
    };
    let said = drain(&[])?.expect(0)?;
    assert!(said.stdout.contains("gets 100% of its calls"), "{}", said.stdout);
    let falls =
        || gateway.weights("demo").is_ok_and(|shown| shown.iter().any(|(one, share)| one == digest && *share < 1000));
    wait::until_true("a step", SOON, falls)?;
    gateway.cli(&["drain", "--cancel", "demo"])?.expect(0)?;
    let whole = || gateway.weights("demo").is_ok_and(|shown| shown.iter().all(|(_, share)| *share == 1000));
    wait::until_true("the whole share", SOON, whole)?;

    drain(&["--wait"])?.expect(0)?;
    let mut homes = Vec::new();
    for (client, _) in &mut clients {
        homes.push(answering(client)?);
    }
    homes.dedup();
    assert_eq!(homes.len(), 1, "all are with what took over: {homes:?}");
    assert!(clients.iter().any(|(_, home)| *home != homes[0]), "some had to move");
    let stats = gateway.cli(&["stats", "--drains", "--output", "json"])?.json()?;
    let counted = ["count", "cancelled", "evicted"].map(|key| &stats["drains"][key]);
    assert_eq!(counted, [&json!(2), &json!(1), &json!(0)], "{stats}");
    let drains = gateway.cli(&["drains", "--all"])?.expect(0)?.stdout;
    assert!(drains.contains("cancelled at "), "{drains}");
    assert!(stats["drains"]["p50_ms"].as_u64().is_some_and(|millis| millis >= 4000), "{stats}");
    gateway.process.stop()?;
    Ok(())
}

#[test]
fn what_a_change_replaces_step_by_step_is_shown_while_its_share_falls() -> Result<(), Fault> {
    let scratch = Scratch::new("replaced")?;
    let [one, other] = ["one", "other"].map(|name| DemoServer::start(name, &scratch, &[]));
    let (one, other) = (one?, other?);
    let progressive = json!({ "weight_reduction": 20, "interval_seconds": 1 });
    let drain = json!({ "strategy": "progressive", "progressive": progressive });
    let document = Document::default().key("drain", drain);
    let at = |url: &str| document.clone().with(Server::http("demo", url)).yaml();
    let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &at(&one.url()))?;
    let mut gateway = Gateway::up(&scratch, file.path())?;
    file.replace(&at(&other.url()))?;
    let shown = || gateway.cli(&["drains", "--all", "--output", "json"]).and_then(|drains| drains.json());
    let mut shares = Vec::new();
    wait::until_true("the end of the drain", SOON, || {
        let Ok(drains) = shown() else { return false };
        let drain = &drains[0];
        if drain["state"] == "draining" && drain["weight_permille"] != 0 {
            assert!(drain["cause"] == "removal" && drain["eta_ms"].is_u64(), "{drain}");
            shares.extend(drain["weight_permille"].as_u64());
        }
        drain["state"] == "done"
    })?;
    assert!(shares.is_sorted_by(|one, next| one >= next), "a share only falls: {shares:?}");
    shares.dedup();
    assert!(shares.len() > 1, "it was shown at more than one step: {shares:?}");
    assert_eq!(shown()?.as_array().map(Vec::len), Some(1));
    gateway.process.stop()?;
    Ok(())
}
