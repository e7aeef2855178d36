//! health-monitor's end: when each router is asked to probe an endpoint, and the verdicts on the answers.
//!
//! An endpoint is judged per router, since routers see from different places. A router that falls silent says nothing
//! about its endpoints: their verdicts age, they do not fail.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use fastrand::Rng;
use model::{EndpointKey, HealthPolicy, NodeId, Time, Verdict};

use crate::schedule::{Schedule, change, refit};
use crate::{Judge, Observation, Outcome, Request};

/// One stream of a router; the shell never uses a number twice.
pub type Connection = u64;

/// The first look at a new endpoint comes within this time, however long the interval is.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// No policy makes probes come faster.
const INTERVAL_MIN: Duration = Duration::from_millis(10);
/// The time beyond the probe's own timeout, for the way there and back. A probe unanswered then says nothing.
const ON_THE_WAY: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A message of a router; its first message is a hello.
    Said {
        connection: Connection,
        observation: Observation,
    },
    Detached {
        connection: Connection,
    },
    Tick,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    Tell {
        connection: Connection,
        request: Request,
    },
    /// End that stream: another stream speaks for that router now.
    Disconnect {
        connection: Connection,
    },
    Changed(Opinion),
}

/// The verdict on one endpoint of one router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opinion {
    pub node: NodeId,
    pub endpoint: EndpointKey,
    pub verdict: Verdict,
    /// The last failure, or what the endpoint waits for; none since it was last healthy.
    pub reason: Option<String>,
    /// How long ago the last outcome came; none when none ever did.
    pub last_seen: Option<Duration>,
    /// Outcomes in a row that say the same.
    pub streak: u32,
    /// How long ago it last answered.
    pub last_ok: Option<Duration>,
    /// The last failure and how long ago it was; it stays when the endpoint is well again.
    pub last_failure: Option<(Duration, String)>,
    /// When it will be probed again; none while its router is away.
    pub next_probe: Option<Duration>,
    /// Of a change: the verdict before, and for how long it held.
    pub previous: Option<(Verdict, Duration)>,
}

#[derive(Debug)]
pub struct Monitor {
    /// Where the next jitter comes from.
    random: Rng,
    last_probe: u64,
    connections: BTreeMap<Connection, NodeId>,
    routers: BTreeMap<NodeId, Router>,
    effects: VecDeque<Effect>,
}

#[derive(Debug)]
struct Router {
    boot: String,
    connection: Option<Connection>,
    /// Since when there is no connection.
    away: Option<Time>,
    policy: HealthPolicy,
    watched: BTreeMap<EndpointKey, Watched>,
    schedule: Schedule,
}

#[derive(Debug)]
struct Watched {
    judge: Judge,
    /// When its verdict became what it is.
    since: Time,
    next: Time,
    /// The probe that was asked for, and when its answer is too late.
    asked: Option<(u64, Time)>,
    /// For [`Router::schedule`].
    due: Option<Time>,
}

impl Monitor {
    /// `seed` decides the jitter: equal seeds and events give equal schedules.
    pub fn new(seed: u64) -> Self {
        Self {
            random: Rng::with_seed(seed),
            last_probe: 0,
            connections: BTreeMap::new(),
            routers: BTreeMap::new(),
            effects: VecDeque::new(),
        }
    }

    pub fn handle(&mut self, now: Time, event: Event) {
        match event {
            Event::Said { connection, observation } => self.said(now, connection, observation),
            Event::Detached { connection } => self.detached(now, connection),
            Event::Tick => {}
        }
        self.pass(now);
    }

    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When the next [`Event::Tick`] is due.
    pub fn next_deadline(&self) -> Option<Time> {
        self.routers.values().filter_map(Router::next_deadline).min()
    }

    /// All verdicts, by router and endpoint.
    pub fn opinions(&self, now: Time) -> Vec<Opinion> {
        let all = self.routers.iter().flat_map(|(node, router)| {
            router.watched.keys().filter_map(move |endpoint| router.opinion(now, node, endpoint))
        });
        all.collect()
    }

    /// The verdict on each endpoint of each router.
    pub fn verdicts(&self) -> impl Iterator<Item = Verdict> {
        self.routers.values().flat_map(|router| router.watched.values()).map(|watched| watched.judge.verdict())
    }

    /// Routers whose streams are open.
    pub fn attached(&self) -> usize {
        self.connections.len()
    }

