//! Places that only their holders could give back: places of clients that are gone, and of requests that never end.

use std::{
    net::{Shutdown, TcpListener},
    time::Duration,
};

use serde_json::{Value, json};
use socket2::SockRef;
use testkit::{Document, Fault, Server, stub, stub::Stub, wait};

use super::{
    Stage,
    raw::{LIMIT, Raw, call, head},
};

/// A gateway with a server that answers no call of `hold`, one of `events` neither, but with the head of a stream.
fn stage(name: &str, limits: Value) -> Result<(Stage, Stub), Fault> {
    let tools = ["hold", "events", "do"].map(str::to_owned).to_vec();
    let server = Stub::start_with(tools, |request, mut stream| match request.body["params"]["name"].as_str() {
        Some("do") => Some(("application/json", stub::text(&request.body["id"], "done"))),
        name => {
            if name == Some("events") {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: here\n\n";
                drop(std::io::Write::write_all(&mut stream, head.as_bytes()));
            }
            None
        }
    })?;
    let url = server.url();
    let stage = Stage::new(name, |_| Ok(Document::default().key("limits", limits).with(Server::http("s", &url))))?;
    Ok((stage, server))
}

/// Sends a call whose answer never comes, and returns when its server has it.
fn held(session: &Raw, server: &Stub, tool: &str, id: usize) -> Result<Raw, Fault> {
    let mut raw = session.again()?;
    raw.say(&call(id, &format!("s__{tool}"), json!({ "number": id })))?;
    server.wait_for("the call", |request| request.body["params"]["arguments"]["number"] == id)?;
    Ok(raw)
}

/// Whether a client that comes now finds a place.
fn is_served(session: &Raw) -> bool {
    let ping = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" });
    session.again().and_then(|mut raw| raw.ask(&ping)).is_ok_and(|answer| answer.status == 200)
}

/// Resets the connections of calls that a server has, and returns when the gateway knows that their clients are gone.
fn go_at_once(stage: &Stage, held: Vec<Raw>) -> Result<(), Fault> {
    let connections = || stage.gateway.metric("only1mcp_router_connections ", "");
    // The gateway counts them now and then: the count could be one of before they came.
    let count = held.len() as u64;
    wait::until_true("the clients to be counted", LIMIT, || connections() > count)?;
    held.into_iter().try_for_each(reset)?;
    wait::until_true("the clients to be gone", LIMIT, || connections() <= 1)
}

pub(super) fn reset(raw: Raw) -> Result<(), Fault> {
    SockRef::from(&raw.stream).set_linger(Some(Duration::ZERO))?;
    Ok(())
}

#[test]
fn clients_that_are_gone_hold_no_place_while_their_calls_run() -> Result<(), Fault> {
    let (stage, server) = stage("gone", json!({}))?;
    let session = Raw::open(stage.gateway.mcp)?;
    let calls = (0..10).map(|id| held(&session, &server, if id < 5 { "hold" } else { "events" }, id));
    go_at_once(&stage, calls.collect::<Result<_, _>>()?)?;
    assert_eq!(stage.gateway.metric("only1mcp_server_in_flight", ""), 10, "to go away is not to cancel");
    session.again()?.works()
}

#[test]
fn the_door_is_open_when_those_that_hold_all_places_are_gone_or_say_no_more() -> Result<(), Fault> {
    let (stage, _server) = stage("gone-door", json!({ "connections": 8 }))?;
    let session = Raw::open(stage.gateway.mcp)?;
    let mut ended = Vec::new();
    for id in 0..40 {
        let mut raw = session.again()?;
        let said = raw.say(&call(id, if id < 20 { "s__hold" } else { "s__events" }, json!({})));
        if id % 2 == 0 {
            reset(raw)?;
        } else if said.is_ok() && raw.stream.shutdown(Shutdown::Write).is_ok() {
            ended.push(raw);
        }
    }
    let calls = || stage.gateway.metric("only1mcp_server_in_flight", "");
    wait::until_true("calls of those that are gone", LIMIT, || calls() >= 4)?;
    for _ in 0..8 {
        wait::until_true("a place", LIMIT, || is_served(&session))?;
    }
    Ok(())
}

