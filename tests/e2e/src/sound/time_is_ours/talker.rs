//! A server that talks to clients which do not listen, and writes down when it was let go.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::TcpStream,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};
use testkit::{
    Fault,
    stub::{RAW, Request, Stub, text},
    wait,
};
use tokio::time::Instant;

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";

/// One call, as its server saw it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// When it came.
    pub(super) came: Instant,
    /// When the last of what was to be said was written.
    pub(super) silent: Option<Instant>,
    /// When the gateway let it go.
    pub(super) ended: Option<Instant>,
}

/// With one tool, `talk`. Its argument `kind` is `flood` (events without end), `silent` (a few, then none, and no
/// answer) or `large` (one answer of 2 MB); `id` names the call.
pub(super) struct Talker {
    stub: Stub,
    seen: Arc<Mutex<BTreeMap<String, Seen>>>,
}

impl Talker {
    pub(super) fn start() -> Result<Self, Fault> {
        let seen: Arc<Mutex<BTreeMap<String, Seen>>> = Arc::default();
        let book = Arc::clone(&seen);
        let stub = Stub::start_with(vec!["talk".to_owned()], move |request, stream| {
            let arguments = &request.body["params"]["arguments"];
            let id = arguments["id"].as_str().unwrap_or_default().to_owned();
            lock(&book).insert(id.clone(), Seen { came: Instant::now(), silent: None, ended: None });
            let note = |what: fn(&mut Seen)| {
                if let Some(seen) = lock(&book).get_mut(&id) {
                    what(seen);
                }
            };
            match arguments["kind"].as_str() {
                Some("large") => return Some(("application/json", large(request))),
                Some("flood") => flood(stream),
                _ => {
                    few(stream);
                    note(|seen| seen.silent = Some(Instant::now()));
                    // Returns when the other side is gone.
                    drop((&*stream).read(&mut [0]));
                }
            }
            note(|seen| seen.ended = Some(Instant::now()));
            Some((RAW, String::new()))
        })?;
        Ok(Self { stub, seen })
    }

    pub(super) fn url(&self) -> String {
        self.stub.url()
    }

    pub(super) fn wait_came(&self, id: &str, limit: Duration) -> Result<Seen, Fault> {
        wait::until(&format!("the call {id}"), limit, || lock(&self.seen).get(id).copied())
    }

    /// Those whose names begin so, once the gateway has let all of them go.
    pub(super) fn wait_ended(&self, prefix: &str, limit: Duration) -> Result<Vec<Seen>, Fault> {
        let of = || lock(&self.seen).iter().filter(|(id, _)| id.starts_with(prefix)).map(|(_, seen)| *seen).collect();
        let all = |calls: &Vec<Seen>| calls.iter().all(|seen| seen.ended.is_some());
        wait::until(&format!("the end of the calls {prefix}"), limit, || Some(of()).filter(all))
    }
}

fn lock<T>(book: &Mutex<T>) -> MutexGuard<'_, T> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

fn event() -> Vec<u8> {
    let params = json!({ "level": "info", "data": "x".repeat(2000) });
    let message = json!({ "jsonrpc": "2.0", "method": "notifications/message", "params": params });
    format!("data: {message}\n\n").into_bytes()
}

/// Writes until the peer takes no more.
fn flood(mut stream: &TcpStream) {
    let event = event();
    let mut written = stream.write_all(HEAD);
    while written.is_ok() {
        written = stream.write_all(&event);
    }
}

/// As much as any client's connection holds without being read.
fn few(mut stream: &TcpStream) {
    let all = [HEAD.to_vec(), event().repeat(12)].concat();
    drop(stream.write_all(&all));
}

fn large(request: &Request) -> String {
    text(&request.body["id"], &"0123456789abcdef".repeat(128 << 10))
}

pub(super) fn arguments(kind: &str, id: &str) -> Value {
    json!({ "kind": kind, "id": id })
}
