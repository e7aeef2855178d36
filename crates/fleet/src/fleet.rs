//! The fleet behind one entrance: what is decided and held, the members, and the endpoints that leave.
//!
//! Three parts decide: the follower of config-manager, the roster of endpoints, and their departures. None knows the
//! others. What one wants of another goes through here, in the one order that is right: a swap opens what comes back,
//! then publishes, then cordons what leaves, and only then is it acknowledged.

mod copy;
mod successors;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use drain::departures::{self, Departures, Seen};
use drain::{Departure, OverlayEntry};
use model::{
    AttemptId, BackendId, Digest, DrainPolicy, EndpointKey, ReplaceMode, Revision, Snapshot, Standing, Time, Transport,
    Verdict,
};
use rollout::follower::{self, Follower, Identity, Saved};
use rollout::{Content, Directive, Findings, Refusal, Report, Sender};

use crate::names::{names_of_nothing, new_collisions};
use crate::offered::Offered;
use crate::plan::Layout;
use crate::reason::Reason;
use crate::roster::{self, Act, Roster, Serial};
use crate::turn::{self, Before, Turn};
pub use copy::DiskCopy;
use copy::Step;

/// What a fleet hears.
#[derive(Debug)]
pub enum Event {
    /// A stream to config-manager is open and knows nothing yet.
    ManagerAttached,
    ManagerDetached,
    Directed {
        sender: Sender,
        directive: Directive,
    },
    /// The answer to [`Effect::FindReferences`]: what cannot be had here, and why.
    References {
        attempt: AttemptId,
        missing: Option<String>,
    },
    /// A stream to drain-coordinator is open and knows nothing yet.
    CoordinatorAttached,
    /// It takes what differs in place of all that is live.
    CoordinatorTakesChanges,
    CoordinatorDetached,
    CoordinatorSaid(drain::Directive),
    /// A copy that was taken with that overlay is on disk.
    Copied {
        overlay: Vec<OverlayEntry>,
    },
    /// A bring-up that was asked for has ended.
    BroughtUp {
        serial: Serial,
        result: Result<Offered, Reason>,
    },
    /// The endpoint was up and is no longer: its child process ended.
    Lost {
        serial: Serial,
        reason: Reason,
    },
    /// The server announces that its list of items has changed.
    ListChanged {
        serial: Serial,
    },
    /// A listing that was asked for has ended.
    Listed {
        serial: Serial,
        result: Result<Offered, String>,
    },
    /// A verdict on the endpoint. `ups` is how often it had come up at the verdict, which holds for one life only.
    Judged {
        endpoint: EndpointKey,
        verdict: Verdict,
        ups: u32,
        /// The failure behind it, if there is one.
        reason: Option<Arc<str>>,
    },
    /// A call waits for the endpoint, which is down.
    Wanted {
        serial: Serial,
    },
    /// What calls that failed there leave of the endpoint's share, beside the others of its server.
    Stands {
        endpoint: EndpointKey,
        standing: Standing,
    },
    /// An operator wants the endpoint's process ended and another one started.
    Restart {
        serial: Serial,
    },
    /// A shutdown that was asked for is complete.
    Ended {
        serial: Serial,
    },
    /// The process whose place this one takes has ended, with all its endpoints.
    PredecessorEnded,
    /// The counters of an endpoint, of which `in_flight` was read first.
    Counted {
        endpoint: EndpointKey,
        seen: Seen,
    },
    /// The last exchange left a cordoned endpoint.
    LastLeft {
        endpoint: EndpointKey,
    },
    /// The endpoint's admission is closed, for ever.
    Closed {
        endpoint: EndpointKey,
    },
    /// A deadline has come.
    Tick,
}

