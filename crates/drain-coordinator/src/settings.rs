//! The settings of a drain-coordinator: fixed at start, from flags and environment.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use drain::ledger::Limits;
use model::units::duration_or_seconds as duration;

/// What the service is told at start, wherever it runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The directory of the record of drains. No other process may use it meanwhile.
    pub state_dir: PathBuf,
    /// How long a router may be away before its exchanges in flight count as lost.
    pub lost_after: Duration,
    /// Ended drains that are remembered.
    pub history: usize,
}

impl Settings {
    /// With defaults for everything else.
    #[must_use]
    pub fn new(state_dir: PathBuf) -> Self {
        let Limits { lost_after, history } = Limits::default();
        Self { state_dir, lost_after, history }
    }
}

/// The flags of the `drain-coordinator` process.
#[derive(Debug, Parser)]
#[command(
    name = "drain-coordinator",
    version,
    about = "Lets servers leave gracefully, over all routers",
    after_help = "Example:\n  drain-coordinator --state-dir /var/lib/only1mcp/drain-coordinator --token-file /run/secrets/only1mcp-token"
)]
pub struct Flags {
    /// Where the admin API is served, and routers attach
    #[arg(long, env = "ONLY1MCP_GRPC", default_value = "127.0.0.1:9444", value_name = "ADDR")]
    pub grpc: SocketAddr,
    /// Where /livez, /readyz and /metrics are served
    #[arg(long, env = "ONLY1MCP_OPS", default_value = "127.0.0.1:9454", value_name = "ADDR")]
    pub ops: SocketAddr,
    #[command(flatten)]
    pub ops_names: runtime::ops::OpsNames,
    /// What is kept over restarts
    #[arg(long, env = "ONLY1MCP_STATE_DIR", default_value = "/var/lib/only1mcp/drain-coordinator", value_name = "DIR")]
    pub state_dir: PathBuf,
    /// The token that routers and operators present; by default one is made in the state directory
    #[arg(long, env = "ONLY1MCP_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// How long a router may be away before what it had in flight counts as lost
    #[arg(long, env = "ONLY1MCP_LOST_AFTER", default_value = "60s", value_parser = duration, value_name = "DURATION")]
    pub lost_after: Duration,
    /// Ended drains that are remembered
    #[arg(long, env = "ONLY1MCP_DRAIN_HISTORY", default_value_t = Limits::default().history, value_name = "N")]
    pub history: usize,
}
