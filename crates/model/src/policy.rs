//! How the gateway behaves, apart from which servers it has. Every key has a default, and a value at its
//! default is left out of the canonical form.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

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

/// What holds without `limits.hold`.
const HOLD: Duration = Duration::from_secs(30);

/// What clients see of a server that is dead: none of its endpoints is up, or answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadServers {
    /// Its tools stay listed, and calls fail at once while it is down.
    #[default]
    Keep,
    /// Its tools are not listed until it is back.
    Hide,
    /// Its tools stay listed, and calls wait until it is up again, for `limits.hold` at most.
    Hold,
}

/// How an endpoint leaves. A stronger strategy is greater: a drain that runs can only be made stronger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DrainStrategy {
    /// Where another endpoint of its backend takes over, it loses its share of the calls step by step; then `graceful`.
    Progressive,
    /// It gets no new exchanges; those that run have until the deadline.
    #[default]
    Graceful,
    /// What runs is ended at once.
    Immediate,
}

impl DrainStrategy {
    pub const ALL: [Self; 3] = [Self::Immediate, Self::Graceful, Self::Progressive];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Progressive => "progressive",
            Self::Graceful => "graceful",
            Self::Immediate => "immediate",
        }
    }
}

/// What clients are told at the beginning of a session about how to use what they see.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Instructions {
    /// What the servers say about themselves, together.
    #[default]
    Merge,
    Off,
    /// This text, in place of what the servers say.
    Text(String),
}

/// A part of the policy: each key with its default, and written only where it differs, so that a key added in a later
/// release changes no digest.
macro_rules! policy {
    ($($(#[$doc:meta])* pub struct $name:ident { $($(#[$key_doc:meta])* pub $key:ident: $type:ty = $default:expr,)+ })+) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $($(#[$key_doc])* pub $key: $type,)+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)+ }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let default = Self::default();
                let mut map = serializer.serialize_map(None)?;
                $(if self.$key != default.$key {
                    map.serialize_entry(stringify!($key), &self.$key)?;
                })+
                map.end()
            }
        }
    )+ };
}

