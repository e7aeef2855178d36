//! Third-party servers and clients, behind and in front of the gateway while the file changes, and while servers and
//! sessions come to an end.

mod told;

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testkit::{ConfigFile, Document, Fault, Gateway, Scratch, Server, Supervised, client::http_get, wait};

use crate::{Figures, Size, commands};

const LIMIT: Duration = Duration::from_secs(60);

pub fn run(size: Size) -> Result<Figures, Fault> {
    let mut figures = Figures::default();
    let programs = Programs::install()?;
    let scratch = Scratch::new("foreign")?;
    let folder = scratch.folder("files")?;
    fs::write(folder.join("letter.txt"), "Dear gateway")?;
    let (everything, everything_url) = programs.everything_over_http(&scratch)?;
    let (weather, weather_url) = programs.weather("weather", &scratch)?;
    let script = |name: &str| programs.node_modules().join(name).display().to_string();
    let node = |id: &str, script: &str, arguments: &[&str]| {
        Server::stdio(id, &programs.node, &[&[script], arguments].concat())
    };
    let files = node("files", &script("server-filesystem/dist/index.js"), &[folder.to_str().unwrap_or_default()]);
    let stdio = node("stdio", &script("server-everything/dist/index.js"), &["stdio"]);
    let rest = Document::default().with(stdio).with(Server::http("weather", &weather_url));
    let prefixed = rest.clone().with(Server::http("http", &everything_url));
    let with_files = prefixed.clone().with(files.clone());
    let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &with_files.yaml())?;
    let gateway = Gateway::up(&scratch, file.path())?;

    let name = |server: &str, tool: &str| format!("{server}__{tool}");
    let stage =
        Stage { programs: &programs, scratch: &scratch, gateway: &gateway, file: &file, changes: size.pick(6, 2) };
    stage.play("prefix", &calls(&folder, &name, true), [&prefixed, &with_files], &mut figures)?;
    // Two copies of one server cannot share their names.
    let plain = rest.naming("none");
    let plain_files = plain.clone().with(files);
    file.replace(&plain_files.yaml())?;
    stage.wait_live()?;
    stage.play("none", &calls(&folder, &|_, tool| tool.to_owned(), false), [&plain, &plain_files], &mut figures)?;
    drop((everything, weather));
    told::run(&programs, &mut figures)?;
    Ok(figures)
}

/// What both clients call, and what must be in the answer.
fn calls(folder: &Path, name: &dyn Fn(&str, &str) -> String, both: bool) -> Value {
    let call = |server: &str, tool: &str, arguments: Value, expected: &str, steady: bool| json!({ "tool": name(server, tool), "arguments": arguments, "expected": expected, "steady": steady });
    let letter = json!({ "path": folder.join("letter.txt") });
    let mut calls = vec![
        call("stdio", "echo", json!({ "message": "over stdio" }), "over stdio", true),
        call("stdio", "get-sum", json!({ "a": 40, "b": 2 }), "42", true),
        call("weather", "forecast", json!({ "city": "Ghent" }), "It rains in Ghent.", true),
        call("files", "read_text_file", letter, "Dear gateway", false),
    ];
    if both {
        calls.push(call("http", "echo", json!({ "message": "over HTTP" }), "over HTTP", true));
    }
    calls.into()
}

/// Where the programs are.
struct Programs {
    folder: PathBuf,
    node: PathBuf,
    python: PathBuf,
}

impl Programs {
    /// Installs what is pinned in the fixtures, unless that was done before.
    fn install() -> Result<Self, Fault> {
        let folder = commands::foreign()?;
        let node = node(&folder)?;
        let python = folder.join("venv/bin/python");
        Ok(Self { folder, node, python })
    }

    fn node_modules(&self) -> PathBuf {
        self.folder.join("node_modules/@modelcontextprotocol")
    }

    fn everything_over_http(&self, scratch: &Scratch) -> Result<(Supervised, String), Fault> {
        let port = free_port()?;
        let mut command = Command::new(&self.node);
        command.arg(self.node_modules().join("server-everything/dist/index.js")).arg("streamableHttp");
        command.env("PORT", port.to_string());
        self.serve("everything", &mut command, port, scratch)
    }

    fn weather(&self, name: &str, scratch: &Scratch) -> Result<(Supervised, String), Fault> {
        let port = free_port()?;
        let mut command = Command::new(&self.python);
        command.arg(self.folder.join("server.py")).arg(port.to_string());
        self.serve(name, &mut command, port, scratch)
    }

