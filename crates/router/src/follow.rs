//! The router's end of the configuration stream: the shell around [`rollout::follower::Follower`], which decides what is
//! said and done. What it wants done with endpoints the fleet does. Without a manager everything stays as it is.

mod traces;

use std::sync::Arc;
use std::time::Duration;

use model::{Digest, Snapshot, Time};
use rollout::follower::{Effect, Event, Follower, Identity, Saved};
use rollout::{Report, Sender};
use runtime::grpc::{DialError, MESSAGE_BYTES_MAX, connect_lazy};
use runtime::{Clock, Phase, Tasks, TraceContext, Tracer};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use wire::config::Undecodable;
use wire::pb::config::v1 as pb;
use wire::pb::config::v1::config_service_client::ConfigServiceClient;
use wire::pb::config::v1::follow_request::Report as PbReport;

use crate::fleet::{Command, Following, Status};
use crate::line::{self, Line, Outgoing, Peer, Stuck};
use traces::Traces;

/// Between two looks at what the manager might be told about servers.
const OBSERVE: Duration = Duration::from_secs(1);

/// The way to the fleet and back.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) answered: mpsc::Receiver<Event>,
    pub(crate) status: watch::Receiver<Arc<Status>>,
}

struct Follow {
    follower: Follower,
    speaking: Option<Speaking>,
    /// Contents that a difference may be from: what is live, and what is held for an attempt.
    live: Option<(Digest, Arc<Snapshot>)>,
    attempt: Option<(Digest, Arc<Snapshot>)>,
    following: watch::Sender<Following>,
    commands: mpsc::Sender<Command>,
    traces: Traces,
    clock: Clock,
}

struct Speaking {
    outgoing: Outgoing<pb::FollowRequest>,
    nonce: u64,
    /// Who was heard last on this line.
    sender: Option<Sender>,
    observed: Option<pb::Observed>,
}

impl Speaking {
    fn say(&mut self, report: PbReport, trace: Option<TraceContext>) -> Result<(), Stuck> {
        self.nonce += 1;
        let trace = trace.map(|trace| trace.to_string()).unwrap_or_default();
        let envelope = Some(wire::envelope(self.sender.as_ref(), &trace, self.nonce));
        self.outgoing.say(pb::FollowRequest { envelope, report: Some(report) })
    }
}

/// Follows config-manager until the process closes. `saved` is what was read from disk and is live already.
pub(crate) fn spawn(
    peer: Peer<'_>,
    identity: Identity,
    saved: Option<Saved>,
    fleet: Fleet,
    tasks: &Tasks,
    clock: Clock,
    tracer: Tracer,
) -> Result<watch::Receiver<Following>, DialError> {
    let client = ConfigServiceClient::new(connect_lazy(peer.target)?)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let (events, lines) = mpsc::channel(64);
    let (shown, shutdown) = (peer.shown, tasks.shutdown().clone());
    tasks.spawn("config-manager line", async move {
        let follow = |outgoing| {
            let mut client = client.clone();
            async move { client.follow(outgoing).await }
        };
        line::keep(shown, shutdown, events, follow).await;
    });
    let (following, seen) = watch::channel(Following { attached: false, from_disk: saved.is_some() });
    let follow = Follow {
        follower: Follower::new(identity, saved.as_ref()),
        speaking: None,
        live: saved.map(|saved| (saved.content.digest, saved.content.snapshot)),
        attempt: None,
        following,
        commands: fleet.commands,
        traces: Traces::new(tracer),
        clock,
    };
    let shutdown = tasks.shutdown().clone();
    tasks.spawn("config-manager words", async move {
        tokio::select! {
            () = follow.run(lines, fleet.answered, fleet.status) => {}
            () = shutdown.reached(Phase::Closing) => {}
        }
    });
    Ok(seen)
}

