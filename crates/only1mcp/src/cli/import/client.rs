//! MCP clients: what they are called, where their files are, and how they name a server at a URL.

use std::{
    env,
    path::{Path, PathBuf},
};

use clap::ValueEnum as _;
use serde_json::{Value, json};

use crate::args::Client;

/// The name under which clients have the gateway; a server of that name is not imported.
const NAME: &str = "only1mcp";

/// Directories in which clients have their files.
#[derive(Debug)]
pub(crate) struct Homes {
    home: Option<PathBuf>,
    /// Of this user's programs: `~/.config`, on macOS also `~/Library/Application Support`.
    config: Option<PathBuf>,
    application: Option<PathBuf>,
    codex: Option<PathBuf>,
}

impl Homes {
    pub(crate) fn of_this_user() -> Self {
        let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = absolute("HOME");
        let below = |name: &str| home.as_ref().map(|home| home.join(name));
        let config = absolute("XDG_CONFIG_HOME").or_else(|| below(".config"));
        let application = if cfg!(target_os = "macos") { below("Library/Application Support") } else { config.clone() };
        let codex = absolute("CODEX_HOME").or_else(|| below(".codex"));
        Self { config, application, codex, home }
    }
}

/// Files of all clients that are there: first the user's, then those of the project in this directory.
pub(crate) fn found(homes: &Homes) -> Vec<(Client, PathBuf)> {
    let clients = Client::value_variants();
    let of_user = clients.iter().flat_map(|client| client.of_user(homes).into_iter().map(|path| (*client, path)));
    let here = env::current_dir().ok();
    let of_project = clients
        .iter()
        .flat_map(|client| client.of_project().iter().filter_map(|name| Some((*client, here.as_ref()?.join(name)))));
    let mut found: Vec<(Client, PathBuf)> = Vec::new();
    for (client, path) in of_user.chain(of_project) {
        // A link that leads nowhere is there, too: what is wrong with it will be said.
        let is_there = path.symlink_metadata().is_ok();
        if is_there && found.iter().all(|(_, known)| *known != path) {
            found.push((client, path));
        }
    }
    found
}

impl Client {
    /// For people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::ClaudeDesktop => "Claude Desktop",
            Self::ClaudeCode => "Claude Code",
            Self::Cursor => "Cursor",
            Self::VsCode => "VS Code",
            Self::Windsurf => "Windsurf",
            Self::Zed => "Zed",
            Self::GeminiCli => "Gemini CLI",
            Self::Codex => "Codex",
        }
    }

    /// Its files for all projects of a user, the first of which is the one for a server's entry.
    pub(crate) fn of_user(self, homes: &Homes) -> Vec<PathBuf> {
        let below = |directory: Option<&Path>, names: &[&str]| {
            names.iter().filter_map(|name| Some(directory?.join(name))).collect()
        };
        match self {
            Self::ClaudeDesktop => below(homes.application.as_deref(), &["Claude/claude_desktop_config.json"]),
            Self::ClaudeCode => below(homes.home.as_deref(), &[".claude.json"]),
            Self::Cursor => below(homes.home.as_deref(), &[".cursor/mcp.json"]),
            Self::VsCode => below(homes.application.as_deref(), &["Code/User/mcp.json", "Code/User/settings.json"]),
            Self::Windsurf => below(homes.home.as_deref(), &[".codeium/windsurf/mcp_config.json"]),
            Self::Zed => below(homes.config.as_deref(), &["zed/settings.json"]),
            Self::GeminiCli => below(homes.home.as_deref(), &[".gemini/settings.json"]),
            Self::Codex => below(homes.codex.as_deref(), &["config.toml"]),
        }
    }

    /// Its files of one project, in the directory of that.
    fn of_project(self) -> &'static [&'static str] {
        match self {
            Self::ClaudeDesktop | Self::Windsurf => &[],
            Self::ClaudeCode => &[".mcp.json"],
            Self::Cursor => &[".cursor/mcp.json"],
            Self::VsCode => &[".vscode/mcp.json"],
            Self::Zed => &[".zed/settings.json"],
            Self::GeminiCli => &[".gemini/settings.json"],
            Self::Codex => &[".codex/config.toml"],
        }
    }

    /// What its file needs to use the server at `url`, or the `bridge` to it: a program and its arguments.
    pub(crate) fn snippet(self, url: &str, bridge: &[String]) -> String {
        let (key, entry) = match self {
            // Its file knows only programs.
            Self::ClaudeDesktop => ("mcpServers", json!({ "command": bridge.first(), "args": bridge.get(1..) })),
            Self::ClaudeCode => ("mcpServers", json!({ "type": "http", "url": url })),
            Self::Cursor => ("mcpServers", json!({ "url": url })),
            Self::VsCode => ("servers", json!({ "type": "http", "url": url })),
            Self::Windsurf => ("mcpServers", json!({ "serverUrl": url })),
            Self::Zed => ("context_servers", json!({ "url": url })),
            Self::GeminiCli => ("mcpServers", json!({ "httpUrl": url })),
            // JSON and TOML have the same quotes for a URL.
            Self::Codex => return format!("[mcp_servers.{NAME}]\nurl = {}", Value::from(url)),
        };
        format!("{:#}", json!({ key: { NAME: entry } }))
    }
}

/// How people write a path: with `~` for their home.
pub(crate) fn short(path: &Path, homes: &Homes) -> String {
    let below = homes.home.as_ref().and_then(|home| path.strip_prefix(home).ok());
    below.map_or_else(|| path.display().to_string(), |below| format!("~/{}", below.display()))
}
