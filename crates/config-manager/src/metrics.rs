//! What Prometheus sees of this service.

use std::sync::Arc;

use metrics::gauge;
use rollout::desk::CANDIDATES_MAX;
use runtime::telemetry::sampled::{self, Fill, count, present};
use runtime::telemetry::{Label, Metric};
use tokio::sync::{broadcast, watch};

use crate::status::{Happened, PendingStage, SourceState, Status};

/// All of them.
pub const METRICS: &[Metric] = &[
    Metric::gauge("only1mcp_config_revision", &[], "The revision that should be live in all routers; 0 for none."),
    Metric::gauge("only1mcp_config_live_info", &[Label("digest", &[])], "1 for the digest of that revision."),
    Metric::gauge("only1mcp_config_servers", &[], "Servers in that revision."),
    Metric::gauge("only1mcp_config_snapshot_bytes", &[], "The size of that revision as it is stored and sent."),
    Metric::counter(
        "only1mcp_config_reloads_total",
        &[Label("result", RESULTS)],
        "Wishes for a change that were decided, whoever had them, by how they ended.",
    ),
    Metric::histogram(
        "only1mcp_config_apply_seconds",
        &[],
        "Applied changes: from the read of what is wanted until it is live in every router that voted.",
    ),
    Metric::histogram(
        "only1mcp_config_write_to_live_seconds",
        &[],
        "Applied changes: from the end of the write until it is live in every router that voted.",
    ),
    Metric::histogram(
        "only1mcp_config_stage_seconds",
        &[Label("stage", &["parse", "validate", "prepare", "append", "swap"])],
        "Applied changes: the time that each stage took.",
    ),
    Metric::counter(
        "only1mcp_config_votes_total",
        &[Label("vote", &["yes", "no"])],
        "Votes of routers on attempts, as they arrived.",
    ),
    Metric::counter(
        "only1mcp_config_nacks_total",
        &[Label("reason", REFUSALS)],
        "Votes of no, by reason; silence until the deadline is one.",
    ),
    Metric::counter(
        "only1mcp_config_behind_total",
        &[Label("reason", REFUSALS)],
        "How often a router could not hold the live revision, by reason.",
    ),
    Metric::gauge(
        "only1mcp_config_routers",
        &[Label("state", ROUTER_STATES)],
        "Attached routers, by how they stand to the live revision.",
    ),
    Metric::gauge(
        "only1mcp_config_source_state",
        &[Label("state", &["starting", "following", "settling", "source_missing", "refused", "disabled", "none"])],
        "1 for the state in which the followed file is.",
    ),
    Metric::gauge("only1mcp_config_pending", &[], "Changes that are not decided yet."),
    Metric::gauge(
        "only1mcp_config_without_voter",
        &[],
        "Of these, changes that wait because no router at the live revision is there to vote.",
    ),
    Metric::gauge("only1mcp_config_watchers", &[], "Callers that are told of every event."),
    Metric::counter(
        "only1mcp_config_appends_total",
        &[Label("result", &["ok", "failed"])],
        "Writes of a revision to the log, counted as they end; one that failed and is found there all the same is both.",
    ),
    Metric::counter(
        "only1mcp_config_audits_total",
        &[Label("result", &["ok", "failed"])],
        "Decisions other than a new revision written to the log.",
    ),
    Metric::gauge(
        "only1mcp_config_log_fault",
        &[],
        "1 when the log is not sound: a part of it cannot be read, or the last write to it failed, or it cannot be opened.",
    ),
    Metric::counter(
        "only1mcp_config_deposed_total",
        &[],
        "How often a router said that it obeys a younger config-manager on the same log.",
    ),
];

const RESULTS: &[&str] = &["applied", "no_change", "refused", "superseded"];
const ROUTER_STATES: &[&str] = &["live", "behind", "voting", "joining"];
const REFUSALS: &[&str] =
    &["too_few_ready", "critical", "secret", "names", "feature", "not_held", "silent", "damaged", "stale"];

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
