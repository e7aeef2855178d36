//! What becomes of a call: progress, cancellation, clients that leave, large answers, many at a time.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use testkit::{DemoServer, Document, Fault, Server, demo, wait};

use super::{
    Stage,
    raw::{LIMIT, Raw, call, cancel},
    stub::{Stub, line, script, text},
};

/// `http` answers as JSON, `sse` always as a stream, `stdio` is a child.
fn stage(name: &str) -> Result<(Stage, [DemoServer; 2]), Fault> {
    let mut servers = Vec::new();
    let stage = Stage::new(name, |scratch| {
        servers.push(DemoServer::start("http", scratch, &[])?);
        servers.push(DemoServer::start("sse", scratch, &["--reply", "sse"])?);
        let document = Document::default()
            .with(Server::http("http", &servers[0].url()))
            .with(Server::http("sse", &servers[1].url()))
            .with(demo::stdio("stdio", "stdio", scratch)?);
        Ok(document)
    })?;
    Ok((stage, servers.try_into().expect("two were started")))
}

fn with_token(mut message: Value, token: impl Into<Value>) -> Value {
    message["params"]["_meta"] = json!({ "progressToken": token.into() });
    message
}

#[test]
fn progress_finds_its_client() -> Result<(), Fault> {
    let (stage, _servers) = stage("progress")?;
    for server in ["http", "sse", "stdio"] {
        // The same token by two clients at a time, and a text that looks like it by a third.
        let mut clients = [Raw::open(stage.gateway.mcp)?, Raw::open(stage.gateway.mcp)?, Raw::open(stage.gateway.mcp)?];
        let tokens = [json!(1), json!(1), json!("1")];
        for (number, (client, token)) in clients.iter_mut().zip(&tokens).enumerate() {
            let arguments = json!({ "steps": 3 + number, "interval_ms": 20 });
            client.say(&with_token(call(5, &format!("{server}__progress"), arguments), token.clone()))?;
        }
        for (number, (client, token)) in clients.iter_mut().zip(&tokens).enumerate() {
            assert_eq!(client.head_of_response()?.header("content-type"), Some("text/event-stream"));
            for step in 1..=3 + number {
                let event = client.event()?.unwrap_or_default();
                assert_eq!(event["method"], "notifications/progress", "{server}: {event}");
                assert_eq!((&event["params"]["progressToken"], &event["params"]["progress"]), (token, &json!(step)));
            }
            let answer = client.event()?.unwrap_or_default();
            assert_eq!((&answer["id"], answer["result"].is_object()), (&json!(5), true), "{server}: {answer}");
            assert_eq!(client.event()?, None);
            client.works()?;
        }
    }
    Ok(())
}

#[test]
fn a_cancelled_call_ends_in_silence_and_its_server_is_told() -> Result<(), Fault> {
    let stub = Stub::start(vec!["do".to_owned()], |_| None)?;
    let url = stub.url();
    let stage = Stage::new("cancel", |scratch| {
        Ok(Document::default().with(Server::http("http", &url)).with(script(
            "stdio",
            scratch,
            r#"*'"tools/call"'*) ;;"#,
        )?))
    })?;
    let arrived = |server: &str, id: &str| match server {
        "http" => stub
            .wait_for("the call", |request| request.body["params"]["arguments"]["id"] == id)
            .map(|request| request.body),
        _ => line(&stage.scratch, "the call", |message| message["params"]["arguments"]["id"] == id),
    };
    for (server, token) in [("http", false), ("stdio", false), ("stdio", true)] {
        let name = format!("{server}-{token}");
        let mut raw = Raw::open(stage.gateway.mcp)?;
        let message = call("mine", &format!("{server}__do"), json!({ "id": name }));
        raw.say(&if token { with_token(message, 1) } else { message })?;
        let id = arrived(server, &name)?["id"].clone();
        // Neither another session's call of that name is cancelled, nor one with another id.
        let mut other = Raw::open(stage.gateway.mcp)?;
        assert_eq!(other.ask(&cancel("mine"))?.status, 202);
        assert_eq!(raw.again()?.ask(&cancel("mine2"))?.status, 202);
        assert_eq!(raw.again()?.ask(&cancel("mine"))?.status, 202);
        // Its client wants to hear nothing more of it: a stream that ends without a message.
        let answer = raw.response()?;
        let kind = answer.header("content-type").unwrap_or_default();
        assert_eq!((answer.status, kind), (200, "text/event-stream"), "{name}: {answer:?}");
        assert!(!String::from_utf8_lossy(&answer.body).contains("data"), "{name}: {answer:?}");
        let told =
            |message: &Value| message["method"] == "notifications/cancelled" && message["params"]["requestId"] == id;
        match server {
            "http" => drop(stub.wait_for("the cancellation", |request| told(&request.body))?),
            _ => drop(line(&stage.scratch, "the cancellation", told)?),
        }
        // Nothing more comes, and what is over cannot be cancelled.
        assert_eq!(raw.again()?.ask(&cancel("mine"))?.status, 202);
        raw.works()?;
    }
    let cancelled = stub.seen().iter().filter(|request| request.body["method"] == "notifications/cancelled").count();
    assert_eq!(cancelled, 1, "once");
    leases_are_free(&stage, 2)
}

/// A removal of all servers has nothing to wait for, and nothing to evict.
fn leases_are_free(stage: &Stage, servers: usize) -> Result<(), Fault> {
    stage.file.replace(&Document::default().key("allow_empty", json!(true)).yaml())?;
    wait::until_true("the drains to be over", LIMIT, || {
        let drains = stage.gateway.cli(&["drains", "--all", "--output", "json"]).and_then(|cli| cli.json());
        let drains = drains.ok().and_then(|drains| drains.as_array().cloned()).unwrap_or_default();
        drains.len() == servers && drains.iter().all(|drain| drain["state"] == "done" && drain["evicted"] == 0)
    })
}

