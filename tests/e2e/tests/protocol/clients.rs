//! What a client may cost that does not read, sends no request, sends too many at once, or stops sending.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testkit::{Document, Fault, Gateway, Scratch, Server, demo, process_tree, stub, stub::Stub, wait};
use tokio::time::Instant;

use super::{
    Stage,
    raw::{LIMIT, Raw, call},
};

fn stage(name: &str, limits: Value) -> Result<Stage, Fault> {
    Stage::new(name, |scratch| {
        Ok(Document::default().key("limits", limits).with(demo::stdio("demo", "demo", scratch)?))
    })
}

fn with_token(mut message: Value) -> Value {
    message["params"]["_meta"] = json!({ "progressToken": 1 });
    message
}

#[test]
fn a_client_that_says_no_more_gets_its_answer() -> Result<(), Fault> {
    let stage = stage("half", json!({}))?;
    let session = Raw::open(stage.gateway.mcp)?;
    for token in [false, true] {
        let mut raw = session.again()?;
        let message = call("half", "demo__sleep", json!({ "ms": 300 }));
        raw.say(&if token { with_token(message) } else { message })?;
        raw.stream.shutdown(Shutdown::Write)?;
        let answer = raw.response()?;
        assert_eq!(answer.json()["result"]["content"][0]["text"], "slept 300 ms", "{answer:?}");
        raw.is_closed()?;
    }
    // One that listens has nothing else to wait for.
    let mut raw = session.again()?;
    raw.listen()?;
    raw.stream.shutdown(Shutdown::Write)?;
    let mut rest = Vec::new();
    raw.stream.read_to_end(&mut rest)?;
    Ok(())
}

/// A call whose answer is larger than what sockets hold.
fn large(id: &str) -> Value {
    call(id, "demo__echo", json!({ "text": "0123456789abcdef".repeat(600_000) }))
}