#[test]
fn calls_whose_clients_are_gone_make_way_at_a_server_for_those_of_others() -> Result<(), Fault> {
    for tool in ["hold", "events"] {
        let (stage, server) = stage(&format!("gone-{tool}"), json!({ "in_flight_per_endpoint": 8 }))?;
        let session = Raw::open(stage.gateway.mcp)?;
        let mut ended = Vec::new();
        for id in 0..4 {
            reset(held(&session, &server, tool, id)?)?;
            let raw = held(&session, &server, tool, 10 + id)?;
            raw.stream.shutdown(Shutdown::Write)?;
            ended.push(raw);
        }
        let (mut here, mut id) = (Vec::new(), 100);
        wait::until_true("as many calls of others", 3 * LIMIT, || {
            let mut raw = session.again().expect("a connection");
            id += 1;
            raw.say(&call(id, &format!("s__{tool}"), json!({ "number": id }))).expect("a request");
            let arrived = || server.seen().iter().any(|seen| seen.body["params"]["arguments"]["number"] == id);
            if wait::until_true("the call", Duration::from_secs(1), arrived).is_ok() {
                here.push(raw);
            }
            here.len() == 8
        })?;
        let refused = session.again()?.ask(&call(1, "s__do", json!({})))?;
        assert_eq!(refused.code(), Some(1503), "the limit holds for those that are there: {refused:?}");
        if tool == "hold" {
            for raw in &mut ended {
                assert_eq!(raw.response()?.code(), Some(1499));
            }
        }
    }
    Ok(())
}

#[test]
fn as_many_calls_find_places_at_once_as_clients_are_gone() -> Result<(), Fault> {
    let (stage, server) = stage("gone-at-once", json!({ "in_flight_per_endpoint": 8 }))?;
    let session = Raw::open(stage.gateway.mcp)?;
    let calls = (0..8).map(|id| held(&session, &server, "hold", id));
    go_at_once(&stage, calls.collect::<Result<_, _>>()?)?;
    let mut here = (100..108).map(|_| session.again()).collect::<Result<Vec<_>, _>>()?;
    for (raw, id) in here.iter_mut().zip(100..) {
        raw.say(&call(id, "s__hold", json!({ "number": id })))?;
    }
    for id in 100..108 {
        server.wait_for("the call", |request| request.body["params"]["arguments"]["number"] == id)?;
    }
    let calls = || stage.gateway.metric("only1mcp_server_in_flight", "");
    wait::until_true("those that made way to be over", LIMIT, || calls() == 8)?;
    assert_eq!(session.again()?.ask(&call(1, "s__do", json!({})))?.code(), Some(1503));
    Ok(())
}

#[test]
fn requests_that_do_not_come_to_an_end_lock_out_no_other_client() -> Result<(), Fault> {
    let (stage, _server) = stage("bodies", json!({ "connections": 8 }))?;
    let session = Raw::open(stage.gateway.mcp)?;
    let mut halves = Vec::new();
    for _ in 0..40 {
        let mut raw = session.again()?;
        raw.write(&head(stage.gateway.mcp, 10, &[]))?;
        halves.push(raw);
    }
    // Less than it takes until the gateway waits for no body any longer.
    wait::until_true("a place", Duration::from_secs(20), || is_served(&session))?;
    assert!(stage.gateway.metric("only1mcp_router_connections_closed_total", "displaced") > 0);
    Ok(())
}

/// A gateway whose only server takes connections and says nothing, so that it is on its way for as long as it may.
pub(super) fn starting(name: &str, limits: Value) -> Result<(Stage, TcpListener), Fault> {
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/mcp", silent.local_addr()?);
    let stage = Stage::new(name, |_| Ok(Document::default().key("limits", limits).with(Server::http("s", &url))))?;
    Ok((stage, silent))
}

/// What waits for a server: a call, or the list of tools, with `arguments`.
pub(super) fn waiting(id: usize, arguments: &Value) -> Value {
    let list = json!({ "jsonrpc": "2.0", "id": id, "method": "tools/list", "params": arguments });
    if id.is_multiple_of(2) { call(id, "s__do", arguments.clone()) } else { list }
}

#[test]
fn who_waits_for_a_server_that_starts_waits_no_longer_than_its_client_is_there() -> Result<(), Fault> {
    let (stage, silent) = starting("gone-starting", json!({ "connect": "15s" }))?;
    let session = Raw::open(stage.gateway.mcp)?;
    let exchanges = || stage.gateway.metric("only1mcp_router_exchanges", "");
    let (mut gone, mut ended) = (Vec::new(), Vec::new());
    for id in 0..20 {
        let mut raw = session.again()?;
        raw.say(&waiting(id, &json!({})))?;
        gone.push(raw);
    }
    for id in 20..24 {
        let mut raw = session.again()?;
        raw.say(&waiting(id, &json!({})))?;
        raw.stream.shutdown(Shutdown::Write)?;
        ended.push(raw);
    }
    wait::until_true("all to wait", LIMIT, || exchanges() == 24)?;
    gone.into_iter().try_for_each(reset)?;
    wait::until_true("those whose clients are gone to be over", LIMIT, || exchanges() == 4)?;
    // A client that has only closed its sending side is answered.
    drop(silent);
    for raw in &mut ended {
        raw.stream.set_read_timeout(Some(2 * LIMIT))?;
        let answer = raw.response()?;
        assert!(matches!(answer.code(), Some(1503 | -32602)), "{answer:?}");
    }
    wait::until_true("nothing to wait", LIMIT, || exchanges() == 0)
}
