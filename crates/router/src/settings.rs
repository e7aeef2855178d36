//! The settings of a router process: fixed at start, from flags and environment.

use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use model::NodeId;
use model::units::duration_or_seconds as duration;
use runtime::grpc::{InsecureToken, Target};
use runtime::inherited::Inherited;
use runtime::ops::OpsNames;

/// What a router is told at start, wherever it runs.
#[derive(Debug, Clone)]
pub struct Settings {
    pub node: NodeId,
    /// Disk copy, session key, journal of sessions. No other process may use it meanwhile.
    pub state_dir: PathBuf,
    /// Threads that serve clients.
    pub cores: usize,
    pub access: Access,
    pub peers: Peers,
    /// Keys that seal session ids; by default one in the state directory.
    pub session_key_file: Option<PathBuf>,
}

/// The name of the socket for MCP that is inherited from a service manager.
pub const MCP: &str = "mcp";
/// The name of each socket for MCP that a router opened itself, among what its successor gets.
pub const OWN_MCP: &str = "mcp of a router";
/// The name of the lock of a router's state directory, there.
pub const LOCK: &str = "lock of a router";

/// Where clients come in.
#[derive(Debug)]
pub enum Listen {
    /// On an address; port 0 takes a free one.
    At(SocketAddr),
    /// On sockets that were listening before this process ran. With `kept` they will be after it: connections that wait
    /// in their queues when the router stops are left to the next router.
    On { sockets: Vec<TcpListener>, kept: bool },
}

impl Listen {
    /// At the address, unless there are sockets.
    pub fn new(address: SocketAddr, inherited: &mut Inherited) -> Self {
        let (kept, own) = (inherited.all_tcp(MCP), inherited.all_tcp(OWN_MCP));
        match (kept.is_empty(), own.is_empty()) {
            (false, _) => Self::On { sockets: kept, kept: true },
            (true, false) => Self::On { sockets: own, kept: false },
            (true, true) => Self::At(address),
        }
    }
}

/// Whom the MCP endpoint lets in, apart from programs on the same machine.
#[derive(Debug, Clone, Default, Args)]
pub struct Access {
    /// A name by which clients reach this gateway, as `name` or `name:port`; may be repeated
    #[arg(long = "allow-host", env = "ONLY1MCP_ALLOW_HOST", value_delimiter = ',', value_parser = host, value_name = "HOST")]
    pub hosts: Vec<String>,
    /// A web page's origin that may use this gateway, as `https://name`, or `*` for all; may be repeated
    #[arg(long = "allow-origin", env = "ONLY1MCP_ALLOW_ORIGIN", value_delimiter = ',', value_parser = origin, value_name = "ORIGIN")]
    pub origins: Vec<String>,
}

/// A name as a client writes it into `Host`; an empty text, as an unset variable may leave it, is no name.
fn host(text: &str) -> Result<String, String> {
    match text.trim() {
        name if name.contains(['/', '@', ' ', '*']) => {
            Err("expected a name, or name:port, as clients send it in Host".into())
        }
        name => Ok(name.to_owned()),
    }
}

/// An origin as a browser writes it into `Origin`: one with a path would never match.
fn origin(text: &str) -> Result<String, String> {
    let origin = text.trim();
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    let good = authority.is_some_and(|authority| !authority.is_empty() && !authority.contains(['/', '@', ' ', '*']));
    if good || origin.is_empty() || origin == "*" {
        Ok(origin.to_owned())
    } else {
        Err("expected scheme://name[:port] without a path, as browsers send it in Origin, or *".into())
    }
}

/// The control services a router dials. It serves without any of them.
#[derive(Debug, Clone)]
pub struct Peers {
    pub config_manager: Target,
    pub health_monitor: Target,
    pub drain_coordinator: Target,
}

