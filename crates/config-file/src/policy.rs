//! Every key of the file but those of a server, with its place in the policy and its range.

use std::time::Duration;

use model::{DrainPolicy, Naming, Policy};

use crate::schema::{Key, Kind};
use crate::values::Unit;

const MIB: u64 = 1 << 20;
const DAY: u64 = 86_400;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(crate) static POLICY: [Key<Policy>; 26] = [
    Key::new("version", Kind::Elsewhere),
    Key::new("servers", Kind::Elsewhere),
    Key::new(
        "naming",
        Kind::Choice(&[("prefix", |p| p.naming = Naming::Prefix), ("none", |p| p.naming = Naming::None)], &["shared"]),
    ),
    Key::new("allow_empty", Kind::Flag(|p| &mut p.allow_empty)),
    Key::new("hot_reload.enabled", Kind::Flag(|p| &mut p.source.enabled)),
    // Events, with polling beside them: what the watcher always does.
    Key::new("hot_reload.watcher.method", Kind::Choice(&[("auto", |_| {})], &["polling", "notify"])),
    Key::new(
        "hot_reload.watcher.poll_interval_ms",
        Kind::Counted(Unit::Milliseconds, |p| &mut p.source.poll_interval, 10..=3_600_000),
    ),
    Key::new(
        "hot_reload.watcher.debounce_ms",
        Kind::Counted(Unit::Milliseconds, |p| &mut p.source.debounce, 0..=10_000),
    ),
    Key::new(
        "hot_reload.validation.timeout_seconds",
        Kind::Counted(Unit::Seconds, |p| &mut p.validation.timeout, 1..=3600),
    ),
    Key::new("hot_reload.two_phase_commit.enabled", Kind::Flag(|p| &mut p.validation.two_phase_commit)),
    Key::new("drain.strategy", Kind::Choice(&[("graceful", |_| {})], &["immediate", "progressive"])),
    Key::new("drain.graceful.timeout_seconds", Kind::Counted(Unit::Seconds, |p| &mut p.drain.timeout, 0..=DAY)),
    Key::new("health.minimum_health_ratio", Kind::Permille(|p| &mut p.validation.minimum_health_permille)),
    Key::new("health.interval", Kind::Duration(|p| &mut p.health.interval, ms(10)..=secs(DAY))),
    Key::new("health.timeout", Kind::Duration(|p| &mut p.health.timeout, ms(10)..=secs(3600))),
    Key::new("health.unhealthy_threshold", Kind::Count(|p| &mut p.health.unhealthy_threshold, 1..=1000)),
    Key::new("health.healthy_threshold", Kind::Count(|p| &mut p.health.healthy_threshold, 1..=1000)),
    Key::new("rollback.history.max_snapshots", Kind::Count(|p| &mut p.history.max_snapshots, 1..=100_000)),
    Key::new("rollback.history.retention_days", Kind::Counted(Unit::Days, |p| &mut p.history.retention, 1..=36_500)),
    Key::new("limits.request_bytes", Kind::Bytes(|p| &mut p.limits.request_bytes, 1024..=1024 * MIB)),
    Key::new("limits.response_bytes", Kind::Bytes(|p| &mut p.limits.response_bytes, 1024..=4096 * MIB)),
    Key::new("limits.in_flight_per_endpoint", Kind::Count(|p| &mut p.limits.in_flight_per_endpoint, 1..=1_000_000)),
    Key::new("limits.idle", Kind::Duration(|p| &mut p.limits.idle, ms(10)..=secs(30 * DAY))),
    Key::new("limits.total", Kind::Duration(|p| &mut p.limits.total, ms(10)..=secs(30 * DAY))),
    Key::new("limits.connect", Kind::Duration(|p| &mut p.limits.connect, ms(10)..=secs(3600))),
    Key::new("limits.session_idle", Kind::Duration(|p| &mut p.limits.session_idle, secs(1)..=secs(365 * DAY))),
];

/// `servers[].drain`, in place of the gateway's own.
pub(crate) static SERVER_DRAIN: [Key<Option<DrainPolicy>>; 2] = [
    Key::new("strategy", Kind::Choice(&[("graceful", |_| {})], &["immediate", "progressive"])),
    Key::new(
        "graceful.timeout_seconds",
        Kind::Counted(Unit::Seconds, |drain| &mut drain.get_or_insert_default().timeout, 0..=DAY),
    ),
];

/// Keys that a later release will understand, each with all keys inside it.
pub(crate) static NOT_YET: [&str; 17] = [
    "hot_reload.watcher.additional_paths",
    "hot_reload.validation.level",
    "hot_reload.validation.checks",
    "hot_reload.validation.parallel",
    "hot_reload.two_phase_commit.require_approval",
    "hot_reload.two_phase_commit.approval_timeout_seconds",
    "drain.graceful.check_interval_ms",
    "drain.progressive",
    "drain.tracking",
    "rollback.auto_enabled",
    "rollback.triggers",
    "rollback.history.compress",
    "rollback.behavior",
    "synchronization",
    "performance",
    "deployment",
    "tools_of_dead_servers",
];

pub(crate) static SERVER_DRAIN_NOT_YET: [&str; 3] = ["graceful.check_interval_ms", "progressive", "tracking"];
