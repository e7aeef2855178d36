//! How the gateway behaves, apart from which servers it has. Every key has a default, and a value at its
//! default is left out of the canonical form.

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// How tools of several servers are named for clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Naming {
    /// `read` of server `files` is shown as `files__read`: always distinct.
    #[default]
    Prefix,
    /// Names are shown as they are; collisions are refused.
    None,
}

/// What clients see of the tools of a server that is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeadTools {
    /// They stay listed; a call answers with an error that says when to try again.
    #[default]
    Keep,
}

/// How a changed endpoint replaces the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplaceMode {
    /// The new one is up and listed before the old one gets its last exchange.
    #[default]
    Beside,
    /// The old one ends first, for servers that cannot run twice.
    StopFirst,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    #[serde(default, skip_serializing_if = "is_default")]
    pub naming: Naming,
    /// Zero servers are a mistake unless this says otherwise.
    #[serde(default, skip_serializing_if = "is_default")]
    pub allow_empty: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub source: SourcePolicy,
    #[serde(default, skip_serializing_if = "is_default")]
    pub validation: ValidationPolicy,
    #[serde(default, skip_serializing_if = "is_default")]
    pub drain: DrainPolicy,
    #[serde(default, skip_serializing_if = "is_default")]
    pub health: HealthPolicy,
    #[serde(default, skip_serializing_if = "is_default")]
    pub history: HistoryPolicy,
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: Limits,
}

/// How the watched file is followed (`hot_reload.enabled`, `hot_reload.watcher`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SourcePolicy {
    /// False: a change of the file does nothing until somebody says `reload`.
    pub enabled: bool,
    /// How often the file is looked at even if no event came.
    pub poll_interval: Duration,
    /// How long size and time of an in-place write must hold before it is read.
    pub debounce: Duration,
}

impl Default for SourcePolicy {
    fn default() -> Self {
        Self { enabled: true, poll_interval: Duration::from_millis(1000), debounce: Duration::from_millis(500) }
    }
}

/// When a change is refused for what its servers do (`hot_reload.validation`, `hot_reload.two_phase_commit`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ValidationPolicy {
    /// The least share of *changed* servers that must come up, in thousandths. Exactly at the limit passes.
    pub minimum_health_permille: u32,
    /// How long a router may take for its vote.
    pub timeout: Duration,
    /// False: append first and let routers follow; a straggler is `behind`.
    pub two_phase_commit: bool,
}

impl Default for ValidationPolicy {
    fn default() -> Self {
        Self { minimum_health_permille: 500, timeout: Duration::from_secs(30), two_phase_commit: true }
    }
}

/// How an endpoint leaves (`drain`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DrainPolicy {
    /// How long running exchanges have before they are evicted (`drain.graceful.timeout_seconds`).
    pub timeout: Duration,
}

impl Default for DrainPolicy {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30) }
    }
}

/// When an endpoint is probed and what a result means (`health`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealthPolicy {
    pub interval: Duration,
    pub timeout: Duration,
    /// Consecutive failures that make an endpoint unhealthy.
    pub unhealthy_threshold: u32,
    /// Consecutive successes that make it healthy again.
    pub healthy_threshold: u32,
}

impl Default for HealthPolicy {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            unhealthy_threshold: 3,
            healthy_threshold: 2,
        }
    }
}

/// How much history is kept (`rollback.history`). The last good revision is kept whatever this says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HistoryPolicy {
    /// Contents kept; records of who changed what stay.
    pub max_snapshots: u32,
    pub retention: Duration,
}

impl Default for HistoryPolicy {
    fn default() -> Self {
        Self { max_snapshots: 10, retention: Duration::from_secs(7 * 86_400) }
    }
}

/// What one client, one call or one server may cost (`limits`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of one request body.
    pub request_bytes: u64,
    /// Bytes of one answer of a server.
    pub response_bytes: u64,
    /// Calls in flight on one endpoint; more are refused.
    pub in_flight_per_endpoint: u32,
    /// How long one call may take without any sign of life from its server.
    pub idle: Duration,
    /// How long one call may take altogether; progress does not extend it.
    pub total: Duration,
    /// How long connecting and initialising one endpoint may take.
    pub connect: Duration,
    /// How long a session lives without a request.
    pub session_idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_bytes: 4 << 20,
            response_bytes: 64 << 20,
            in_flight_per_endpoint: 1024,
            idle: Duration::from_secs(300),
            total: Duration::from_secs(3600),
            connect: Duration::from_secs(10),
            session_idle: Duration::from_secs(7 * 86_400),
        }
    }
}
