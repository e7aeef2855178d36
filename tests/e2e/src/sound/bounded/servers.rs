//! Hostile servers.

use std::{
    fs,
    io::{BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use testkit::{
    Fault, Gateway, Scratch, Server,
    raw::{self, Raw},
    stub::{self, Request},
};

use tokio::time::Instant;

use super::peer::{Attack, Entry, Target, at_lowest_priority};

/// How long a client waits for the answer of a hostile server.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) const PEERS: &[Entry] = &[
    // The server sends requests, and does not read the answers.
    ("asks-and-never-reads", |scratch| child(scratch, &forever(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#))),
    ("list-changed-for-ever", list_changed_for_ever),
    ("a-line-without-end", |scratch| child(scratch, "yes endless | tr -d '\\n'\n")),
    ("events-that-end", |_| Ok(Box::new(Http::start(Way::EventsThatEnd)?))),
    ("floods-by-events", |_| Ok(Box::new(Http::start(Way::FloodsByEvents)?))),
];

/// A child process that is initialised properly, and then goes its way at the lowest priority.
struct Child(Server);

pub(super) fn list_changed_for_ever(scratch: &Scratch) -> Result<Box<dyn Attack>, Fault> {
    child(scratch, &beside(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#))
}

fn child(scratch: &Scratch, then: &str) -> Result<Box<dyn Attack>, Fault> {
    let path = scratch.file("hostile.sh");
    let answers = r#"answer() { id=${1#*\"id\":}; id=${id%%[,\}]*}; case $1 in
*'"initialize"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"sh","version":"1"}}}\n' "$id";;
*'"tools/list"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"tools":[{"name":"do","inputSchema":{"type":"object"}}]}}\n' "$id";;
esac; }
for turn in 1 2 3; do IFS= read -r line; answer "$line"; done
"#;
    fs::write(&path, format!("{answers}{then}"))?;
    let path = path.to_str().unwrap_or_default().to_owned();
    // For the reason given at `lowest_priority`.
    let idle = ["--idle", "0", "/bin/sh", &path];
    Ok(Box::new(Child(Server::stdio("hostile", "/usr/bin/chrt".as_ref(), &idle))))
}

/// Says the line for ever, and does nothing else.
fn forever(line: &str) -> String {
    format!("exec yes '{line}'\n")
}

/// Says the line for ever in whole blocks, and still answers.
fn beside(line: &str) -> String {
    let count = 4096 / (line.len() + 1);
    format!(
        "block=$(yes '{line}' | head -n {count})\n(while :; do printf '%s\\n' \"$block\"; done) &\n\
         while IFS= read -r line; do answer \"$line\"; done\n"
    )
}

impl Attack for Child {
    fn servers(&self) -> Vec<Server> {
        vec![self.0.clone()]
    }

    fn act(&self, gateway: &Gateway, target: &Target) -> Result<(), Fault> {
        while !target.is_over() {
            // It is heard, whatever became of it: up, broken, or on its way back.
            if gateway.cli(&["status", "--output", "json"])?.stdout.contains("hostile") {
                target.did();
            }
            target.pause(Duration::from_secs(1));
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Way {
    /// Every stream of events ends at once and asks for another one without delay.
    EventsThatEnd,
    /// Whatever is asked of it beyond its tools is answered by events without end: the stream of announcements, each
    /// call, each reply.
    FloodsByEvents,
}

/// A server over HTTP.
struct Http {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
}

impl Http {
    fn start(way: Way) -> Result<Self, Fault> {
        let requests = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&requests);
        // A thread for each connection, of the priority of the one that begins to listen.
        let address = at_lowest_priority(|| stub::listen(move |stream| serve(stream, way, &counted)))?;
        Ok(Self { address, requests })
    }
}

impl Attack for Http {
    fn servers(&self) -> Vec<Server> {
        vec![Server::http("hostile", &format!("http://{}/mcp", self.address))]
    }

    fn act(&self, _: &Gateway, target: &Target) -> Result<(), Fault> {
        target.on_threads(4, Duration::from_millis(20), |target| {
            let mut one = Raw::open(target.mcp)?;
            one.stream.set_read_timeout(Some(PATIENCE))?;
            one.say(&raw::call(1, "hostile__do", json!({})))?;
            // The answer may be without end.
            let (until, mut read) = (Instant::now() + PATIENCE, vec![0; 64 << 10]);
            while Instant::now() < until && one.stream.read(&mut read)? > 0 {}
            Ok(())
        })
    }

    fn heard(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

fn serve(stream: &TcpStream, way: Way, counted: &AtomicU64) -> Result<(), Fault> {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    while let Some(request) = Request::read(&mut reader)? {
        counted.fetch_add(1, Ordering::Relaxed);
        let message = &request.body;
        let events = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
        match (message["method"].as_str(), way) {
            (None | Some("tools/call"), Way::FloodsByEvents) => {
                writer.write_all(events.as_bytes())?;
                let block = flood();
                loop {
                    writer.write_all(block.as_bytes())?;
                }
            }
            (None, _) => {
                writer.write_all(format!("{events}retry: 0\nid: 1\ndata:\n\n").as_bytes())?;
                return Ok(());
            }
            (Some("tools/call"), Way::EventsThatEnd) => {
                writer.write_all(format!("{events}retry: 0\nid: 1\ndata:\n\n").as_bytes())?;
                return Ok(());
            }
            (Some("initialize"), _) => {
                let greeting =
                    stub::greeting(&message["id"]).replace(r#""tools":{}"#, r#""tools":{"listChanged":true}"#);
                reply(writer, &greeting)?;
            }
            (Some("tools/list"), _) => reply(writer, &stub::page(message, &["do".to_owned()]))?,
            (Some(_), _) => writer.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")?,
        }
    }
    Ok(())
}

/// One of each that a server may say unasked, many times.
fn flood() -> String {
    let message = |message: Value| format!("data: {message}\n\n");
    let said = [
        message(json!({ "jsonrpc": "2.0", "id": 7, "method": "ping" })),
        message(json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed" })),
        message(json!({ "jsonrpc": "2.0", "method": "notifications/message", "params": { "data": "x" } })),
        message(json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": { "progressToken": "no" } })),
        message(json!({ "jsonrpc": "2.0", "id": 99_999, "method": "sampling/createMessage" })),
        ":\n".repeat(20),
        "id: 7\n\n".to_owned(),
    ];
    said.concat().repeat(100)
}

fn reply(mut writer: &TcpStream, body: &str) -> Result<(), Fault> {
    Ok(writer.write_all(&stub::response("200 OK", "Content-Type: application/json\r\n", body))?)
}
