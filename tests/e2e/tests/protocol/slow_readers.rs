//! Clients that read a little now and then: they cannot keep what they hold for ever once others need it.

use std::{io::Read, thread, time::Duration};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testkit::{Document, Fault, Server, demo, stub, stub::Stub, wait};
use tokio::time::Instant;

use super::{
    Stage,
    raw::{LIMIT, Raw, call},
};

const MIB: usize = 1 << 20;
/// Of an answer that takes a slow reader longer than anything here waits.
const LARGE: usize = 6 * MIB;
const EVENTS: &str = "text/event-stream";
/// How long the gateway tolerates a reader like [`drip`], with some time for a busy machine.
const BORNE: Duration = Duration::from_secs(20);

/// Reads 160 KiB a second until its connection ends.
fn drip(mut raw: Raw) {
    thread::spawn(move || {
        let mut some = vec![0; 16 << 10];
        while raw.stream.read(&mut some).is_ok_and(|read| read > 0) {
            let read = Instant::now();
            drop(wait::until("the next bit", LIMIT, || (read.elapsed() > Duration::from_millis(100)).then_some(())));
        }
    });
}

/// A server that answers with as many bytes as it is asked for.
fn server(media: &'static str) -> Result<Stub, Fault> {
    Stub::start_with(vec!["do".to_owned()], move |request, _| {
        let length = request.body["params"]["arguments"]["length"].as_u64().unwrap_or(0);
        let body = stub::text(&request.body["id"], &"y".repeat(usize::try_from(length).unwrap_or(0)));
        Some((media, if media == EVENTS { format!("data: {body}\n\n") } else { body }))
    })
}

fn large(id: usize, tool: &str) -> Value {
    call(id, tool, json!({ "length": LARGE }))
}

#[test]
fn who_reads_too_slowly_takes_no_large_answer_from_the_clients_of_another_server() -> Result<(), Fault> {
    for media in [EVENTS, "application/json"] {
        let (slow, good) = (server(media)?, server("application/json")?);
        let stage = Stage::new("slow-readers", |_| {
            let document = Document::default().key("limits", json!({ "buffered_bytes": "32MiB" }));
            Ok(document.with(Server::http("slow", &slow.url())).with(Server::http("good", &good.url())))
        })?;
        let session = Raw::open(stage.gateway.mcp)?;
        for id in 0..8 {
            let mut raw = session.again()?;
            raw.say(&large(id, "slow__do"))?;
            drip(raw);
        }
        let held = || stage.gateway.metric("only1mcp_router_held_bytes", "");
        wait::until_true("a slow reader to have its answer", LIMIT, || held() > (LARGE / 2) as u64)?;
        wait::until_true("all calls to be made", LIMIT, || {
            slow.seen().iter().filter(|request| request.body["method"] == "tools/call").count() == 8
        })?;
        let mut other = session.again()?;
        other.stream.set_read_timeout(Some(BORNE))?;
        let answer = other.ask(&large(9, "good__do"))?;
        assert_eq!(answer.code(), None, "{media}: {answer:?}");
        let held = held();
        assert!(held <= 3 * LARGE as u64, "{media}: {held}: what slow readers do not take stays with their server");
        // If not for this one, then for the next of their own kind.
        let closed = || stage.gateway.metric("only1mcp_router_connections_closed_total", "unread");
        wait::until_true("a slow reader to make way", BORNE, || closed() > 0)?;
    }
    Ok(())
}

#[test]
fn who_reads_slowly_and_is_in_nobodys_way_has_its_answer() -> Result<(), Fault> {
    let server = server(EVENTS)?;
    let stage = Stage::new("alone", |_| Ok(Document::default().with(Server::http("s", &server.url()))))?;
    let mut raw = Raw::open(stage.gateway.mcp)?;
    raw.say(&call(1, "s__do", json!({ "length": 3 * MIB / 2 })))?;
    let begun = Instant::now();
    let mut read = Vec::new();
    let mut some = vec![0; 16 << 10];
    while !read.ends_with(b"0\r\n\r\n") {
        let count = raw.stream.read(&mut some)?;
        assert!(count > 0, "cut off after {} bytes", read.len());
        read.extend_from_slice(&some[..count]);
        let last = Instant::now();
        wait::until("the next bit", LIMIT, || (last.elapsed() > Duration::from_millis(75)).then_some(()))?;
    }
    assert!(begun.elapsed() > Duration::from_secs(6), "it was slow: {:?}", begun.elapsed());
    Ok(())
}

#[test]
fn who_reads_too_slowly_keeps_no_place_from_those_that_find_none() -> Result<(), Fault> {
    let server = server("application/json")?;
    let limits = json!({ "connections": 4 });
    let stage = Stage::new("slow-places", |_| {
        Ok(Document::default().key("limits", limits).with(Server::http("s", &server.url())))
    })?;
    let session = Raw::open(stage.gateway.mcp)?;
    let again = || session.again();
    // All at once: an answer may wait for the memory that slow readers have, and they make way meanwhile.
    let asked: Vec<_> = (0..16)
        .map(|id| {
            let mut raw = again()?;
            raw.say(&large(id, "s__do"))?;
            Ok::<_, Fault>(thread::spawn(move || {
                let begun = raw.head_of_response().is_ok_and(|head| head.status == 200);
                if begun {
                    drip(raw);
                }
                begun
            }))
        })
        .collect();
    let begun = asked.into_iter().flatten().filter_map(|asked| asked.join().ok()).filter(|begun| *begun).count();
    assert!((1..=4).contains(&begun), "{begun} of 4 places taken");
    let ping = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" });
    wait::until_true("a place", BORNE, || {
        again().and_then(|mut raw| raw.ask(&ping)).is_ok_and(|answer| answer.status == 200)
    })
}

#[test]
fn a_stop_does_not_wait_for_who_reads_too_slowly() -> Result<(), Fault> {
    let mut stage = Stage::new("slow-stop", |scratch| {
        let limits = json!({ "request_bytes": "12MiB" });
        Ok(Document::default().key("limits", limits).with(demo::stdio("demo", "demo", scratch)?))
    })?;
    let mut raw = Raw::open(stage.gateway.mcp)?;
    raw.say(&call(1, "demo__echo", json!({ "text": "y".repeat(LARGE) })))?;
    raw.head_of_response()?;
    drip(raw);
    stage.gateway.process.signal(Signal::SIGTERM);
    assert!(stage.gateway.process.wait(BORNE)?.success(), "nothing was cut off that ran");
    Ok(())
}
