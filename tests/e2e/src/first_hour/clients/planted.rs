//! One file of a client in a home of its own, on a machine on which every program is there and every address answers.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use testkit::{
    Client, DemoServer, Fault, Gateway, Scratch, binaries, fault,
    gateway::{self, Cli},
    wait,
};

use super::{accounted, led};

/// A file that a client's users have.
pub(super) struct ClientFile {
    /// Of its folder in `tests/fixtures/clients`.
    pub(super) name: &'static str,
    path: &'static str,
    /// For `export`: the client itself, or one with the same format.
    client: &'static str,
    /// Nothing is imported from it, since it is a configuration of ours already.
    is_ours: bool,
}

const fn file(name: &'static str, path: &'static str, client: &'static str) -> ClientFile {
    ClientFile { name, path, client, is_ours: false }
}

/// The first ones are those of the short form.
pub(super) static CLIENTS: [ClientFile; 13] = [
    file("claude-desktop", ".config/Claude/claude_desktop_config.json", "claude-desktop"),
    file("vscode", "shop/.vscode/mcp.json", "vscode"),
    file("codex", ".codex/config.toml", "codex"),
    file("zed", ".config/zed/settings.json", "zed"),
    file("claude-code", ".claude.json", "claude-code"),
    file("claude-code-project", "shop/.mcp.json", "claude-code"),
    file("cursor", "shop/.cursor/mcp.json", "cursor"),
    file("vscode-settings", ".config/Code/User/settings.json", "vscode"),
    file("windsurf", ".codeium/windsurf/mcp_config.json", "windsurf"),
    file("gemini", ".gemini/settings.json", "gemini-cli"),
    file("cline", ".config/Code/cline_mcp_settings.json", "cursor"),
    file("copilot", ".copilot/mcp-config.json", "cursor"),
    ClientFile { is_ours: true, ..file("pasted", "only1mcp.yaml", "cursor") },
];

/// The home that the fixtures are written for.
const HOME: &str = "/srv/ann";
/// Variables that the fixtures refer to.
const VARIABLES: [&str; 12] = [
    "SEARCH_TOKEN",
    "API_KEY",
    "CONFIG",
    "WEATHER_KEY",
    "GITHUB_TOKEN",
    "R_TOKEN",
    "OTHER",
    "DOCS_TOKEN",
    "FIGMA_TOKEN",
    "FIGMA_TEAM",
    "USER",
    "NOTES_TOKEN",
];

/// What came of one file.
#[derive(Default)]
pub(super) struct Trip {
    pub(super) servers: usize,
    pub(super) notes: usize,
    pub(super) calls: usize,
    pub(super) lost: Vec<String>,
    pub(super) wrong: Vec<String>,
}

pub(super) struct Planted<'a> {
    client: &'static ClientFile,
    scratch: &'a Scratch,
    upstream: DemoServer,
    file: PathBuf,
    /// What the fixture says now.
    text: String,
    /// The servers that an import must find, in the words of our file.
    expected: Vec<Value>,
}

impl<'a> Planted<'a> {
    pub(super) fn new(client: &'static ClientFile, scratch: &'a Scratch) -> Result<Self, Fault> {
        let fixtures = binaries::checkout().join("tests/fixtures/clients");
        let upstream = DemoServer::start("upstream", scratch, &[])?;
        let home = scratch.folder("home")?;
        let here = |text: String| text.replace(HOME, &home.display().to_string());
        let text = here(fs::read_to_string(fixtures.join(client.name).join(client.path))?);
        // Of servers with the same tools only one could show them without a prefix.
        let text = with_addresses(&text, &upstream.url()).replace("naming: none", "naming: prefix");
        let golden = here(fs::read_to_string(fixtures.join(format!("{}.txt", client.name)))?);
        let expected = golden.lines().filter(|line| line.starts_with('{')).map(serde_json::from_str);
        let expected = expected.collect::<Result<Vec<Value>, _>>()?;
        let file = home.join(client.path);
        fs::create_dir_all(file.parent().unwrap_or(&home))?;
        fs::write(&file, &text)?;
        Ok(Self { client, scratch, upstream, file, text, expected })
    }

    /// Import, up, export, import.
    pub(super) fn trip(self) -> Result<Trip, Fault> {
        let mut trip = Trip { servers: self.expected.len(), ..Trip::default() };
        let config = if self.client.is_ours { self.file.clone() } else { self.import(&mut trip)? };
        self.install_programs()?;
        let (path, base) = (self.scratch.folder("bin")?, self.upstream.url().replace("/mcp", ""));
        let mut environment: Vec<(&str, &str)> = VARIABLES.iter().map(|name| (*name, "a-value")).collect();
        let path = path.display().to_string();
        environment.extend([("PATH", path.as_str()), ("API_BASE", base.as_str())]);
        let gateway = Gateway::up_with(self.scratch, &config, &environment)?;
        self.serves(&gateway, &mut trip)?;
        let exported = gateway.cli(&["export", "--client", self.client.client])?.expect(0)?;
        trip.calls += led::call_through(self.client.client, &exported.stdout, self.scratch, &self.a_tool()?)?;
        // What is in a file is known by its name.
        let name = if self.client.client == "codex" { "exported.toml" } else { "exported.json" };
        let snippet = self.scratch.file(name);
        fs::write(&snippet, &exported.stdout)?;
        let again = self.cli(&["import", text(&snippet), "--config", text(&config), "--yes"])?;
        if again.code != 2 || !again.stderr.contains("it is this gateway itself") {
            let said = format!("{}{}", again.stdout, again.stderr);
            trip.wrong.push(format!("{}: the exported entry is imported: {said}", self.client.name));
        }
        Ok(trip)
    }

