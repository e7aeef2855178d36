//! A router's end: which of a server's endpoints calls pass over, because calls fail there and not at its others.
//!
//! A verdict says whether an endpoint works at all, and is the same for a server with one endpoint. This is about the
//! choice among several, and goes by what became of calls alone: an endpoint that answers pings may fail every call.
//!
//! An endpoint is ejected for a while, longer each time. Then it is on trial, with one call at a time; answers end the
//! trial, and its share grows until it is whole. What comes back from an unhealthy verdict or a loss grows in the same
//! way. Ejections are capped, and are lifted where too few endpoints would be left: health never empties a pool.

mod window;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use model::{BackendId, EjectionPolicy, EndpointKey, Standing, Time, Verdict, Weight};

use crate::schedule::Schedule;
use window::{Counts, Window};

/// So many answers on trial let an endpoint come back.
const TRIAL: u64 = 3;
/// A share grows in so many steps.
const STEPS: u16 = 10;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Which endpoints of the live generation are new and which it has no more, and its policy.
    Change {
        come: Vec<EndpointKey>,
        gone: Vec<EndpointKey>,
        policy: EjectionPolicy,
    },
    /// What is seen of several endpoints at once: each is judged beside the others.
    Seen(Vec<Seen>),
    Tick,
}

/// How an endpoint is, and what became of its calls since this was last said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub endpoint: EndpointKey,
    pub verdict: Verdict,
    pub answered: u64,
    pub failed: u64,
}

/// An endpoint gets another share of the calls from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stands {
    pub endpoint: EndpointKey,
    pub standing: Standing,
    /// Of one that is ejected or on trial.
    pub ejection: Option<Ejection>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ejection {
    pub why: String,
    /// When its trial begins.
    pub until: Time,
    /// How often it was ejected in a row.
    pub times: u32,
}

#[derive(Debug, Default)]
pub struct Shares {
    policy: EjectionPolicy,
    servers: BTreeMap<BackendId, Server>,
    /// Those that have several endpoints: a server with one costs nothing.
    pools: BTreeSet<BackendId>,
    schedule: Schedule<BackendId>,
    changes: VecDeque<Stands>,
}

#[derive(Debug, Default)]
struct Server {
    members: BTreeMap<EndpointKey, Member>,
    /// For [`Shares::schedule`].
    due: Option<Time>,
}

#[derive(Debug, Default)]
struct Member {
    verdict: Verdict,
    /// It worked once, so its next coming up is a return.
    worked: bool,
    state: State,
    window: Window,
    /// Failures since the last answer.
    row: u64,
    ejection: Option<Ejection>,
    /// When it last came back.
    back: Time,
    said: Standing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    In,
    Growing {
        since: Time,
    },
    Ejected {
        until: Time,
    },
    OnTrial {
        answered: u64,
    },
}

impl Shares {
    pub fn handle(&mut self, now: Time, event: Event) {
        match event {
            Event::Change { come, gone, policy } => self.change(now, come, gone, policy),
            Event::Seen(all) => self.seen(now, &all),
            Event::Tick => {}
        }
        while let Some(server) = self.schedule.due(now) {
            self.settle(now, &server);
        }
    }

    /// A standing that differs from what was said before. New endpoints have their whole share.
    pub fn poll_effect(&mut self) -> Option<Stands> {
        self.changes.pop_front()
    }

    /// When the next [`Event::Tick`] is due.
    pub fn next_deadline(&self) -> Option<Time> {
        self.schedule.first()
    }

    /// The endpoints of servers that have several: of the others nothing need be said.
    pub fn endpoints(&self) -> impl Iterator<Item = &EndpointKey> {
        self.pools.iter().filter_map(|server| self.servers.get(server)).flat_map(|server| server.members.keys())
    }

    /// The endpoint's share of the calls.
    pub fn standing(&self, endpoint: &EndpointKey) -> Standing {
        let member = self.servers.get(&endpoint.backend).and_then(|server| server.members.get(endpoint));
        member.map_or(Standing::Full, |member| member.said)
    }

    fn change(&mut self, now: Time, come: Vec<EndpointKey>, gone: Vec<EndpointKey>, policy: EjectionPolicy) {
        let all = self.policy != policy;
        self.policy = policy;
        let mut touched: BTreeSet<BackendId> = BTreeSet::new();
        for endpoint in gone {
            if let Some(server) = self.servers.get_mut(&endpoint.backend) {
                server.members.remove(&endpoint);
                touched.insert(endpoint.backend);
            }
        }
        for endpoint in come {
            let backend = endpoint.backend.clone();
            self.servers.entry(backend.clone()).or_default().members.entry(endpoint).or_default();
            touched.insert(backend);
        }
        if all {
            touched.extend(self.servers.keys().cloned());
        }
        for backend in touched {
            self.settle(now, &backend);
        }
    }

