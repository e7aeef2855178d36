//! One gateway with its file and what stands behind it.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use std::io::{BufReader, Write};
use testkit::{
    Client, ConfigFile, Document, Fault, Gateway, Scratch, Server, Supervised, System, binaries, demo, fault,
    stub::{self, Request},
    wait,
};

/// Longer than any wait of the gateway's own here.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// What is dropped first ends first.
pub(super) struct Stage<'a> {
    traffic: Option<Traffic>,
    pub(super) gateway: Gateway,
    pub(super) file: ConfigFile,
    pub(super) document: Document,
    upstream: Option<Supervised>,
    /// What an HTTP server wants in `Authorization`.
    pub(super) wanted: Arc<Mutex<String>>,
    pub(super) scratch: &'a Scratch,
}

impl<'a> Stage<'a> {
    /// A gateway that notices within a second or two what it notices within half a minute by default.
    pub(super) fn open(scratch: &'a Scratch, document: Document) -> Result<Self, Fault> {
        let health = json!({
            "interval": "500ms", "timeout": "1s", "unhealthy_threshold": 2, "healthy_threshold": 1,
        });
        let document = document.key("health", health);
        let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &document.yaml())?;
        let gateway = Gateway::up(scratch, file.path())?;
        let stage = Self { traffic: None, gateway, file, document, upstream: None, wanted: Arc::default(), scratch };
        stage.wait_status("all servers to be up", |_, code| code == 0)?;
        Ok(stage)
    }

    pub(super) fn with_upstream(mut self, upstream: Supervised) -> Self {
        self.upstream = Some(upstream);
        self
    }

    /// `status` until it is as it should be.
    pub(super) fn wait_status(&self, what: &str, holds: impl Fn(&Value, i32) -> bool) -> Result<(), Fault> {
        let mut last = String::new();
        let waited = wait::until_true(what, LIMIT, || {
            let Ok(said) = self.gateway.cli(&["status", "--output", "json"]) else { return false };
            let holds = said.json().is_ok_and(|status| holds(&status, said.code));
            last = said.stdout;
            holds
        });
        waited.map_err(|error| error.during(last))
    }

    /// The process of a stdio server.
    pub(super) fn signal(&self, server: &str, signal: Signal) -> Result<(), Fault> {
        let status = self.gateway.status()?;
        let pid = endpoint(&status, server)["pid"].as_i64().ok_or_else(|| fault(format!("no process in {status}")))?;
        Ok(kill(Pid::from_raw(i32::try_from(pid)?), signal)?)
    }

    /// Puts what the document is now onto the file, as an editor does.
    pub(super) fn save(&self) -> Result<(), Fault> {
        Ok(self.file.replace(&self.document.yaml())?)
    }

    pub(super) fn wait_revision(&self, revision: u64) -> Result<(), Fault> {
        self.wait_status(&format!("revision {revision}"), |status, _| status["revision"] == revision)
    }

    pub(super) fn stop_upstream(&mut self) -> Result<(), Fault> {
        self.upstream.take().map_or(Ok(()), |mut upstream| upstream.kill().map(drop))
    }

    /// At the address at which it was before.
    pub(super) fn start_upstream(&mut self) -> Result<(), Fault> {
        let address = fs::read_to_string(self.scratch.file("upstream"))?;
        self.upstream = Some(upstream(self.scratch, address.trim())?);
        Ok(())
    }

    /// Clients that call a tool over and over, until the stage is dropped or this is said again.
    pub(super) fn keep_calling(&mut self, tool: &'static str, arguments: Value) {
        let (address, stop) = (self.gateway.mcp, Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let Ok(mut client) = Client::open(address) else { return };
            while !stopped.load(Ordering::Relaxed) {
                // How a call ends is for the gateway to notice.
                drop(client.call(tool, &arguments));
            }
        });
        self.traffic = Some(Traffic { stop, thread: Some(thread) });
    }

    pub(super) fn answers(&self, tool: &str) -> bool {
        let call = || Client::open(self.gateway.mcp)?.text(tool, &json!({ "a": 1, "b": 1, "text": "here" }));
        call().is_ok()
    }
}

struct Traffic {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// The only endpoint of a server in the JSON of `status`.
pub(super) fn endpoint<'v>(status: &'v Value, server: &str) -> &'v Value {
    let servers = status["servers"].as_array();
    let found = servers.and_then(|servers| servers.iter().find(|known| known["id"] == server));
    found.map_or(&Value::Null, |server| &server["endpoints"][0])
}

/// A demo server over HTTP; where it listens is written into the file `upstream`.
pub(super) fn upstream(scratch: &Scratch, address: &str) -> Result<Supervised, Fault> {
    let mut command = Command::new(binaries::path("only1mcp")?);
    command.args(["demo-server", "--name", "search", "--listen", address]);
    command.arg("--port-file").arg(scratch.file("upstream"));
    let process = Supervised::start("upstream", &mut command, &scratch.folder("logs")?)?;
    process.wait_stdout("its address", LIMIT, |line| line.contains("listening on").then_some(()))?;
    Ok(process)
}

pub(super) fn upstream_url(scratch: &Scratch) -> Result<String, Fault> {
    Ok(format!("http://{}/mcp", fs::read_to_string(scratch.file("upstream"))?.trim()))
}

/// A stdio server that ends at once, and says why, unless its data is there.
pub(super) fn needs_data(id: &str, scratch: &Scratch) -> Result<Server, Fault> {
    let data = scratch.folder("data")?;
    let script = r#"test -d "$DATA" || { echo "crm: cannot open $DATA: No such file or directory" >&2; exit 3; }
exec "$PROGRAM" demo-server --stdio --name crm"#;
    let server = Server::stdio(id, Path::new("/bin/sh"), &["-c", script]);
    Ok(server.env("DATA", text(&data)).env("PROGRAM", text(&binaries::path("only1mcp")?)))
}

pub(super) fn quiet(id: &str, scratch: &Scratch) -> Result<Server, Fault> {
    demo::stdio(id, id, scratch)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the folders of tests have plain names")
}

/// An HTTP server that answers 401 to who does not present what is `wanted` at that moment; its URL.
pub(super) fn guarded(wanted: Arc<Mutex<String>>) -> Result<String, Fault> {
    let address = stub::listen(move |stream| {
        let mut reader = BufReader::new(stream);
        while let Some(request) = Request::read(&mut reader)? {
            let wanted = format!("Bearer {}", wanted.lock().unwrap_or_else(PoisonError::into_inner));
            let reply = match (request.header("authorization") == Some(&wanted), request.method()) {
                (false, _) => stub::response("401 Unauthorized", "WWW-Authenticate: Bearer\r\n", "token expired"),
                (true, "initialize") => json_reply(stub::greeting(&request.body["id"])),
                (true, "tools/list") => json_reply(stub::page(&request.body, &["find".to_owned()])),
                (true, "tools/call") => json_reply(stub::text(&request.body["id"], "found")),
                (true, "ping") => {
                    json_reply(json!({ "jsonrpc": "2.0", "id": request.body["id"], "result": {} }).to_string())
                }
                (true, _) if request.verb == "GET" => stub::response("405 Method Not Allowed", "", ""),
                (true, _) => stub::response("202 Accepted", "", ""),
            };
            let mut stream = stream;
            stream.write_all(&reply)?;
        }
        Ok(())
    })?;
    Ok(format!("http://{address}/mcp"))
}

fn json_reply(body: String) -> Vec<u8> {
    stub::response("200 OK", "Content-Type: application/json\r\n", body)
}