/// What a fleet wants done, in this order.
#[derive(Debug)]
pub enum Effect {
    /// Say this to config-manager.
    Tell(Report),
    /// Find out whether the references of these endpoints can be had here, within that time; report
    /// [`Event::References`]. The work on the attempt begins with this effect.
    FindReferences {
        attempt: AttemptId,
        endpoints: Vec<(BackendId, Transport)>,
        within: Duration,
    },
    /// The effects that follow, up to the acknowledgement, make this revision live.
    Swapping {
        revision: Revision,
    },
    Act(Act),
    /// Serve by [`Fleet::turn`] from now on.
    Publish {
        /// The snapshot is another one than before, so endpoints come and leave.
        swap: bool,
        /// For [`Fleet::turn`].
        by_file: bool,
    },
    /// About an endpoint that leaves or is cordoned, or about all of them. [`departures::Effect::TryClose`] is answered
    /// by [`Event::Closed`] or [`Event::Counted`].
    Depart(departures::Effect),
}

/// An attempt whose references are being looked up.
#[derive(Debug)]
struct Resolving {
    attempt: AttemptId,
    layout: Arc<Layout>,
    /// When the vote is due.
    until: Time,
}

/// All that a router holds.
#[derive(Debug)]
pub struct Fleet {
    follower: Follower,
    roster: Roster,
    departures: Departures,
    resolving: Option<Resolving>,
    /// What the departures know to be live.
    served: Option<Arc<Layout>>,
    /// Endpoints that are leaving, empty, and kept open because an attempt wants them.
    held_open: BTreeSet<EndpointKey>,
    /// What the coordinator said last, until it is on disk.
    step: Option<Step>,
    /// Those that are ejected or on trial: calls fail there.
    ejected: BTreeSet<EndpointKey>,
    /// What is live, once it is acknowledged.
    saved: Option<Saved>,
    /// The copy on disk is out of date.
    unsaved: bool,
    /// The time of the last event: its consequences are drawn at that time.
    now: Time,
    effects: VecDeque<Effect>,
}

impl Fleet {
    /// With `copy`, the snapshot on disk is live at once, whatever has become of its servers and references since.
    #[must_use]
    pub fn new(now: Time, identity: Identity, random: u64, copy: Option<DiskCopy>) -> Self {
        Self::begin(now, identity, Roster::new(random), copy)
    }

    /// As [`Fleet::new`], while another process still has endpoints of the same servers. Those that may not run beside an
    /// old copy (`replace: stop_first`) wait for [`Event::PredecessorEnded`].
    #[must_use]
    pub fn beside_predecessor(now: Time, identity: Identity, random: u64, copy: Option<DiskCopy>) -> Self {
        Self::begin(now, identity, Roster::new(random).beside_predecessor(), copy)
    }

    fn begin(now: Time, identity: Identity, roster: Roster, copy: Option<DiskCopy>) -> Self {
        let (saved, known, entries) = match copy {
            Some(DiskCopy { saved, known, overlay }) => (Some(saved), known, overlay),
            None => Default::default(),
        };
        let mut fleet = Self {
            follower: Follower::new(identity, saved.as_ref()),
            roster: roster.knowing(known),
            departures: Departures::new(),
            resolving: None,
            served: None,
            held_open: BTreeSet::new(),
            step: None,
            ejected: BTreeSet::new(),
            saved,
            unsaved: false,
            now,
            effects: VecDeque::new(),
        };
        if let Some(Saved { revision, content, .. }) = fleet.saved.clone() {
            let layout = Arc::new(Layout::of(content, None));
            fleet.departures.handle(now, departures::Event::Said(drain::Directive::Overlay { entries }));
            fleet.switch(now);
            fleet.roster.handle(now, roster::Event::Live { revision, layout, prepared: None });
        }
        fleet
    }

