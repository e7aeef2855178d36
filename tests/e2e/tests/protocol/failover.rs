//! A server with several URLs, of which one is gone: calls go to another one, and clients notice nothing.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use testkit::{DemoServer, Document, Fault, Scratch, Server, fault, wait};
use tokio::time::Instant;

use super::{
    Stage,
    raw::{LIMIT, Raw, call},
};

/// Which of the twins answers the session.
fn whoami(raw: &mut Raw) -> Result<i64, Fault> {
    let answer = raw.ask(&call(1, "twins__whoami", json!({})))?.json();
    let text = answer["result"]["content"][0]["text"].as_str().unwrap_or_default();
    let said: Value = serde_json::from_str(text).unwrap_or_default();
    said["pid"].as_i64().ok_or_else(|| fault(format!("nobody is named in {answer}")))
}

#[test]
fn a_url_that_refuses_connections_costs_no_call_and_is_soon_known_to_be_unhealthy() -> Result<(), Fault> {
    let mut twins = Vec::new();
    let stage = Stage::new("failover", |scratch: &Scratch| {
        for name in ["one", "other"] {
            twins.push(DemoServer::start(name, scratch, &[])?);
        }
        // Only calls can find out in time.
        let health = json!({ "interval": "1h", "timeout": "1s" });
        let server = Server::http("twins", &twins[0].url()).transport("urls", json!([twins[1].url()]));
        Ok(Document::default().key("health", health).with(server))
    })?;
    let mut sessions: BTreeMap<i64, Vec<Raw>> = BTreeMap::new();
    let deadline = Instant::now() + LIMIT;
    while sessions.len() < 2 || sessions.values().any(|at_one| at_one.len() < 4) {
        if Instant::now() > deadline {
            return Err(fault("sessions are not spread over both"));
        }
        let mut raw = Raw::open(stage.gateway.mcp)?;
        sessions.entry(whoami(&mut raw)?).or_default().push(raw);
    }
    let (gone, left) = (i64::from(twins[0].process().pid()), i64::from(twins[1].process().pid()));
    twins[0].process().kill()?;
    for (home, at_one) in &mut sessions {
        for raw in at_one {
            // From then on, what serves this client knows which of its connections are closed: a call that is written to
            // one of those may have been executed, and is not sent again.
            raw.works()?;
            let begun = Instant::now();
            assert_eq!(whoami(raw)?, left, "a session that was at home at {home}, with {gone} gone");
            assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        }
    }
    for _ in 0..20 {
        assert_eq!(whoami(&mut Raw::open(stage.gateway.mcp)?)?, left);
    }
    wait::until_true("the verdict on it", LIMIT, || {
        let status = stage.gateway.cli(&["status", "--output", "json"]).and_then(|status| status.json());
        let endpoints = status.unwrap_or_default()["servers"][0]["endpoints"].as_array().cloned().unwrap_or_default();
        endpoints.iter().filter(|endpoint| endpoint["verdict"] == "unhealthy").count() == 1
    })
}
