//! A small MCP server on stdio that answers when, and as badly as, a test wants.

use std::io::{BufRead, Read, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

fn say(message: &Value) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{message}").unwrap();
    out.flush().unwrap();
}

fn answer(id: &Value, text: impl Into<Value>) {
    say(&json!({"jsonrpc": "2.0", "id": id, "result": {"content": text.into()}}));
}

/// `trees`: how many `sh → sleep` trees to start that ignore everything but SIGKILL; then the end of stdin is ignored
/// by this server, too.
#[expect(clippy::zombie_processes, reason = "whether somebody else reaps them is what is tested")]
pub fn serve(trees: u32) {
    for _ in 0..trees {
        // One process in the server's group, one that moved to a session of its own.
        for (program, arguments) in [("sh", vec!["-c"]), ("setsid", vec!["sh", "-c"])] {
            let script = "trap '' TERM HUP INT; sleep 1000 & sleep 1000";
            Command::new(program).args(arguments).arg(script).stdin(Stdio::null()).spawn().unwrap();
        }
    }
    let mut server = Server::default();
    for line in std::io::stdin().lock().lines() {
        server.take(&serde_json::from_str(&line.unwrap()).unwrap());
    }
    if trees > 0 {
        loop {
            std::thread::park();
        }
    }
}

/// Sends requests without end, and reads a little now and then.
fn ask_and_read_slowly() {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let ask = format!(r#"{{"jsonrpc":"2.0","id":"{}","method":"ping"}}"#, "x".repeat(900));
            while !over.load(Ordering::Relaxed) {
                println!("{ask}");
            }
        });
        let mut stdin = std::fs::File::open("/dev/stdin").unwrap();
        for _ in 0..1_500 {
            stdin.read_exact(&mut [0; 4 << 10]).unwrap();
            // The server is that slow.
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        over.store(true, Ordering::Relaxed);
    });
}

