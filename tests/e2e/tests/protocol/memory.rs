//! What clients and servers can make the gateway keep: bodies that never end, answers that are not taken, streams that
//! are only opened.

use std::{io::Write, time::Duration};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testkit::{Document, Fault, Server, fault, stub, stub::Stub, wait};
use tokio::time::Instant;

use super::{
    Stage,
    places::{reset, starting, waiting},
    raw::{LIMIT, Raw, Response, call, head},
};

const MIB: usize = 1 << 20;
const EVENTS: &str = "text/event-stream";

/// A server that answers each call with `length` bytes, or as many of them as it says before it stops.
fn server(media: &'static str, length: usize, stops_at: Option<usize>) -> Result<Stub, Fault> {
    Stub::start_with(vec!["do".to_owned()], move |request, mut stream| {
        let body = stub::text(&request.body["id"], &"y".repeat(length));
        let body = if media == EVENTS { format!("data: {body}\n\n") } else { body };
        let Some(stops_at) = stops_at.filter(|_| request.body["params"]["arguments"]["stops"] == true) else {
            return Some((media, body));
        };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {media}\r\nContent-Length: {}\r\n\r\n", body.len());
        drop(stream.write_all(&[head.as_bytes(), &body.as_bytes()[..stops_at]].concat()));
        drop(std::io::Read::read_to_end(&mut stream, &mut Vec::new()));
        Some((stub::RAW, String::new()))
    })
}

fn stage(name: &str, limits: Value, server: &Stub) -> Result<Stage, Fault> {
    Stage::new(name, |_| Ok(Document::default().key("limits", limits).with(Server::http("s", &server.url()))))
}

fn held(stage: &Stage) -> u64 {
    stage.gateway.metric("only1mcp_router_held_bytes ", "")
}

/// What the gateway has in memory, in MiB.
fn resident(stage: &Stage) -> Result<u64, Fault> {
    Ok(stage.gateway.memory("VmRSS:")? >> 20)
}

/// Begins a body of `length` bytes and leaves out its last one.
fn begin_upload(session: &Raw, address: std::net::SocketAddr, length: usize) -> Result<Raw, Fault> {
    let mut raw = session.again()?;
    let id = raw.session.clone().unwrap_or_default();
    raw.write(&head(address, length, &[("Mcp-Session-Id", id.as_bytes())]))?;
    raw.write(&vec![b' '; length - 1])?;
    Ok(raw)
}

