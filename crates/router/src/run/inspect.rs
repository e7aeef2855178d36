//! What an operator sees of this router.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use health::shares::Ejection;
use mcp::Kind;
use model::units::in_words;
use model::{BackendId, NodeId, Time};
use runtime::Clock;
use runtime::grpc::{Actor, refusal};
use runtime::leaving::{self, Left};
use tokio::sync::watch;
use tonic::{Request, Response, Status as GrpcStatus};
use wire::pb::router::v1 as pb;
use wire::pb::router::v1::router_service_server::RouterService;

use crate::control::restart::{Begun, Operators, Refused};
use crate::control::{EndpointStatus, Following, Status};
use crate::core::{Everywhere, Shared};
use crate::endpoint::{Checks, Summary};

/// The admin service of a router.
#[derive(Debug, Clone)]
pub struct Inspector {
    pub(crate) node: NodeId,
    pub(crate) listen: SocketAddr,
    pub(crate) shared: Arc<Shared>,
    pub(crate) status: watch::Receiver<Arc<Status>>,
    pub(crate) following: watch::Receiver<Following>,
    pub(crate) operators: Operators,
    pub(crate) clock: Clock,
    pub(crate) everywhere: Everywhere,
    pub(crate) state_dir: Arc<Path>,
}

impl Inspector {
    /// How many calls were cut off at the end, by server.
    pub(super) fn cut_off(&self) -> BTreeMap<String, usize> {
        let status = Arc::clone(&self.status.borrow());
        let server = |serial: Option<u64>| {
            let endpoint = status.endpoints.iter().find(|one| Some(one.endpoint.number) == serial);
            endpoint.map_or_else(|| "no server yet".to_owned(), |one| one.endpoint.key.backend.to_string())
        };
        let mut cut_off = BTreeMap::new();
        for (serial, calls) in self.everywhere.cut_off() {
            *cut_off.entry(server(serial)).or_default() += calls;
        }
        cut_off
    }
}

#[tonic::async_trait]
impl RouterService for Inspector {
    async fn inspect(&self, request: Request<pb::InspectRequest>) -> Result<Response<pb::InspectResponse>, GrpcStatus> {
        let status = Arc::clone(&self.status.borrow());
        let following = *self.following.borrow();
        let pb::InspectRequest { server, with_tools } = request.into_inner();
        let shown = self.shown_tools();
        let endpoint = |one: &Arc<EndpointStatus>| {
            let names = one.tools.as_ref().filter(|_| with_tools);
            let names = names.map(|tools| tools.iter().map(|tool| tool.name().to_owned()).collect());
            pb::Endpoint { offered: names.map(|names| pb::ToolNames { names }), ..self.endpoint(one, &shown) }
        };
        let asked_for = |one: &&Arc<EndpointStatus>| server.is_empty() || one.endpoint.key.backend.as_str() == server;
        let in_flight = |one: &Arc<EndpointStatus>| one.endpoint.admission.in_flight();
        let withheld = status.withheld.iter().map(|one| pb::Withheld {
            server: one.backend.to_string(),
            tool: one.name.to_string(),
            reason: one.reason.clone(),
        });
        let renamed = status.renamed.iter().map(|one| pb::Renamed {
            server: one.backend.to_string(),
            tool: one.name.to_string(),
            exposed: one.exposed.to_string(),
        });
        Ok(Response::new(pb::InspectResponse {
            node: self.node.to_string(),
            revision: status.revision.0,
            digest: status.digest.map(|digest| digest.to_string()).unwrap_or_default(),
            listen: self.listen.to_string(),
            endpoints: status.endpoints.iter().filter(asked_for).map(endpoint).collect(),
            sessions_opened: self.shared.sessions.opened(),
            exchanges_in_flight: status.endpoints.iter().map(in_flight).sum(),
            attached: following.attached,
            from_disk: following.from_disk,
            tools: u32::try_from(status.tools).unwrap_or(u32::MAX),
            withheld: withheld.collect(),
            renamed: renamed.collect(),
            leaving: self.leaving().await,
        }))
    }

    async fn restart(&self, request: Request<pb::RestartRequest>) -> Result<Response<pb::RestartResponse>, GrpcStatus> {
        let actor = Actor::of(&request)?.0.clone();
        let pb::RestartRequest { server, pids } = request.into_inner();
        let backend = BackendId::new(&server).map_err(|error| refusal::invalid("server", error.to_string()))?;
        let stopping = || refusal::unavailable("STOPPING", "the router is stopping");
        let begun = self.operators.restart(backend, pids, actor).await.ok_or_else(stopping)?;
        let begun = begun.map_err(|refused| match refused {
            Refused::Unknown => {
                let text = format!("there is no server `{server}` in the live revision");
                refusal::not_found("SERVER_UNKNOWN", "server", &server, text)
            }
            Refused::NoProcess => {
                let text =
                    format!("server `{server}` is reached over HTTP: the gateway has no process of it to restart");
                refusal::precondition("NO_PROCESS", &server, text)
            }
        })?;
        let endpoints = futures_util::future::join_all(begun.into_iter().map(restarted)).await;
        Ok(Response::new(pb::RestartResponse { node: self.node.to_string(), endpoints }))
    }
}

/// The outcome of one restart. An attempt has a deadline of its own.
async fn restarted(begun: Begun) -> pb::Restarted {
    let Begun { endpoint, pid, done, joined } = begun;
    let error = match done {
        None => String::new(),
        Some(done) => match done.await {
            Ok(Ok(())) => String::new(),
            Ok(Err(reason)) => reason,
            Err(_) => "it is leaving, or the router is stopping".to_owned(),
        },
    };
    pb::Restarted {
        key: Some(wire::endpoint_key_to_pb(&endpoint.key)),
        previous_pid: pid.unwrap_or(0),
        pid: endpoint.state().pid.unwrap_or(0),
        joined,
        error,
    }
}