/// Announces without end that its list changed, and soon answers.
fn change_on(id: &Value) {
    let mut out = std::io::stdout().lock();
    for number in 0.. {
        if writeln!(out, r#"{{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}}"#).is_err() {
            break;
        }
        if number == 10_000 {
            writeln!(out, r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":"changed"}}}}"#).unwrap();
        }
    }
}

/// Answers, and then writes a flood without a message: lines of white space on stdout, or text on stderr.
fn says_nothing(id: &Value, how: &str) {
    answer(id, "soon");
    let (mut out, line): (Box<dyn Write>, _) = match how {
        "mutter" => (Box::new(std::io::stderr().lock()), "a\n".to_owned()),
        "pad" => (Box::new(std::io::stdout().lock()), format!("{}\n", " ".repeat(1000))),
        _ => (Box::new(std::io::stdout().lock()), "\n".to_owned()),
    };
    let lines = line.repeat(4096);
    while out.write_all(lines.as_bytes()).is_ok() {}
}

/// Writes this many bytes of its answer, and no more. If it answers first, no call waits for these bytes. If it ends
/// the line, it announces that as a change of its list.
fn begin(id: &Value, arguments: &Value) {
    if arguments["answers"] == true {
        answer(id, "it begins");
    }
    let mut out = std::io::stdout().lock();
    write!(out, r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":""#).unwrap();
    std::io::copy(&mut std::io::repeat(b'x').take(arguments["bytes"].as_u64().unwrap()), &mut out).unwrap();
    out.flush().unwrap();
    if arguments["ends"] == true {
        writeln!(out, r#""}}}}"#).unwrap();
        writeln!(out, r#"{{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}}"#).unwrap();
    }
}

#[derive(Default)]
struct Server {
    held: Vec<Value>,
    cancelled: Vec<Value>,
    asking: Option<Value>,
    replies: Vec<Value>,
}

impl Server {
    fn take(&mut self, message: &Value) {
        let (id, params) = (&message["id"], &message["params"]);
        match message["method"].as_str() {
            Some("initialize") => say(&json!({"jsonrpc": "2.0", "id": id, "result": {
                "protocolVersion": "2025-06-18",
                "capabilities": {"tools": {"listChanged": true}},
                "serverInfo": {"name": "small", "version": "1"},
                "instructions": "be kind",
            }})),
            Some("ping") => say(&json!({"jsonrpc": "2.0", "id": id, "result": {}})),
            Some("tools/list") => {
                let page = if params["cursor"] == "more" { "second" } else { "first" };
                let mut result = json!({"tools": [{"name": page, "inputSchema": {"type": "object"}}, {"name": 7}]});
                if page == "first" {
                    result["nextCursor"] = "more".into();
                }
                say(&json!({"jsonrpc": "2.0", "id": id, "result": result}));
            }
            Some("tools/call") => self.call(id, params),
            Some("notifications/cancelled") => self.cancelled.push(params["requestId"].clone()),
            Some(_) => {}
            None => self.reply(message),
        }
    }

    fn call(&mut self, id: &Value, params: &Value) {
        match params["name"].as_str().unwrap() {
            "echo" => answer(id, params.clone()),
            "hold" => self.held.push(id.clone()),
            "release" => {
                answer(id, "released");
                for held in self.held.drain(..).rev() {
                    answer(&held, held.clone());
                }
            }
            "progress" => {
                for step in 1..=3 {
                    let token = &params["_meta"]["progressToken"];
                    say(&json!({"jsonrpc": "2.0", "method": "notifications/progress",
                        "params": {"progressToken": token, "progress": step}}));
                }
                answer(id, "done");
            }
            "crash" => {
                #[expect(clippy::disallowed_methods, reason = "a crash does not return from main")]
                let crash = std::process::exit;
                eprintln!("the reactor\nis melting");
                crash(3);
            }
            "noise" => {
                println!("this is no JSON");
                answer(id, "after noise");
            }
            "ask" => {
                self.asking = Some(id.clone());
                say(&json!({"jsonrpc": "2.0", "id": "s1", "method": "sampling/createMessage", "params": {}}));
                say(&json!({"jsonrpc": "2.0", "id": 77, "method": "ping"}));
            }
            // Writes what the call says, `ID` in it replaced by the id of the call.
            "write" => {
                let text = params["arguments"]["text"].as_str().unwrap().replace("ID", &id.to_string());
                // A test has no other way to write bytes that are no text.
                let bytes: Vec<u8> = text.chars().map(|letter| u8::try_from(u32::from(letter)).unwrap()).collect();
                let mut out = std::io::stdout().lock();
                out.write_all(&bytes).unwrap();
                out.flush().unwrap();
            }
            "begin" => begin(id, &params["arguments"]),
            "end" => {
                println!(r#""}}}}"#);
                answer(id, "it ends");
            }
            "long" => answer(id, "y".repeat(3 << 20)),
            // Sends requests for ever, and reads nothing meanwhile.
            "ask_on" => {
                let mut out = std::io::stdout().lock();
                while writeln!(out, r#"{{"jsonrpc":"2.0","id":"{}","method":"ping"}}"#, "x".repeat(500)).is_ok() {}
            }
            "ask_and_read_slowly" => {
                ask_and_read_slowly();
                answer(id, "heard enough");
            }
            "change_on" => change_on(id),
            how @ ("blank" | "pad" | "mutter") => says_nothing(id, how),
            "cancelled" => answer(id, self.cancelled.clone()),
            "held" => answer(id, self.held.clone()),
            // Reads nothing until the file exists.
            "until" => {
                let path = params["arguments"]["path"].as_str().unwrap();
                while !std::path::Path::new(path).exists() {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                answer(id, "there it is");
            }
            "change" => {
                say(&json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}));
                answer(id, "changed");
            }
            other => panic!("no tool {other}"),
        }
    }

    fn reply(&mut self, message: &Value) {
        self.replies.push(message.clone());
        if self.replies.len() == 2 {
            answer(&self.asking.take().unwrap(), std::mem::take(&mut self.replies));
        }
    }
}