fn text(answer: &Response) -> String {
    answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn bodies_that_never_end_take_neither_the_room_of_answers_nor_that_of_requests() -> Result<(), Fault> {
    let server = server("application/json", 3 * MIB / 2, None)?;
    let stage = stage("uploads", json!({ "buffered_bytes": "4MiB", "request_bytes": "1MiB" }), &server)?;
    let session = Raw::open(stage.gateway.mcp)?;
    let mut uploads = Vec::new();
    for _ in 0..8 {
        uploads.push(begin_upload(&session, stage.gateway.mcp, 900 << 10)?);
    }
    wait::until_true("the first ones to be held", LIMIT, || held(&stage) > MIB as u64)?;
    assert!(held(&stage) <= 2 * MIB as u64, "half of all at most, not {}", held(&stage));
    let answer = session.again()?.ask(&call(1, "s__do", json!({})))?;
    assert_eq!(answer.code(), None, "an executed call has its answer: {}", text(&answer));
    // Those that are there for a while make way for one that is complete.
    let arguments = json!({ "text": "x".repeat(900 << 10) });
    wait::until_true("a large request to be let in", LIMIT, || {
        let asked = session.again().and_then(|mut raw| raw.ask(&call(2, "s__do", arguments.clone())));
        asked.is_ok_and(|answer| answer.status == 200 && answer.code().is_none())
    })?;
    let answers = uploads.iter_mut().map(|raw| {
        raw.stream.set_read_timeout(Some(Duration::from_millis(200)))?;
        // The others are still waited for.
        Ok(raw.response().ok())
    });
    let answers = answers.collect::<Result<Vec<_>, Fault>>()?;
    let statuses: Vec<_> = answers.iter().map(|answer| answer.as_ref().map_or(0, |answer| answer.status)).collect();
    assert!(statuses.contains(&408) && statuses.contains(&503), "{statuses:?}");
    for answer in answers.iter().flatten() {
        let text = text(answer);
        assert!(text.contains("limits.buffered_bytes") && text.contains("nothing was executed"), "{answer:?}");
        assert_eq!(answer.status == 503, answer.header("retry-after").is_some(), "{answer:?}");
    }
    drop(uploads);
    wait::until_true("nothing to be held", LIMIT, || held(&stage) == 0)
}

/// Fills what calls to `slow` may keep, with calls of so many sessions. Says what the first one that was refused was
/// told.
fn fill(stage: &Stage, sessions: usize, large: &Value) -> Result<(Vec<Raw>, Response), Fault> {
    let sessions = (0..sessions).map(|_| Raw::open(stage.gateway.mcp)).collect::<Result<Vec<_>, _>>()?;
    let mut waiting = Vec::new();
    for (number, session) in sessions.iter().cycle().enumerate().take(40) {
        let before = held(stage);
        let mut raw = session.again()?;
        raw.say(&call(number, "slow__do", large.clone()))?;
        raw.stream.set_read_timeout(Some(Duration::from_millis(20)))?;
        let mut refused = None;
        wait::until_true("the call to be kept or refused", LIMIT, || {
            refused = raw.response().ok();
            refused.is_some() || held(stage) > before
        })?;
        match refused {
            Some(refused) => return Ok((waiting, refused)),
            None => waiting.push(raw),
        }
    }
    Err(fault("one slow server may have all of the room"))
}

#[test]
fn large_calls_to_a_server_that_does_not_answer_leave_room_for_those_to_others() -> Result<(), Fault> {
    let large = json!({ "text": "x".repeat(MIB / 2) });
    let slow = Stub::start(vec!["do".to_owned()], |_| None)?;
    let good = server("application/json", 10, None)?;
    let limits = json!({ "buffered_bytes": "16MiB", "request_bytes": "2MiB" });
    for (name, sessions, whose) in [("slow-server", 20, "to server `slow`"), ("slow-client", 1, "of this client")] {
        let servers = [Server::http("slow", &slow.url()), Server::http("s", &good.url())];
        let stage = Stage::new(name, |_| {
            Ok(servers.into_iter().fold(Document::default().key("limits", limits.clone()), Document::with))
        })?;
        let (waiting, refused) = fill(&stage, sessions, &large)?;
        let said = text(&refused);
        assert_eq!(
            (refused.status, refused.header("retry-after"), refused.code()),
            (503, Some("1"), Some(1503)),
            "{said}"
        );
        assert!(said.contains(whose) && said.contains("limits.buffered_bytes"), "{said}");
        assert!(said.contains("nothing was executed"), "{said}");
        // Another client is served as if the slow server were not there.
        let mut other = Raw::open(stage.gateway.mcp)?;
        for number in 0..5 {
            let answer = other.ask(&call(number, "s__do", large.clone()))?;
            assert_eq!((answer.status, answer.code()), (200, None), "{whose}: {}", text(&answer));
        }
        assert!(waiting.len() > 1, "the slow one has its share");
    }
    Ok(())
}

#[test]
fn events_that_are_not_read_are_held_within_the_limit() -> Result<(), Fault> {
    let server = server(EVENTS, 900 << 10, None)?;
    let stage = stage("events", json!({ "buffered_bytes": "4MiB", "write": "3s" }), &server)?;
    let session = Raw::open(stage.gateway.mcp)?;
    let before = resident(&stage)?;
    let mut silent = Vec::new();
    for number in 0..60 {
        let mut raw = session.again()?;
        raw.say(&call(number, "s__do", json!({})))?;
        silent.push(raw);
    }
    wait::until_true("some of it to be held", LIMIT, || held(&stage) > MIB as u64 / 4)?;
    let grown = resident(&stage)?.saturating_sub(before);
    assert!(grown < 32, "{before} MiB before, {grown} MiB more with 60 clients that do not read");
    // Those that do not read make way.
    let mut good = session.again()?;
    wait::until_true("an answer", 2 * LIMIT, || {
        good.ask(&call("good", "s__do", json!({}))).is_ok_and(|answer| answer.code().is_none())
    })?;
    drop(silent);
    wait::until_true("nothing to be held", LIMIT, || held(&stage) == 0)
}

#[test]
fn answers_that_are_half_there_are_held_within_the_limit_and_given_up_in_time() -> Result<(), Fault> {
    for media in ["application/json", EVENTS] {
        let server = server(media, 900 << 10, Some(800 << 10))?;
        let stage = stage("half-there", json!({ "buffered_bytes": "4MiB", "write": "1s" }), &server)?;
        let session = Raw::open(stage.gateway.mcp)?;
        let before = resident(&stage)?;
        let mut clients = Vec::new();
        for number in 0..40 {
            let mut raw = session.again()?;
            raw.say(&call(number, "s__do", json!({ "stops": true })))?;
            // A stream begins at once.
            if media == EVENTS {
                raw.head_of_response()?;
            }
            clients.push(raw);
        }
        wait::until_true("some of it to be held", LIMIT, || held(&stage) > MIB as u64 / 4)?;
        // Most find no room to be read on.
        let asked = Instant::now();
        let mut lost = 0;
        while lost < 20 && asked.elapsed() < LIMIT {
            for raw in &mut clients {
                raw.stream.set_read_timeout(Some(Duration::from_millis(10)))?;
                let answer =
                    if media == EVENTS { raw.event() } else { raw.response().map(|answer| Some(answer.json())) };
                let Ok(Some(answer)) = answer else { continue };
                let text = answer["error"]["message"].as_str().unwrap_or_default();
                assert!(text.contains("limits.buffered_bytes") && text.contains("limits.write"), "{text}");
                lost += 1;
            }
        }
        let (held, grown) = (held(&stage), resident(&stage)?.saturating_sub(before));
        assert!(lost >= 20 && held <= 5 * MIB as u64 && grown < 32, "{media}: {lost}, {held} bytes, {grown} MiB more");
        clients.clear();
        session.again()?.works()?;
    }
    Ok(())
}

#[test]
fn streams_take_no_place_from_clients_that_ask() -> Result<(), Fault> {
    let server = server("application/json", 10, None)?;
    let stage = stage("streams", json!({ "connections": 16 }), &server)?;
    // Of one session the newest few stay, and the others end in an orderly way.
    let session = Raw::open(stage.gateway.mcp)?;
    let mut streams = Vec::new();
    for _ in 0..7 {
        let mut raw = session.again()?;
        assert_eq!(raw.listen()?.status, 200);
        streams.push(raw);
    }
    for old in &mut streams[..3] {
        assert_eq!(old.event()?, None);
        old.works()?;
    }
    for new in &mut streams[3..] {
        new.stream.set_read_timeout(Some(Duration::from_millis(100)))?;
        assert!(new.event().is_err(), "it is still open");
    }
    // Of many sessions each may have one, unless the place is needed.
    let mut listeners = Vec::new();
    let full = Instant::now();
    while listeners.len() < 40 && full.elapsed() < 2 * LIMIT {
        if let Ok(mut raw) = Raw::open(stage.gateway.mcp)
            && raw.session.is_some()
            && raw.listen().is_ok_and(|head| head.status == 200)
        {
            listeners.push(raw);
        }
    }
    assert_eq!(listeners.len(), 40, "each finds a place in the end");
    wait::until_true("a client that asks to find one", LIMIT, || {
        let ping = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" });
        session.again().and_then(|mut raw| raw.ask(&ping)).is_ok_and(|answer| answer.status == 200)
    })
}

#[test]
fn a_body_that_is_not_complete_when_the_gateway_stops_is_told_so() -> Result<(), Fault> {
    let server = Stub::start(vec!["do".to_owned()], |_| None)?;
    let stage = stage("upload-stop", json!({}), &server)?;
    let session = Raw::open(stage.gateway.mcp)?;
    let mut runs = session.again()?;
    runs.say(&call("runs", "s__do", json!({})))?;
    server.wait("tools/call")?;
    let mut upload = begin_upload(&session, stage.gateway.mcp, 100 << 10)?;
    wait::until_true("the body to be read", LIMIT, || held(&stage) > 0)?;
    stage.gateway.process.signal(Signal::SIGTERM);
    let answer = upload.response()?;
    assert_eq!((answer.status, answer.header("retry-after"), answer.closes()), (503, Some("1"), true), "{answer:?}");
    assert!(text(&answer).contains("nothing was executed: send it again"), "{answer:?}");
    stage.gateway.process.signal(Signal::SIGTERM);
    assert_eq!(runs.response()?.code(), Some(1410));
    Ok(())
}

#[test]
fn what_waits_for_a_server_that_starts_is_held_within_the_limit() -> Result<(), Fault> {
    let limits = json!({ "connect": "30s", "buffered_bytes": "4MiB" });
    let (stage, _silent) = starting("waiting", limits)?;
    let (session, other) = (Raw::open(stage.gateway.mcp)?, Raw::open(stage.gateway.mcp)?);
    let large = json!({ "text": "x".repeat(48 << 10) });
    let before = resident(&stage)?;
    let (mut waits, mut refused) = (Vec::new(), 0);
    for id in 0..300 {
        let mut raw = session.again()?;
        raw.say(&waiting(id, &large))?;
        waits.push(raw);
    }
    for raw in &mut waits {
        raw.stream.set_read_timeout(Some(Duration::from_millis(10)))?;
        let Ok(answer) = raw.response() else { continue };
        assert_eq!((answer.status, answer.header("retry-after"), answer.code()), (503, Some("1"), Some(1503)));
        let text = text(&answer);
        assert!(text.contains("of this client") && text.contains("limits.buffered_bytes"), "{text}");
        refused += 1;
    }
    assert!((200..300).contains(&refused), "{refused} of 300 were refused");
    let held = held(&stage);
    assert!(held > 0 && held <= 2 * MIB as u64, "{held} bytes");
    // What the refused ones had is given back half a second later.
    let grown = || resident(&stage).map_or(u64::MAX, |now| now.saturating_sub(before));
    wait::until_true("the memory of those that were refused", Duration::from_secs(2), || grown() < 24)?;
    // Others have their share, and what is small waits in any case.
    for message in [call(1, "s__do", json!({})), waiting(2, &large)] {
        let mut raw = other.again()?;
        raw.say(&message)?;
        raw.stream.set_read_timeout(Some(Duration::from_millis(200)))?;
        assert!(raw.response().is_err(), "it waits");
        waits.push(raw);
    }
    waits.into_iter().try_for_each(reset)?;
    wait::until_true("nothing to be held", LIMIT, || self::held(&stage) == 0)
}

#[test]
fn the_head_of_a_request_has_an_end() -> Result<(), Fault> {
    let server = server("application/json", 10, None)?;
    let stage = stage("heads", json!({}), &server)?;
    let session = Raw::open(stage.gateway.mcp)?;
    let ping = json!({ "jsonrpc": "2.0", "id": "still", "method": "ping" }).to_string();
    let id = session.session.clone().unwrap_or_default();
    // A token as large as they come passes, and so does a long body.
    let headers: [(&str, &[u8]); 2] = [("Mcp-Session-Id", id.as_bytes()), ("Authorization", &[b'a'; 30 << 10])];
    let mut raw = session.again()?;
    raw.post(ping.as_bytes(), &headers)?;
    assert_eq!(raw.response()?.status, 200);
    assert_eq!(raw.ask(&call(1, "s__do", json!({ "text": "x".repeat(MIB) })))?.code(), None);
    let before = resident(&stage)?;
    let mut halves = Vec::new();
    for _ in 0..300 {
        let mut raw = session.again()?;
        raw.write(&[b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: ".as_slice(), &[b'a'; 120_000]].concat())?;
        halves.push(raw);
    }
    let mut statuses = halves.iter_mut().map(|raw| raw.response().map(|answer| answer.status));
    assert!(statuses.all(|status| status.is_ok_and(|status| status == 431)));
    let grown = resident(&stage)?.saturating_sub(before);
    assert!(grown < 24, "{grown} MiB more");
    Ok(())
}
