//! A router's end: what to prepare, what to make live, what to say about it.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use model::{AttemptId, Digest, NodeId, Revision, Time};

use crate::{Content, Directive, Findings, Refusal, Report, Sender, judge};

/// How long endpoints that an attempt started are kept for an equal endpoint after the attempt has ended.
pub const KEEP: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A stream to a manager is open: the hello must be the first message on it.
    Attached,
    Detached,
    Directive {
        sender: Sender,
        directive: Directive,
    },
    /// The answer to [`Effect::Build`]: one outcome per changed endpoint, or why there is nothing to try.
    Built {
        attempt: AttemptId,
        found: Findings,
        refusal: Option<Refusal>,
    },
    /// The answer to [`Effect::Swap`]: new exchanges are admitted under the revision from now on.
    Swapped {
        revision: Revision,
    },
    /// A deadline has come.
    Woke,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Build the table and bring up new endpoints beside the live ones, within that time; report [`Event::Built`].
    /// At most one attempt is held.
    Build { attempt: AttemptId, content: Content, within: Duration },
    /// Stop building and end what was started for the attempt; endpoints may be kept until then for an equal endpoint.
    Discard { attempt: AttemptId, keep_until: Time },
    /// Make the revision live, whatever its servers do and whichever references cannot be resolved here: a decided and
    /// understood revision can always be live. `prepared` names the attempt that was built from the same content.
    /// Report [`Event::Swapped`]. One swap is under way at a time.
    Swap { revision: Revision, content: Content, prepared: Option<AttemptId> },
    /// Send over the attached stream.
    Send(Report),
    /// Write the disk copy. A newer copy replaces one that waits.
    Save(Saved),
}

/// What a router starts from when no manager answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    pub sender: Sender,
    pub revision: Revision,
    pub content: Content,
}

/// What is live in a router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Live {
    pub revision: Revision,
    pub digest: Digest,
}

/// How a router identifies itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub node: NodeId,
    /// Different at each start of the process.
    pub boot: String,
    pub features: Vec<String>,
}

/// The attempt that is held.
#[derive(Debug)]
struct Held {
    attempt: AttemptId,
    content: Content,
    lease_until: Time,
    /// Built, and voted for.
    ready: bool,
}

/// A revision that is decided and not live here yet.
#[derive(Debug)]
struct Decided {
    revision: Revision,
    content: Content,
    prepared: Option<AttemptId>,
}

/// The deciding part of a router: one attempt held at most, revisions that only go up.
#[derive(Debug)]
pub struct Follower {
    identity: Identity,
    /// The youngest manager that spoke.
    sender: Option<Sender>,
    live: Option<Live>,
    held: Option<Held>,
    swapping: Option<Decided>,
    /// A revision decided while another swap was under way; only the newest counts.
    next: Option<Decided>,
    attached: bool,
    effects: VecDeque<Effect>,
}

impl Follower {
    /// `saved` was read from the disk copy and is live already.
    pub fn new(identity: Identity, saved: Option<&Saved>) -> Self {
        Self {
            identity,
            sender: saved.map(|saved| saved.sender.clone()),
            live: saved.map(|saved| Live { revision: saved.revision, digest: saved.content.digest }),
            held: None,
            swapping: None,
            next: None,
            attached: false,
            effects: VecDeque::new(),
        }
    }

    pub fn live(&self) -> Option<Live> {
        self.live
    }

    /// The attempt that is prepared or being prepared, and the time until which it is held.
    pub fn held(&self) -> Option<(AttemptId, Time)> {
        self.held.as_ref().map(|held| (held.attempt, held.lease_until))
    }

    /// The content of that attempt.
    pub fn held_content(&self) -> Option<&Content> {
        self.held.as_ref().map(|held| &held.content)
    }

    pub fn handle(&mut self, now: Time, event: Event) {
        if self.held.as_ref().is_some_and(|held| held.lease_until <= now) {
            self.discard(now);
        }
        match event {
            Event::Attached => self.attach(),
            Event::Detached => self.attached = false,
            Event::Directive { sender, directive } => self.directive(now, sender, directive),
            Event::Built { attempt, found, refusal } => self.built(now, attempt, found, refusal),
            Event::Swapped { revision } => self.swapped(now, revision),
            Event::Woke => {}
        }
    }

    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When to call `handle` with [`Event::Woke`], if nothing else happens before.
    pub fn next_deadline(&self) -> Option<Time> {
        self.held.as_ref().map(|held| held.lease_until)
    }

    fn attach(&mut self) {
        self.attached = true;
        let Identity { node, boot, features } = self.identity.clone();
        let (applied, digest) = match self.live {
            Some(live) => (live.revision, Some(live.digest)),
            None => (Revision::NONE, None),
        };
        self.say(Report::Hello { node, boot, applied, digest, features });
    }

    fn directive(&mut self, now: Time, sender: Sender, directive: Directive) {
        if let Err(refusal) = self.obeys(now, sender) {
            match directive {
                Directive::Prepare { attempt, .. } => {
                    self.say(Report::Vote { attempt, verdict: Err(refusal), found: Findings::default() });
                }
                Directive::Commit { revision, .. } | Directive::Offer { revision, .. } => {
                    self.say(Report::Nack { revision, refusal });
                }
                Directive::Renew { .. } | Directive::Abort { .. } => {}
            }
            return;
        }
        match directive {
            Directive::Prepare { attempt, content, lease } => self.prepare(now, attempt, content, lease),
            Directive::Renew { attempt, lease } => {
                if let Some(held) = self.held.as_mut().filter(|held| held.attempt == attempt) {
                    held.lease_until = now + lease;
                }
            }
            Directive::Abort { attempt } => {
                if self.held.as_ref().is_some_and(|held| held.attempt == attempt) {
                    self.discard(now);
                }
            }
            Directive::Commit { attempt, revision, digest } => self.commit(now, attempt, revision, digest),
            Directive::Offer { revision, content } => self.offer(now, revision, content),
        }
    }