/// One per core, where the machine has more than that to do with them.
pub fn default_cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// The flags of the `router` process.
#[derive(Debug, clap::Parser)]
#[command(
    name = "router",
    version,
    about = "Carries MCP between clients and servers",
    after_help = "Example:\n  router --config-manager http://127.0.0.1:9441 --state-dir /var/lib/only1mcp/router \\\n         --token-file /run/secrets/only1mcp-token"
)]
pub struct Flags {
    /// How this router is named in votes, status and drains; by default the name of the host
    #[arg(long, env = "ONLY1MCP_NODE", value_name = "NAME")]
    pub node: Option<String>,
    /// Where MCP is served
    #[arg(long, env = "ONLY1MCP_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// Where the admin API is served
    #[arg(long, env = "ONLY1MCP_GRPC", default_value = "127.0.0.1:9442", value_name = "ADDR")]
    pub grpc: SocketAddr,
    /// Where /livez, /readyz and /metrics are served
    #[arg(long, env = "ONLY1MCP_OPS", default_value = "127.0.0.1:9452", value_name = "ADDR")]
    pub ops: SocketAddr,
    #[command(flatten)]
    pub ops_names: OpsNames,
    /// What is kept over restarts
    #[arg(long, env = "ONLY1MCP_STATE_DIR", default_value = "/var/lib/only1mcp/router", value_name = "DIR")]
    pub state_dir: PathBuf,
    /// The token for the admin API, and toward the other services
    #[arg(long, env = "ONLY1MCP_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    #[command(flatten)]
    pub insecure_token: InsecureToken,
    /// Where revisions come from; while it is away the router serves what it has
    #[arg(long, env = "ONLY1MCP_CONFIG_MANAGER", default_value = "http://127.0.0.1:9441", value_name = "URL")]
    pub config_manager: String,
    /// Who judges health; while it is away the router judges alone
    #[arg(long, env = "ONLY1MCP_HEALTH_MONITOR", default_value = "http://127.0.0.1:9443", value_name = "URL")]
    pub health_monitor: String,
    /// Who keeps drains over all routers; while it is away the router drains by itself
    #[arg(long, env = "ONLY1MCP_DRAIN_COORDINATOR", default_value = "http://127.0.0.1:9444", value_name = "URL")]
    pub drain_coordinator: String,
    /// Keys that seal session ids, one of 64 hexadecimal digits a line, the newest first; routers that share it serve
    /// each other's sessions
    #[arg(long, env = "ONLY1MCP_SESSION_KEY_FILE", value_name = "FILE")]
    pub session_key_file: Option<PathBuf>,
    /// Threads that serve clients; by default one per core
    #[arg(long, env = "ONLY1MCP_CORES", value_name = "N")]
    pub cores: Option<NonZeroUsize>,
    #[command(flatten)]
    pub access: Access,
    /// How long new connections are still taken after a signal to stop
    #[arg(long, env = "ONLY1MCP_MIN_DRAIN", default_value = "5s", value_parser = duration, value_name = "DURATION")]
    pub min_drain: Duration,
    /// How long calls in flight have after that
    #[arg(long, env = "ONLY1MCP_DRAIN", default_value = "30s", value_parser = duration, value_name = "DURATION")]
    pub drain: Duration,
    /// Take the place of the router that runs with this state directory, on its sockets; no client is refused
    #[arg(long, env = "ONLY1MCP_UPGRADE")]
    pub upgrade: bool,
}

#[cfg(test)]
mod tests {
    use super::{host, origin};

    #[test]
    fn what_no_client_would_send_is_refused_at_the_start() {
        for good in ["", "mcp.example.com", "mcp.example.com:8443", "[fd00::7]:8080"] {
            assert_eq!(host(good).as_deref(), Ok(good));
        }
        for bad in ["https://mcp.example.com", "mcp.example.com/mcp", "*", "a b"] {
            host(bad).unwrap_err();
        }
        for good in ["", "*", "https://app.example.com", "http://localhost:6274", "app://obsidian.md"] {
            assert_eq!(origin(good).as_deref(), Ok(good));
        }
        for bad in
            ["app.example.com", "https://app.example.com/", "https://app.example.com/page", "https://", "https://*"]
        {
            origin(bad).unwrap_err();
        }
    }
}
