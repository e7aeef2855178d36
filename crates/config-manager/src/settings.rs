//! What the process is started with.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;

/// Decides what should be live: follows the configuration file and the admin API, has every change agreed by the
/// routers, writes it down, and tells them.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "config-manager",
    version,
    after_help = "Example:\n  config-manager --config gateway.yaml --state-dir /var/lib/only1mcp/config-manager \\\n                 \
                  --token-file /run/secrets/only1mcp-token"
)]
pub struct Settings {
    /// The configuration file to follow. Without one, layers come over the admin API alone.
    #[arg(long, env = "ONLY1MCP_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where routers and operators connect (gRPC). Port 0 takes a free one.
    #[arg(long, env = "ONLY1MCP_GRPC", value_name = "ADDR", default_value = "127.0.0.1:9441")]
    pub grpc: SocketAddr,
    /// Where /livez, /readyz and /metrics are (HTTP). Port 0 takes a free one.
    #[arg(long, env = "ONLY1MCP_OPS", value_name = "ADDR", default_value = "127.0.0.1:9451")]
    pub ops: SocketAddr,
    #[command(flatten)]
    pub ops_names: runtime::ops::OpsNames,
    /// Where the revision log is kept. By default in the XDG state directory, one per configuration file.
    #[arg(long, env = "ONLY1MCP_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// The token that routers and operators present over TCP; read from this file, or made in it (mode 0600).
    /// By default one is made in the state directory.
    #[arg(long, env = "ONLY1MCP_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}
