//! The router's end of the health stream: runs probes on its live connections, says what real traffic showed, and hands
//! verdicts to the fleet. While health-monitor is away the same rules judge here, by what traffic shows alone.

pub(in crate::control) mod pools;
mod traffic;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use health::alone::{Alone, Changed, Event};
use health::shares::Event as PoolsEvent;
use health::{Observation, Outcome, Request};
use model::{EndpointKey, Time};
use rollout::follower::Identity;
use runtime::grpc::{DialError, MESSAGE_BYTES_MAX};
use runtime::telemetry::sampled;
use runtime::{Clock, Phase, Tasks, TraceContext};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use wire::pb::health::v1 as pb;
use wire::pb::health::v1::health_service_client::HealthServiceClient;

use super::{Line, Outgoing, Peer, Stuck};
use crate::control::{Command, EndpointStatus, Status};
use crate::endpoint::Checks;
use pools::Pools;
use traffic::Traffic;

/// Between two looks at what traffic showed: many calls make one outcome.
const LOOK: Duration = Duration::from_secs(1);
/// Between two looks at the calls to endpoints of servers that have several.
const LOOK_AT_POOLS: Duration = Duration::from_millis(250);
/// Pings at the same time because of failed calls, to one endpoint.
const DOUBTS_MAX: u32 = 8;
/// Results of probes on their way back.
const PROBED: usize = 256;

struct Watch {
    hello: Observation,
    speaking: Option<Speaking>,
    /// What the judge knows, and the monitor if anything was said to it on this line.
    said: Arc<Status>,
    /// The trace in which a list of endpoints was last sent, on any line.
    said_of: Option<TraceContext>,
    traffic: Traffic,
    pools: Pools,
    /// Decides the verdicts to act on, whether health-monitor judges or this router alone.
    judge: Alone,
    commands: mpsc::Sender<Command>,
    probed: mpsc::Sender<Probed>,
    /// How many pings are under way because of failed calls.
    doubts: BTreeMap<EndpointKey, u32>,
    /// What failed a probe that asks more than a ping: until it passes one, calls that it answers prove nothing.
    unproved: BTreeSet<EndpointKey>,
    status: watch::Receiver<Arc<Status>>,
    tasks: Tasks,
    clock: Clock,
}

/// The result of a probe.
struct Probed {
    endpoint: EndpointKey,
    why: Why,
    /// How often the endpoint had come up before the probe.
    ups: u32,
    outcome: Outcome,
}

enum Why {
    /// health-monitor asked for it, by this number.
    Asked(u64),
    /// Calls failed: one caller's slow tool, or the server.
    Doubt(Outcome),
}

struct Speaking {
    outgoing: Outgoing<pb::AttachRequest>,
    nonce: u64,
    /// The monitor was told of all endpoints, and from then on of each change.
    complete: bool,
    takes_changes: bool,
}

impl Speaking {
    fn say(&mut self, observation: &Observation, trace: Option<TraceContext>) -> Result<(), Stuck> {
        self.nonce += 1;
        let trace = trace.map(|trace| trace.to_string()).unwrap_or_default();
        let envelope = Some(wire::envelope(None, &trace, self.nonce));
        let observation = Some(wire::health::observation_to_pb(observation));
        self.outgoing.say(pb::AttachRequest { envelope, observation })
    }
}

/// Watches until the process closes.
pub(crate) fn spawn(
    peer: Peer<'_>,
    identity: &Identity,
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<Arc<Status>>,
    tasks: &Tasks,
    clock: Clock,
) -> Result<(), DialError> {
    let (events, lines) = mpsc::channel(64);
    peer.keep("health-monitor line", events, tasks, |client, outgoing| async move {
        let client = HealthServiceClient::new(client).max_decoding_message_size(MESSAGE_BYTES_MAX);
        client.max_encoding_message_size(MESSAGE_BYTES_MAX).attach(outgoing).await
    })?;
    let (probed, results) = mpsc::channel(PROBED);
    sampled::queue("router_probed", &probed);
    let watch = Watch {
        hello: Observation::Hello { node: identity.node.clone(), boot: identity.boot.clone() },
        speaking: None,
        said: Arc::default(),
        said_of: None,
        traffic: Traffic::default(),
        pools: Pools::default(),
        judge: Alone::new(Time::from_nanos(clock.now_nanos())),
        commands,
        probed,
        doubts: BTreeMap::new(),
        unproved: BTreeSet::new(),
        status,
        tasks: tasks.clone(),
        clock,
    };
    let shutdown = tasks.shutdown().clone();
    tasks.spawn("health-monitor words", async move {
        tokio::select! {
            () = watch.run(lines, results) => {}
            () = shutdown.reached(Phase::Closing) => {}
        }
    });
    Ok(())
}

