//! The endpoints themselves: made, brought up, listed, restarted and shut down as the fleet wants it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fleet::{Act, Offered, Reason, Roster, Serial};
use futures_util::FutureExt;
use model::{AttemptId, BackendId, EndpointKey, EndpointSpec, Limits, Transport};
use runtime::telemetry::log::BRING_UP;
use runtime::{Kind, Tasks, TraceContext, Tracer};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::{Command, references};
use crate::endpoint::{BringUpError, BringUpFailure, Endpoint};
use crate::secrets::READ_LIMIT;
use crate::upstream::Upstreams;

/// All endpoints there are.
pub(super) struct Endpoints {
    all: BTreeMap<Serial, Arc<Endpoint>>,
    /// By the endpoints' own serials, which are unique in the process.
    by_number: BTreeMap<u64, Serial>,
    /// For endpoints to be brought up for the first time: the trace of the change that wanted them.
    wanted_by: BTreeMap<Serial, TraceContext>,
    /// Operators' requests that wait until an endpoint has come up or failed to.
    restarters: BTreeMap<Serial, Vec<oneshot::Sender<Result<(), String>>>>,
    upstreams: Arc<Upstreams>,
    commands: mpsc::Sender<Command>,
    tasks: Tasks,
    tracer: Tracer,
}

impl Endpoints {
    pub(super) fn new(
        upstreams: Arc<Upstreams>,
        commands: mpsc::Sender<Command>,
        tasks: Tasks,
        tracer: Tracer,
    ) -> Self {
        Self {
            all: BTreeMap::new(),
            by_number: BTreeMap::new(),
            wanted_by: BTreeMap::new(),
            restarters: BTreeMap::new(),
            upstreams,
            commands,
            tasks,
            tracer,
        }
    }

    pub(super) fn get(&self, serial: Serial) -> Option<&Arc<Endpoint>> {
        self.all.get(&serial)
    }

    pub(super) fn by_key(&self, key: &EndpointKey, roster: &Roster) -> Option<&Arc<Endpoint>> {
        self.all.get(&roster.members().get(key)?.serial)
    }

    /// The endpoint whose own number this is.
    pub(super) fn by_number(&self, number: u64) -> Option<(Serial, Arc<Endpoint>)> {
        let serial = *self.by_number.get(&number)?;
        Some((serial, Arc::clone(self.all.get(&serial)?)))
    }

    /// Carries out `act`, in the trace of `cause`.
    pub(super) fn act(&mut self, act: Act, cause: Option<TraceContext>) {
        match act {
            Act::Create { serial, key, spec, limits } => self.create(serial, key, spec, limits, cause),
            Act::BringUp { serial, timeout } => self.bring_up(serial, timeout),
            Act::List { serial } => self.list(serial),
            Act::NotListed { serial, reason } => {
                if let Some(endpoint) = self.all.get(&serial) {
                    tracing::warn!(endpoint = %endpoint.key, reason, "cannot list the tools anew; the old list stays");
                }
            }
            Act::Limit { serial, limits } => {
                if let Some(endpoint) = self.all.get(&serial) {
                    endpoint.set_limits(limits);
                }
            }
            Act::Verdict { serial, verdict } => {
                if let Some(endpoint) = self.all.get(&serial) {
                    tracing::debug!(endpoint = %endpoint.key, %verdict, "verdict");
                    endpoint.set_verdict(verdict);
                }
            }
            Act::ShutDown { serial } => self.shut_down(serial),
            Act::Restart { serial, unhealthy } => self.restart(serial, unhealthy),
        }
    }

    fn create(
        &mut self,
        serial: Serial,
        key: EndpointKey,
        spec: EndpointSpec,
        limits: Arc<Limits>,
        cause: Option<TraceContext>,
    ) {
        let endpoint = Endpoint::new(key, spec, limits, &self.upstreams);
        self.by_number.insert(endpoint.number, serial);
        self.all.insert(serial, endpoint);
        self.wanted_by.extend(cause.map(|cause| (serial, cause)));
    }

    fn bring_up(&mut self, serial: Serial, timeout: Duration) {
        let Some(endpoint) = self.all.get(&serial).map(Arc::clone) else { return };
        let commands = self.commands.clone();
        let mut span = self.tracer.start("router.bring_up", Kind::Internal, self.wanted_by.remove(&serial));
        span.set("only1mcp.server", endpoint.key.backend.to_string());
        span.set("only1mcp.endpoint", endpoint.key.to_string());
        self.tasks.spawn("bring up", async move {
            let before = endpoint.state().last_error.map(|reason| reason.plain);
            let result = endpoint.bring_up(Instant::now() + timeout).await;
            match &result {
                Ok(offered) => {
                    tracing::info!(endpoint = %endpoint.key, tools = offered.count(mcp::Kind::Tool), "up");
                    span.count("only1mcp.tools", offered.count(mcp::Kind::Tool) as u64);
                }
                Err(BringUpError { failure: BringUpFailure::Ended, .. }) => span.fail("not wanted any more"),
                Err(error) => {
                    if before.as_deref() == Some(error.failure.plain().as_str()) {
                        tracing::info!(target: BRING_UP, endpoint = %endpoint.key, %error, "cannot be brought up, as before");
                    } else {
                        tracing::warn!(target: BRING_UP, endpoint = %endpoint.key, %error, "cannot be brought up");
                    }
                    // Traces leave the gateway: the words of the server are for the log.
                    span.fail(format!("{} (reference {})", error.failure.plain(), error.output.reference));
                }
            }
            drop(span);
            let result = result.map_err(|error| error.reason());
            // Fails only when the fleet is gone.
            drop(commands.send(Command::BroughtUp { serial, result }).await);
        });
    }