    fn seen(&mut self, now: Time, all: &[Seen]) {
        for seen in all {
            if let Some(server) = self.servers.get_mut(&seen.endpoint.backend) {
                server.count(now, seen);
            }
        }
        let mut touched = BTreeSet::new();
        for seen in all {
            if let Some(server) = self.servers.get_mut(&seen.endpoint.backend) {
                server.judge(now, &self.policy, seen);
                touched.insert(&seen.endpoint.backend);
            }
        }
        for backend in touched {
            self.settle(now, backend);
        }
    }

    /// Does what time alone does, and says what differs.
    fn settle(&mut self, now: Time, backend: &BackendId) {
        let Some(server) = self.servers.get_mut(backend) else { return };
        let due = server.pass(now, &self.policy);
        self.schedule.note(backend, &mut server.due, due);
        let lifted = server.is_lifted(&self.policy);
        for (endpoint, member) in &mut server.members {
            let standing = if lifted { Standing::Full } else { member.standing(now, &self.policy) };
            if standing != std::mem::replace(&mut member.said, standing) {
                let is_out = matches!(standing, Standing::Ejected | Standing::OnTrial);
                let ejection = member.ejection.clone().filter(|_| is_out);
                self.changes.push_back(Stands { endpoint: endpoint.clone(), standing, ejection });
            }
        }
        if server.is_pool() {
            self.pools.insert(backend.clone());
        } else {
            self.pools.remove(backend);
        }
        if server.members.is_empty() {
            self.servers.remove(backend);
        }
    }
}

impl Seen {
    fn counts(&self) -> Counts {
        Counts { answered: self.answered, failed: self.failed }
    }
}

impl Server {
    fn is_pool(&self) -> bool {
        self.members.len() > 1
    }

    /// How many endpoints are well, and in.
    fn well(&self) -> usize {
        self.members.values().filter(|member| member.is_well()).count()
    }

    /// Whether ejections have no effect: there is nothing to choose, or too little would be left.
    fn is_lifted(&self, policy: &EjectionPolicy) -> bool {
        let well = self.well();
        !self.is_pool() || well == 0 || is_below(well, policy.panic_permille, self.members.len())
    }

    fn count(&mut self, now: Time, seen: &Seen) {
        let Some(member) = self.members.get_mut(&seen.endpoint) else { return };
        member.judged(now, seen.verdict);
        let counts = seen.counts();
        member.window.add(now, counts);
        member.row = if counts.answered > 0 { 0 } else { member.row.saturating_add(counts.failed) };
    }

    fn judge(&mut self, now: Time, policy: &EjectionPolicy, seen: &Seen) {
        let (key, counts) = (&seen.endpoint, seen.counts());
        let Some(member) = self.members.get_mut(key).filter(|_| counts.all() > 0) else { return };
        match member.state {
            // What ends now was begun before.
            State::Ejected { .. } => {}
            State::OnTrial { .. } if counts.failed > 0 => {
                member.eject(now, policy, "a call failed on trial".to_owned())
            }
            State::OnTrial { answered } if answered + counts.answered < TRIAL => {
                member.state = State::OnTrial { answered: answered + counts.answered };
            }
            State::OnTrial { .. } => member.comes_back(now),
            State::In | State::Growing { .. } => {
                if let Some(why) = self.offends(now, policy, key)
                    && let Some(member) = self.members.get_mut(key)
                {
                    member.eject(now, policy, why);
                }
            }
        }
    }

    /// Why the endpoint is to be ejected, if it is. Three things must hold: enough of its calls fail; the share of calls
    /// that fail at the others is at most half of its own; and enough others are left.
    fn offends(&self, now: Time, policy: &EjectionPolicy, key: &EndpointKey) -> Option<String> {
        let member = self.members.get(key)?;
        let own = member.window.sum(now);
        let enough = u64::from(policy.failures.max(1));
        let offends = member.row >= enough || own.failed >= enough && own.failed >= own.answered;
        let others = self.members.iter().filter(|(other, member)| *other != key && member.is_well());
        let (mut well, mut theirs) = (0, Counts::default());
        for (_, other) in others {
            well += 1;
            theirs = theirs + other.window.sum(now);
        }
        let (all, out) = (self.members.len(), self.members.values().filter(|member| member.is_out()).count());
        let most = (all as u64 * u64::from(policy.share_max_permille) / 1000).max(1);
        let may = policy.share_max_permille > 0
            && (out as u64) < most
            && well > 0
            && !is_below(well, policy.panic_permille, all);
        let product = |one: u64, other: u64| u128::from(one) * u128::from(other);
        let is_worse = product(theirs.failed, own.all()) * 2 <= product(own.failed, theirs.all());
        (offends && may && is_worse).then(|| {
            let (at_others, all_there) = (theirs.failed, theirs.all());
            format!("{} of its last {} calls failed, {at_others} of {all_there} at the others", own.failed, own.all())
        })
    }

