//! What Prometheus sees of this service.

use std::sync::Arc;

use metrics::gauge;
use rollout::desk::CANDIDATES_MAX;
use runtime::telemetry::sampled::{self, Fill, count, present};
use runtime::telemetry::{Label, Metric};
use tokio::sync::{broadcast, watch};

use crate::status::{Happened, PendingStage, SourceState, Status};
use crate::{engine, log, outcome};

/// All of them: those that are known by looking, and those that are counted where it happens.
pub const METRICS: &[&[Metric]] = &[SHOWN, outcome::METRICS, engine::METRICS, log::METRICS];

const SHOWN: &[Metric] = &[
    Metric::gauge("only1mcp_config_revision", &[], "The revision that should be live in all routers; 0 for none."),
    Metric::gauge("only1mcp_config_live_info", &[Label("digest", &[])], "1 for the digest of that revision."),
    Metric::gauge("only1mcp_config_servers", &[], "Servers in that revision."),
    Metric::gauge("only1mcp_config_snapshot_bytes", &[], "The size of that revision as it is stored and sent."),
    Metric::gauge(
        "only1mcp_config_routers",
        &[Label("state", ROUTER_STATES)],
        "Attached routers, by how they stand to the live revision.",
    ),
    Metric::gauge(
        "only1mcp_config_source_state",
        &[Label(
            "state",
            &["starting", "following", "settling", "source_missing", "refused", "rolled_back", "disabled", "none"],
        )],
        "1 for the state in which the followed file is.",
    ),
    Metric::gauge("only1mcp_config_pending", &[], "Changes that are not decided yet."),
    Metric::gauge(
        "only1mcp_config_without_voter",
        &[],
        "Of these, changes that wait because no router at the live revision is there to vote.",
    ),
    Metric::gauge("only1mcp_config_watchers", &[], "Callers that are told of every event."),
    Metric::gauge(
        "only1mcp_config_log_fault",
        &[],
        "1 when the log is not sound: a part of it cannot be read, or the last write to it failed, or it cannot be opened.",
    ),
];

const ROUTER_STATES: &[&str] = &["live", "behind", "voting", "joining"];

/// Shows the status and the number of watchers of `events`, for as long as the engine publishes a status.
pub(crate) fn show(status: watch::Receiver<Arc<Status>>, events: &broadcast::Sender<Happened>) {
    let pending = status.clone();
    sampled::limit("config_pending", move || {
        pending.has_changed().ok()?;
        Some(Fill { used: pending.borrow().pending.len(), max: CANDIDATES_MAX })
    });
    let events = events.downgrade();
    let (mut shown, mut measured) = (None, None);
    sampled::sampled(move || {
        status.has_changed().ok()?;
        let status = Arc::clone(&status.borrow());
        if measured != status.digest {
            let size = status.snapshot.as_ref().map_or(0, |snapshot| snapshot.canonical().0.len());
            gauge!("only1mcp_config_snapshot_bytes").set(count(size));
            measured = status.digest;
        }
        present("only1mcp_config_live_info", "digest", &mut shown, status.digest.map(|digest| digest.short()));
        gauge!("only1mcp_config_watchers").set(count(events.upgrade()?.receiver_count()));
        gauges(&status);
        Some(())
    });
}

fn gauges(status: &Status) {
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float, and 2^53 revisions are out of reach")]
    gauge!("only1mcp_config_revision").set(status.revision.0 as f64);
    let servers = status.snapshot.as_ref().map_or(0, |snapshot| snapshot.backends.len());
    gauge!("only1mcp_config_servers").set(count(servers));
    for state in SourceState::ALL {
        let value = if state == status.source.state { 1.0 } else { 0.0 };
        gauge!("only1mcp_config_source_state", "state" => state.as_str()).set(value);
    }
    for state in ROUTER_STATES {
        let routers = status.routers.iter().filter(|router| router.state().0 == *state).count();
        gauge!("only1mcp_config_routers", "state" => *state).set(count(routers));
    }
    let without = status.pending.iter().filter(|pending| pending.stage == PendingStage::WithoutVoter).count();
    gauge!("only1mcp_config_pending").set(count(status.pending.len()));
    gauge!("only1mcp_config_without_voter").set(count(without));
    gauge!("only1mcp_config_log_fault").set(u8::from(status.log_fault.is_some()));
}
