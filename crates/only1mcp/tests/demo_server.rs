//! The demo server as its clients meet it: a process, pipes and sockets.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::SocketAddr,
    process::{Child, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};
use testkit::{Fault, raw::Raw};

struct Demo {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_only1mcp"))
            .arg("demo-server")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    /// One over HTTP, and where.
    fn listening(more: &[&str]) -> (Self, SocketAddr) {
        let mut demo = Self::start(&[&["--listen", "127.0.0.1:0"], more].concat());
        let line = demo.line();
        let address = line.trim().strip_prefix("listening on http://").unwrap().strip_suffix("/mcp").unwrap();
        (demo, address.parse().unwrap())
    }

    fn say(&self, message: &Value) {
        writeln!(self.child.stdin.as_ref().unwrap(), "{message}").unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line
    }

    fn hear(&mut self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }

    /// Closes its stdin and returns its exit code.
    fn end(mut self) -> i32 {
        drop(self.child.stdin.take());
        self.child.wait().unwrap().code().expect("no signal")
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn call(id: u64, tool: &str, arguments: &Value) -> Value {
    let params = json!({ "name": tool, "arguments": arguments, "_meta": { "progressToken": id } });
    json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params })
}

#[test]
fn stdio_calls_overlap_and_can_be_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let counts = folder.path().join("counts");
    let mut demo = Demo::start(&["--stdio", "--count-file", counts.to_str().unwrap()]);
    demo.say(&call(1, "sleep", &json!({ "ms": 600_000 })));
    demo.say(&call(2, "progress", &json!({ "steps": 2, "interval_ms": 1 })));
    demo.say(&call(3, "echo", &json!({ "text": "x" })));
    let mut ends = Vec::new();
    let mut progress = Vec::new();
    while ends.len() < 2 {
        let message = demo.hear();
        match message["id"].as_u64() {
            Some(id) => ends.push(id),
            None => progress.push((message["params"]["progressToken"].clone(), message["params"]["progress"].clone())),
        }
    }
    ends.sort_unstable();
    assert_eq!(ends, [2, 3], "the long call holds up no other");
    assert_eq!(progress, [(json!(2), json!(1)), (json!(2), json!(2))]);
    demo.say(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 1 } }));
    demo.say(&json!({ "jsonrpc": "2.0", "id": 4, "method": "ping" }));
    assert_eq!(demo.hear(), json!({ "jsonrpc": "2.0", "id": 4, "result": {} }), "a cancelled call is not answered");
    assert_eq!(demo.end(), 0);
    assert_eq!(std::fs::read_to_string(counts).unwrap(), "sleep\nprogress\nx\n");
}

#[test]
fn stdio_tells_of_changes_after_initialize_only() {
    let mut demo = Demo::start(&[]);
    demo.say(&call(1, "tools", &json!({ "add": "first" })));
    assert_eq!(demo.hear()["id"], 1);
    let params = json!({ "protocolVersion": "2025-11-25", "capabilities": {} });
    demo.say(&json!({ "jsonrpc": "2.0", "id": 2, "method": "initialize", "params": params }));
    assert_eq!(demo.hear()["result"]["protocolVersion"], "2025-11-25");
    demo.say(&call(3, "tools", &json!({ "add": "second" })));
    assert_eq!(demo.hear()["id"], 3);
    assert_eq!(demo.hear()["method"], "notifications/tools/list_changed");
}

#[test]
fn processes_that_fail_do_so_as_told() {
    let mut crashing = Demo::start(&["--stdio"]);
    crashing.say(&call(1, "crash", &json!({ "code": 7 })));
    assert_eq!(crashing.line(), "", "a crash answers nothing");
    assert_eq!(crashing.child.wait().unwrap().code(), Some(7));
    let mut broken = Demo::start(&["--exit-at-once", "3", "--stderr", "no such database"]);
    assert_eq!(broken.child.wait().unwrap().code(), Some(3));
    let mut said = String::new();
    broken.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "no such database\n");
}

#[test]
fn http_sessions_begin_and_end() -> Result<(), Fault> {
    let (_demo, address) = Demo::listening(&[]);
    let ping = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" });
    assert_eq!(Raw::connect(address)?.ask(&ping)?.status, 400, "no session yet");
    let mut raw = Raw::open(address)?;
    assert_eq!(raw.ask(&ping)?.status, 200);
    // Two requests in one go are answered in their order.
    for text in ["a", "b"] {
        raw.say(&call(5, "echo", &json!({ "text": text })))?;
    }
    for text in ["a", "b"] {
        assert_eq!(raw.response()?.json()["result"]["content"][0]["text"], text);
    }
    raw.bare("DELETE")?;
    assert_eq!(raw.response()?.status, 204);
    assert_eq!(raw.ask(&ping)?.status, 404, "the session is gone");
    raw.post(ping.to_string().as_bytes(), &[("Origin", b"http://evil.example")])?;
    assert_eq!(raw.response()?.status, 403);
    Ok(())
}

#[test]
fn http_tells_of_changes_on_its_stream_and_of_progress_in_the_answer() -> Result<(), Fault> {
    let (_demo, address) = Demo::listening(&["--reply", "sse"]);
    let mut raw = Raw::open(address)?;
    let mut changes = raw.again()?;
    assert_eq!(changes.listen()?.status, 200);
    let answer = raw.ask(&call(1, "progress", &json!({ "steps": 3, "interval_ms": 1 })))?;
    assert_eq!(String::from_utf8_lossy(&answer.body).matches("data: ").count(), 4, "{answer:?}");
    assert_eq!(answer.json()["result"]["content"][0]["text"], "3 steps done");
    assert_eq!(raw.ask(&call(2, "tools", &json!({ "add": "new" })))?.status, 200);
    assert_eq!(changes.event()?.unwrap()["method"], "notifications/tools/list_changed");
    Ok(())
}

#[test]
fn http_without_sessions_checks_its_headers() -> Result<(), Fault> {
    let (_demo, address) = Demo::listening(&[]);
    let mut raw = Raw::connect(address)?;
    for (version, method, name, code) in [
        ("2026-07-28", "tools/call", "add", None),
        ("2026-07-28", "tools/call", "=?base64?YWRk?=", None),
        ("2026-07-28", "tools/call", "echo", Some(-32020)),
        ("2026-07-28", "tools/list", "add", Some(-32020)),
        ("2025-11-25", "tools/call", "add", Some(-32020)),
    ] {
        let mut body = call(1, "add", &json!({ "a": 1, "b": 2 }));
        body["params"]["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let headers = [("mcp-protocol-version", version), ("mcp-method", method), ("mcp-name", name)];
        raw.post(body.to_string().as_bytes(), &headers.map(|(name, value)| (name, value.as_bytes())))?;
        let answer = raw.response()?;
        assert_eq!(answer.code(), code, "{answer:?}");
    }
    Ok(())
}
