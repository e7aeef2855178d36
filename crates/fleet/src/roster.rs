//! The members of the fleet and what to do about each: the deciding part of the fleet, without I/O.
//!
//! Events come by [`Roster::handle`], time by [`Roster::tick`]; one exit ([`Roster::poll_effect`]), one deadline. An
//! endpoint stays a member as long as something needs it: the live snapshot, an attempt, the exchanges still in flight
//! while it leaves, or the chance that the next attempt asks for an equal endpoint.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use backoff::Backoff;
use fastrand::Rng;
use model::{
    AttemptId, BackendId, CandidateOutcome, CandidateResult, EndpointKey, EndpointSpec, Limits, Revision, Time, Verdict,
};

use crate::offered::{Lists, Offered};
use crate::plan::{Layout, Plan};
use crate::reason::Reason;

mod attempt;
mod disabled;
mod known;
mod member;
mod members;
mod relist;
mod restart;
mod restarts;
mod turn;

pub use member::{Member, State};
use members::Members;

/// The number of a member of the roster. None is used again: it tells a member from one with an equal key before or
/// after it. The router maps it to the endpoint, which has another number of its own.
pub type Serial = u64;

/// How long an endpoint that an aborted attempt brought up is kept for another attempt that wants it.
const SPARE: Duration = Duration::from_secs(10);
/// The wait between attempts to bring up an endpoint that is down.
const RETRY: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
/// An endpoint that is lost sooner than this after it came up is in a crash loop.
const STABLE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) enum Event {
    /// Make the layout of this attempt ready beside the live one.
    Prepare { attempt: AttemptId, layout: Arc<Layout>, within: Duration },
    /// The attempt is no longer needed.
    Abort { attempt: AttemptId, keep_until: Time },
    /// The revision is decided: it is live under this number, whatever its servers do.
    Live { revision: Revision, layout: Arc<Layout>, prepared: Option<AttemptId> },
    /// A bring-up that was asked for has ended.
    BroughtUp { serial: Serial, result: Result<Offered, Reason> },
    /// The endpoint was up and is no longer: its child process ended.
    Lost { serial: Serial, reason: Reason },
    /// The server announces that its list of items has changed.
    ListChanged { serial: Serial },
    /// A listing that was asked for has ended.
    Listed { serial: Serial, result: Result<Offered, String> },
    /// A new verdict on the endpoint.
    Judged { key: EndpointKey, verdict: Verdict, reason: Option<Arc<str>> },
    /// A call waits for the endpoint, which is down.
    Wanted { serial: Serial },
    /// An operator wants the endpoint's process ended and another one started.
    Restart { serial: Serial },
    /// All backends that operators have switched off.
    Disabled { backends: BTreeSet<BackendId> },
    /// The endpoint is leaving, and nothing is in flight on it any more.
    Closed { serial: Serial },
    /// A shutdown that was asked for is complete.
    Ended { serial: Serial },
    /// The process whose place this one takes has ended, with all its endpoints.
    PredecessorEnded,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Act(Act),
    /// Make a generation of the present members.
    Publish {
        /// The snapshot is another one than before, so endpoints come and leave.
        swap: bool,
        /// A disputed name goes to the first server in the file's order; otherwise its present owner keeps it.
        by_file: bool,
    },
    /// Every endpoint that the attempt changes has been tried.
    Prepared {
        attempt: AttemptId,
        outcomes: Vec<CandidateOutcome>,
    },
}

/// An action on one endpoint.
#[derive(Debug, PartialEq, Eq)]
pub enum Act {
    /// Make the endpoint, unconnected.
    Create { serial: Serial, key: EndpointKey, spec: EndpointSpec, limits: Arc<Limits> },
    /// Start or connect, initialise and list, within that time; report [`crate::Event::BroughtUp`].
    BringUp { serial: Serial, timeout: Duration },
    /// List the endpoint anew; report [`crate::Event::Listed`].
    List { serial: Serial },
    /// Report that the endpoint cannot be listed anew: its former list stays.
    NotListed { serial: Serial, reason: String },
    /// End the endpoint's process. The next event about it is [`crate::Event::Lost`].
    Restart {
        serial: Serial,
        /// The reason is an unhealthy verdict, not a request.
        unhealthy: bool,
    },
    /// Apply these limits from now on.
    Limit { serial: Serial, limits: Arc<Limits> },
    /// Pass the verdict to the part that chooses among endpoints.
    Verdict { serial: Serial, verdict: Verdict },
    /// No snapshot or attempt needs the endpoint, and nothing is in flight on it; report [`crate::Event::Ended`].
    ShutDown { serial: Serial },
}

impl From<Act> for Effect {
    fn from(act: Act) -> Self {
        Self::Act(act)
    }
}

