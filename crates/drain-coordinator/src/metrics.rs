//! What Prometheus sees of this service.

use std::time::Duration;

use drain::ledger::Summary;
use metrics::{counter, gauge, histogram};

pub(crate) fn queued(commands: usize) {
    gauge!("drain_coordinator_queue_depth").set(count(commands));
}

pub(crate) fn state(routers: usize, running: usize) {
    gauge!("drain_coordinator_routers").set(count(routers));
    gauge!("drain_coordinator_drains_running").set(count(running));
}

pub(crate) fn ended(drain: &Summary) {
    let cause = if drain.id.is_removal() { "removal" } else { "admin" };
    counter!("drain_coordinator_drains_ended_total", "cause" => cause, "state" => drain.state.as_str()).increment(1);
    let totals = drain.totals;
    for (outcome, number) in [("finished", totals.finished), ("evicted", totals.evicted), ("lost", totals.lost)] {
        counter!("drain_coordinator_exchanges_total", "outcome" => outcome).increment(number);
    }
}

pub(crate) fn saved(took: Duration, ok: bool) {
    histogram!("drain_coordinator_save_duration_seconds").record(took);
    let result = if ok { "ok" } else { "failed" };
    counter!("drain_coordinator_saves_total", "result" => result).increment(1);
}

/// A watcher was too slow for that many changes.
pub(crate) fn missed(changes: u64) {
    counter!("drain_coordinator_watch_missed_total").increment(changes);
}

/// A router took nothing, or spoke nonsense, and was hung up on.
pub(crate) fn hung_up() {
    counter!("drain_coordinator_hang_ups_total").increment(1);
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn count(number: usize) -> f64 {
    number as f64
}
