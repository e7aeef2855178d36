//! The limits of the configuration: each refuses with its name, and nothing else suffers.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{DemoServer, Document, Fault, Server, demo};
use tokio::time::Instant;

use super::{
    Stage,
    raw::{Raw, call},
};

fn stage(name: &str, limits: Value) -> Result<(Stage, DemoServer), Fault> {
    let mut http = None;
    let stage = Stage::new(name, |scratch| {
        let server = http.insert(DemoServer::start("http", scratch, &[])?);
        let document = Document::default().key("limits", limits).with(Server::http("http", &server.url()));
        Ok(document.with(demo::stdio("stdio", "stdio", scratch)?))
    })?;
    Ok((stage, http.expect("it was started")))
}

#[test]
fn calls_beyond_what_an_endpoint_takes_are_refused() -> Result<(), Fault> {
    let (stage, _http) = stage("in-flight", json!({ "in_flight_per_endpoint": 3 }))?;
    let session = Raw::open(stage.gateway.mcp)?;
    for server in ["http", "stdio"] {
        let mut running = (0..3).map(|_| session.again()).collect::<Result<Vec<_>, _>>()?;
        for (number, client) in running.iter_mut().enumerate() {
            let id = format!("{server}{number}");
            client.say(&call(number, &format!("{server}__sleep"), json!({ "ms": 700, "id": id })))?;
            stage.carried_out(&id)?;
        }
        let mut more = session.again()?;
        let refused = more.ask(&call("more", &format!("{server}__echo"), json!({ "text": "x" })))?;
        assert_eq!((refused.status, refused.code()), (200, Some(1503)), "{refused:?}");
        for client in &mut running {
            assert!(client.response()?.json()["result"].is_object());
        }
        let answer = more.ask(&call("now", &format!("{server}__echo"), json!({ "text": "x" })))?;
        assert_eq!(answer.code(), None);
    }
    Ok(())
}

#[test]
fn an_answer_that_is_too_large_fails_its_call_alone() -> Result<(), Fault> {
    let (stage, _http) = stage("response", json!({ "response_bytes": "32KiB" }))?;
    let session = Raw::open(stage.gateway.mcp)?;
    for server in ["http", "stdio"] {
        let mut running = session.again()?;
        let id = format!("{server}-runs");
        running.say(&call("runs", &format!("{server}__sleep"), json!({ "ms": 500, "id": id })))?;
        stage.carried_out(&id)?;
        let mut raw = session.again()?;
        for size in [40_000, 1_000_000] {
            let answer = raw.ask(&call("large", &format!("{server}__echo"), json!({ "text": "x".repeat(size) })))?;
            let message = answer.json();
            assert_eq!((answer.code(), &message["id"]), (Some(-32603), &json!("large")), "{server}: {answer:?}");
            assert!(message["error"]["message"].as_str().is_some_and(|text| text.contains("32768")), "{answer:?}");
        }
        let answer = raw.ask(&call("small", &format!("{server}__echo"), json!({ "text": "x".repeat(20_000) })))?;
        assert_eq!(answer.code(), None, "{server}");
        assert!(running.response()?.json()["result"].is_object(), "{server}: what ran beside it");
    }
    Ok(())
}

#[test]
fn time_limits_end_calls_and_a_sign_of_life_counts() -> Result<(), Fault> {
    let (stage, _http) = stage("times", json!({ "idle": "400ms", "total": "1200ms" }))?;
    let session = Raw::open(stage.gateway.mcp)?;
    let clients = ["http", "stdio"].map(|server| {
        let mut silent = session.again()?;
        silent.say(&call("silent", &format!("{server}__sleep"), json!({ "ms": 30_000 })))?;
        let mut lively = session.again()?;
        let arguments = json!({ "steps": 1000, "interval_ms": 50 });
        let mut message = call("lively", &format!("{server}__progress"), arguments);
        message["params"]["_meta"] = json!({ "progressToken": 1 });
        lively.say(&message)?;
        Ok::<_, Fault>((silent, lively, Instant::now()))
    });
    for client in clients {
        let (mut silent, mut lively, start) = client?;
        for (client, limit, name) in [(&mut silent, 400, "limits.idle"), (&mut lively, 1200, "limits.total")] {
            let answer = client.response()?;
            let message = answer.json();
            assert_eq!(answer.code(), Some(1504), "{message}");
            assert!(message["error"]["message"].as_str().is_some_and(|text| text.contains(name)), "{message}");
            assert!(start.elapsed() >= Duration::from_millis(limit), "{name} after {:?}", start.elapsed());
            client.works()?;
        }
    }
    Ok(())
}
