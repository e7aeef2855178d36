//! A client's behaviour does not affect a server's health: refused calls and a slow tool do not make it look ill, and
//! given up calls do not make it look well.

use std::{collections::BTreeMap, thread, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use testkit::{Document, Fault, Scratch, Server, demo, fault, wait};
use tokio::time::Instant;

use super::{
    Stage,
    raw::{LIMIT, Raw, call, cancel},
    stub::{RAW, Stub},
};

/// A demo server whose process is ended when it is judged unhealthy.
fn restarted(id: &str, scratch: &Scratch) -> Result<Server, Fault> {
    Ok(demo::stdio(id, id, scratch)?.key("restart_unhealthy", json!(true)))
}

/// Verdict and process id of each server.
fn servers(stage: &Stage) -> Result<BTreeMap<String, (String, Value)>, Fault> {
    let status = stage.gateway.cli(&["status", "--output", "json"])?.json()?;
    let all = status["servers"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let servers = all.iter().map(|one| (text(&one["id"]), (text(&one["verdict"]), one["endpoints"][0]["pid"].clone())));
    Ok(servers.collect())
}

fn freeze(pid: &Value) -> Result<(), Fault> {
    let process = pid.as_i64().and_then(|pid| i32::try_from(pid).ok()).ok_or_else(|| fault("it has no process"))?;
    Ok(kill(Pid::from_raw(process), Signal::SIGSTOP)?)
}

#[test]
fn refused_calls_and_a_slow_tool_do_not_make_a_server_look_ill() -> Result<(), Fault> {
    let picky = Stub::start(vec!["do".to_owned()], |request| {
        let error = json!({ "code": -32602, "message": "not like this" });
        let body = json!({ "jsonrpc": "2.0", "id": request.body["id"], "error": error }).to_string();
        let head = "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nConnection: close\r\n";
        Some((RAW, format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())))
    })?;
    let stage = Stage::new("refused", |scratch| {
        let limits = json!({ "in_flight_per_endpoint": 1, "response_bytes": "32KiB", "idle": "1s" });
        // Verdicts come from traffic alone, and from the probes that traffic causes.
        let health = json!({ "interval": "1h", "timeout": "2s", "unhealthy_threshold": 3 });
        let document = Document::default().key("limits", limits).key("health", health);
        let document = document.with(restarted("busy", scratch)?).with(restarted("large", scratch)?);
        let document = document.with(restarted("slow", scratch)?);
        Ok(document.with(Server::http("picky", &picky.url())).with(demo::stdio("hangs", "hangs", scratch)?))
    })?;
    let before = servers(&stage)?;
    freeze(&before["hangs"].1)?;
    let session = Raw::open(stage.gateway.mcp)?;
    let mut busy = session.again()?;
    let mut message = call("busy", "busy__progress", json!({ "steps": 10_000, "interval_ms": 50, "id": "busy" }));
    message["params"]["_meta"] = json!({ "progressToken": 1 });
    busy.say(&message)?;
    stage.carried_out("busy")?;
    let (mut raw, deadline) = (session.again()?, Instant::now() + 3 * LIMIT);
    let refused = [
        ("busy__echo", json!({ "text": "x" }), 1503),
        ("large__echo", json!({ "text": "x".repeat(40_000) }), -32603),
        ("picky__do", json!({}), -32602),
        // A tool that takes longer than `limits.idle`, in a server that answers a ping.
        ("slow__sleep", json!({ "ms": 60_000 }), 1504),
        // This one is ill, and so shows that the calls before it were looked at as well.
        ("hangs__echo", json!({ "text": "x" }), 1504),
    ];
    while servers(&stage)?["hangs"].0 != "unhealthy" {
        for (tool, arguments, code) in &refused {
            let answer = raw.ask(&call(*tool, tool, arguments.clone()))?;
            assert_eq!(answer.code(), Some(*code), "{tool}: {answer:?}");
        }
        if Instant::now() > deadline {
            return Err(fault("a server whose calls all time out is not judged unhealthy"));
        }
    }
    let after = servers(&stage)?;
    for id in ["busy", "large", "picky"] {
        assert_eq!((&*after[id].0, &after[id].1), ("healthy", &before[id].1), "{id}");
    }
    assert!(after["slow"].0 != "unhealthy" && after["slow"].1 == before["slow"].1, "{:?}", after["slow"]);
    assert_eq!(stage.gateway.metric("only1mcp_server_restarts_total", ""), 0);
    Ok(())
}

#[test]
fn calls_that_are_given_up_do_not_make_a_server_that_hangs_look_well() -> Result<(), Fault> {
    let stage = Stage::new("given-up", |scratch| {
        // One look at the traffic a second: if it found an answer each time, six failures in a row would never be.
        let health = json!({ "interval": "400ms", "timeout": "100ms", "unhealthy_threshold": 6 });
        Ok(Document::default().key("health", health).with(restarted("demo", scratch)?))
    })?;
    let session = Raw::open(stage.gateway.mcp)?;
    session.again()?.works()?;
    let pid = servers(&stage)?["demo"].1.clone();
    freeze(&pid)?;
    let restarts = || stage.gateway.metric("only1mcp_server_restarts_total", "\"unhealthy\"");
    let deadline = Instant::now() + 2 * LIMIT;
    for id in 0.. {
        if restarts() > 0 {
            break;
        }
        if Instant::now() > deadline {
            return Err(fault("a server that hangs stays well while its client cancels its calls"));
        }
        let mut raw = session.again()?;
        raw.say(&call(id, "demo__echo", json!({ "text": "x" })))?;
        // The client's patience: some calls are given up between two looks, and their bytes do not fill the pipe.
        thread::sleep(Duration::from_millis(100));
        assert_eq!(session.again()?.ask(&cancel(id))?.status, 202);
        raw.response()?;
    }
    assert!(stage.gateway.metric("only1mcp_calls_total", "\"cancelled\"") >= 10);
    wait::until_true("another process", LIMIT, || {
        let now = servers(&stage).ok().and_then(|all| all.get("demo").map(|(_, pid)| pid.clone()));
        now.is_some_and(|now| !now.is_null() && now != pid)
    })?;
    session.again()?.works()
}