    fn serve(
        &self,
        name: &str,
        command: &mut Command,
        port: u16,
        scratch: &Scratch,
    ) -> Result<(Supervised, String), Fault> {
        let process = Supervised::start(name, command.current_dir(&self.folder), &scratch.folder("logs")?)?;
        let address = ([127, 0, 0, 1], port).into();
        // Any answer will do: these have no page that says they are ready.
        wait::until_true(&format!("{name} to listen"), LIMIT, || http_get(address, "/").is_ok())?;
        Ok((process, format!("http://127.0.0.1:{port}/mcp")))
    }

    fn client(&self, name: &str, url: &str, calls: &Value, scratch: &Scratch) -> Result<Supervised, Fault> {
        let (program, script) = if name == "python" { (&self.python, "client.py") } else { (&self.node, "client.mjs") };
        let mut command = Command::new(program);
        command.arg(self.folder.join(script)).args([url, &calls.to_string()]).current_dir(&self.folder);
        Supervised::start(&format!("client-{name}"), &mut command, &scratch.folder("logs")?)
    }
}

/// The Node that the installed programs can run on.
pub(crate) fn node(folder: &Path) -> Result<PathBuf, Fault> {
    let own = folder.join("node_modules/.bin/node");
    if own.exists() {
        return Ok(own);
    }
    Ok(commands::run("node", Command::new("sh").args(["-c", "command -v node"]))?.output.trim().into())
}

/// These servers take no port 0.
fn free_port() -> Result<u16, Fault> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

struct Stage<'a> {
    programs: &'a Programs,
    scratch: &'a Scratch,
    gateway: &'a Gateway,
    file: &'a ConfigFile,
    changes: u64,
}

impl Stage<'_> {
    /// Both clients call while the file goes back and forth between two documents, and notice nothing they should not.
    fn play(
        &self,
        naming: &'static str,
        calls: &Value,
        documents: [&Document; 2],
        figures: &mut Figures,
    ) -> Result<(), Fault> {
        let url = format!("http://{}/mcp", self.gateway.mcp);
        let start = |name| Ok::<_, Fault>((name, self.programs.client(name, &url, calls, self.scratch)?));
        let mut clients = vec![start("python")?, start("typescript")?];
        clients.iter().try_for_each(|(_, client)| some_turns(client, 0))?;
        for change in 0..self.changes {
            self.file.replace(&documents[usize::from(change % 2 == 1)].yaml())?;
            self.wait_live()?;
            clients.iter().try_for_each(|(_, client)| some_turns(client, change + 1))?;
        }
        figures.note("naming", naming);
        figures.note("changes", self.changes);
        for (name, client) in &mut clients {
            client.signal(Signal::SIGTERM);
            let saw = client.wait_stdout("what it saw", LIMIT, |line| line.strip_prefix("saw ").map(str::to_owned))?;
            judge(name, &serde_json::from_str(&saw)?, self.changes, figures);
        }
        Ok(())
    }

    /// Waits until what the file says is live.
    fn wait_live(&self) -> Result<(), Fault> {
        let reloaded = self.gateway.cli(&["reload", "--output", "json"])?;
        // The second of the two, the watcher or this command, finds the change done.
        if matches!(reloaded.code, 0 | 2) { Ok(()) } else { reloaded.expect(0).map(|_| ()) }
    }
}

/// Waits until the client has listed the tools after it heard of so many changes, and has been through all its calls a
/// few more times.
fn some_turns(client: &Supervised, heard: u64) -> Result<(), Fault> {
    let turn = |line: &str| {
        let (turn, heard) = line.strip_prefix("turn ")?.split_once(" heard ")?;
        Some((turn.parse::<u64>().ok()?, heard.parse::<u64>().ok()?))
    };
    let listed = |line: &str| turn(line).filter(|(_, listed)| *listed >= heard);
    let (before, _) = client.wait_stdout(&format!("{heard} changes heard"), LIMIT, listed)?;
    client.wait_stdout("more turns", LIMIT, |line| (turn(line)?.0 >= before + 3).then_some(()))
}

fn judge(name: &'static str, saw: &Value, changes: u64, figures: &mut Figures) {
    let failures = saw["failures"].as_array().into_iter().flatten();
    figures.note("client", name);
    figures.none("failures", failures);
    let calls = saw["calls"].as_u64().unwrap_or_default();
    figures.demand("calls", calls, "some", calls > 0);
    figures.note("gone", &saw["gone"]);
    let heard = saw["changes"].as_u64().unwrap_or_default();
    figures.demand("list_changed", heard, &changes.to_string(), heard == changes);
}