impl Follow {
    async fn run(
        mut self,
        mut lines: mpsc::Receiver<Line<pb::FollowRequest, pb::FollowResponse>>,
        mut answered: mpsc::Receiver<Event>,
        status: watch::Receiver<Arc<Status>>,
    ) {
        let mut observe = tokio::time::interval(OBSERVE);
        observe.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.carry_out().await.is_none() {
                return;
            }
            let due = self.follower.next_deadline().map(Time::as_nanos);
            tokio::select! {
                Some(line) = lines.recv() => self.line(line),
                Some(answer) = answered.recv() => self.answered(answer),
                () = self.clock.sleep_until(due) => self.handle(Event::Woke),
                _ = observe.tick(), if self.speaking.is_some() => self.observe(&status.borrow().clone()),
                else => return,
            }
        }
    }

    fn handle(&mut self, event: Event) {
        self.follower.handle(Time::from_nanos(self.clock.now_nanos()), event);
    }

    fn answered(&mut self, answer: Event) {
        match &answer {
            Event::Built { attempt, .. } => self.traces.built(*attempt),
            Event::Swapped { revision } => self.traces.swapped(*revision),
            Event::Attached | Event::Detached | Event::Directive { .. } | Event::Woke => {}
        }
        self.handle(answer);
    }

    fn line(&mut self, line: Line<pb::FollowRequest, pb::FollowResponse>) {
        match line {
            Line::Up(outgoing) => {
                self.speaking = Some(Speaking { outgoing, nonce: 0, sender: None, observed: None });
                self.handle(Event::Attached);
            }
            Line::Answered => {
                self.following.send_if_modified(|following| !std::mem::replace(&mut following.attached, true));
            }
            Line::Heard(response) => self.heard(response),
            Line::Down => self.hang_up(),
        }
    }

    fn heard(&mut self, response: pb::FollowResponse) {
        let Some(speaking) = &mut self.speaking else { return };
        let envelope = response.envelope.unwrap_or_default();
        let sender = wire::sender(&envelope);
        speaking.sender = Some(sender.clone());
        let held = |digest: &Digest| {
            let contents = [&self.live, &self.attempt];
            contents.into_iter().flatten().find(|(held, _)| held == digest).map(|(_, snapshot)| Arc::clone(snapshot))
        };
        match wire::config::directive(response.directive, held) {
            Ok(directive) => {
                tracing::debug!(traceparent = envelope.traceparent, epoch = sender.epoch, ?directive, "told");
                self.traces.told(&directive, envelope.traceparent.parse().ok());
                self.handle(Event::Directive { sender, directive });
            }
            Err(Undecodable::Answer(report)) => self.say(&report),
            Err(error @ (Undecodable::Invalid(_) | Undecodable::BaseNotHeld(_))) => {
                tracing::warn!(%error, "hanging up on config-manager, to say anew what is held here");
                self.hang_up();
            }
        }
    }

    /// Carries out what the follower wants, in order. `None` when the fleet is gone.
    async fn carry_out(&mut self) -> Option<()> {
        while let Some(effect) = self.follower.poll_effect() {
            let command = match effect {
                Effect::Build { attempt, content, within } => {
                    self.attempt = Some((content.digest, Arc::clone(&content.snapshot)));
                    let trace = self.traces.prepare(attempt);
                    Command::Prepare { attempt, content, within, trace }
                }
                Effect::Discard { attempt, keep_until } => {
                    self.traces.discarded(attempt);
                    Command::Abort { attempt, keep_until }
                }
                Effect::Swap { revision, content, prepared } => {
                    // Until it is live, a difference from it cannot come: the manager waits for the acknowledgement.
                    self.attempt = Some((content.digest, Arc::clone(&content.snapshot)));
                    let trace = self.traces.swap(revision);
                    Command::Swap { revision, content, prepared, trace }
                }
                Effect::Send(report) => {
                    if let Report::Ack { digest, .. } = &report {
                        fail::fail_point!("router-before-ack");
                        self.acknowledged(*digest);
                    }
                    self.say(&report);
                    continue;
                }
                Effect::Save(saved) => {
                    self.acknowledged(saved.content.digest);
                    Command::Save(saved)
                }
            };
            self.commands.send(command).await.ok()?;
        }
        self.traces.settle();
        Some(())
    }

    fn acknowledged(&mut self, digest: Digest) {
        if self.attempt.as_ref().is_some_and(|(held, _)| *held == digest) {
            self.live = self.attempt.take();
        }
        self.following.send_if_modified(|following| std::mem::replace(&mut following.from_disk, false));
    }

    fn say(&mut self, report: &Report) {
        let Some(speaking) = &mut self.speaking else { return };
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
            Report::Ack { revision, .. } => tracing::info!(revision = revision.0, traceparent, "acknowledged"),
            Report::Hello { .. } => {}
        }
        if let Err(stuck) = speaking.say(wire::config::report_to_pb(report), trace) {
            tracing::warn!(error = %stuck, "hanging up on config-manager");
            self.hang_up();
        }
    }

    fn hang_up(&mut self) {
        if self.speaking.take().is_some() {
            self.handle(Event::Detached);
        }
        self.following.send_if_modified(|following| std::mem::replace(&mut following.attached, false));
    }

    /// Tells the manager what this router sees of its servers, if that is something new.
    fn observe(&mut self, status: &Status) {
        let Some(speaking) = &mut self.speaking else { return };
        // A manager that has had the time to object, and did not, holds the same.
        self.following.send_if_modified(|now| now.attached && std::mem::replace(&mut now.from_disk, false));
        let observed = pb::Observed {
            // What is only tried is no server yet.
            servers: status.endpoints.iter().filter(|one| one.role() != "candidate").map(server_state).collect(),
        };
        if speaking.observed.as_ref() == Some(&observed) {
            return;
        }
        speaking.observed = Some(observed.clone());
        if speaking.say(PbReport::Observed(observed), None).is_err() {
            self.hang_up();
        }
    }
}

fn server_state(status: &crate::fleet::EndpointStatus) -> pb::ServerState {
    let endpoint = &status.endpoint;
    let state = endpoint.state();
    let last_error = state.last_error.as_ref().map(|reason| &*reason.full);
    let error = status.reason.as_deref().or_else(|| last_error.filter(|_| !status.up));
    pb::ServerState {
        endpoint: Some(wire::endpoint_key_to_pb(&endpoint.key)),
        verdict: wire::verdict_to_pb(endpoint.verdict()),
        transport: status.transport.into(),
        tools: u32::try_from(status.tools).unwrap_or(u32::MAX),
        in_flight: endpoint.admission.in_flight(),
        pid: state.pid.unwrap_or(0),
        error: error.unwrap_or_default().into(),
        cordoned: endpoint.admission.state() != drain::State::Open,
        warnings: status.warnings.clone(),
    }
}

#[cfg(test)]
mod tests;