policy! {
    /// How the gateway behaves.
    pub struct Policy {
        pub naming: Naming = Naming::Prefix,
        pub instructions: Instructions = Instructions::Merge,
        pub dead: DeadServers = DeadServers::Keep,
        /// Zero servers are a mistake unless this says otherwise.
        pub allow_empty: bool = false,
        pub source: SourcePolicy = SourcePolicy::default(),
        pub validation: ValidationPolicy = ValidationPolicy::default(),
        pub drain: DrainPolicy = DrainPolicy::default(),
        pub health: HealthPolicy = HealthPolicy::default(),
        pub ejection: EjectionPolicy = EjectionPolicy::default(),
        pub history: HistoryPolicy = HistoryPolicy::default(),
        pub limits: Limits = Limits::default(),
    }

    /// How the watched file is followed (`hot_reload.enabled`, `hot_reload.watcher`).
    pub struct SourcePolicy {
        /// False: a change of the file has no effect until an operator requests `reload`.
        pub enabled: bool = true,
        /// How often the file is looked at even if no event came.
        pub poll_interval: Duration = Duration::from_millis(1000),
        /// How long size and time of an in-place write must hold before it is read.
        pub debounce: Duration = Duration::from_millis(500),
    }

    /// When a change is refused for what its servers do (`hot_reload.validation`, `hot_reload.two_phase_commit`).
    pub struct ValidationPolicy {
        /// The least share of *changed* servers that must come up, in thousandths. Exactly at the limit passes.
        pub minimum_health_permille: u32 = 500,
        /// How long a router may take for its vote.
        pub timeout: Duration = Duration::from_secs(30),
        /// False: append first and let routers follow; a straggler is `behind`.
        pub two_phase_commit: bool = true,
    }

    /// How an endpoint leaves (`drain`).
    pub struct DrainPolicy {
        /// How long running exchanges have before they are evicted (`drain.graceful.timeout_seconds`).
        pub timeout: Duration = Duration::from_secs(30),
        pub strategy: DrainStrategy = DrainStrategy::Graceful,
        pub progressive: ProgressivePolicy = ProgressivePolicy::default(),
    }

    /// How the strategy `progressive` takes its time (`drain.progressive`).
    pub struct ProgressivePolicy {
        /// Sessions of clients that may move to another endpoint, per second.
        pub rate: u32 = 50,
        /// What the endpoint loses of its whole share with each step, in percent.
        pub weight_reduction: u32 = 10,
        /// The time between two steps.
        pub interval: Duration = Duration::from_secs(1),
        /// The least share of the endpoints that take over that must be well for the share to fall, in thousandths.
        /// Exactly at the limit passes.
        pub minimum_health_permille: u32 = 500,
    }

    /// How one backend is treated, what holds for it in place of the gateway's own, and what people note of it
    /// (`servers[]`).
    pub struct BackendPolicy {
        /// False: it is kept in the configuration, and nothing else happens with it.
        pub enabled: bool = true,
        pub description: Option<String> = None,
        pub labels: BTreeMap<String, String> = BTreeMap::new(),
        /// A change in which this server does not come up is refused.
        pub critical: bool = false,
        pub replace: ReplaceMode = ReplaceMode::Beside,
        /// Its process is ended and started again when it is judged unhealthy.
        pub restart_unhealthy: bool = false,
        /// In place of the keys of `drain`.
        pub drain: DrainOverlay = DrainOverlay::default(),
        /// In place of `limits.connect`.
        pub connect: Option<Duration> = None,
        /// In place of `tools_of_dead_servers`.
        pub dead: Option<DeadServers> = None,
        pub health: CheckPolicy = CheckPolicy::default(),
    }

    /// What a probe of one backend asks beside a ping (`servers[].health`).
    pub struct CheckPolicy {
        /// Tools that its list must have.
        pub expected_tools: Vec<String> = Vec::new(),
        /// Of an HTTP server: what a GET of this path must be answered to with a status of success.
        pub path: Option<String> = None,
    }

    /// When an endpoint is probed and what a result means (`health`).
    pub struct HealthPolicy {
        pub interval: Duration = Duration::from_secs(10),
        /// How far a probe may be from its time, to either side, in thousandths of the interval.
        pub jitter_permille: u32 = 100,
        pub timeout: Duration = Duration::from_secs(5),
        /// Consecutive failures that make an endpoint unhealthy.
        pub unhealthy_threshold: u32 = 3,
        /// Consecutive successes that make it healthy again.
        pub healthy_threshold: u32 = 2,
    }

    /// When calls pass over one of several endpoints of a server (`health.ejection`, `health.slow_start`).
    pub struct EjectionPolicy {
        /// Failed calls in a row, or among the latest if they are at least half of them, that eject an endpoint.
        pub failures: u32 = 5,
        /// For how long at first; twice as long each time that it was of no use.
        pub time: Duration = Duration::from_secs(10),
        pub time_max: Duration = Duration::from_secs(300),
        /// The largest share of a server's endpoints that may be ejected at once, in thousandths. 0: none ever is.
        pub share_max_permille: u32 = 500,
        /// If fewer of a server's endpoints are well, in thousandths, the ejected ones get calls all the same.
        pub panic_permille: u32 = 0,
        /// How long it takes until an endpoint that comes back has its whole share.
        pub slow_start: Duration = Duration::from_secs(10),
    }

    /// How much history is kept (`rollback.history`). The last good revision is kept whatever this says.
    pub struct HistoryPolicy {
        /// How many contents are kept, if the author says; the audit records of all changes stay.
        pub max_snapshots: Option<u32> = None,
        pub retention: Duration = Duration::from_secs(7 * 86_400),
    }

    /// What one client, one call or one server may cost (`limits`).
    pub struct Limits {
        /// Bytes of one request body.
        pub request_bytes: u64 = 4 << 20,
        /// Bytes of one answer of a server.
        pub response_bytes: u64 = 64 << 20,
        /// Calls in flight on one endpoint; one more takes the place of a call whose client is gone, or is refused.
        pub in_flight_per_endpoint: u32 = 1024,
        /// How long one call may take without any sign of life from its server.
        pub idle: Duration = Duration::from_secs(300),
        /// How long one call may take altogether; progress does not extend it.
        pub total: Duration = Duration::from_secs(3600),
        /// How long connecting and initialising one endpoint may take.
        pub connect: Duration = Duration::from_secs(10),
        /// How long a call waits for a server that is down, where [`DeadServers::Hold`] says that calls wait.
        pub hold: Option<Duration> = None,
        /// How long a client may go without taking anything of what is sent to it.
        pub write: Duration = Duration::from_secs(30),
        /// Connections of clients at the same time on one router.
        pub connections: u32 = 4096,
        /// Bytes of requests and answers that one router holds for its clients.
        pub buffered_bytes: u64 = 256 << 20,
        /// How long a session lives without a request.
        pub session_idle: Duration = Duration::from_secs(7 * 86_400),
        /// Sessions that one router remembers; the idlest are forgotten first.
        pub sessions: u32 = 100_000,
    }
}