    /// Handles one event. Several events may be handled before their consequences are drawn, so that many servers which
    /// come up at once make few generations. What a directive wants must be done before the next directive is handled.
    pub fn handle(&mut self, now: Time, event: Event) {
        self.now = now;
        match event {
            Event::ManagerAttached => self.follower.handle(now, follower::Event::Attached),
            Event::ManagerDetached => self.follower.handle(now, follower::Event::Detached),
            Event::Directed { sender, directive } => {
                self.follower.handle(now, follower::Event::Directive { sender, directive });
            }
            Event::References { attempt, missing } => self.references(attempt, missing),
            Event::CoordinatorAttached => self.departures.handle(now, departures::Event::Attached),
            Event::CoordinatorTakesChanges => self.departures.handle(now, departures::Event::TakesChanges),
            Event::CoordinatorDetached => self.departures.handle(now, departures::Event::Detached),
            Event::CoordinatorSaid(directive) => self.coordinator_said(directive),
            Event::Copied { overlay } => self.copied(&overlay),
            Event::BroughtUp { serial, result } => {
                self.roster.handle(now, roster::Event::BroughtUp { serial, result });
            }
            Event::Lost { serial, reason } => self.roster.handle(now, roster::Event::Lost { serial, reason }),
            Event::ListChanged { serial } => self.roster.handle(now, roster::Event::ListChanged { serial }),
            Event::Listed { serial, result } => self.roster.handle(now, roster::Event::Listed { serial, result }),
            // If `ups` differs, the endpoint has come up again meanwhile, and will be judged anew.
            Event::Judged { endpoint, verdict, ups, reason } => {
                if self.roster.members().get(&endpoint).is_some_and(|member| member.ups == ups) {
                    self.roster.handle(now, roster::Event::Judged { key: endpoint, verdict, reason });
                }
            }
            Event::Wanted { serial } => self.roster.handle(now, roster::Event::Wanted { serial }),
            Event::Stands { endpoint, standing } => self.stands(endpoint, standing),
            Event::Restart { serial } => self.roster.handle(now, roster::Event::Restart { serial }),
            Event::Ended { serial } => self.roster.handle(now, roster::Event::Ended { serial }),
            Event::PredecessorEnded => self.roster.handle(now, roster::Event::PredecessorEnded),
            Event::Counted { endpoint, seen } => {
                self.departures.handle(now, departures::Event::Counted { endpoint, seen });
            }
            Event::LastLeft { endpoint } => self.departures.handle(now, departures::Event::LastLeft { endpoint }),
            Event::Closed { endpoint } => {
                if let Some(serial) = self.roster.members().get(&endpoint).map(|member| member.serial) {
                    self.roster.handle(now, roster::Event::Closed { serial });
                }
                self.departures.handle(now, departures::Event::Closed { endpoint });
            }
            Event::Tick => {
                self.follower.handle(now, follower::Event::Woke);
                self.roster.tick(now);
                self.pass_step();
                self.departures.handle(now, departures::Event::Tick);
            }
        }
        self.judge_successors();
    }

    /// What operators have switched off need not come up.
    fn switch(&mut self, now: Time) {
        self.roster.handle(now, roster::Event::Disabled { backends: self.departures.disabled() });
    }

