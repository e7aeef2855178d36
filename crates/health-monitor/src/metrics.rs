//! What Prometheus sees of this service.

use health::monitor::Opinion;
use health::{Observation, Outcome};
use metrics::{counter, gauge, histogram};
use model::Verdict;

pub(crate) fn queued(commands: usize) {
    gauge!("health_monitor_queue_depth").set(count(commands));
}

/// Endpoints are counted once for each router that has them.
pub(crate) fn state(routers: usize, opinions: &[Opinion]) {
    gauge!("health_monitor_routers").set(count(routers));
    let all = [Verdict::Healthy, Verdict::Degraded, Verdict::Unhealthy, Verdict::Unknown, Verdict::Starting];
    for verdict in all {
        let number = opinions.iter().filter(|opinion| opinion.verdict == verdict).count();
        gauge!("health_monitor_endpoints", "verdict" => verdict.as_str()).set(count(number));
    }
}

pub(crate) fn observed(observation: &Observation) {
    let (source, outcome) = match observation {
        Observation::Probed { outcome, .. } => ("probe", outcome),
        Observation::Seen { outcome, .. } => ("traffic", outcome),
        Observation::Hello { .. } | Observation::Endpoints { .. } => return,
    };
    let result = match outcome {
        Outcome::Ok { latency } => {
            histogram!("health_monitor_latency_seconds", "source" => source).record(*latency);
            "ok"
        }
        Outcome::Failed { .. } => "failed",
        Outcome::Starting { .. } => "starting",
    };
    counter!("health_monitor_outcomes_total", "source" => source, "result" => result).increment(1);
}

pub(crate) fn probe_asked() {
    counter!("health_monitor_probes_total").increment(1);
}

pub(crate) fn changed(verdict: Verdict) {
    counter!("health_monitor_verdict_changes_total", "verdict" => verdict.as_str()).increment(1);
}

/// A watcher was too slow for that many changes.
pub(crate) fn missed(changes: u64) {
    counter!("health_monitor_watch_missed_total").increment(changes);
}

/// A router took nothing, or spoke nonsense, and was hung up on.
pub(crate) fn hung_up() {
    counter!("health_monitor_hang_ups_total").increment(1);
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn count(number: usize) -> f64 {
    number as f64
}
