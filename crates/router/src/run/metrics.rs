//! What Prometheus sees of a router.

use std::collections::BTreeMap;
use std::sync::Arc;

use drain::Phase;
use metrics::{counter, gauge};
use model::{BackendId, Condition, Snapshot, Standing, Verdict};
use runtime::telemetry::sampled::{self, count, present};
use runtime::telemetry::{Label, Metric};
use tokio::sync::watch;

use crate::control::{Control, Following, Status};
use crate::core::{Everywhere, Shared};
use crate::exchange;

const SERVER: Label = Label("server", &[]);
const OK_OR_FAILED: Label = Label("result", &["ok", "failed"]);

/// All of them.
pub const METRICS: &[Metric] = &[
    Metric::counter(
        "only1mcp_calls_total",
        &[SERVER, Label("result", &["answered", "failed", "cancelled", "evicted", "timed_out"])],
        "Calls that were sent on to a server, by how they ended; an error that the server answered with is an answer, and cancelled ones include those that were given up because their clients were gone and others needed their places.",
    ),
    Metric::counter(
        "only1mcp_tool_errors_total",
        &[SERVER],
        "Of the answered calls, those in which the tool says that it failed (`isError`).",
    ),
    Metric::histogram(
        "only1mcp_call_seconds",
        &[SERVER],
        "From the arrival of a call until its end, whatever that was.",
    ),
    Metric::counter(
        "only1mcp_calls_unrouted_total",
        &[Label("reason", exchange::UNROUTED)],
        "Calls that reached no server, by reason; ended is by its client, a limit or a stop, no_room by others that hold the room for requests.",
    ),
    Metric::gauge("only1mcp_server_endpoints", &[SERVER], "Live endpoints of a server; none while it is disabled."),
    Metric::gauge("only1mcp_server_up", &[SERVER], "Of these, those that are up and not unhealthy."),
    Metric::gauge(
        "only1mcp_server_state",
        &[SERVER, Label("state", &Condition::NAMES)],
        "1 for the state of the server, the worst of its endpoints' states, as `only1mcp status` shows it, or `disabled` where it is switched off in the configuration; 0 for the one before.",
    ),
    Metric::gauge("only1mcp_server_in_flight", &[SERVER], "Calls at a server, leaving endpoints included."),
    Metric::counter(
        "only1mcp_server_bring_ups_total",
        &[SERVER, OK_OR_FAILED],
        "Attempts to bring an endpoint of the server up: start or connect, initialise, list its tools.",
    ),
    Metric::counter("only1mcp_server_losses_total", &[SERVER], "How often an endpoint that was up was lost."),
    Metric::counter(
        "only1mcp_server_restarts_total",
        &[SERVER, Label("cause", &["operator", "unhealthy"])],
        "How often the process of the server was ended so that another one takes its place.",
    ),
    Metric::counter(
        "only1mcp_server_ejections_total",
        &[SERVER],
        "How often an endpoint of a server with several was ejected, since its calls failed and those of others did not.",
    ),
    Metric::gauge("only1mcp_router_revision", &[], "The live revision; 0 for none."),
    Metric::gauge("only1mcp_router_live_info", &[Label("digest", &[])], "1 for the digest of the live revision."),
    Metric::gauge(
        "only1mcp_router_from_disk",
        &[],
        "1 while what is live came from the copy on disk and no config-manager has confirmed it.",
    ),
    Metric::gauge("only1mcp_router_tools", &[], "Tools that clients see."),
    Metric::gauge("only1mcp_router_endpoints", &[Label("verdict", &Verdict::NAMES)], "Live endpoints by verdict."),
    Metric::gauge(
        "only1mcp_router_endpoints_ejected",
        &[],
        "Live endpoints that get no calls since calls fail there and not at others.",
    ),
    Metric::gauge("only1mcp_router_endpoints_leaving", &[], "Endpoints that the live revision has no more."),
    Metric::gauge(
        "only1mcp_router_drains",
        &[Label("phase", &["cordoned", "evicting"])],
        "Cordoned endpoints with calls in flight, by phase; evicting is past the deadline.",
    ),
    Metric::counter(
        "only1mcp_router_endpoints_added_total",
        &[OK_OR_FAILED],
        "New endpoints, by whether the first attempt to bring them up succeeded.",
    ),
    Metric::counter(
        "only1mcp_router_endpoints_removed_total",
        &[Label("result", &["drained", "evicted"])],
        "Endpoints that left; evicted when the deadline ended calls on them.",
    ),
    Metric::histogram(
        "only1mcp_router_drain_seconds",
        &[Label("result", &["drained", "evicted"])],
        "Endpoints that left: from the end of admission until nothing was in flight.",
    ),
    Metric::histogram("only1mcp_router_swap_seconds", &[], "From the decision for a revision until calls see it."),
    Metric::histogram("only1mcp_router_turn_seconds", &[], "How long making and publishing a generation took."),
    Metric::counter("only1mcp_router_votes_total", &[Label("vote", &["yes", "no"])], "Votes on attempts."),
    Metric::counter("only1mcp_router_disk_copies_total", &[OK_OR_FAILED], "Writes of the copy of what is live."),
    Metric::gauge("only1mcp_router_connections", &[], "Open connections of clients."),
    Metric::counter(
        "only1mcp_router_connections_closed_total",
        &[Label("reason", &["silent", "slow_head", "idle", "unread", "displaced"])],
        "Connections that were given up for what their clients did not do; displaced made room for another one.",
    ),
    Metric::counter(
        "only1mcp_router_connections_refused_total",
        &[],
        "Connections that were answered 503 at once, since as many as may were in use (limits.connections).",
    ),
    Metric::gauge(
        "only1mcp_router_held_bytes",
        &[],
        "Of requests and answers, what waits in memory for clients (limits.buffered_bytes).",
    ),
    Metric::gauge("only1mcp_router_sessions", &[], "Sessions known to this process."),
    Metric::gauge(
        "only1mcp_router_sessions_ended",
        &[],
        "Sessions that their clients have ended, remembered until their ids have expired.",
    ),
    Metric::counter(
        "only1mcp_router_sessions_evicted_total",
        &[Label("result", &["forgotten", "ended"])],
        "Sessions that had to make room for others (limits.sessions); a forgotten one lives on by its id alone.",
    ),
    Metric::counter(
        "only1mcp_router_sessions_moved_total",
        &[],
        "Sessions that moved to another endpoint of a server, away from one that leaves step by step (drain.progressive.rate).",
    ),
    Metric::counter(
        "only1mcp_router_session_writes_failed_total",
        &[],
        "Writes to the journal of sessions that failed; it is written anew as soon as that succeeds.",
    ),
    Metric::counter(
        "only1mcp_router_session_ends_refused_total",
        &[],
        "Ends of sessions (DELETE) that were answered 503, since too many are remembered (limits.sessions); they live on.",
    ),
    Metric::gauge(
        "only1mcp_router_exchanges",
        &[],
        "Calls in flight, and requests for a list of tools that wait for the first server.",
    ),
    Metric::counter("only1mcp_router_connects_total", &[OK_OR_FAILED], "Connections to HTTP servers."),
    Metric::counter(
        "only1mcp_router_renewals_total",
        &[OK_OR_FAILED],
        "New sessions with servers that had lost theirs.",
    ),
    Metric::counter(
        "only1mcp_router_asides_dropped_total",
        &[],
        "Replies to requests of HTTP servers, and cancellations, that a server was too slow to take.",
    ),
    Metric::counter(
        "only1mcp_router_progress_dropped_total",
        &[],
        "Notifications of progress that a client was too slow for, or that belong to no call.",
    ),
];