    fn said(&mut self, now: Time, connection: Connection, observation: Observation) {
        if let Observation::Hello { node, boot } = observation {
            return self.hello(connection, node, boot);
        }
        // A stream that was replaced, or that sent something before its hello, is ignored.
        let Some(node) = self.connections.get(&connection).cloned() else { return };
        match observation {
            Observation::Endpoints { endpoints, policy } => {
                let refit = |held: &mut _| refit(held, endpoints.into_iter().collect());
                self.endpoints(now, &node, refit, policy);
            }
            Observation::Change { come, gone, policy } => {
                self.endpoints(now, &node, |held| change(held, come, gone), policy);
            }
            Observation::Probed { endpoint, probe, outcome } => {
                let router = self.routers.get_mut(&node);
                let watched = router.and_then(|router| router.watched.get_mut(&endpoint));
                let in_time = |(asked, until): (u64, Time)| asked == probe && until > now;
                let asked = watched.filter(|watched| watched.asked.is_some_and(in_time));
                if let Some(watched) = asked {
                    watched.asked = None;
                    self.outcome(now, &node, &endpoint, &outcome);
                }
            }
            Observation::Seen { endpoint, outcome } => self.outcome(now, &node, &endpoint, &outcome),
            Observation::Hello { .. } => {}
        }
    }

    fn hello(&mut self, connection: Connection, node: NodeId, boot: String) {
        if let Some(replaced) = self.routers.get(&node).and_then(|router| router.connection) {
            self.connections.remove(&replaced);
            self.effects.push_back(Effect::Disconnect { connection: replaced });
        }
        // Another process has other connections and other children: earlier outcomes are not about them.
        let kept = self.routers.remove(&node).filter(|router| router.boot == boot);
        let new = || Router {
            boot,
            connection: None,
            away: None,
            policy: HealthPolicy::default(),
            watched: BTreeMap::new(),
            schedule: Schedule::default(),
        };
        let kept = kept.unwrap_or_else(new);
        let mut router = Router { connection: Some(connection), away: None, ..kept };
        for (endpoint, watched) in &router.watched {
            if watched.judge.verdict() != Verdict::Unknown {
                let request = Request::Verdict { endpoint: endpoint.clone(), verdict: watched.judge.verdict() };
                self.effects.push_back(Effect::Tell { connection, request });
            }
        }
        router.schedule_all();
        self.connections.insert(connection, node.clone());
        self.routers.insert(node, router);
    }

    fn detached(&mut self, now: Time, connection: Connection) {
        let Some(node) = self.connections.remove(&connection) else { return };
        if let Some(router) = self.routers.get_mut(&node) {
            router.connection = None;
            router.away = Some(now);
            router.watched.values_mut().for_each(|watched| watched.asked = None);
            router.schedule_all();
        }
    }

    /// `fit` takes out what is gone. It returns that, and what is new.
    fn endpoints(
        &mut self,
        now: Time,
        node: &NodeId,
        fit: impl FnOnce(&mut BTreeMap<EndpointKey, Watched>) -> (Vec<(EndpointKey, Watched)>, Vec<EndpointKey>),
        policy: HealthPolicy,
    ) {
        let Some(router) = self.routers.get_mut(node) else { return };
        let (gone, new) = fit(&mut router.watched);
        for (endpoint, mut watched) in gone {
            router.schedule.note(&endpoint, &mut watched.due, None);
        }
        if router.policy != policy {
            router.policy = policy;
            let latest = now + interval(&router.policy);
            router.watched.values_mut().for_each(|watched| watched.next = watched.next.min(latest));
            router.schedule_all();
        }
        let first = FIRST_LOOK.min(interval(&router.policy));
        for endpoint in new {
            let next = now + first.mul_f64(self.random.f64());
            let watched = Watched { judge: Judge::default(), since: now, next, asked: None, due: None };
            router.watched.insert(endpoint.clone(), watched);
            router.schedule(&endpoint);
        }
    }

    fn outcome(&mut self, now: Time, node: &NodeId, endpoint: &EndpointKey, outcome: &Outcome) {
        let Some(router) = self.routers.get_mut(node) else { return };
        let Some(watched) = router.watched.get_mut(endpoint) else { return };
        let before = watched.judge.verdict();
        let changed = watched.judge.take(now, &router.policy, outcome) != before;
        router.schedule(endpoint);
        if changed {
            self.changed(now, node, endpoint, before);
        }
    }

