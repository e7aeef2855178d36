//! This router's end of the configuration stream: what is said on it, and its state. The fleet makes the decisions.
//! Without a manager everything stays as it is.

mod traces;

use std::sync::Arc;

use model::{Digest, Snapshot, Verdict};
use rollout::{Directive, Report, Sender};
use runtime::grpc::{DialError, MESSAGE_BYTES_MAX};
use runtime::{Tasks, TraceContext, Tracer};
use tokio::sync::{mpsc, watch};
use wire::config::Undecodable;
use wire::pb::config::v1 as pb;
use wire::pb::config::v1::config_service_client::ConfigServiceClient;
use wire::pb::config::v1::follow_request::Report as PbReport;

use super::{Line, Outgoing, Peer, Stuck};
use crate::control::{Command, EndpointStatus, Following, Status};
use traces::Traces;

pub(crate) type ManagerLine = Line<pb::FollowRequest, pb::FollowResponse>;

impl From<ManagerLine> for Command {
    fn from(line: ManagerLine) -> Self {
        Self::Manager(line)
    }
}

/// The line to config-manager.
pub(crate) struct Reporter {
    speaking: Option<Speaking>,
    following: watch::Sender<Following>,
    pub(crate) traces: Traces,
}

struct Speaking {
    outgoing: Outgoing<pb::FollowRequest>,
    nonce: u64,
    /// The sender of the last message on this line.
    sender: Option<Sender>,
    /// What was last said of the servers; none if nothing was.
    observed: Option<Vec<Glance>>,
}

/// What shows at a glance whether there is something new to be said of a server.
struct Glance {
    status: Arc<EndpointStatus>,
    verdict: Verdict,
    in_flight: u64,
    state: drain::State,
    pid: Option<u32>,
    last_error: Option<Arc<str>>,
}

impl Glance {
    fn at(status: &Arc<EndpointStatus>) -> Self {
        let endpoint = &status.endpoint;
        let (pid, last_error) = endpoint.process_and_error();
        Self {
            status: Arc::clone(status),
            verdict: endpoint.verdict(),
            in_flight: endpoint.admission.in_flight(),
            state: endpoint.admission.state(),
            pid,
            last_error,
        }
    }
}

impl PartialEq for Glance {
    fn eq(&self, other: &Self) -> bool {
        let seen = |one: &Self| (one.verdict, one.in_flight, one.state, one.pid);
        Arc::ptr_eq(&self.status, &other.status) && seen(self) == seen(other) && self.last_error == other.last_error
    }
}

/// What a message from config-manager was.
pub(crate) enum Heard {
    Directive {
        sender: Sender,
        directive: Directive,
    },
    /// Something that this release cannot make live: this report is the whole answer.
    Answer(Report),
    /// A difference from something that is not held here, or no configuration: a new line says again what is held here.
    Nonsense,
    /// The line was hung up before.
    Nothing,
}

impl Speaking {
    fn say(&mut self, report: PbReport, trace: Option<TraceContext>) -> Result<(), Stuck> {
        self.nonce += 1;
        let trace = trace.map(|trace| trace.to_string()).unwrap_or_default();
        let envelope = Some(wire::envelope(self.sender.as_ref(), &trace, self.nonce));
        self.outgoing.say(pb::FollowRequest { envelope, report: Some(report) })
    }
}

/// Keeps the line to config-manager up until the process closes.
pub(crate) fn keep(peer: Peer<'_>, commands: mpsc::Sender<Command>, tasks: &Tasks) -> Result<(), DialError> {
    peer.keep("config-manager line", commands, tasks, |client, outgoing| async move {
        let client = ConfigServiceClient::new(client).max_decoding_message_size(MESSAGE_BYTES_MAX);
        client.max_encoding_message_size(MESSAGE_BYTES_MAX).follow(outgoing).await
    })
}

impl Reporter {
    /// `from_disk`: something is live already, and config-manager has not confirmed it.
    pub(crate) fn new(from_disk: bool, tracer: Tracer) -> (Self, watch::Receiver<Following>) {
        let (following, seen) = watch::channel(Following { attached: false, from_disk });
        (Self { speaking: None, following, traces: Traces::new(tracer) }, seen)
    }

    pub(crate) fn is_attached(&self) -> bool {
        self.speaking.is_some()
    }

    pub(crate) fn up(&mut self, outgoing: Outgoing<pb::FollowRequest>) {
        self.speaking = Some(Speaking { outgoing, nonce: 0, sender: None, observed: None });
    }