    /// An older manager of the same log is not obeyed. Another log starts over: its epochs mean nothing here, and
    /// nor does what was prepared for the one before.
    fn obeys(&mut self, now: Time, sender: Sender) -> Result<(), Refusal> {
        match &self.sender {
            Some(seen) if seen.log == sender.log && sender.epoch < seen.epoch => {
                return Err(Refusal::Stale { epoch: seen.epoch });
            }
            Some(seen) if seen.log != sender.log => self.discard(now),
            Some(_) | None => {}
        }
        self.sender = Some(sender);
        Ok(())
    }

    fn prepare(&mut self, now: Time, attempt: AttemptId, content: Content, lease: Duration) {
        let lease_until = now + lease;
        if let Some(held) = self.held.as_mut().filter(|held| held.attempt >= attempt) {
            if held.attempt == attempt {
                held.lease_until = lease_until;
            }
            return;
        }
        self.discard(now);
        // The vote has to arrive before its deadline, which counts from when this was sent.
        let within = content.snapshot.policy.validation.timeout * 9 / 10;
        self.effects.push_back(Effect::Build { attempt, content: content.clone(), within });
        self.held = Some(Held { attempt, content, lease_until, ready: false });
    }

    fn built(&mut self, now: Time, attempt: AttemptId, found: Findings, refusal: Option<Refusal>) {
        let Some(held) = self.held.as_mut().filter(|held| held.attempt == attempt && !held.ready) else { return };
        let snapshot = &held.content.snapshot;
        let verdict = refusal.map_or_else(
            || {
                let critical = snapshot.backends.iter().filter(|backend| backend.policy.critical);
                let critical: BTreeSet<_> = critical.map(|backend| backend.id.clone()).collect();
                judge(&found.outcomes, &snapshot.policy.validation, &critical)
            },
            Err,
        );
        held.ready = verdict.is_ok();
        if verdict.is_err() {
            self.discard(now);
        }
        self.say(Report::Vote { attempt, verdict, found });
    }

    fn commit(&mut self, now: Time, attempt: AttemptId, revision: Revision, digest: Digest) {
        if self.is_past(revision) {
            return;
        }
        let held = self.held.take_if(|held| held.attempt == attempt && held.ready && held.content.digest == digest);
        match held {
            Some(held) => self.decide(now, Decided { revision, content: held.content, prepared: Some(attempt) }),
            None => self.say(Report::Nack { revision, refusal: Refusal::NotHeld }),
        }
    }

    fn offer(&mut self, now: Time, revision: Revision, content: Content) {
        if self.is_past(revision) {
            return;
        }
        let held = self.held.take_if(|held| held.ready && held.content.digest == content.digest);
        let prepared = held.map(|held| held.attempt);
        // Any other held attempt was prepared beside a revision that is no longer live.
        self.discard(now);
        self.decide(now, Decided { revision, content, prepared });
    }

    /// Revisions never go back. The live one is reported again, so that a manager that counts differently learns it.
    fn is_past(&mut self, revision: Revision) -> bool {
        let coming = self.next.as_ref().or(self.swapping.as_ref()).map(|decided| decided.revision);
        if coming.is_some_and(|coming| revision <= coming) {
            // The ack follows the swap.
            return true;
        }
        let Some(live) = self.live.filter(|live| revision <= live.revision) else { return false };
        self.say(Report::Ack { revision: live.revision, digest: live.digest });
        true
    }

    fn decide(&mut self, now: Time, decided: Decided) {
        if self.swapping.is_some() {
            let replaced = self.next.replace(decided);
            if let Some(attempt) = replaced.and_then(|replaced| replaced.prepared) {
                self.effects.push_back(Effect::Discard { attempt, keep_until: now + KEEP });
            }
            return;
        }
        self.effects.push_back(Effect::Swap {
            revision: decided.revision,
            content: decided.content.clone(),
            prepared: decided.prepared,
        });
        self.swapping = Some(decided);
    }

    fn swapped(&mut self, now: Time, revision: Revision) {
        let Some(decided) = self.swapping.take_if(|decided| decided.revision == revision) else { return };
        let digest = decided.content.digest;
        self.live = Some(Live { revision, digest });
        self.say(Report::Ack { revision, digest });
        if let Some(sender) = self.sender.clone() {
            self.effects.push_back(Effect::Save(Saved { sender, revision, content: decided.content }));
        }
        self.go_on(now);
    }

    fn go_on(&mut self, now: Time) {
        if let Some(next) = self.next.take() {
            self.decide(now, next);
        }
    }

    fn discard(&mut self, now: Time) {
        if let Some(held) = self.held.take() {
            self.effects.push_back(Effect::Discard { attempt: held.attempt, keep_until: now + KEEP });
        }
    }

    fn say(&mut self, report: Report) {
        if self.attached {
            self.effects.push_back(Effect::Send(report));
        }
    }
}

#[cfg(test)]
mod tests;