#[test]
fn a_client_that_leaves_has_cancelled_nothing() -> Result<(), Fault> {
    let (stage, _servers) = stage("leaves")?;
    for server in ["http", "sse", "stdio"] {
        for token in [false, true] {
            let id = format!("{server}-{token}");
            let mut raw = Raw::open(stage.gateway.mcp)?;
            let message = call(1, &format!("{server}__sleep"), json!({ "ms": 300, "id": id }));
            raw.say(&if token { with_token(message, 1) } else { message })?;
            stage.carried_out(&id)?;
            drop(raw);
        }
    }
    let mut raw = Raw::open(stage.gateway.mcp)?;
    let answered = || -> Option<()> {
        let of = |result: &str| stage.gateway.metric("only1mcp_calls_total", result);
        assert_eq!(of("\"cancelled\"") + of("\"failed\""), 0);
        (of("\"answered\"") == 6).then_some(())
    };
    wait::until("all calls to end well", LIMIT, answered)?;
    raw.works()?;
    leases_are_free(&stage, 3)
}

#[test]
fn two_hundred_calls_at_a_time_on_one_child() -> Result<(), Fault> {
    let (stage, _servers) = stage("many")?;
    let session = Raw::open(stage.gateway.mcp)?;
    let mut clients = (0..200).map(|_| session.again()).collect::<Result<Vec<_>, _>>()?;
    for (number, client) in clients.iter_mut().enumerate() {
        let message = if number % 2 == 0 {
            call(number, "stdio__sleep", json!({ "ms": 400, "id": format!("s{number}") }))
        } else {
            call(number, "stdio__echo", json!({ "text": format!("e{number}") }))
        };
        client.say(&message)?;
    }
    let mut texts = BTreeSet::new();
    for (number, client) in clients.iter_mut().enumerate() {
        let answer = client.response()?.json();
        assert_eq!(answer["id"], number);
        let text = answer["result"]["content"][0]["text"].as_str().unwrap_or_default().to_owned();
        assert!(text == format!("e{number}") || text == "slept 400 ms", "{number}: {answer}");
        texts.insert(text);
    }
    assert_eq!(texts.len(), 101);
    Ok(())
}

#[test]
fn large_messages_pass_whole() -> Result<(), Fault> {
    let mut servers = Vec::new();
    let stage = Stage::new("large", |scratch| {
        servers.push(DemoServer::start("http", scratch, &[])?);
        servers.push(DemoServer::start("sse", scratch, &["--reply", "sse"])?);
        let document = Document::default()
            .key("limits", json!({ "request_bytes": "12MiB" }))
            .with(Server::http("http", &servers[0].url()))
            .with(Server::http("sse", &servers[1].url()))
            .with(demo::stdio("stdio", "stdio", scratch)?);
        Ok(document)
    })?;
    let text: String = "0123456789abcdef\\\"é\n".chars().cycle().take(9 << 20).collect();
    let mut raw = Raw::open(stage.gateway.mcp)?;
    for server in ["http", "sse", "stdio"] {
        let answer = raw.ask(&call(1, &format!("{server}__echo"), json!({ "text": text })))?.json();
        assert!(answer["result"]["content"][0]["text"] == *text, "{server}: another text");
    }
    Ok(())
}

#[test]
fn the_trace_goes_on_at_the_server() -> Result<(), Fault> {
    let stub =
        Stub::start(vec!["do".to_owned()], |request| Some(("application/json", text(&request.body["id"], "done"))))?;
    let url = stub.url();
    let stage = Stage::new("trace", |scratch| {
        Ok(Document::default().with(Server::http("http", &url)).with(script("stdio", scratch, "")?))
    })?;
    let mut raw = Raw::open(stage.gateway.mcp)?;
    let carried = |number: u8| format!("00-{number:032x}-00f067aa0ba902b7-01");
    for (number, server) in [(1, "http"), (3, "stdio")] {
        let message = call(number, &format!("{server}__do"), json!({ "n": number }));
        raw.post(message.to_string().as_bytes(), &[("traceparent", carried(number).as_bytes())])?;
        assert_eq!(raw.response()?.status, 200);
        // In `_meta` it counts more than in a header.
        let mut message = call(number + 1, &format!("{server}__do"), json!({ "n": number + 1 }));
        message["params"]["_meta"] = json!({ "traceparent": carried(number + 1), "mine": true });
        raw.post(message.to_string().as_bytes(), &[("traceparent", carried(9).as_bytes())])?;
        assert_eq!(raw.response()?.status, 200);
    }
    let calls = stub.seen().into_iter().filter(|request| request.body["method"] == "tools/call");
    let http: Vec<(String, String)> = calls
        .map(|request| {
            let meta = request.body["params"]["_meta"]["traceparent"].as_str().unwrap_or_default().to_owned();
            (meta, request.header("traceparent").unwrap_or_default().to_owned())
        })
        .collect();
    assert_eq!(http.len(), 2);
    for (number, (meta, header)) in (1..).zip(&http) {
        // The gateway records no spans here, so the server's spans belong below those of the client.
        assert_eq!((meta, header), (&carried(number), &carried(number)));
    }
    for number in [3, 4] {
        let of = |message: &Value| message["params"]["arguments"]["n"] == number;
        let sent = line(&stage.scratch, "the call", of)?;
        let meta = sent["params"]["_meta"]["traceparent"].as_str().unwrap_or_default();
        assert_eq!(meta, carried(number), "{sent}");
        assert!(number == 3 || sent["params"]["_meta"]["mine"] == true, "{sent}");
    }
    Ok(())
}