#[derive(Debug)]
struct LiveSnapshot {
    revision: Revision,
    layout: Arc<Layout>,
}

#[derive(Debug)]
pub struct Roster {
    live: Option<LiveSnapshot>,
    attempt: Option<attempt::Attempt>,
    members: Members,
    keys: BTreeMap<Serial, EndpointKey>,
    /// Endpoints that are being shut down, with the backend of each.
    ending: BTreeMap<Serial, BackendId>,
    /// Backends that operators have switched off.
    disabled: BTreeSet<BackendId>,
    /// What each endpoint offered when it was last seen.
    known: BTreeMap<EndpointKey, Offered>,
    lists: Lists,
    /// Since a restore, some endpoints have not yet had a chance to come up and be listed.
    settling: bool,
    /// Another process still has endpoints of the same servers.
    predecessor: bool,
    next_serial: Serial,
    random: Rng,
    effects: VecDeque<Effect>,
}

impl Roster {
    pub(crate) fn new(random: u64) -> Self {
        Self {
            live: None,
            attempt: None,
            members: Members::default(),
            keys: BTreeMap::new(),
            ending: BTreeMap::new(),
            disabled: BTreeSet::new(),
            known: BTreeMap::new(),
            lists: Lists::default(),
            settling: false,
            predecessor: false,
            next_serial: 1,
            random: Rng::with_seed(random),
            effects: VecDeque::new(),
        }
    }

    /// `known`: what endpoints offered in an earlier life of this process.
    pub(crate) fn knowing(mut self, mut known: BTreeMap<EndpointKey, Offered>) -> Self {
        known.values_mut().for_each(|offered| self.lists.share(offered));
        self.known = known;
        self
    }

    /// Until [`Event::PredecessorEnded`].
    pub(crate) fn beside_predecessor(mut self) -> Self {
        self.predecessor = true;
        self
    }

    pub(crate) fn handle(&mut self, now: Time, event: Event) {
        match event {
            Event::Prepare { attempt, layout, within } => self.prepare(now, attempt, layout, within),
            Event::Abort { attempt, keep_until } => self.abort(attempt, keep_until),
            Event::Live { revision, layout, prepared } => {
                self.attempt.take_if(|attempt| prepared == Some(attempt.id()));
                self.go_live(now, revision, layout, prepared.is_none());
            }
            Event::BroughtUp { serial, result } => self.brought_up(now, serial, result),
            Event::Lost { serial, reason } => self.lost(now, serial, reason),
            Event::ListChanged { serial } => {
                if let Some(member) = self.by_serial(serial) {
                    member.relist.announced(now);
                }
            }
            Event::Listed { serial, result } => self.listed(now, serial, result),
            Event::Judged { key, verdict, reason } => self.judged(now, &key, verdict, reason),
            Event::Wanted { serial } => self.hasten(now, serial),
            Event::Restart { serial } => self.restart(now, serial),
            Event::Disabled { backends } => self.switch(now, backends),
            Event::Closed { serial } => {
                if let Some(key) = self.keys.get(&serial).cloned() {
                    self.drop_member(&key);
                }
            }
            Event::Ended { serial } => {
                self.ending.remove(&serial);
            }
            Event::PredecessorEnded => self.predecessor = false,
        }
        self.settle();
        self.report_attempt();
    }

    /// What follows from any change of members.
    fn settle(&mut self) {
        self.members.settle();
        self.start_waiting();
        self.members.settle();
    }

    /// Does what is due: retries, listings, and the end of spares.
    pub(crate) fn tick(&mut self, now: Time) {
        let mut over = Vec::new();
        for key in self.members.due(now) {
            let Some(member) = self.members.get_mut(&key) else { continue };
            if member.may_retry() && member.retry(now) {
                self.effects.push_back(Act::BringUp { serial: member.serial, timeout: member.connect }.into());
            }
            if member.relist.begins(now, member.state.is_up()) {
                self.effects.push_back(Act::List { serial: member.serial }.into());
            }
            self.effects.extend(member.restart_due(now).map(Effect::Act));
            if member.spare_until.is_some_and(|until| until <= now) {
                over.push(key);
            }
        }
        for key in over {
            self.drop_member(&key);
        }
        self.settle();
    }