impl Watch {
    async fn run(
        mut self,
        mut lines: mpsc::Receiver<Line<pb::AttachRequest, pb::AttachResponse>>,
        mut results: mpsc::Receiver<Probed>,
    ) {
        let mut probed = Vec::new();
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look_at_pools = tokio::time::interval(LOOK_AT_POOLS);
        look_at_pools.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // All are stamped with the present life of their endpoint before the first one is waited for.
            for command in self.judged() {
                if self.commands.send(command).await.is_err() {
                    return;
                }
            }
            let due = self.judge.next_deadline().map(Time::as_nanos);
            tokio::select! {
                Some(line) = lines.recv() => self.line(line),
                received = results.recv_many(&mut probed, PROBED) => {
                    if received == 0 {
                        return;
                    }
                    probed.drain(..).for_each(|probed| self.probed(probed));
                }
                changed = self.status.changed() => match changed {
                    Ok(()) => self.note_changes(),
                    Err(_) => return,
                },
                _ = look.tick() => self.look(),
                _ = look_at_pools.tick(), if self.pools.any() => {
                    let status = self.status.borrow().clone();
                    self.pools.look(self.now(), &status);
                }
                () = self.clock.sleep_until(due) => self.judge(Event::Tick),
                else => return,
            }
        }
    }

    fn judged(&mut self) -> Vec<Command> {
        let changes: Vec<_> = std::iter::from_fn(|| self.judge.poll_effect()).collect();
        let stood = self.pools.take_untold().into_iter();
        let stamped = changes.into_iter().filter_map(|changed| {
            let ups = self.ups(&changed.endpoint)?;
            let Changed { endpoint, verdict, reason } = changed;
            Some(Command::Judged { endpoint, verdict, ups, reason: reason.map(Into::into) })
        });
        stamped.chain(stood.map(|(endpoint, standing)| Command::Stands { endpoint, standing })).collect()
    }

    fn now(&self) -> Time {
        Time::from_nanos(self.clock.now_nanos())
    }

    fn judge(&mut self, event: Event) {
        self.judge.handle(self.now(), event);
    }

    fn line(&mut self, line: Line<pb::AttachRequest, pb::AttachResponse>) {
        match line {
            Line::Up(outgoing) => {
                self.speaking = Some(Speaking { outgoing, nonce: 0, complete: false, takes_changes: false });
                let hello = self.hello.clone();
                self.say(&hello);
                self.note_changes();
            }
            Line::Answered => self.judge(Event::Attached),
            Line::Heard(response) => self.heard(response),
            Line::Down => {
                self.speaking = None;
                // Nothing asks more than a ping now.
                self.unproved.clear();
                let status = self.status.borrow().clone();
                status.endpoints.iter().for_each(|one| one.endpoint.note_checks(|checks| checks.next_probe = None));
                self.judge(Event::Detached);
            }
        }
    }

    fn heard(&mut self, response: pb::AttachResponse) {
        let takes_changes = response.envelope.as_ref().is_some_and(wire::takes_changes);
        if let Some(speaking) = &mut self.speaking {
            speaking.takes_changes |= takes_changes;
        }
        match wire::health::request(response.request) {
            Ok(Request::Probe { endpoint, probe, timeout, next }) => {
                let next = next.map(|next| self.now() + next);
                self.note(&endpoint, |checks| checks.next_probe = next);
                self.probe(endpoint, Why::Asked(probe), timeout);
            }
            Ok(Request::Verdict { endpoint, verdict }) => {
                self.note_changes();
                self.judge(Event::Told { endpoint, verdict });
            }
            Err(error) => tracing::warn!(%error, "health-monitor said something that is not understood here"),
        }
    }

    fn probed(&mut self, probed: Probed) {
        let Probed { endpoint, why, ups, outcome } = probed;
        if let Why::Doubt(_) = why {
            self.doubts.entry(endpoint.clone()).and_modify(|doubts| *doubts -= 1);
            self.doubts.retain(|_, doubts| *doubts > 0);
        }
        self.note_changes();
        // The probe was of a process that is gone.
        if self.ups(&endpoint) != Some(ups) {
            return;
        }
        match why {
            Why::Asked(probe) => {
                let asks_more = self.status.borrow().checks.contains_key(&endpoint.backend);
                if asks_more && matches!(outcome, Outcome::Failed { .. }) {
                    self.unproved.insert(endpoint.clone());
                } else {
                    self.unproved.remove(&endpoint);
                }
                self.saw(&endpoint, outcome.clone());
                self.say(&Observation::Probed { endpoint, probe, outcome });
            }
            Why::Doubt(failed) => self.doubted(&endpoint, failed, outcome),
        }
    }

    /// Calls failed. A server that does not answer the ping either is ill. Failures that only callers see degrade the
    /// server, but neither condemn it nor keep it condemned: such a failure is placed between two answers, so it forms
    /// no row with others.
    fn doubted(&mut self, endpoint: &EndpointKey, failed: Outcome, outcome: Outcome) {
        let answered = matches!(outcome, Outcome::Ok { .. });
        self.seen(endpoint.clone(), outcome.clone());
        let one_condemns = self.status.borrow().health.unhealthy_threshold <= 1;
        if answered && !one_condemns && self.judge.verdict(endpoint).is_routable() {
            self.seen(endpoint.clone(), failed);
            self.seen(endpoint.clone(), outcome);
        }
    }

    /// How often the endpoint came up, as the fleet last said.
    fn ups(&self, endpoint: &EndpointKey) -> Option<u32> {
        let status = self.status.borrow();
        status.of(endpoint).map(|status| status.ups)
    }

    fn seen(&mut self, endpoint: EndpointKey, outcome: Outcome) {
        if matches!(outcome, Outcome::Starting { .. }) {
            self.unproved.remove(&endpoint);
        } else if self.unproved.contains(&endpoint) {
            return;
        }
        self.saw(&endpoint, outcome.clone());
        self.say(&Observation::Seen { endpoint, outcome });
    }

    fn saw(&mut self, endpoint: &EndpointKey, outcome: Outcome) {
        self.judge(Event::Seen { endpoint: endpoint.clone(), outcome });
        if let Some(judge) = self.judge.own(endpoint).cloned() {
            self.note(endpoint, |checks| checks.judge = judge);
        }
    }

    fn note(&self, endpoint: &EndpointKey, note: impl FnOnce(&mut Checks)) {
        if let Some(one) = self.status.borrow().of(endpoint) {
            one.endpoint.note_checks(note);
        }
    }

    /// Pings the live connection, in a task of its own: a server that does not answer holds up nothing else. What
    /// health-monitor asks for includes what the server's configuration adds to a ping. False if there is no such
    /// endpoint any more.
    fn probe(&self, endpoint: EndpointKey, why: Why, timeout: Duration) -> bool {
        let status = self.status.borrow().clone();
        let found = status.of(&endpoint);
        let (probed, shutdown) = (self.probed.clone(), self.tasks.shutdown().clone());
        let Some(found) = found else { return false };
        let ups = found.ups;
        let target = if found.up { Ok(Arc::clone(&found.endpoint)) } else { Err(traffic::starting(found)) };
        let asked = matches!(why, Why::Asked(_));
        let checks = status.checks.get(&endpoint.backend).filter(|_| asked).cloned().unwrap_or_default();
        self.tasks.spawn("probe", async move {
            let outcome = match target {
                Err(starting) => starting,
                Ok(target) => tokio::select! {
                    answer = Box::pin(target.check(&checks, timeout)) => match answer {
                        Ok(latency) => Outcome::Ok { latency },
                        Err(error) => Outcome::Failed { reason: error.to_string() },
                    },
                    () = shutdown.reached(Phase::Closing) => return,
                },
            };
            drop(probed.send(Probed { endpoint, why, ups, outcome }).await);
        });
        true
    }

    /// Says what came and went since the last time, and what was lost or came up again: an endpoint starts anew before
    /// any other outcome of it counts. To a monitor that was not told anything yet, all endpoints are said.
    fn note_changes(&mut self) {
        let status = self.status.borrow_and_update().clone();
        let all = self.speaking.as_ref().is_some_and(|speaking| !speaking.complete);
        if Arc::ptr_eq(&self.said, &status) && !all {
            return;
        }
        let before = std::mem::replace(&mut self.said, Arc::clone(&status));
        let (mut come, mut gone) = (Vec::new(), Vec::new());
        for (was, is) in status.unlike(&before) {
            let served = |status: Option<&EndpointStatus>| {
                status.filter(|status| status.is_served()).map(|status| status.endpoint.key.clone())
            };
            match (served(was), served(is)) {
                (None, Some(key)) => come.push(key),
                (Some(key), None) => gone.push(key),
                (Some(_), Some(_)) | (None, None) => {}
            }
        }
        self.unproved.retain(|endpoint| !gone.contains(endpoint));
        let differs = !come.is_empty() || !gone.is_empty();
        if differs || status.ejection != before.ejection {
            let (come, gone, policy) = (come.clone(), gone.clone(), status.ejection.clone());
            self.pools.handle(self.now(), &status, PoolsEvent::Change { come, gone, policy });
        }
        let is_news = differs || status.health != before.health;
        if is_news {
            let (come, gone, policy) = (come.clone(), gone.clone(), status.health.clone());
            self.judge(Event::Change { come, gone, policy });
        }
        if is_news || all {
            self.say_endpoints(&status, come, gone);
        }
        for (endpoint, outcome) in self.traffic.lives(status.unlike(&before).filter_map(|(_, is)| is)) {
            self.seen(endpoint, outcome);
        }
    }

    fn say_endpoints(&mut self, status: &Status, come: Vec<EndpointKey>, gone: Vec<EndpointKey>) {
        let Some(speaking) = &mut self.speaking else { return };
        let complete = std::mem::replace(&mut speaking.complete, true);
        let policy = status.health.clone();
        let observation = if complete && speaking.takes_changes {
            Observation::Change { come, gone, policy }
        } else {
            let served = status.endpoints.iter().filter(|status| status.is_served());
            Observation::Endpoints { endpoints: served.map(|status| status.endpoint.key.clone()).collect(), policy }
        };
        // A list that is only repeated, to a monitor that was away, is no part of the change any more.
        let trace = status.trace.filter(|trace| self.said_of.replace(*trace) != Some(*trace));
        self.say_in(&observation, trace);
    }

    fn look(&mut self) {
        let status = self.status.borrow().clone();
        for (endpoint, outcome) in self.traffic.look(&status.endpoints) {
            if !matches!(outcome, Outcome::Failed { .. }) {
                self.seen(endpoint, outcome);
                continue;
            }
            let doubts = self.doubts.get(&endpoint).copied().unwrap_or_default();
            if doubts < DOUBTS_MAX && self.probe(endpoint.clone(), Why::Doubt(outcome), status.health.timeout) {
                self.doubts.insert(endpoint, doubts + 1);
            }
        }
    }

    fn say(&mut self, observation: &Observation) {
        self.say_in(observation, None);
    }

    fn say_in(&mut self, observation: &Observation, trace: Option<TraceContext>) {
        let Some(speaking) = &mut self.speaking else { return };
        if let Err(stuck) = speaking.say(observation, trace) {
            tracing::warn!(error = %stuck, "hanging up on health-monitor");
            self.speaking = None;
        }
    }
}
