//! Hostile clients.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::{Value, json};
use testkit::{
    Client, Fault, Gateway, Server, fault,
    raw::{self, Raw},
    stub::{self, Request, Stub},
};

use super::peer::{Attack, Entry, Target, at_lowest_priority};

pub(super) const PEERS: &[Entry] = &[
    ("reads-no-events", |_| Ok(Box::new(Lone::ReadsNoEvents))),
    ("reads-no-large-answer", |_| Ok(Box::new(ReadsNoLargeAnswer::new()?))),
    ("opens-and-never-asks", |_| Ok(Box::new(Lone::OpensAndNeverAsks))),
    ("initializes-for-ever", |_| Ok(Box::new(Lone::InitializesForEver))),
    ("long-request-ids", |_| Ok(Box::new(Lone::LongIds))),
    ("heads-byte-by-byte", |_| Ok(Box::new(Lone::HeadsByteByByte))),
    ("cancels-and-deletes", |_| Ok(Box::new(Lone::CancelsAndDeletes))),
    ("streams-of-one-session", |_| Ok(Box::new(Lone::StreamsOfOneSession))),
];

/// Hostile clients that need nothing but the gateway.
enum Lone {
    ReadsNoEvents,
    OpensAndNeverAsks,
    InitializesForEver,
    LongIds,
    HeadsByteByByte,
    CancelsAndDeletes,
    StreamsOfOneSession,
}

impl Attack for Lone {
    fn under(&self) -> Vec<&'static str> {
        // Few enough that 300 connections take them all, if they can.
        if matches!(self, Self::OpensAndNeverAsks) { vec!["prlimit", "--nofile=256:256"] } else { Vec::new() }
    }

    fn act(&self, gateway: &Gateway, target: &Target) -> Result<(), Fault> {
        match self {
            Self::ReadsNoEvents => {
                target.on_threads(8, Duration::from_millis(100), |target| reads_no_events(target, "good-stdio__echo"))
            }
            Self::OpensAndNeverAsks => at_lowest_priority(|| opens_and_never_asks(gateway, target)),
            Self::InitializesForEver => target.on_threads(2, Duration::ZERO, initializes),
            Self::LongIds => target.on_threads(2, Duration::from_millis(50), long_id),
            Self::HeadsByteByByte => target.on_threads(100, Duration::from_millis(10), head_byte_by_byte),
            Self::CancelsAndDeletes => target.on_threads(2, Duration::from_millis(5), cancels_and_deletes),
            Self::StreamsOfOneSession => streams_of_one_session(target),
        }
    }
}

/// A session, and calls whose answers are event streams that fill what the system buffers and are never read.
pub(super) fn reads_no_events(target: &Target, tool: &str) -> Result<(), Fault> {
    let mut one = Raw::open(target.mcp)?;
    for number in 0..40 {
        let mut call = raw::call(number, tool, json!({ "text": "x".repeat(200 << 10) }));
        call["params"]["_meta"] = json!({ "progressToken": number });
        // Fails once the gateway takes no more, or has hung up.
        one.say(&call)?;
        target.did();
    }
    wait_for_the_end(&mut one.stream, target)
}

/// Holds a connection without reading, until the other side gives it up or the time is over.
fn wait_for_the_end(stream: &mut TcpStream, target: &Target) -> Result<(), Fault> {
    while !target.is_over() {
        // A write to a connection that was given up fails; a peek reads nothing.
        if matches!(stream.take_error(), Ok(Some(_)) | Err(_)) || stream.write(b"\r\n").is_err() {
            return Ok(());
        }
        target.pause(Duration::from_millis(50));
    }
    Ok(())
}

/// Answers that are as large as an answer may be, each on a connection that is not read.
struct ReadsNoLargeAnswer(Stub);

