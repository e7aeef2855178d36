//! A router's end: the verdicts it acts on, with or without health-monitor.
//!
//! While the monitor is attached its verdict holds, since it has seen all that this router reported and the answers to
//! its own probes. When the monitor is away its last verdict expires. What remains is what real traffic shows, judged
//! by the same rules. What the router itself knows for a fact (an endpoint that is not up) holds in either case.

use std::collections::{BTreeMap, VecDeque};

use model::{EndpointKey, HealthPolicy, Time, Verdict};

use crate::judge::stale_after;
use crate::schedule::{Schedule, change};
use crate::{Judge, Outcome};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Which endpoints of the live generation are new and which it has no more, and its policy.
    Change {
        come: Vec<EndpointKey>,
        gone: Vec<EndpointKey>,
        policy: HealthPolicy,
    },
    /// What real traffic, a probe, or the state of a child showed.
    Seen {
        endpoint: EndpointKey,
        outcome: Outcome,
    },
    /// The verdict of health-monitor.
    Told {
        endpoint: EndpointKey,
        verdict: Verdict,
    },
    Attached,
    Detached,
    Tick,
}

/// The verdict to act on has changed, or the reason of a bad one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    pub endpoint: EndpointKey,
    pub verdict: Verdict,
    /// As [`Alone::reason`] gives it.
    pub reason: Option<String>,
}

/// The verdicts that one router acts on, attached and alone: an attached monitor's, or else those of its own traffic.
#[derive(Debug, Default)]
pub struct Alone {
    policy: HealthPolicy,
    /// Since when no monitor is attached to judge; none while one is.
    away: Option<Time>,
    endpoints: BTreeMap<EndpointKey, Known>,
    /// When what an endpoint itself showed will be too old.
    stale: Schedule,
    changes: VecDeque<Changed>,
}

#[derive(Debug, Default)]
struct Known {
    own: Judge,
    told: Option<Verdict>,
    /// The monitor has not yet shown that it knows this life of the endpoint: a bad verdict would be of an earlier one.
    reborn: bool,
    acted_on: Verdict,
    /// Why it is unhealthy or degraded, as it was said last.
    because: Option<String>,
    /// For [`Alone::stale`].
    stale_at: Option<Time>,
}

impl Alone {
    /// No monitor is attached yet.
    pub fn new(now: Time) -> Self {
        Self { away: Some(now), ..Self::default() }
    }

    pub fn handle(&mut self, now: Time, event: Event) {
        match event {
            Event::Change { come, gone, policy } => {
                let (gone, new) = change(&mut self.endpoints, come, gone);
                for (endpoint, mut known) in gone {
                    self.stale.note(&endpoint, &mut known.stale_at, None);
                }
                self.endpoints.extend(new.into_iter().map(|endpoint| (endpoint, Known::default())));
                if self.policy != policy {
                    self.policy = policy;
                    self.judge_all(now, false);
                }
            }
            Event::Seen { endpoint, outcome } => {
                if let Some(known) = self.endpoints.get_mut(&endpoint) {
                    known.seen(now, &self.policy, &outcome);
                    self.judge(now, &endpoint);
                }
            }
            Event::Told { endpoint, verdict } => {
                if let Some(known) = self.endpoints.get_mut(&endpoint) {
                    known.told(verdict);
                    self.judge(now, &endpoint);
                }
            }
            Event::Attached => {
                self.away = None;
                self.judge_all(now, false);
            }
            Event::Detached => {
                self.away = Some(self.away.unwrap_or(now));
                self.judge_all(now, false);
            }
            Event::Tick => {}
        }
        if self.told_until().is_some_and(|until| until <= now) {
            self.judge_all(now, true);
        }
        while let Some(endpoint) = self.stale.due(now) {
            self.judge(now, &endpoint);
        }
    }

    /// A verdict that differs from what [`Alone::verdict`] said before, or its present reason. New endpoints start as unknown.
    pub fn poll_effect(&mut self) -> Option<Changed> {
        self.changes.pop_front()
    }

    /// When the next [`Event::Tick`] is due.
    pub fn next_deadline(&self) -> Option<Time> {
        self.told_until().into_iter().chain(self.stale.first()).min()
    }

    /// The verdict to act on; unknown for an endpoint without a report.
    pub fn verdict(&self, endpoint: &EndpointKey) -> Verdict {
        self.endpoints.get(endpoint).map_or(Verdict::Unknown, |known| known.acted_on)
    }

    /// The last failure this router saw itself; none since it last found the endpoint healthy.
    pub fn reason(&self, endpoint: &EndpointKey) -> Option<&str> {
        self.endpoints.get(endpoint)?.own.reason()
    }

    /// What this router saw itself of the endpoint.
    pub fn own(&self, endpoint: &EndpointKey) -> Option<&Judge> {
        self.endpoints.get(endpoint).map(|known| &known.own)
    }

    /// Until when the monitor's last verdicts count; none while it is attached, or has said nothing.
    fn told_until(&self) -> Option<Time> {
        let until = self.away? + stale_after(&self.policy);
        self.endpoints.values().any(|known| known.told.is_some()).then_some(until)
    }

    fn judge_all(&mut self, now: Time, forget: bool) {
        for endpoint in self.endpoints.keys().cloned().collect::<Vec<_>>() {
            if let Some(known) = self.endpoints.get_mut(&endpoint) {
                known.told = known.told.filter(|_| !forget);
            }
            self.judge(now, &endpoint);
        }
    }

    fn judge(&mut self, now: Time, endpoint: &EndpointKey) {
        let Some(known) = self.endpoints.get_mut(endpoint) else { return };
        known.own.age(now, &self.policy);
        self.stale.note(endpoint, &mut known.stale_at, known.own.stale_at(&self.policy));
        let verdict = known.verdict(self.away.is_none());
        let bad = matches!(verdict, Verdict::Unhealthy | Verdict::Degraded);
        let reason = known.own.reason().map(str::to_owned);
        if verdict != known.acted_on || bad && reason.is_some() && reason != known.because {
            known.acted_on = verdict;
            known.because.clone_from(&reason);
            self.changes.push_back(Changed { endpoint: endpoint.clone(), verdict, reason });
        }
    }
}

impl Known {
    /// A process that starts is a new one: verdicts on earlier processes say nothing about it.
    fn seen(&mut self, now: Time, policy: &HealthPolicy, outcome: &Outcome) {
        if let Outcome::Starting { .. } = outcome {
            // If the monitor last called it starting, this is no news to the monitor: its next verdict is of this life.
            self.reborn = !self.told.is_some_and(is_start);
            self.told = None;
        }
        self.own.take(now, policy, outcome);
    }

    /// The monitor's verdicts come in order: those before "starting" are of the life before.
    fn told(&mut self, verdict: Verdict) {
        if self.reborn && verdict == Verdict::Unhealthy {
            return;
        }
        self.reborn &= !is_start(verdict);
        self.told = Some(verdict);
    }

    fn verdict(&self, attached: bool) -> Verdict {
        match (self.own.verdict(), self.told) {
            (own @ (Verdict::Starting | Verdict::Failing), _) => own,
            // It was starting when the monitor last spoke, and is up now: the router's own success is newer.
            (Verdict::Healthy, Some(Verdict::Starting | Verdict::Failing)) => Verdict::Healthy,
            (_, Some(told)) if attached => told,
            // Alone, the router's own bad news counts at once, and the monitor's last verdict until it is too old.
            (Verdict::Unknown, Some(told)) => told,
            (own, _) => own,
        }
    }
}

fn is_start(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Starting | Verdict::Failing)
}

#[cfg(test)]
mod tests;