#[test]
fn a_stop_waits_for_calls_and_not_for_clients_that_do_nothing() -> Result<(), Fault> {
    let mut stage = stage("silent-stop", json!({ "request_bytes": "12MiB" }))?;
    let session = Raw::open(stage.gateway.mcp)?;
    // Nothing asked, half a head, half a body, an answer that is not read, and a call that runs.
    let _nothing = session.again()?;
    let mut head = session.again()?;
    head.write(b"POST /mcp HTTP/1.1\r\nHost: loc")?;
    let mut body = session.again()?;
    body.write(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\nContent-Length: 100\r\n\r\n{")?;
    let mut unread = session.again()?;
    unread.say(&large("unread"))?;
    let answered = || stage.gateway.metric("only1mcp_calls_total", "\"answered\"");
    wait::until_true("the answer that the client does not read", LIMIT, || answered() == 1)?;
    let mut runs = session.again()?;
    runs.say(&call("runs", "demo__sleep", json!({ "ms": 2500, "id": "runs" })))?;
    stage.carried_out("runs")?;
    let asked = Instant::now();
    stage.gateway.process.signal(Signal::SIGTERM);
    let answer = runs.response()?;
    assert!(answer.json()["result"].is_object(), "{answer:?}");
    assert!(stage.gateway.process.wait(LIMIT)?.success(), "nothing was cut off that ran");
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    Ok(())
}

#[test]
fn idle_sockets_take_no_place_from_clients_that_ask() -> Result<(), Fault> {
    let scratch = Scratch::new("places")?;
    let document = Document::default().with(demo::stdio("demo", "demo", &scratch)?);
    let file = testkit::ConfigFile::create(scratch.file("only1mcp.yaml"), &document.yaml())?;
    let few = ["sh", "-c", "ulimit -Sn 100; ulimit -Hn 220; exec \"$0\" \"$@\""];
    let gateway = Gateway::up_under(&few, &scratch, file.path(), &[])?;
    let soft = |pid: i32| -> Result<String, Fault> {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap_or_default();
        Ok(line.split_whitespace().nth(3).unwrap_or_default().to_owned())
    };
    assert_eq!(soft(gateway.pid())?, "220", "raised to what the system allows");
    let mut working = Raw::open(gateway.mcp)?;
    let mut idle = Vec::new();
    for number in 0..300 {
        let stream = TcpStream::connect_timeout(&gateway.mcp, LIMIT)?;
        stream.set_nodelay(true)?;
        idle.push(stream);
        if number % 20 == 0 {
            // Both the one that works all the time and one that has just come.
            working.works()?;
            working.again()?.works()?;
        }
    }
    // Work outside the data plane goes on as well: the admin API, and a server that is to be started.
    gateway.cli(&["status"])?.expect(0)?;
    file.replace(&document.with(demo::stdio("more", "more", &scratch)?).yaml())?;
    wait::until_true("another server", LIMIT, || {
        let answer = working.ask(&call(1, "more__echo", json!({ "text": "here" })));
        answer.is_ok_and(|answer| answer.code().is_none())
    })?;
    assert!(gateway.metric("only1mcp_router_connections_closed_total", "displaced") > 200);
    let below = process_tree::descendants(gateway.pid());
    assert!(below.len() >= 2, "{below:?}");
    for process in below {
        assert_eq!(soft(process.pid)?, "100", "{process:?} gets what the gateway was given");
    }
    Ok(())
}

#[test]
fn who_finds_all_places_in_use_is_told() -> Result<(), Fault> {
    let scratch = Scratch::new("full")?;
    let document =
        Document::default().key("limits", json!({ "connections": 4 })).with(demo::stdio("demo", "demo", &scratch)?);
    let file = testkit::ConfigFile::create(scratch.file("only1mcp.yaml"), &document.yaml())?;
    let gateway = Gateway::up(&scratch, file.path())?;
    let session = Raw::open(gateway.mcp)?;
    // All of them have asked before the gateway looks at the first.
    gateway.process.signal(Signal::SIGSTOP);
    let mut busy = Vec::new();
    for _ in 0..12 {
        let mut raw = session.again()?;
        raw.say(&call("busy", "demo__sleep", json!({ "ms": 1500 })))?;
        busy.push(raw);
    }
    gateway.process.signal(Signal::SIGCONT);
    let statuses =
        busy.iter_mut().map(|raw| raw.response().map(|answer| answer.status)).collect::<Result<Vec<_>, _>>()?;
    let refused = statuses.iter().filter(|status| **status == 503).count();
    assert!(refused >= 1 && statuses.contains(&200), "{statuses:?}");
    Ok(())
}

/// Bytes of an answer that leaves no room for another one beside it.
const LARGE: usize = 30 << 20;

/// A server of large answers, of which those for odd numbers do not say how long they are, and those for none never
/// end.
fn large_answers() -> Result<Stub, Fault> {
    let text = "y".repeat(LARGE);
    Stub::start_with(vec!["do".to_owned()], move |request, mut stream| {
        let Some(number) = request.body["params"]["arguments"]["number"].as_u64() else {
            // Begins, and then sends nothing for as long as the connection lasts.
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
            drop(stream.write_all(format!("{head}Content-Length: {LARGE}\r\n\r\n{{").as_bytes()));
            drop(stream.read_to_end(&mut Vec::new()));
            return Some((stub::RAW, String::new()));
        };
        let body = stub::text(&request.body["id"], &text);
        Some(if number % 2 == 1 {
            (stub::RAW, format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{body}"))
        } else {
            ("application/json", body)
        })
    })
}

#[test]
fn large_answers_wait_for_room_and_clients_that_do_not_read_lose_theirs() -> Result<(), Fault> {
    let server = large_answers()?;
    let stage = Stage::new("room", |_| Ok(Document::default().with(Server::http("large", &server.url()))))?;
    let session = Raw::open(stage.gateway.mcp)?;
    let before = stage.gateway.memory("VmRSS:")? >> 20;
    stage.gateway.forget_peak()?;
    let number = |number: u64| call(number, "large__do", json!({ "number": number }));
    let mut slow = session.again()?;
    slow.say(&number(0))?;
    let length: usize = slow.head_of_response()?.header("content-length").unwrap_or_default().parse()?;
    let mut silent = Vec::new();
    for each in 1..=6 {
        let mut raw = session.again()?;
        raw.say(&number(each))?;
        silent.push(raw);
    }
    // The others wait for the one that reads slowly, and do not cost it its answer.
    let mut read = vec![0; LARGE - (1 << 20)];
    for some in read.chunks_mut(1 << 20) {
        let reading = Instant::now();
        slow.stream.read_exact(some)?;
        wait::until("the next bit", LIMIT, || (reading.elapsed() > Duration::from_millis(120)).then_some(()))?;
    }
    slow.stream.shutdown(Shutdown::Write)?;
    slow.stream.read_to_end(&mut read)?;
    // Some came with the head.
    assert!((length - (64 << 10)..=length).contains(&read.len()), "{} of {length}", read.len());
    let mut good = session.again()?;
    good.stream.set_read_timeout(Some(6 * LIMIT))?;
    good.say(&number(8))?;
    // A request that is not large does not wait.
    session.again()?.works()?;
    let answer = good.response()?;
    let text = answer.json()["result"]["content"][0]["text"].as_str().map_or(0, str::len);
    assert_eq!((answer.code(), &answer.json()["id"], text), (None, &json!(8), LARGE));
    let peak = stage.gateway.memory("VmHWM:")? >> 20;
    assert!(peak.saturating_sub(before) < 64, "{before} MiB before, {peak} MiB at most");
    assert_eq!(stage.gateway.metric("only1mcp_router_connections_closed_total", "unread"), 6);
    Ok(())
}

#[test]
fn a_server_that_pauses_in_a_large_answer_keeps_no_room_from_others() -> Result<(), Fault> {
    let server = large_answers()?;
    let stage = Stage::new("pause", |_| Ok(Document::default().with(Server::http("large", &server.url()))))?;
    let session = Raw::open(stage.gateway.mcp)?;
    let (mut paused, mut good) = (session.again()?, session.again()?);
    for raw in [&mut paused, &mut good] {
        raw.stream.set_read_timeout(Some(6 * LIMIT))?;
    }
    paused.say(&call("paused", "large__do", json!({})))?;
    server.wait("tools/call")?;
    good.say(&call("good", "large__do", json!({ "number": 2 })))?;
    let answer = paused.response()?.json();
    let text = answer["error"]["message"].as_str().unwrap_or_default();
    assert!(text.contains("sent a large answer too slowly") && text.contains("buffered_bytes"), "{answer}");
    let answer = good.response()?;
    assert_eq!((answer.code(), &answer.json()["id"]), (None, &json!("good")));
    Ok(())
}
