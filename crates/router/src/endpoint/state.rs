//! What an endpoint is doing, as others see it.

use std::sync::Arc;

use fleet::Reason;
use mcp::ProtocolVersion;
use model::{Time, WallTime};

/// Where an endpoint is between nothing and its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EndpointPhase {
    /// Never tried.
    #[default]
    Idle,
    /// An attempt is under way; calls wait for it.
    Connecting,
    Up,
    /// It was up, and no new attempt has begun yet. Until the fleet says when it begins, calls wait as if connecting.
    Lost,
    /// The last attempt failed; until the next one begins, calls fail or are held.
    Down,
    /// For ever.
    Ended,
}

/// A picture of an endpoint, for status displays.
#[derive(Clone, Debug, Default)]
pub struct EndpointState {
    pub phase: EndpointPhase,
    /// Of the child process.
    pub pid: Option<u32>,
    /// The id of the session that the server gave us, over HTTP.
    pub upstream_session: Option<Arc<str>>,
    pub protocol_version: Option<ProtocolVersion>,
    /// Why it was last lost, or could last not be brought up.
    pub last_error: Option<Reason>,
    /// When that was.
    pub failed_at: Option<Time>,
    /// How often it came up again after it had been up: new processes and renewed sessions.
    pub restarts: u32,
    /// When the fleet will try again.
    pub next_attempt: Option<WallTime>,
    /// The last lines of the child's stderr.
    pub stderr: Vec<String>,
    /// The last lines of its stdout that are no MCP.
    pub stray: Vec<String>,
}

/// What happened to an endpoint by itself; told to the fleet with the endpoint's number. Each event is idempotent: if
/// it is told again before the fleet took it, the fleet gets it once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointEvent {
    /// What it offers may be something else now: list again.
    ListChanged,
    /// The connection, process or session is gone and could not be restored at once. It stays down until the fleet
    /// calls `bring_up`, which it should do at once the first time: calls are waiting for it.
    Lost { reason: Arc<str> },
    /// A new session stands in place of a lost one: list again, it may be another server by now.
    Renewed,
    /// A call waits for it, and its next attempt is far.
    Wanted,
    /// The last exchange has left a cordoned endpoint: it can be closed.
    Empty,
}
