//! What Prometheus sees of this service.

use health::monitor::Opinion;
use health::{Observation, Outcome};
use metrics::{counter, gauge, histogram};
use model::Verdict;
use runtime::telemetry::sampled::{self, count};
use runtime::telemetry::{Label, Metric};
use tokio::sync::broadcast;

const SOURCES: &[&str] = &["probe", "traffic"];

/// All of them.
pub const METRICS: &[Metric] = &[
    Metric::gauge("only1mcp_health_routers", &[], "Attached routers."),
    Metric::gauge(
        "only1mcp_health_endpoints",
        &[Label("verdict", &Verdict::NAMES)],
        "Endpoints of all routers by verdict; one is counted once for each router that has it.",
    ),
    Metric::counter(
        "only1mcp_health_outcomes_total",
        &[Label("source", SOURCES), Label("result", &["ok", "failed", "starting"])],
        "What probes and real traffic showed; many calls make one outcome.",
    ),
    Metric::histogram(
        "only1mcp_health_latency_seconds",
        &[Label("source", SOURCES)],
        "How long servers took to answer, of outcomes that are ok.",
    ),
    Metric::counter("only1mcp_health_probes_total", &[], "Probes that routers were asked for."),
    Metric::counter(
        "only1mcp_health_verdict_changes_total",
        &[Label("verdict", &Verdict::NAMES)],
        "Changed verdicts, by what they are now.",
    ),
    Metric::gauge("only1mcp_health_watchers", &[], "Callers that are told of every change."),
    Metric::counter("only1mcp_health_watch_missed_total", &[], "Changes that watchers were too slow for."),
    Metric::counter(
        "only1mcp_health_hang_ups_total",
        &[],
        "Routers hung up on, because they took nothing, spoke nonsense, or came again.",
    ),
];

/// Shows how many watchers hear of changes.
pub(crate) fn watched(changes: &broadcast::Sender<Opinion>) {
    let changes = changes.downgrade();
    sampled::sampled(move || {
        gauge!("only1mcp_health_watchers").set(count(changes.upgrade()?.receiver_count()));
        Some(())
    });
}

/// Endpoints are counted once for each router that has them.
pub(crate) fn state(routers: usize, verdicts: impl Iterator<Item = Verdict>) {
    gauge!("only1mcp_health_routers").set(count(routers));
    let mut numbers = Verdict::ALL.map(|verdict| (verdict, 0));
    for verdict in verdicts {
        if let Some((_, number)) = numbers.iter_mut().find(|(one, _)| *one == verdict) {
            *number += 1;
        }
    }
    for (verdict, number) in numbers {
        gauge!("only1mcp_health_endpoints", "verdict" => verdict.as_str()).set(count(number));
    }
}

pub(crate) fn observed(observation: &Observation) {
    let (source, outcome) = match observation {
        Observation::Probed { outcome, .. } => ("probe", outcome),
        Observation::Seen { outcome, .. } => ("traffic", outcome),
        Observation::Hello { .. } | Observation::Endpoints { .. } | Observation::Change { .. } => return,
    };
    if let Outcome::Ok { latency } = outcome {
        histogram!("only1mcp_health_latency_seconds", "source" => source).record(*latency);
    }
    counter!("only1mcp_health_outcomes_total", "source" => source, "result" => outcome.as_str()).increment(1);
}

pub(crate) fn probe_asked() {
    counter!("only1mcp_health_probes_total").increment(1);
}

pub(crate) fn changed(verdict: Verdict) {
    counter!("only1mcp_health_verdict_changes_total", "verdict" => verdict.as_str()).increment(1);
}

/// A watcher was too slow for that many changes.
pub(crate) fn missed(changes: u64) {
    counter!("only1mcp_health_watch_missed_total").increment(changes);
}

/// A router took no messages, or sent nonsense, and its stream was ended.
pub(crate) fn hung_up() {
    counter!("only1mcp_health_hang_ups_total").increment(1);
}