impl Inspector {
    /// The processes that this one has replaced.
    async fn leaving(&self) -> Vec<pb::Leaving> {
        let (state_dir, now) = (Arc::clone(&self.state_dir), self.clock.unix_millis());
        let left = tokio::task::spawn_blocking(move || leaving::look(&state_dir, now)).await.unwrap_or_default();
        let shown = |Left { pid, calls, within }| pb::Leaving { pid, calls, within: within.try_into().ok() };
        left.into_iter().map(shown).collect()
    }

    /// By server, how many tools clients see.
    fn shown_tools(&self) -> BTreeMap<BackendId, u32> {
        let generation = self.shared.live.load();
        let backends = generation.table.backends();
        let mut shown = BTreeMap::new();
        for entry in generation.catalogs[Kind::Tool].entries() {
            let Some(backend) = backends.get(entry.backend) else { continue };
            *shown.entry(backend.id.clone()).or_default() += 1;
        }
        shown
    }

    fn oldest(&self, endpoint: u64, now: Time) -> Option<pb::OldestCall> {
        let oldest = self.everywhere.longest(endpoint)?;
        Some(pb::OldestCall {
            tool: oldest.item.map(|item| item.name().to_owned()).unwrap_or_default(),
            request: String::from_utf8_lossy(&oldest.request).into_owned(),
            age: now.since(oldest.started).try_into().ok(),
        })
    }

    fn endpoint(&self, one: &EndpointStatus, shown: &BTreeMap<BackendId, u32>) -> pb::Endpoint {
        let endpoint = &one.endpoint;
        let state = endpoint.state();
        let now = self.clock.unix_millis();
        let next_attempt =
            state.next_attempt.filter(|_| !one.disabled).map(|at| Duration::from_millis(at.0.saturating_sub(now)));
        let now = Time::from_nanos(self.clock.now_nanos());
        let (condition, since) = one.condition();
        let ejected = endpoint.ejection().filter(|_| one.is_served());
        let past = state.last_error.as_ref().map(|reason| &*reason.full);
        // Of an endpoint that is on its way up again, the failure before is the reason why it is not up.
        let (error, last_error) =
            if one.up { (one.reason.as_deref(), past) } else { (one.reason.as_deref().or(past), None) };
        let last_error_ago = state.failed_at.filter(|_| last_error.is_some()).map(|at| now.since(at));
        let address = endpoint.shown.address.as_ref().map(|(host, port)| format!("{host}:{port}"));
        pb::Endpoint {
            key: Some(wire::endpoint_key_to_pb(&endpoint.key)),
            verdict: wire::verdict_to_pb(one.verdict),
            transport: one.transport.into(),
            pid: state.pid.unwrap_or(0),
            upstream_session: state.upstream_session.as_deref().unwrap_or_default().into(),
            tools: one.tools(),
            in_flight: endpoint.admission.in_flight(),
            admitted: endpoint.stats.admitted.load(Ordering::Relaxed),
            admission: endpoint.admission.state().as_str().into(),
            restarts: state.restarts,
            error: error.unwrap_or_default().into(),
            stderr: state.stderr,
            stray_output: state.stray,
            next_attempt: next_attempt.and_then(|next| next.try_into().ok()),
            role: one.role().into(),
            warnings: one
                .warnings
                .iter()
                .cloned()
                .chain(ejected.as_ref().map(|one| ejected_in_words(one, now)))
                .collect(),
            weight_permille: endpoint.weight().permille().into(),
            offered: None,
            state: condition.as_str().into(),
            state_for: now.since(since).try_into().ok(),
            standing: endpoint.standing().as_str().into(),
            share_permille: endpoint.standing().weight().permille().into(),
            ejected_for: ejected.and_then(|ejected| ejected.until.since(now).try_into().ok()),
            failures: one.failures,
            last_error: last_error.unwrap_or_default().into(),
            last_error_ago: last_error_ago.and_then(|ago| ago.try_into().ok()),
            tools_shown: shown.get(&endpoint.key.backend).filter(|_| one.is_served()).copied().unwrap_or_default(),
            recent: Some(recent(&endpoint.recent.summary(now))),
            checks: Some(checks(&endpoint.checks(), now)),
            oldest: if endpoint.admission.in_flight() > 0 { self.oldest(endpoint.number, now) } else { None },
            address: address.unwrap_or_default(),
        }
    }
}

fn checks(Checks { judge, next_probe }: &Checks, now: Time) -> pb::Checks {
    let ago = |at| now.since(at).try_into().ok();
    pb::Checks {
        last_ok: judge.last_ok().and_then(ago),
        last_failure: judge.last_failure().map(|(_, why)| why.to_owned()).unwrap_or_default(),
        last_failure_ago: judge.last_failure().and_then(|(at, _)| ago(at)),
        failures: judge.failures_in_a_row(),
        next_probe: next_probe.and_then(|at| at.since(now).try_into().ok()),
    }
}

/// For operators.
fn ejected_in_words(ejection: &Ejection, now: Time) -> String {
    let left = ejection.until.since(now);
    let next = if left.is_zero() {
        "it is on trial, with one call at a time".to_owned()
    } else {
        format!("it gets none for {}, as long as its server has others", in_words(left))
    };
    format!("{}: {next}", ejection.why)
}

fn recent(summary: &Summary) -> pb::RecentCalls {
    let Summary { window, answered, failed, timed_out, tool_errors, p95 } = *summary;
    pb::RecentCalls {
        window: window.try_into().ok(),
        answered,
        failed,
        timed_out,
        tool_errors,
        p95: p95.and_then(|p95| p95.try_into().ok()),
    }
}
