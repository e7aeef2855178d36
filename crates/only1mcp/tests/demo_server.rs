//! The demo server as its clients meet it: a process, pipes and sockets.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};

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
    assert_eq!(ends, [2, 3], "the long call holds up nobody");
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

/// An HTTP/1.1 connection to a demo server.
struct Http {
    stream: BufReader<TcpStream>,
    session: Option<String>,
}

struct Response {
    status: u16,
    session: Option<String>,
    body: String,
}

impl Http {
    fn connect(demo: &mut Demo) -> (Self, String) {
        let line = demo.line();
        let address =
            line.trim().strip_prefix("listening on http://").unwrap().strip_suffix("/mcp").unwrap().to_owned();
        let stream = BufReader::new(TcpStream::connect(&address).unwrap());
        (Self { stream, session: None }, address)
    }

    fn write(&mut self, method: &str, more: &str, body: &str) {
        let session = self.session.as_ref().map(|id| format!("mcp-session-id: {id}\r\n")).unwrap_or_default();
        let head = format!("{method} /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n");
        let length = body.len();
        let request = format!("{head}{session}{more}content-length: {length}\r\n\r\n{body}");
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
    }

    fn read(&mut self) -> Response {
        let mut line = String::new();
        let mut next = |stream: &mut BufReader<TcpStream>| {
            line.clear();
            stream.read_line(&mut line).unwrap();
            line.trim_end().to_ascii_lowercase()
        };
        let status = next(&mut self.stream).split(' ').nth(1).unwrap().parse().unwrap();
        let (mut session, mut length, mut chunked) = (None, 0, false);
        loop {
            let header = next(&mut self.stream);
            match header.split_once(": ") {
                None => break,
                Some(("mcp-session-id", value)) => session = Some(value.to_owned()),
                Some(("content-length", value)) => length = value.parse().unwrap(),
                Some(("transfer-encoding", _)) => chunked = true,
                Some(_) => {}
            }
        }
        let mut body = Vec::new();
        while chunked {
            let size = usize::from_str_radix(&next(&mut self.stream), 16).unwrap();
            let mut chunk = vec![0; size + 2];
            self.stream.read_exact(&mut chunk).unwrap();
            body.extend_from_slice(&chunk[..size]);
            chunked = size > 0;
        }
        let mut rest = vec![0; length];
        self.stream.read_exact(&mut rest).unwrap();
        body.append(&mut rest);
        Response { status, session, body: String::from_utf8(body).unwrap() }
    }

    fn post(&mut self, message: &Value) -> Response {
        self.write("POST", "", &message.to_string());
        self.read()
    }

    fn initialize(&mut self) {
        let params = json!({ "protocolVersion": "2025-06-18", "capabilities": {} });
        let answer = self.post(&json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params }));
        assert_eq!(answer.status, 200);
        self.session = Some(answer.session.expect("a session id"));
    }
}

#[test]
fn http_sessions_begin_and_end() {
    let mut demo = Demo::start(&["--listen", "127.0.0.1:0"]);
    let (mut http, _) = Http::connect(&mut demo);
    let ping = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" });
    assert_eq!(http.post(&ping).status, 400, "no session yet");
    http.initialize();
    assert_eq!(http.post(&ping).status, 200);
    // Two requests in one go are answered in their order.
    let both = [call(5, "echo", &json!({ "text": "a" })), call(6, "echo", &json!({ "text": "b" }))];
    both.iter().for_each(|message| http.write("POST", "", &message.to_string()));
    let texts = [http.read().body, http.read().body];
    assert!(texts[0].contains(r#""text":"a""#) && texts[1].contains(r#""text":"b""#), "{texts:?}");
    http.write("DELETE", "", "");
    assert_eq!(http.read().status, 204);
    assert_eq!(http.post(&ping).status, 404, "the session is gone");
    http.write("POST", "origin: http://evil.example\r\n", &ping.to_string());
    assert_eq!(http.read().status, 403);
}

#[test]
fn http_tells_of_changes_on_its_stream_and_of_progress_in_the_answer() {
    let mut demo = Demo::start(&["--listen", "127.0.0.1:0", "--reply", "sse"]);
    let (mut http, address) = Http::connect(&mut demo);
    http.initialize();
    let mut changes = TcpStream::connect(address).unwrap();
    let session = http.session.clone().unwrap();
    let get = format!(
        "GET /mcp HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\nmcp-session-id: {session}\r\n\r\n"
    );
    changes.write_all(get.as_bytes()).unwrap();
    let answer = http.post(&call(1, "progress", &json!({ "steps": 3, "interval_ms": 1 })));
    let events: Vec<&str> = answer.body.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(events.len(), 4, "{}", answer.body);
    assert!(events[3].contains("3 steps done"));
    assert_eq!(http.post(&call(2, "tools", &json!({ "add": "new" }))).status, 200);
    let told = BufReader::new(changes).lines().map_while(Result::ok).find(|line| line.contains("list_changed"));
    assert!(told.is_some());
}

#[test]
fn http_without_sessions_checks_its_headers() {
    let mut demo = Demo::start(&["--listen", "127.0.0.1:0"]);
    let (mut http, _) = Http::connect(&mut demo);
    let mut check = |version: &str, method: &str, name: &str, code: Option<i64>| {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let params = json!({ "name": "add", "arguments": { "a": 1, "b": 2 }, "_meta": meta });
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
        let headers = format!("mcp-protocol-version: {version}\r\nmcp-method: {method}\r\nmcp-name: {name}\r\n");
        http.write("POST", &headers, &body.to_string());
        let answer = http.read();
        let answer: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(answer["error"]["code"].as_i64(), code, "{answer}");
    };
    check("2026-07-28", "tools/call", "add", None);
    check("2026-07-28", "tools/call", "=?base64?YWRk?=", None);
    check("2026-07-28", "tools/call", "echo", Some(-32020));
    check("2026-07-28", "tools/list", "add", Some(-32020));
    check("2025-11-25", "tools/call", "add", Some(-32020));
}
