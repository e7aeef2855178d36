//! Commands between the files of MCP clients and ours: their flags, defaults and examples.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::OutputArgs;
use crate::place::PlaceArgs;

#[derive(Args, Debug)]
#[command(after_help = IMPORT_EXAMPLES)]
pub(crate) struct ImportArgs {
    /// Files of MCP clients; - reads JSON from standard input [default: those of all clients that are found]
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// The configuration file to add to [default: the one that `up` would serve, else only1mcp.yaml in the user's
    /// configuration directory]
    #[arg(long, value_name = "FILE", env = "ONLY1MCP_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// Write without asking
    #[arg(long, env = "ONLY1MCP_YES")]
    pub(crate) yes: bool,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

const IMPORT_EXAMPLES: &str = "\
Looks for the files of Claude Desktop, Claude Code, Cursor, VS Code, Windsurf, Zed, Gemini CLI and \
Codex in the home directory and in this one, shows what it would add and what is not carried over, \
and asks. Clients' files stay as they are. Exits with 0 when servers were added, 1 when nothing was \
written (a file is broken, or the answer was not yes), 2 when there is nothing to add.

Examples:
  only1mcp import
  only1mcp import ~/.cursor/mcp.json --yes
  only1mcp import --output json | jq '.add[].id'";

#[derive(Args, Debug)]
#[command(after_help = EXPORT_EXAMPLES)]
pub(crate) struct ExportArgs {
    /// The client that is to use the gateway
    #[arg(long, value_enum, value_name = "NAME", env = "ONLY1MCP_CLIENT")]
    pub(crate) client: Client,

    /// The MCP endpoint [default: the gateway that `up` runs, else http://127.0.0.1:8080/mcp]
    #[arg(long, value_name = "URL", env = "ONLY1MCP_URL")]
    pub(crate) url: Option<String>,

    #[command(flatten)]
    pub(crate) place: PlaceArgs,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

const EXPORT_EXAMPLES: &str = "\
The text goes to stdout, and to stderr which file it belongs into. Servers of a client that are \
behind the gateway now are to be removed there, or it has their tools twice.

Examples:
  only1mcp export --client cursor
  only1mcp export --client codex >> ~/.codex/config.toml";

/// An MCP client whose file is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Client {
    ClaudeDesktop,
    ClaudeCode,
    Cursor,
    #[value(name = "vscode")]
    VsCode,
    Windsurf,
    Zed,
    #[value(name = "gemini-cli")]
    GeminiCli,
    Codex,
}