impl HistoryPolicy {
    /// How many contents are kept where the author does not say. It is not the default of the key, so that it can be
    /// another number in another release: what is stored without a number stays without one.
    pub const CONTENTS: u32 = 100;

    pub fn contents(&self) -> u32 {
        self.max_snapshots.unwrap_or(Self::CONTENTS)
    }
}

/// What a server has in place of the gateway's [`DrainPolicy`]: an absent key is the gateway's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields, default)]
pub struct DrainOverlay {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<DrainStrategy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_reduction: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum_health_permille: Option<u32>,
}

impl DrainOverlay {
    /// What stands as `{}` in stored contents. They come from releases in which `timeout` was the only key, and which
    /// left it out at its default.
    fn of_nothing() -> Self {
        Self { timeout: Some(DrainPolicy::default().timeout), ..Self::default() }
    }

    /// Each key as it stands here, else as in `policy`.
    #[must_use]
    pub fn over(&self, policy: &DrainPolicy) -> DrainPolicy {
        let DrainPolicy { timeout, strategy, progressive } = policy;
        let ProgressivePolicy { rate, weight_reduction, interval, minimum_health_permille } = progressive;
        DrainPolicy {
            timeout: self.timeout.unwrap_or(*timeout),
            strategy: self.strategy.unwrap_or(*strategy),
            progressive: ProgressivePolicy {
                rate: self.rate.unwrap_or(*rate),
                weight_reduction: self.weight_reduction.unwrap_or(*weight_reduction),
                interval: self.interval.unwrap_or(*interval),
                minimum_health_permille: self.minimum_health_permille.unwrap_or(*minimum_health_permille),
            },
        }
    }
}

impl Serialize for DrainOverlay {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let written = if *self == Self::of_nothing() { &Self::default() } else { self };
        Self::serialize(written, serializer)
    }
}

impl<'de> Deserialize<'de> for DrainOverlay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = Self::deserialize(deserializer)?;
        Ok(if read == Self::default() { Self::of_nothing() } else { read })
    }
}

/// The parts of the policy that a server may have keys of its own for, as they hold for one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InForce {
    pub drain: DrainPolicy,
    pub limits: Limits,
    pub dead: DeadServers,
}

impl InForce {
    /// As the endpoints of the server keep them: there is no `hold` where calls do not wait.
    #[must_use]
    pub fn limits_of_endpoints(self) -> Limits {
        let hold = (self.dead == DeadServers::Hold).then(|| self.limits.hold.unwrap_or(HOLD));
        Limits { hold, ..self.limits }
    }
}

impl BackendPolicy {
    /// What holds for the backend: each key as it has it, else as the gateway has it.
    pub fn over(&self, gateway: &Policy) -> InForce {
        let connect = self.connect.unwrap_or(gateway.limits.connect);
        InForce {
            drain: self.drain.over(&gateway.drain),
            limits: Limits { connect, ..gateway.limits.clone() },
            dead: self.dead.unwrap_or(gateway.dead),
        }
    }
}