    /// Does what is due by time alone: due probes, late answers, verdicts that are too old.
    fn pass(&mut self, now: Time) {
        let mut aged = Vec::new();
        for (node, router) in &mut self.routers {
            while let Some(endpoint) = router.schedule.due(now) {
                let Some(watched) = router.watched.get_mut(&endpoint) else { break };
                let before = watched.judge.verdict();
                if watched.judge.age(now, &router.policy) != before {
                    aged.push((node.clone(), endpoint.clone(), before));
                }
                if let Some(connection) = router.connection.filter(|_| watched.next <= now) {
                    let (interval, timeout) = (interval(&router.policy), router.policy.timeout);
                    // Keeps endpoints and routers from marching in step.
                    let jitter = f64::from(router.policy.jitter_permille.min(1000)) / 1000.0;
                    let factor = 1.0 + jitter * (2.0 * self.random.f64() - 1.0);
                    watched.next = now + interval.mul_f64(factor).max(INTERVAL_MIN);
                    watched.asked = watched.asked.filter(|(_, until)| *until > now);
                    if watched.asked.is_none() {
                        self.last_probe += 1;
                        watched.asked = Some((self.last_probe, now + timeout + ON_THE_WAY));
                        let next = Some(watched.next - now);
                        let (endpoint, probe) = (endpoint.clone(), self.last_probe);
                        let request = Request::Probe { endpoint, probe, timeout, next };
                        self.effects.push_back(Effect::Tell { connection, request });
                    }
                }
                router.schedule(&endpoint);
            }
        }
        for (node, endpoint, before) in aged {
            self.changed(now, &node, &endpoint, before);
        }
        self.routers.retain(|_, router| router.forgotten_at().is_none_or(|at| at > now));
    }

    fn changed(&mut self, now: Time, node: &NodeId, endpoint: &EndpointKey, before: Verdict) {
        let Some(router) = self.routers.get_mut(node) else { return };
        let Some(watched) = router.watched.get_mut(endpoint) else { return };
        let previous = Some((before, now - std::mem::replace(&mut watched.since, now)));
        if let Some(connection) = router.connection {
            let request = Request::Verdict { endpoint: endpoint.clone(), verdict: watched.judge.verdict() };
            self.effects.push_back(Effect::Tell { connection, request });
        }
        let opinion = router.opinion(now, node, endpoint);
        self.effects.extend(opinion.map(|opinion| Effect::Changed(Opinion { previous, ..opinion })));
    }
}

impl Router {
    fn next_deadline(&self) -> Option<Time> {
        self.schedule.first().into_iter().chain(self.forgotten_at()).min()
    }

    fn opinion(&self, now: Time, node: &NodeId, endpoint: &EndpointKey) -> Option<Opinion> {
        let Watched { judge, next, .. } = self.watched.get(endpoint)?;
        Some(Opinion {
            node: node.clone(),
            endpoint: endpoint.clone(),
            verdict: judge.verdict(),
            reason: judge.reason().map(Into::into),
            last_seen: judge.last_seen().map(|at| now - at),
            streak: judge.streak(),
            last_ok: judge.last_ok().map(|at| now - at),
            last_failure: judge.last_failure().map(|(at, why)| (now - at, why.to_owned())),
            next_probe: self.connection.map(|_| *next - now),
            previous: None,
        })
    }

    fn schedule_all(&mut self) {
        for endpoint in self.watched.keys().cloned().collect::<Vec<_>>() {
            self.schedule(&endpoint);
        }
    }

    /// The next probe, or the verdict is too old: whichever comes first.
    fn schedule(&mut self, endpoint: &EndpointKey) {
        let Some(watched) = self.watched.get_mut(endpoint) else { return };
        let probe = self.connection.map(|_| watched.next);
        let due = probe.into_iter().chain(watched.judge.stale_at(&self.policy)).min();
        self.schedule.note(endpoint, &mut watched.due, due);
    }

    /// A router that is away so long that all its verdicts have expired is forgotten with its endpoints.
    fn forgotten_at(&self) -> Option<Time> {
        self.away.map(|since| since + crate::judge::stale_after(&self.policy) * 2)
    }
}

fn interval(policy: &HealthPolicy) -> Duration {
    policy.interval.max(INTERVAL_MIN)
}

#[cfg(test)]
mod tests;
