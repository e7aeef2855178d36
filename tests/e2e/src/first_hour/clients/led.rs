//! A client that knows nothing but what `export` printed for it.

use std::{
    io::{self, PipeWriter, Write},
    net::SocketAddr,
    path::Path,
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};
use testkit::{Client, Fault, Scratch, Supervised, fault};

use super::jsonc;

pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// Calls `tool` with a text through the client's entry, and returns how many calls were answered.
pub(super) fn call_through(client: &str, snippet: &str, scratch: &Scratch, tool: &str) -> Result<usize, Fault> {
    let mut client = Led::by(client, snippet, scratch)?;
    if !client.tools()?.iter().any(|known| known == tool) {
        return Err(fault(format!("{tool} is not listed")));
    }
    let said = client.text(tool, &json!({ "text": "through the gateway" }))?;
    if said == "through the gateway" { Ok(1) } else { Err(fault(format!("{tool} answers {said}"))) }
}

/// One that connects, or one that starts the program it was told of.
pub(super) enum Led {
    Http(Box<Client>),
    Stdio(Box<StdioClient>),
}

impl Led {
    pub(super) fn by(client: &str, snippet: &str, scratch: &Scratch) -> Result<Self, Fault> {
        let entry = entry(client, snippet).ok_or_else(|| fault(format!("no entry `only1mcp` in {snippet}")))?;
        if let Some(command) = entry["command"].as_str() {
            let arguments = entry["args"].as_array().into_iter().flatten().filter_map(Value::as_str);
            return Ok(Self::Stdio(Box::new(StdioClient::start(command, arguments, scratch)?)));
        }
        let url = ["url", "serverUrl", "httpUrl"].iter().find_map(|key| entry[*key].as_str());
        let address = url.and_then(|url| url.strip_prefix("http://")?.strip_suffix("/mcp")?.parse().ok());
        let address: SocketAddr = address.ok_or_else(|| fault(format!("no address in {entry}")))?;
        Ok(Self::Http(Box::new(Client::open(address)?)))
    }

    pub(super) fn tools(&mut self) -> Result<Vec<String>, Fault> {
        match self {
            Self::Http(client) => client.tools(),
            Self::Stdio(client) => client.tools(),
        }
    }

    pub(super) fn text(&mut self, tool: &str, arguments: &Value) -> Result<String, Fault> {
        match self {
            Self::Http(client) => client.text(tool, arguments),
            Self::Stdio(client) => client.text(tool, arguments),
        }
    }
}

/// The gateway's entry in a client's file.
fn entry(client: &str, snippet: &str) -> Option<Value> {
    if client == "codex" {
        let below = snippet.split_once("[mcp_servers.only1mcp]")?.1;
        let url = below.lines().find_map(|line| line.strip_prefix("url = "))?;
        return Some(json!({ "url": serde_json::from_str::<String>(url).ok()? }));
    }
    let file = jsonc::parse(snippet).ok()?;
    let servers = ["mcpServers", "servers", "context_servers"].iter().find_map(|key| file.get(*key))?;
    servers.get("only1mcp").cloned()
}

/// MCP over the pipes of a program, as desktop clients speak it.
pub(super) struct StdioClient {
    words: PipeWriter,
    process: Supervised,
    last: u64,
}

impl StdioClient {
    /// The program gets what such clients give it: a home, a path, and no more.
    fn start<'a>(command: &str, arguments: impl Iterator<Item = &'a str>, scratch: &Scratch) -> Result<Self, Fault> {
        let (input, words) = io::pipe()?;
        let mut program = Command::new(Path::new(command));
        program.args(arguments).env_clear().env("HOME", scratch.folder("home")?).env("PATH", "/usr/bin:/bin");
        program.current_dir(scratch.path());
        let process = Supervised::start_with(input.into(), "led", &mut program, &scratch.folder("logs")?)?;
        let mut client = Self { words, process, last: 0 };
        let info = json!({ "name": "led", "version": "1" });
        let hello = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info });
        client.ask("initialize", &hello)?;
        client.say(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }))?;
        Ok(client)
    }

    fn tools(&mut self) -> Result<Vec<String>, Fault> {
        let list = self.ask("tools/list", &json!({}))?;
        let tools = list["tools"].as_array().ok_or_else(|| fault(format!("no tools in {list}")))?;
        Ok(tools.iter().filter_map(|tool| tool["name"].as_str().map(str::to_owned)).collect())
    }

    fn text(&mut self, tool: &str, arguments: &Value) -> Result<String, Fault> {
        let result = self.ask("tools/call", &json!({ "name": tool, "arguments": arguments }))?;
        let text = result["content"][0]["text"].as_str();
        text.map(str::to_owned).ok_or_else(|| fault(format!("no text in {result}")))
    }

    fn ask(&mut self, method: &str, params: &Value) -> Result<Value, Fault> {
        self.last += 1;
        let id = self.last;
        self.say(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }))?;
        let answer = self.process.wait_stdout(&format!("the answer to {method}"), LIMIT, |line| {
            let message: Value = serde_json::from_str(line).ok()?;
            (message["id"] == id).then_some(message)
        })?;
        answer.get("result").cloned().ok_or_else(|| fault(format!("{method}: {answer}")))
    }

    fn say(&mut self, message: &Value) -> Result<(), Fault> {
        Ok(writeln!(self.words, "{message}")?)
    }
}