    fn list(&self, serial: Serial) {
        let Some(endpoint) = self.all.get(&serial).map(Arc::clone) else { return };
        let commands = self.commands.clone();
        self.tasks.spawn("list tools", async move {
            let result = endpoint.list().await.map_err(|error| error.to_string());
            drop(commands.send(Command::Listed { serial, result }).await);
        });
    }

    /// Shuts down an endpoint on which nothing is in flight.
    fn shut_down(&mut self, serial: Serial) {
        let Some(endpoint) = self.all.remove(&serial) else { return };
        self.by_number.remove(&endpoint.number);
        self.wanted_by.remove(&serial);
        // Requests that wait for a restart of the endpoint are told that there is none.
        self.restarters.remove(&serial);
        endpoint.cordon();
        if !endpoint.admission.try_close() {
            tracing::error!(endpoint = %endpoint.key, admission = ?endpoint.admission, "shut down with calls in flight");
        }
        let commands = self.commands.clone();
        self.tasks.spawn("shut down", async move {
            endpoint.shut_down().await;
            tracing::info!(endpoint = %endpoint.key, "ended");
            drop(commands.send(Command::Ended { serial }).await);
        });
    }

    fn restart(&self, serial: Serial, unhealthy: bool) {
        let Some(endpoint) = self.all.get(&serial) else { return };
        let (why, cause) = if unhealthy {
            ("it was judged unhealthy (restart_unhealthy)", "unhealthy")
        } else {
            ("an operator asked for it", "operator")
        };
        let server = endpoint.key.backend.to_string();
        metrics::counter!("only1mcp_server_restarts_total", "server" => server, "cause" => cause).increment(1);
        endpoint.restart(why);
    }

    /// The outcome of the next attempt to bring the endpoint up.
    pub(super) fn outcome(&mut self, serial: Serial) -> oneshot::Receiver<Result<(), String>> {
        let (tell, outcome) = oneshot::channel();
        self.restarters.entry(serial).or_default().push(tell);
        outcome
    }

    /// Tells the waiting requests how an attempt has ended.
    pub(super) fn tell_restarters(&mut self, serial: Serial, result: &Result<Offered, Reason>) {
        for waiting in self.restarters.remove(&serial).into_iter().flatten() {
            drop(waiting.send(result.as_ref().map(drop).map_err(ToString::to_string)));
        }
    }

    /// Called before the fleet is told: the roster still shows whether this is the first attempt.
    pub(super) fn count_bring_up(&self, serial: Serial, up: bool, roster: &Roster) {
        let Some(endpoint) = self.all.get(&serial) else { return };
        let (server, result) = (endpoint.key.backend.to_string(), if up { "ok" } else { "failed" });
        metrics::counter!("only1mcp_server_bring_ups_total", "server" => server, "result" => result).increment(1);
        let member = roster.members().get(&endpoint.key);
        if member.is_some_and(|member| member.ups == 0 && member.state.is_arriving()) {
            metrics::counter!("only1mcp_router_endpoints_added_total", "result" => result).increment(1);
        }
    }

    /// Which references of an attempt cannot be resolved, if that is known at once; otherwise a command says so later.
    pub(super) fn find_references(
        &self,
        attempt: AttemptId,
        endpoints: Vec<(BackendId, Transport)>,
        within: Duration,
    ) -> Option<Option<String>> {
        let mut missing = Box::pin(references::missing(endpoints, READ_LIMIT.min(within)));
        if let Some(missing) = missing.as_mut().now_or_never() {
            return Some(missing);
        }
        let commands = self.commands.clone();
        self.tasks.spawn("references of an attempt", async move {
            let missing = missing.await;
            drop(commands.send(Command::References { attempt, missing }).await);
        });
        None
    }

    /// Ends all endpoints at once, whatever is in flight on them.
    pub(super) async fn close(&mut self) {
        let ends = std::mem::take(&mut self.all).into_values().map(|endpoint| async move {
            endpoint.cordon();
            endpoint.shut_down().await;
        });
        futures_util::future::join_all(ends).await;
    }
}