    /// The next effect. If it has an answer at once, the answer is handled before the next effect is asked for.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        loop {
            if let Some(effect) = self.effects.pop_front() {
                return Some(effect);
            }
            if let Some(effect) = self.follower.poll_effect() {
                self.pass_followers(effect);
            } else if let Some(effect) = self.roster.poll_effect() {
                self.pass_rosters(effect);
            } else if self.departures.take_unsettled() {
                self.roster.publish();
            } else {
                self.release_held_open();
                let effect = self.departures.poll_effect()?;
                self.pass_departures(effect);
            }
        }
    }

    /// When [`Event::Tick`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let dues = [self.follower.next_deadline(), self.roster.next_deadline(), self.departures.next_deadline()];
        dues.into_iter().flatten().chain(self.step_due()).min()
    }

    #[must_use]
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// The attempt that is prepared or being prepared, and the time until which it is held.
    #[must_use]
    pub fn attempt(&self) -> Option<(AttemptId, Time)> {
        self.follower.held()
    }

    /// Every departure that is not over, or not on record with drain-coordinator.
    #[must_use]
    pub fn departures(&self, now: Time) -> Vec<Departure> {
        self.departures.departures(now)
    }

    /// Whether an endpoint that the live snapshot lacks still gets calls.
    #[must_use]
    pub fn stays(&self, endpoint: &EndpointKey) -> bool {
        self.departures.stays(endpoint)
    }

    /// What operators have laid over the endpoints.
    #[must_use]
    pub fn overlay(&self, now: Time) -> Vec<OverlayEntry> {
        self.departures.overlay(now)
    }

    /// The content with that digest, if it is live or held for an attempt: a difference may refer to it.
    #[must_use]
    pub fn held(&self, digest: &Digest) -> Option<&Arc<Snapshot>> {
        let live = self.roster.layout().map(|layout| &layout.content);
        let held = live.into_iter().chain(self.follower.held_content()).find(|content| content.digest == *digest);
        held.map(|content| &content.snapshot)
    }

    /// Makes what the router serves from now on; `None` while no snapshot is live. If two servers want one name: with
    /// `by_file` the first one of the file gets it, else the one that has it in `before` keeps it.
    pub fn turn<E>(
        &self,
        by_file: bool,
        before: Option<Before<'_, E>>,
        endpoint: impl Fn(Serial) -> Option<E>,
    ) -> Option<Turn<E>> {
        let staying: Vec<_> = self.departures.staying().collect();
        turn::make(&self.roster, &staying, by_file, before, endpoint)
    }

    fn pass_followers(&mut self, effect: follower::Effect) {
        let now = self.now;
        match effect {
            follower::Effect::Build { attempt, content, within } => self.build(attempt, content, within),
            follower::Effect::Discard { attempt, keep_until } => {
                self.resolving.take_if(|resolving| resolving.attempt == attempt);
                self.roster.handle(now, roster::Event::Abort { attempt, keep_until });
            }
            follower::Effect::Swap { revision, content, prepared } => {
                let held = self.roster.attempt_layout().filter(|held| held.content.digest == content.digest).cloned();
                let layout = held.unwrap_or_else(|| self.layout_of(content));
                self.effects.push_back(Effect::Swapping { revision });
                self.roster.handle(now, roster::Event::Live { revision, layout, prepared });
            }
            follower::Effect::Send(report) => self.effects.push_back(Effect::Tell(report)),
            follower::Effect::Save(saved) => {
                self.saved = Some(saved);
                self.unsaved = true;
            }
        }
    }

    /// A change is strict about references, whatever share of its servers must come up: a missing one is a vote of no.
    /// A restore does not ask: an endpoint whose references cannot be had cannot be brought up yet.
    fn build(&mut self, attempt: AttemptId, content: Content, within: Duration) {
        let layout = self.layout_of(content);
        let live = self.roster.layout().map(Arc::as_ref);
        let new = layout.keys_unlike(live).filter(|key| !self.roster.members().contains_key(*key));
        let endpoints =
            new.filter_map(|key| Some((key.backend.clone(), layout.spec(key)?.transport.clone()))).collect();
        self.effects.push_back(Effect::FindReferences { attempt, endpoints, within });
        self.resolving = Some(Resolving { attempt, layout, until: self.now + within });
    }

    fn layout_of(&self, content: Content) -> Arc<Layout> {
        Arc::new(Layout::of(content, self.roster.layout().map(Arc::as_ref)))
    }

    fn references(&mut self, attempt: AttemptId, missing: Option<String>) {
        let now = self.now;
        let Some(Resolving { layout, until, .. }) = self.resolving.take_if(|resolving| resolving.attempt == attempt)
        else {
            return;
        };
        match missing {
            None => self.roster.handle(now, roster::Event::Prepare { attempt, layout, within: until.since(now) }),
            Some(missing) => self.built(attempt, Findings::default(), Some(Refusal::Secret(missing))),
        }
    }

    fn built(&mut self, attempt: AttemptId, found: Findings, refusal: Option<Refusal>) {
        self.follower.handle(self.now, follower::Event::Built { attempt, found, refusal });
    }

    fn pass_rosters(&mut self, effect: roster::Effect) {
        match effect {
            roster::Effect::Act(act) => self.effects.push_back(Effect::Act(act)),
            roster::Effect::Publish { swap, by_file } => {
                let layout = self.roster.layout().filter(|_| swap).cloned();
                if let Some(layout) = &layout {
                    let endpoints = layout.keys_unlike(self.served.as_deref()).cloned().collect();
                    self.departures.handle(self.now, departures::Event::Coming { endpoints });
                    self.pass_all_departures();
                }
                self.effects.push_back(Effect::Publish { swap, by_file });
                self.unsaved |= self.saved.is_some();
                if let Some(layout) = layout {
                    self.went_live(layout);
                }
            }
            // Collisions of names are judged here: they are known only with the lists of all candidates.
            roster::Effect::Prepared { attempt, outcomes } => {
                let collisions = self.roster.attempt_layout().map(|layout| new_collisions(&self.roster, layout));
                let collisions = collisions.filter(|collisions| !collisions.is_empty());
                let refusal = collisions.map(|collisions| Refusal::Names(collisions.join(", ")));
                let advice = self.roster.attempt_layout().map(|layout| names_of_nothing(&self.roster, layout));
                self.built(attempt, Findings { outcomes, advice: advice.unwrap_or_default() }, refusal);
            }
        }
    }

    /// Tells the departures what came and what is gone. The cordons that follow stand behind the publication of the
    /// layout, and the acknowledgement behind them.
    fn went_live(&mut self, layout: Arc<Layout>) {
        fn of_all(layout: &Layout) -> &DrainPolicy {
            &layout.content.snapshot.policy.drain
        }
        let drain = |key: &EndpointKey| {
            let gateway = &layout.content.snapshot.policy;
            let own = layout.backend(&key.backend).map(|one| one.backend.policy.over(gateway).drain);
            own.unwrap_or_else(|| gateway.drain.clone())
        };
        let before = self.served.take();
        let like = before.as_deref().filter(|before| of_all(before) == of_all(&layout));
        let come = layout.keys_unlike(like).map(|key| (key.clone(), drain(key))).collect();
        let gone = before.iter().flat_map(|before| before.keys_unlike(Some(&layout)));
        let gone: Vec<_> = gone.filter(|key| !layout.has(key)).cloned().collect();
        let beside =
            |id: &&BackendId| layout.backend(id).is_some_and(|one| one.backend.policy.replace == ReplaceMode::Beside);
        let beside = gone.iter().chain(self.departures.staying()).map(|key| &key.backend).filter(beside);
        let beside = beside.cloned().collect();
        let revision = self.roster.revision();
        self.served = Some(layout);
        self.departures.handle(self.now, departures::Event::Live { revision, come, gone, beside });
        self.judge_successors();
        self.pass_all_departures();
        self.follower.handle(self.now, follower::Event::Swapped { revision });
    }

    fn pass_all_departures(&mut self) {
        while let Some(effect) = self.departures.poll_effect() {
            self.pass_departures(effect);
        }
    }

    /// An attempt may want a leaving endpoint back: until that is decided the endpoint stays, cordoned and empty.
    fn pass_departures(&mut self, effect: departures::Effect) {
        if let departures::Effect::TryClose { endpoint } = &effect
            && self.roster.is_wanted(endpoint)
        {
            self.held_open.insert(endpoint.clone());
        } else {
            self.effects.push_back(Effect::Depart(effect));
        }
    }

    fn release_held_open(&mut self) {
        let released: Vec<_> = self.held_open.extract_if(.., |key| !self.roster.is_wanted(key)).collect();
        for endpoint in released {
            self.departures.handle(self.now, departures::Event::LastLeft { endpoint });
        }
    }
}

#[cfg(test)]
mod tests;