    /// Into a configuration that was not there before; a second time, nothing is added.
    fn import(&self, trip: &mut Trip) -> Result<PathBuf, Fault> {
        let config = self.scratch.file("only1mcp.yaml");
        let import = ["import", text(&self.file), "--config", text(&config), "--yes"];
        let said = self.cli(&import)?.expect(0)?;
        trip.notes = said.stderr.lines().count();
        let shown = Shown { plan: &said.stdout, notes: &said.stderr, written: fs::read_to_string(&config)? };
        let found = accounted::lost(&self.text, self.file.parent().unwrap_or(&self.file), &shown);
        trip.lost = found.iter().map(|lost| format!("{}: {lost}", self.client.name)).collect();
        let again = self.cli(&import)?;
        if again.code != 2 || fs::read_to_string(&config)? != shown.written {
            trip.wrong.push(format!("{}: imported twice: {}{}", self.client.name, again.stdout, again.stderr));
        }
        Ok(config)
    }

    /// All servers are up, under their ids, and answer.
    fn serves(&self, gateway: &Gateway, trip: &mut Trip) -> Result<(), Fault> {
        let ids = |servers: &Value| {
            let all = servers.as_array().into_iter().flatten();
            all.filter_map(|server| server["id"].as_str().map(str::to_owned)).collect::<BTreeSet<_>>()
        };
        let mut last = String::new();
        wait::until_true("all servers to be up", led::LIMIT, || {
            let Ok(said) = gateway.cli(&["status", "--output", "json"]) else { return false };
            let is_up = |server: &Value| ["healthy", "unknown"].map(Value::from).contains(&server["verdict"]);
            let servers = said.json().unwrap_or_default()["servers"].as_array().cloned().unwrap_or_default();
            last = said.stdout;
            !servers.is_empty() && servers.iter().all(is_up)
        })
        .map_err(|error| error.during(last))?;
        let status = gateway.cli(&["status", "--output", "json"])?.json()?;
        let (expected, shown) = (ids(&json!(self.expected)), ids(&status["servers"]));
        let kept = ids(&gateway.cli(&["show", "--output", "json"])?.json()?["servers"]);
        if shown != expected || kept != expected {
            trip.wrong.push(format!("{}: {expected:?}, but up are {shown:?}", self.client.name));
        }
        let mut client = Client::open(gateway.mcp)?;
        for server in self.expected.iter().filter(|server| server.get("tools").is_none()) {
            let said = client.text(&tool_of(server), &json!({ "text": "hello" }))?;
            if said == "hello" {
                trip.calls += 1;
            } else {
                trip.wrong.push(format!("{}: {} answers {said:?}", self.client.name, tool_of(server)));
            }
        }
        Ok(())
    }

    fn a_tool(&self) -> Result<String, Fault> {
        let server = self.expected.iter().find(|server| server.get("tools").is_none());
        server.map(tool_of).ok_or_else(|| fault("no server shows all of its tools"))
    }

    /// Each command of the file is a demo server, and each directory is there.
    fn install_programs(&self) -> Result<(), Fault> {
        let bin = self.scratch.folder("bin")?;
        let program = binaries::path("only1mcp")?;
        let script = format!("#!/bin/sh\nexec {} demo-server --stdio\n", program.display());
        for server in &self.expected {
            let transport = &server["transport"];
            let folder = transport["cwd"].as_str().map_or_else(|| bin.clone(), PathBuf::from);
            fs::create_dir_all(&folder)?;
            let Some(command) = transport["command"].as_str() else { continue };
            let path = if command.contains('/') { folder.join(command) } else { bin.join(command) };
            fs::create_dir_all(path.parent().unwrap_or(&bin))?;
            fs::write(&path, &script)?;
            fs::set_permissions(&path, PermissionsExt::from_mode(0o755))?;
        }
        Ok(())
    }

    fn cli(&self, arguments: &[&str]) -> Result<Cli, Fault> {
        let mut command = gateway::command(&self.scratch.folder("home")?)?;
        Cli::run(command.args(arguments))
    }
}

fn tool_of(server: &Value) -> String {
    format!("{}__echo", server["id"].as_str().unwrap_or_default())
}

/// What an import printed and wrote.
pub(super) struct Shown<'a> {
    pub(super) plan: &'a str,
    pub(super) notes: &'a str,
    pub(super) written: String,
}

/// The text with every address of the fixtures led to `url`; what is after a `?` stays.
fn with_addresses(text: &str, url: &str) -> String {
    let mut rest = text;
    let mut shown = String::new();
    while let Some(at) = rest.find("http") {
        let (before, from) = rest.split_at(at);
        shown.push_str(before);
        let length = from.find(['"', '}', '\'', '\n', '?', ' ']).unwrap_or(from.len());
        let (address, behind) = from.split_at(length);
        let is_elsewhere = address.contains("://") && !address.contains("127.0.0.1:8080");
        shown.push_str(if is_elsewhere { url } else { address });
        rest = behind;
    }
    shown + rest
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the folders of tests have plain names")
}