    /// Does what is due by time alone. Returns when that will be so again.
    fn pass(&mut self, now: Time, policy: &EjectionPolicy) -> Option<Time> {
        self.members.values_mut().filter_map(|member| member.pass(now, policy)).min()
    }
}

impl Member {
    fn is_well(&self) -> bool {
        self.verdict.is_routable() && !self.is_out()
    }

    fn is_out(&self) -> bool {
        matches!(self.state, State::Ejected { .. } | State::OnTrial { .. })
    }

    fn judged(&mut self, now: Time, verdict: Verdict) {
        let before = std::mem::replace(&mut self.verdict, verdict);
        match verdict {
            // What comes up again is another process, or another connection.
            Verdict::Starting | Verdict::Failing => {
                (self.state, self.window, self.row) = (State::In, Window::default(), 0);
            }
            Verdict::Healthy | Verdict::Degraded | Verdict::Unknown => {
                if self.worked && !before.is_routable() && !self.is_out() {
                    (self.state, self.back) = (State::Growing { since: now }, now);
                }
            }
            Verdict::Unhealthy => {}
        }
        self.worked |= matches!(verdict, Verdict::Healthy | Verdict::Degraded);
    }

    fn eject(&mut self, now: Time, policy: &EjectionPolicy, why: String) {
        let before = self.ejection.take().map_or(0, |ejection| ejection.times);
        // One that did well for long enough is a first offender.
        let on_trial = matches!(self.state, State::OnTrial { .. });
        let before = if on_trial || now - self.back <= lasts(policy, before) * 2 { before } else { 0 };
        let times = before.saturating_add(1);
        let until = now + lasts(policy, times);
        self.state = State::Ejected { until };
        self.ejection = Some(Ejection { why, until, times });
    }

    fn comes_back(&mut self, now: Time) {
        (self.state, self.back) = (State::Growing { since: now }, now);
        (self.window, self.row) = (Window::default(), 0);
    }

    fn pass(&mut self, now: Time, policy: &EjectionPolicy) -> Option<Time> {
        match self.state {
            State::In | State::OnTrial { .. } => None,
            State::Ejected { until } if until > now => Some(until),
            State::Ejected { .. } => {
                (self.window, self.row) = (Window::default(), 0);
                self.state = State::OnTrial { answered: 0 };
                None
            }
            State::Growing { since } => {
                let step = step(policy);
                let steps = steps(now, since, step);
                if steps >= STEPS {
                    self.state = State::In;
                    return None;
                }
                Some(since + step * (u32::from(steps) + 1))
            }
        }
    }

    fn standing(&self, now: Time, policy: &EjectionPolicy) -> Standing {
        match self.state {
            State::In => Standing::Full,
            State::Ejected { .. } => Standing::Ejected,
            State::OnTrial { .. } => Standing::OnTrial,
            State::Growing { since } => {
                let (least, whole) = (Weight::TENTH.permille(), Weight::FULL.permille());
                let grown = (whole - least) / STEPS * steps(now, since, step(policy));
                Weight::of(least + grown).map_or(Standing::Full, Standing::Growing)
            }
        }
    }
}

/// How long an ejection lasts that is the one of that number in a row.
fn lasts(policy: &EjectionPolicy, times: u32) -> Duration {
    let doubled = 1_u32.checked_shl(times.saturating_sub(1)).unwrap_or(u32::MAX);
    policy.time.saturating_mul(doubled).min(policy.time_max.max(policy.time))
}

fn step(policy: &EjectionPolicy) -> Duration {
    policy.slow_start / u32::from(STEPS)
}

/// How many of its steps a share has grown by. Without slow start it grows at once.
fn steps(now: Time, since: Time, step: Duration) -> u16 {
    let steps = (now - since).as_nanos().checked_div(step.as_nanos());
    steps.and_then(|steps| u16::try_from(steps).ok()).unwrap_or(STEPS).min(STEPS)
}

/// Whether `some` of `all` is less than that share, in thousandths.
fn is_below(some: usize, permille: u32, all: usize) -> bool {
    some as u64 * 1000 < u64::from(permille) * all as u64
}

#[cfg(test)]
mod tests;