    pub(crate) fn answered(&self) {
        self.following.send_if_modified(|following| !std::mem::replace(&mut following.attached, true));
    }

    /// Returns whether there was a line to hang up.
    pub(crate) fn hang_up(&mut self) -> bool {
        self.following.send_if_modified(|following| std::mem::replace(&mut following.attached, false));
        self.speaking.take().is_some()
    }

    /// `held` finds the snapshot that a difference may start from.
    pub(crate) fn heard(
        &mut self,
        response: pb::FollowResponse,
        held: impl Fn(&Digest) -> Option<Arc<Snapshot>>,
    ) -> Heard {
        let Some(speaking) = &mut self.speaking else { return Heard::Nothing };
        let envelope = response.envelope.unwrap_or_default();
        let sender = wire::sender(&envelope);
        speaking.sender = Some(sender.clone());
        match wire::config::directive(response.directive, held) {
            Ok(directive) => {
                tracing::debug!(traceparent = envelope.traceparent, epoch = sender.epoch, ?directive, "told");
                self.traces.told(&directive, envelope.traceparent.parse().ok());
                Heard::Directive { sender, directive }
            }
            Err(Undecodable::Answer(report)) => Heard::Answer(report),
            Err(error @ (Undecodable::Invalid(_) | Undecodable::BaseNotHeld(_))) => {
                tracing::warn!(%error, "hanging up on config-manager, to say anew what is held here");
                Heard::Nonsense
            }
        }
    }

    pub(crate) fn say(&mut self, report: &Report) -> Result<(), Stuck> {
        let Some(speaking) = &mut self.speaking else { return Ok(()) };
        let trace = self.traces.said(report);
        let traceparent = trace.map(tracing::field::display);
        match report {
            Report::Vote { attempt, verdict, .. } => {
                let result = if verdict.is_ok() { "yes" } else { "no" };
                metrics::counter!("only1mcp_router_votes_total", "vote" => result).increment(1);
                match verdict {
                    Ok(()) => tracing::info!(%attempt, traceparent, "voted yes"),
                    Err(refusal) => tracing::warn!(%attempt, %refusal, traceparent, "voted no"),
                }
            }
            Report::Nack { revision, refusal } => {
                tracing::warn!(revision = revision.0, %refusal, traceparent, "cannot be live here; what was live before still is");
            }
            Report::Ack { revision, .. } => {
                self.following.send_if_modified(|following| std::mem::replace(&mut following.from_disk, false));
                tracing::info!(revision = revision.0, traceparent, "acknowledged");
            }
            Report::Hello { .. } => {}
        }
        logged(speaking.say(wire::config::report_to_pb(report), trace))
    }

    /// Tells the manager what this router sees of its servers, if that is something new.
    pub(crate) fn observe(&mut self, status: &Status) -> Result<(), Stuck> {
        let Some(speaking) = &mut self.speaking else { return Ok(()) };
        // A manager that has had the time to object, and did not, holds the same.
        self.following.send_if_modified(|now| now.attached && std::mem::replace(&mut now.from_disk, false));
        // A candidate is no server yet.
        let servers = status.endpoints.iter().filter(|one| one.role() != "candidate");
        let now: Vec<_> = servers.map(Glance::at).collect();
        if speaking.observed.as_ref() == Some(&now) {
            return Ok(());
        }
        let servers = now.iter().map(server_state).collect();
        speaking.observed = Some(now);
        logged(speaking.say(PbReport::Observed(pb::Observed { servers }), None))
    }
}

fn logged(said: Result<(), Stuck>) -> Result<(), Stuck> {
    said.inspect_err(|stuck| tracing::warn!(error = %stuck, "hanging up on config-manager"))
}

fn server_state(glance: &Glance) -> pb::ServerState {
    let Glance { status, verdict, in_flight, state, pid, last_error } = glance;
    let error = status.reason.as_deref().or_else(|| last_error.as_deref().filter(|_| !status.up));
    pb::ServerState {
        endpoint: Some(wire::endpoint_key_to_pb(&status.endpoint.key)),
        verdict: wire::verdict_to_pb(*verdict),
        transport: status.transport.into(),
        tools: status.tools(),
        in_flight: *in_flight,
        pid: pid.unwrap_or(0),
        error: error.unwrap_or_default().into(),
        cordoned: *state != drain::State::Open,
        disabled: status.disabled,
        warnings: status.warnings.clone(),
    }
}
