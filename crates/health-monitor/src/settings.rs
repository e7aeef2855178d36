//! The settings of a health-monitor process: fixed at start, from flags and environment.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;

/// The flags of the `health-monitor` process.
#[derive(Debug, Parser)]
#[command(
    name = "health-monitor",
    version,
    about = "Says which servers are well, over all routers",
    after_help = "Example:\n  health-monitor --token-file /run/secrets/only1mcp-token"
)]
pub struct Flags {
    /// Where the admin API is served, and routers attach
    #[arg(long, env = "ONLY1MCP_GRPC", default_value = "127.0.0.1:9443", value_name = "ADDR")]
    pub grpc: SocketAddr,
    /// Where /livez, /readyz and /metrics are served
    #[arg(long, env = "ONLY1MCP_OPS", default_value = "127.0.0.1:9453", value_name = "ADDR")]
    pub ops: SocketAddr,
    #[command(flatten)]
    pub ops_names: runtime::ops::OpsNames,
    /// Where the token is kept when no file is named
    #[arg(long, env = "ONLY1MCP_STATE_DIR", default_value = "/var/lib/only1mcp/health-monitor", value_name = "DIR")]
    pub state_dir: PathBuf,
    /// The token that routers and operators present; by default one is made in the state directory
    #[arg(long, env = "ONLY1MCP_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}