/// Updates the metrics that are only known by looking, for as long as the control side runs.
pub(crate) fn show(control: &Control, shared: &Arc<Shared>, cores: &Everywhere) {
    let (status, following) = (control.status.clone(), control.following.clone());
    let (shared, cores) = (Arc::downgrade(shared), cores.clone());
    let (mut digest, mut known) = (None, BTreeMap::new());
    sampled::sampled(move || {
        status.has_changed().ok()?;
        let busy = cores.busy();
        gauge!("only1mcp_router_connections").set(count(busy.connections));
        gauge!("only1mcp_router_exchanges").set(count(busy.exchanges));
        let shared = shared.upgrade()?;
        gauge!("only1mcp_router_held_bytes").set(count(shared.budget.bytes()));
        gauge!("only1mcp_router_sessions").set(count(shared.sessions.known()));
        gauge!("only1mcp_router_sessions_ended").set(count(shared.sessions.ended()));
        let status = Arc::clone(&status.borrow());
        present("only1mcp_router_live_info", "digest", &mut digest, status.digest.map(|digest| digest.short()));
        gauges(&status, &following);
        servers(&status, &shared.live.load().snapshot, &mut known);
        Some(())
    });
}

fn gauges(status: &Status, following: &watch::Receiver<Following>) {
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float, and 2^53 revisions are out of reach")]
    gauge!("only1mcp_router_revision").set(status.revision.0 as f64);
    gauge!("only1mcp_router_from_disk").set(u8::from(following.borrow().from_disk));
    gauge!("only1mcp_router_tools").set(count(status.tools));
    let live = || status.endpoints.iter().filter(|endpoint| endpoint.live);
    for verdict in Verdict::ALL {
        let number = live().filter(|status| status.endpoint.verdict() == verdict).count();
        gauge!("only1mcp_router_endpoints", "verdict" => verdict.as_str()).set(count(number));
    }
    let ejected = live().filter(|status| status.endpoint.standing() == Standing::Ejected).count();
    gauge!("only1mcp_router_endpoints_ejected").set(count(ejected));
    let leaving = status.endpoints.iter().filter(|endpoint| endpoint.leaving).count();
    gauge!("only1mcp_router_endpoints_leaving").set(count(leaving));
    for phase in [Phase::Cordoned, Phase::Evicting] {
        let number = status.departures.iter().filter(|one| one.phase == phase && one.in_flight > 0).count();
        gauge!("only1mcp_router_drains", "phase" => phase.as_str()).set(count(number));
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Server {
    endpoints: usize,
    up: usize,
    in_flight: u64,
    state: Option<Condition>,
}

/// Looked up anew at each look, so that a server's series last as long as the server; the series of a server that is
/// gone are 0 before they are forgotten.
fn servers(status: &Status, live: &Snapshot, known: &mut BTreeMap<BackendId, Server>) {
    let before = std::mem::take(known);
    let mut servers: BTreeMap<_, _> = before.keys().map(|id| (id.clone(), Server::default())).collect();
    for one in &status.endpoints {
        let server = known.entry(one.endpoint.key.backend.clone()).or_default();
        server.in_flight += one.endpoint.admission.in_flight();
        let wanted = one.live && !one.disabled;
        server.endpoints += usize::from(wanted);
        server.up += usize::from(wanted && one.up && one.endpoint.verdict() != Verdict::Unhealthy);
        // A candidate is no server yet.
        let state = (one.live || one.leaving).then(|| one.condition().0);
        server.state = server.state.max(state);
    }
    for backend in live.backends.iter().filter(|backend| !backend.policy.enabled) {
        let server = known.entry(backend.id.clone()).or_default();
        server.state = server.state.max(Some(Condition::Disabled));
    }
    servers.extend(known.iter().map(|(id, server)| (id.clone(), *server)));
    for (id, server) in servers {
        let label = metrics::Label::new("server", id.to_string());
        let state_before = before.get(&id).and_then(|server| server.state).filter(|state| Some(*state) != server.state);
        for (state, now) in [(state_before, 0_u8), (server.state, 1)] {
            let Some(state) = state else { continue };
            let state = metrics::Label::new("state", state.as_str());
            gauge!("only1mcp_server_state", vec![label.clone(), state]).set(now);
        }
        gauge!("only1mcp_server_endpoints", vec![label.clone()]).set(count(server.endpoints));
        gauge!("only1mcp_server_up", vec![label.clone()]).set(count(server.up));
        #[expect(clippy::cast_precision_loss, reason = "2^53 calls are never in flight")]
        gauge!("only1mcp_server_in_flight", vec![label.clone()]).set(server.in_flight as f64);
        for result in ["ok", "failed"] {
            let labels = vec![label.clone(), metrics::Label::new("result", result)];
            counter!("only1mcp_server_bring_ups_total", labels).increment(0);
        }
        counter!("only1mcp_server_losses_total", vec![label]).increment(0);
    }
}