    pub(crate) fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.members.next_due()
    }

    pub fn revision(&self) -> Revision {
        self.live.as_ref().map_or(Revision::NONE, |live| live.revision)
    }

    pub fn layout(&self) -> Option<&Arc<Layout>> {
        self.live.as_ref().map(|live| &live.layout)
    }

    pub fn members(&self) -> &BTreeMap<EndpointKey, Member> {
        &self.members
    }

    /// Whether the live snapshot or an attempt wants the endpoint. If so, it must not be closed, even while it leaves.
    pub(crate) fn is_wanted(&self, key: &EndpointKey) -> bool {
        let live = self.live.as_ref().is_some_and(|live| live.layout.has(key));
        live || self.attempt.as_ref().is_some_and(|attempt| attempt.layout.has(key))
    }

    pub fn attempt_layout(&self) -> Option<&Arc<Layout>> {
        self.attempt.as_ref().map(|attempt| &attempt.layout)
    }

    /// After a restore, names go by the order of the file until every endpoint had a chance to come up.
    fn go_live(&mut self, now: Time, revision: Revision, layout: Arc<Layout>, restore: bool) {
        let plan = self.plan(&layout);
        self.start(now, &layout, &plan, Duration::MAX);
        for key in &plan.depart {
            if let Some(member) = self.members.get_mut(key) {
                (member.live, member.leaving) = (false, true);
            }
        }
        let limits = self.admit(&layout);
        self.known.retain(|key, _| layout.backend(&key.backend).is_some() || self.members.contains_key(key));
        self.lists.tidy();
        self.live = Some(LiveSnapshot { revision, layout });
        self.apply_restart_policy(now);
        self.settling = restore && self.anyone_arriving();
        // Drawn before the swap, an earlier publication would show the new layout before that is made ready.
        self.effects.retain(|effect| !matches!(effect, Effect::Publish { swap: false, .. }));
        self.effects.push_back(Effect::Publish { swap: true, by_file: restore });
        self.effects.extend(limits);
        self.spare_leftovers(now + SPARE);
    }

    /// Makes the members of `layout` live, as it wants them. Skips backends that did not change: their members are live
    /// already.
    fn admit(&mut self, layout: &Layout) -> Vec<Effect> {
        let like = self.live.as_ref().map(|live| live.layout.as_ref()).filter(|live| live.limits == layout.limits);
        let mut acts = Vec::new();
        for key in layout.keys_unlike(like) {
            let Some(member) = self.members.get_mut(key) else { continue };
            let limits = layout.limits_of(&key.backend);
            (member.live, member.leaving, member.spare_until, member.connect) = (true, false, None, limits.connect);
            if member.limits != limits {
                member.limits = Arc::clone(&limits);
                acts.push(Act::Limit { serial: member.serial, limits }.into());
            }
        }
        acts
    }

    fn plan(&self, next: &Layout) -> Plan {
        let ending = self.ending.values().cloned().collect();
        let mut plan = Plan::toward(next, self.layout().map(Arc::as_ref), &self.members, &ending);
        if self.predecessor {
            plan.start_after.extend(plan.start.extract_if(.., |key| next.starts_alone(key)));
        }
        plan
    }

    /// Makes the endpoints that `plan` wants started, and starts those that need not wait.
    fn start(&mut self, now: Time, layout: &Layout, plan: &Plan, within: Duration) {
        let at_once = plan.start.iter().map(|key| (key, State::Arriving));
        let later = plan.start_after.iter().map(|key| (key, State::Waiting));
        for (key, state) in at_once.chain(later) {
            let Some(spec) = layout.spec(key) else { continue };
            let limits = layout.limits_of(&key.backend);
            let timeout = limits.connect.min(within);
            let serial = self.next_serial;
            self.next_serial += 1;
            let mut member = Member::new(now, serial, state.clone(), timeout, Arc::clone(&limits));
            member.disabled = self.disabled.contains(&key.backend);
            self.members.insert(key.clone(), member);
            self.effects.push_back(Act::Create { serial, key: key.clone(), spec: spec.clone(), limits }.into());
            if state == State::Arriving {
                self.effects.push_back(Act::BringUp { serial, timeout }.into());
            }
            self.keys.insert(serial, key.clone());
        }
    }

    /// Starts the endpoints that waited for the last of their old copies to end, in this process and in its predecessor.
    fn start_waiting(&mut self) {
        if self.predecessor || self.members.waiting().next().is_none() {
            return;
        }
        self.end_spares_that_are_waited_for();
        let free: Vec<_> = self
            .members
            .waiting()
            .filter(|(key, member)| {
                let other = |(other, that): (&EndpointKey, &Member)| {
                    other.backend == key.backend && that.serial != member.serial && !self.is_live(other)
                };
                !member.leaving
                    && self.is_live(key)
                    && !self.ending.values().any(|backend| *backend == key.backend)
                    && !self.members.iter().any(other)
            })
            .map(|(key, _)| key.clone())
            .collect();
        for key in &free {
            if let Some(member) = self.members.get_mut(key) {
                member.state = State::Arriving;
                self.effects.push_back(Act::BringUp { serial: member.serial, timeout: member.connect }.into());
            }
        }
        if !free.is_empty() {
            self.publish();
        }
    }

    fn end_spares_that_are_waited_for(&mut self) {
        let waiting = |key: &EndpointKey| self.members.waiting().any(|(other, _)| other.backend == key.backend);
        let spares = self.members.iter().filter(|(_, member)| member.spare_until.is_some());
        let over: Vec<_> = spares.map(|(key, _)| key).filter(|key| waiting(key)).cloned().collect();
        for key in over {
            self.drop_member(&key);
        }
    }

    fn brought_up(&mut self, now: Time, serial: Serial, result: Result<Offered, Reason>) {
        let random = self.random.u64(..);
        let Some(key) = self.keys.get(&serial).cloned() else { return };
        let Some(member) = self.members.get_mut(&key) else { return };
        let before = member.state.reason().map(|reason| Arc::clone(&reason.plain));
        let other = result.as_ref().err().is_some_and(|reason| before.as_ref() != Some(&reason.plain));
        // Clients are told why a server is missing.
        let mut changed = result.is_ok() || member.state.is_arriving() || other;
        match result {
            Ok(offered) => {
                member.came_up(now);
                self.learn(&key, offered);
                self.forget_former(&key);
            }
            Err(reason) => {
                member.failed(now, reason, |failures| RETRY.delay(failures, random));
                if member.verdict() == Verdict::Failing {
                    changed |= self.forget_former(&key);
                }
            }
        }
        self.pass_verdict(now, &key);
        if changed && self.is_live(&key) {
            self.publish();
        }
        // The turn that includes the last of them still goes by the order of the file.
        self.settling = self.settling && self.anyone_arriving();
    }

    fn anyone_arriving(&self) -> bool {
        self.members.values().any(|member| member.state.is_arriving() && member.live)
    }

    fn lost(&mut self, now: Time, serial: Serial, reason: Reason) {
        let random = self.random.u64(..);
        let Some(key) = self.keys.get(&serial).cloned() else { return };
        let (live, wanted) = (self.is_live(&key), self.is_wanted(&key));
        let Some(member) = self.members.get_mut(&key) else { return };
        if !member.state.is_up() {
            return;
        }
        let by_itself = !member.disabled && member.was_stable(now, STABLE);
        let again = wanted && (std::mem::take(&mut member.restarting) || by_itself);
        if again {
            member.arrives_again();
            self.effects.push_back(Act::BringUp { serial, timeout: member.connect }.into());
        } else {
            member.failed(now, reason, |failures| RETRY.delay(failures, random));
        }
        self.pass_verdict(now, &key);
        if live {
            self.publish();
        }
    }

    /// Passes the verdict on if it is another one. What clients see of its server may hang on it.
    fn pass_verdict(&mut self, now: Time, key: &EndpointKey) {
        let Some(act) = self.members.get_mut(key).and_then(|member| member.verdict_act(now)) else { return };
        self.effects.push_back(act.into());
        let Some(layout) = self.layout().filter(|layout| layout.has(key)) else { return };
        if layout.backend(&key.backend).is_some_and(|one| layout.hides(&one.backend)) {
            self.publish();
        }
    }

    fn listed(&mut self, now: Time, serial: Serial, result: Result<Offered, String>) {
        let random = self.random.u64(..);
        let Some(key) = self.keys.get(&serial).cloned() else { return };
        let Some(member) = self.members.get_mut(&key) else { return };
        match result {
            Ok(offered) => {
                let bytes = offered.all().map(|item| item.json().len()).sum();
                member.relist.listed(now, offered.all().count(), bytes);
                // What leaves may still get calls by its list.
                let is_served = member.live || member.leaving;
                let before = self.learn(&key, offered);
                if is_served && before.as_ref() != self.known.get(&key) {
                    self.publish();
                }
            }
            Err(reason) => {
                member.relist.failed(now, |failures| RETRY.delay(failures, random));
                self.effects.push_back(Act::NotListed { serial, reason }.into());
            }
        }
    }

    /// Removes a member for good.
    fn drop_member(&mut self, key: &EndpointKey) {
        let Some(member) = self.members.remove(key) else { return };
        self.keys.remove(&member.serial);
        self.ending.insert(member.serial, key.backend.clone());
        if !self.is_live(key) && !self.known_for_another(key) {
            self.known.remove(key);
        }
        self.effects.push_back(Act::ShutDown { serial: member.serial }.into());
    }

    fn is_live(&self, key: &EndpointKey) -> bool {
        self.live.as_ref().is_some_and(|live| live.layout.has(key))
    }

    fn by_serial(&mut self, serial: Serial) -> Option<&mut Member> {
        self.members.get_mut(self.keys.get(&serial)?)
    }
}

#[cfg(test)]
mod random_tests;
#[cfg(test)]
mod tests;