impl ReadsNoLargeAnswer {
    fn new() -> Result<Self, Fault> {
        // Written as escapes, so that they take long to read.
        let text = "\n".repeat(15 << 20);
        let answer = move |request: &Request| Some(("application/json", stub::text(&request.body["id"], &text)));
        at_lowest_priority(|| Stub::start(vec!["do".to_owned()], answer)).map(Self)
    }
}

impl Attack for ReadsNoLargeAnswer {
    fn servers(&self) -> Vec<Server> {
        vec![Server::http("large", &self.0.url())]
    }

    fn act(&self, _: &Gateway, target: &Target) -> Result<(), Fault> {
        target.on_threads(6, Duration::from_millis(100), |target| {
            let mut one = Raw::open(target.mcp)?;
            one.say(&raw::call(1, "large__do", json!({})))?;
            target.did();
            wait_for_the_end(&mut one.stream, target)
        })
    }
}

/// More connections than there are descriptors; a client that behaves still gets in, and so does an operator.
fn opens_and_never_asks(gateway: &Gateway, target: &Target) -> Result<(), Fault> {
    let mut silent = Vec::new();
    while !target.is_over() {
        silent.retain(|stream: &TcpStream| stream.set_nonblocking(true).is_ok() && is_open(stream));
        while silent.len() < 300 {
            silent.push(TcpStream::connect(target.mcp)?);
            target.did();
        }
        let mut good = Client::open(gateway.mcp)
            .map_err(|error| error.during("a new client beside 300 silent connections".to_owned()))?;
        good.text("good-http__echo", &json!({ "text": "still" }))?;
        gateway.cli(&["history"])?.expect(0)?;
        target.pause(Duration::from_millis(200));
    }
    Ok(())
}

fn is_open(mut stream: &TcpStream) -> bool {
    match stream.read(&mut [0; 256]) {
        Ok(count) => count > 0,
        Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
    }
}

fn initializes(target: &Target) -> Result<(), Fault> {
    let mut one = Raw::connect(target.mcp)?;
    let params = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "again", "version": "1" } });
    let message = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params });
    while !target.is_over() {
        one.ask(&message)?;
        target.did();
        target.pause(Duration::from_millis(1));
    }
    Ok(())
}

fn long_id(target: &Target) -> Result<(), Fault> {
    let mut one = Raw::open(target.mcp)?;
    let id: Value = "i".repeat(3 << 20).into();
    let answer = one.ask(&raw::call(id, "good-http__sleep", json!({ "ms": 2000 })))?;
    target.did();
    if answer.code().is_some() { Ok(()) } else { Err(fault("a request id of 3 MiB was taken")) }
}

pub(super) fn head_byte_by_byte(target: &Target) -> Result<(), Fault> {
    let mut stream = TcpStream::connect(target.mcp)?;
    let head = raw::head(target.mcp, 10, &[]);
    for byte in head {
        if target.is_over() {
            return Ok(());
        }
        stream.write_all(&[byte])?;
        target.did();
        target.pause(Duration::from_millis(100));
    }
    Ok(())
}

/// Cancels what never was, and ends a session that has just begun.
fn cancels_and_deletes(target: &Target) -> Result<(), Fault> {
    let mut one = Raw::open(target.mcp)?;
    for number in 0..50 {
        one.say(&raw::cancel(number))?;
        one.response()?;
        target.did();
    }
    one.bare("DELETE")?;
    one.response().map(drop)
}

/// Streams of notifications without end, all of one session, none of them read.
fn streams_of_one_session(target: &Target) -> Result<(), Fault> {
    let first = Raw::open(target.mcp)?;
    let mut streams = Vec::new();
    while !target.is_over() {
        streams.retain(|stream: &Raw| stream.stream.set_nonblocking(true).is_ok() && is_open(&stream.stream));
        if streams.len() < 200 {
            let mut another = first.again()?;
            another.bare("GET")?;
            streams.push(another);
            target.did();
        }
        target.pause(Duration::from_millis(5));
    }
    Ok(())
}
