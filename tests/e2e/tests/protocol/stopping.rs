//! What clients see of a gateway that stops.

use std::{net::TcpStream, time::Duration};

use nix::sys::signal::Signal;
use serde_json::json;
use testkit::{Document, Fault, demo, wait};
use tokio::time::Instant;

use super::{
    Stage,
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
    // The gateway closes idle connections soon, since a busy client would have asked by then, and turns new clients away
    // at once.
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
