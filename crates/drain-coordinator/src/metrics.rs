//! What Prometheus sees of this service.

use std::time::Duration;

use drain::ledger::{State, Summary};
use metrics::{counter, gauge, histogram};
use runtime::telemetry::sampled::{self, count};
use runtime::telemetry::{Label, Metric};
use tokio::sync::broadcast;

/// All of them.
pub const METRICS: &[Metric] = &[
    Metric::gauge("only1mcp_drain_routers", &[], "Attached routers."),
    Metric::gauge(
        "only1mcp_drain_running",
        &[Label("state", &["draining", "evicting"])],
        "Drains that have not ended; one that is evicting is past its deadline on some router.",
    ),
    Metric::counter(
        "only1mcp_drain_ended_total",
        &[Label("cause", &["removal", "admin"]), Label("state", &["done", "cancelled"])],
        "Drains that ended, over all routers.",
    ),
    Metric::counter(
        "only1mcp_drain_exchanges_total",
        &[Label("outcome", &["finished", "evicted", "lost"])],
        "Exchanges that were in flight when a drain began, by what became of them; counted when the drain ends.",
    ),
    Metric::histogram("only1mcp_drain_save_seconds", &[], "How long a write of the record of drains took."),
    Metric::counter(
        "only1mcp_drain_saves_total",
        &[Label("result", &["ok", "failed"])],
        "Writes of the record of drains; while one fails what operators ask is refused.",
    ),
    Metric::gauge("only1mcp_drain_watchers", &[], "Callers that are told of every change."),
    Metric::counter("only1mcp_drain_watch_missed_total", &[], "Changes that watchers were too slow for."),
    Metric::counter(
        "only1mcp_drain_hang_ups_total",
        &[],
        "Routers hung up on, because they took nothing, spoke nonsense, or came again.",
    ),
];

/// Shows how many watchers hear of changes.
pub(crate) fn watched(changes: &broadcast::Sender<Summary>) {
    let changes = changes.downgrade();
    sampled::sampled(move || {
        gauge!("only1mcp_drain_watchers").set(count(changes.upgrade()?.receiver_count()));
        Some(())
    });
}

pub(crate) fn state(routers: usize, running: [(State, usize); 2]) {
    gauge!("only1mcp_drain_routers").set(count(routers));
    for (state, number) in running {
        gauge!("only1mcp_drain_running", "state" => state.as_str()).set(count(number));
    }
}

pub(crate) fn ended(drain: &Summary) {
    let cause = if drain.id.is_removal() { "removal" } else { "admin" };
    counter!("only1mcp_drain_ended_total", "cause" => cause, "state" => drain.state.as_str()).increment(1);
    let totals = drain.totals;
    for (outcome, number) in [("finished", totals.finished), ("evicted", totals.evicted), ("lost", totals.lost)] {
        counter!("only1mcp_drain_exchanges_total", "outcome" => outcome).increment(number);
    }
}

pub(crate) fn saved(took: Duration, ok: bool) {
    histogram!("only1mcp_drain_save_seconds").record(took);
    let result = if ok { "ok" } else { "failed" };
    counter!("only1mcp_drain_saves_total", "result" => result).increment(1);
}

/// A watcher was too slow for that many changes.
pub(crate) fn missed(changes: u64) {
    counter!("only1mcp_drain_watch_missed_total").increment(changes);
}

/// A router took no messages, or sent nonsense, and its stream was ended.
pub(crate) fn hung_up() {
    counter!("only1mcp_drain_hang_ups_total").increment(1);
}
