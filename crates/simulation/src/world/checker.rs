//! What must be true at every moment, judged from outside: from messages and effects, never from the cores' state.

use std::collections::{BTreeMap, BTreeSet};

use drain::ledger::Image;
use drain::{Departure, DrainId, Phase};
use model::{AttemptId, Digest, EndpointKey, LogId, NodeId, Owner, Revision, Time, Weight};
use rollout::reconciler::{Link, Notice};
use rollout::{Directive, Kind, ProposalId, Record, Report, Sender};

use crate::world::Life;

/// One attempt of one process.
type Round = (Life, AttemptId);

#[derive(Debug, Default)]
pub(crate) struct Checker {
    pub(crate) violations: Vec<String>,
    managers: BTreeMap<Life, Seen>,
    /// The routers that were asked in an attempt, the stream each was asked over, and its answer.
    rounds: BTreeMap<Round, BTreeMap<NodeId, (Link, Ballot)>>,
    /// Every revision of every log.
    pub(crate) committed: BTreeMap<(LogId, Revision), Digest>,
    unresolved: BTreeSet<(Life, ProposalId)>,
    /// The newest change of each owner.
    newest: BTreeMap<(Life, Owner), ProposalId>,
    /// Callers without an answer.
    pub(crate) waiting: BTreeSet<(Life, u64)>,
    /// The content that each router said it has, and over which stream; nothing once it was asked to change it.
    says: BTreeMap<(Life, NodeId), (Link, Option<Digest>)>,
    /// The file's content over which a rollback moved its cursor, until the file changes.
    pub(crate) undone: Option<Digest>,
    /// The same, until another content was judged. If it comes back before that, it may be taken for unchanged or not.
    pub(crate) rolled_over: Option<Digest>,
    /// An operator asked for a read while the file was being written.
    pub(crate) may_judge_half: bool,
    /// When an operator asked last: the write may have begun between the request and the read.
    pub(crate) asked_at: Time,
    /// Until then, a manager that missed the end of a write may take any write for unfinished.
    pub(crate) blind_until: Time,
    live: BTreeMap<Life, Revision>,
    /// The youngest manager of each log that spoke to a router process.
    youngest: BTreeMap<(Life, LogId), u64>,
    /// Departures that their router has reported as over.
    over: BTreeSet<(DrainId, Life, EndpointKey)>,
    /// The last report on each departure that the coordinator has heard.
    heard: BTreeMap<(DrainId, Life, EndpointKey), Departure>,
    /// The weights on record that fall step by step.
    falling: BTreeMap<DrainId, Weight>,
}

/// What one config-manager process was told.
#[derive(Debug, Default)]
struct Seen {
    head: Revision,
    /// The highest revision that any router has shown the process.
    highest: Revision,
    /// The attempt that is under way.
    attempt: Option<AttemptId>,
    /// The last revisions that were announced, as durable and as live.
    announced: (Revision, Revision),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ballot {
    Open,
    Yes,
    No,
    Left,
}

impl Checker {
    pub(crate) fn manager_started(&mut self, life: Life, head: Revision) {
        self.managers.insert(life, Seen { head, ..Seen::default() });
    }

    /// A difference starts from what the router said last over that stream, before it was asked to change it.
    pub(crate) fn directs(
        &mut self,
        life: Life,
        node: &NodeId,
        link: Link,
        directive: &Directive,
        base: Option<Digest>,
    ) -> Option<String> {
        let says = self.says.get_mut(&(life, node.clone())).filter(|(over, _)| *over == link);
        let known = says.as_ref().and_then(|(_, says)| *says);
        match directive {
            Directive::Prepare { attempt, .. } => {
                self.rounds.entry((life, *attempt)).or_default().insert(node.clone(), (link, Ballot::Open));
            }
            Directive::Commit { .. } | Directive::Offer { .. } => {
                if let Some((_, says)) = says {
                    *says = None;
                }
            }
            Directive::Renew { .. } | Directive::Abort { .. } => {}
        }
        base.filter(|base| known != Some(*base))
            .map(|base| format!("a difference from {base:?}, and {node} has {known:?}"))
    }

    pub(crate) fn heard(&mut self, life: Life, node: &NodeId, link: Link, report: &Report) {
        let key = (life, node.clone());
        match report {
            Report::Hello { applied, digest, .. } => {
                // A new stream is the end of the old one.
                self.leave(life, node, |asked| asked != link);
                self.says.insert(key, (link, *digest));
                self.shown(life, *applied);
            }
            Report::Ack { revision, digest } => {
                if let Some((_, says)) = self.says.get_mut(&key).filter(|(over, _)| *over == link) {
                    *says = Some(*digest);
                }
                self.shown(life, *revision);
            }
            Report::Vote { attempt, verdict, .. } => {
                let round = self.rounds.get_mut(&(life, *attempt));
                let ballot = round.and_then(|round| round.get_mut(node));
                if let Some((_, ballot)) = ballot.filter(|(asked, ballot)| *asked == link && *ballot == Ballot::Open) {
                    *ballot = if verdict.is_ok() { Ballot::Yes } else { Ballot::No };
                }
            }
            Report::Nack { .. } => {}
        }
    }

    fn shown(&mut self, life: Life, revision: Revision) {
        if let Some(seen) = self.managers.get_mut(&life) {
            seen.highest = seen.highest.max(revision);
        }
    }

    pub(crate) fn lost(&mut self, life: Life, node: &NodeId, link: Link) {
        self.leave(life, node, |asked| asked == link);
    }

    fn leave(&mut self, life: Life, node: &NodeId, over: impl Fn(Link) -> bool) {
        for (_, round) in self.rounds.iter_mut().filter(|((of, _), _)| *of == life) {
            if let Some((_, ballot)) = round.get_mut(node).filter(|(link, ballot)| over(*link) && *ballot != Ballot::No)
            {
                *ballot = Ballot::Left;
            }
        }
    }

    /// One attempt at a time; and a revision is announced once as durable, and once as live.
    pub(crate) fn noticed(&mut self, life: Life, notice: &Notice) -> Option<String> {
        let seen = self.managers.get_mut(&life)?;
        let (announced, revision) = match notice {
            Notice::AttemptStarted { attempt, .. } => {
                let other = seen.attempt.replace(*attempt)?;
                return Some(format!("{attempt} begins, and {other} is under way"));
            }
            Notice::AttemptEnded { attempt, .. }
            | Notice::AttemptDropped { attempt, .. }
            | Notice::Tried { attempt, .. } => {
                let ended = seen.attempt.take();
                return (ended != Some(*attempt)).then(|| format!("{attempt} ends, and {ended:?} is under way"));
            }
            Notice::Committed { revision, .. } => (&mut seen.announced.0, *revision),
            Notice::Applied(applied) => {
                seen.attempt = None;
                (&mut seen.announced.1, applied.revision)
            }
            Notice::Waiting { .. }
            | Notice::Voted { .. }
            | Notice::LeftRound { .. }
            | Notice::Attached { .. }
            | Notice::Detached { .. }
            | Notice::Acked { .. }
            | Notice::Behind { .. }
            | Notice::CaughtUp { .. }
            | Notice::NumbersAbove { .. }
            | Notice::Deposed { .. } => return None,
        };
        let before = std::mem::replace(announced, revision);
        (before == revision || revision != seen.head)
            .then(|| format!("{revision} is announced after {before} at {}", seen.head))
    }

    /// A record goes to the log only if every router that was asked has agreed to it, and only under the next number.
    pub(crate) fn appends<P>(&mut self, life: Life, record: &Record<P>) -> Option<String> {
        if record.source.owner.0.starts_with("trial") {
            return Some(format!("{} is a trial, and goes into the log", record.revision));
        }
        let seen = self.managers.get_mut(&life)?;
        let expected = seen.head.max(seen.highest).next();
        if record.revision != expected || record.parent != seen.head {
            let (number, parent) = (record.revision, record.parent);
            return Some(format!("number {number} after {parent}, not {expected} after {}", seen.head));
        }
        let under_way = *seen.attempt.get_or_insert(record.attempt);
        if under_way != record.attempt {
            return Some(format!("{} goes into the log, and {under_way} is under way", record.attempt));
        }
        let strict = record.kind == Kind::Change
            && seen.head > Revision::NONE
            && record.content.snapshot.policy.validation.two_phase_commit;
        let round = self.rounds.remove(&(life, record.attempt)).unwrap_or_default();
        let against = round.iter().find(|(_, (_, ballot))| matches!(ballot, Ballot::Open | Ballot::No));
        if let Some((node, (_, ballot))) = against {
            return Some(format!("{} goes into the log, and {node} is {ballot:?}", record.revision));
        }
        let yes = round.values().any(|(_, ballot)| *ballot == Ballot::Yes);
        (strict && !yes).then(|| format!("{} goes into the log without any vote", record.revision))
    }

    pub(crate) fn committed<P>(
        &mut self,
        life: Life,
        log: &LogId,
        record: &Record<P>,
        file: Option<Digest>,
    ) -> Option<String> {
        if let Some(seen) = self.managers.get_mut(&life) {
            seen.head = record.revision;
        }
        self.committed.insert((log.clone(), record.revision), record.content.digest);
        let cursor = record.cursors.get(&Owner::file()).copied();
        match record.kind {
            Kind::Rollback { .. } => {
                // A write of the file since the rollback was asked for is a change already.
                self.undone = cursor.filter(|cursor| file.is_none_or(|file| file == *cursor));
                self.rolled_over = cursor;
                None
            }
            Kind::Change | Kind::Restore => {
                let back = cursor.filter(|cursor| self.undone == Some(*cursor));
                back.map(|digest| format!("what was rolled back is live again as {}: {digest:?}", record.revision))
            }
        }
    }

    /// The file has other bytes now. A missing file changes nothing.
    pub(crate) fn file_says(&mut self, digest: Option<Digest>) {
        self.undone = self.undone.filter(|undone| digest.is_none_or(|digest| digest == *undone));
    }

    /// That content was refused when the rollback came: it was not live, so nothing of it is undone.
    pub(crate) fn was_refused(&mut self, digest: Option<Digest>) {
        self.undone = self.undone.filter(|undone| digest != Some(*undone));
    }

    /// Another content of the file is on record as judged.
    pub(crate) fn cursor_moves(&mut self, digest: Digest) {
        self.rolled_over = self.rolled_over.filter(|over| *over == digest);
    }

    pub(crate) fn entered(&mut self, life: Life, proposal: ProposalId, owner: Owner) {
        self.unresolved.insert((life, proposal));
        self.newest.insert((life, owner), proposal);
    }

    /// Every proposal has exactly one end, and none gives way but to a newer one of its owner.
    pub(crate) fn ended(&mut self, life: Life, id: ProposalId, owner: &Owner, superseded: bool) -> Option<String> {
        if !self.unresolved.remove(&(life, id)) {
            return Some(format!("{id:?} of {life:?} has a second end"));
        }
        let lost = superseded && self.newest.get(&(life, owner.clone())).is_none_or(|newest| *newest <= id);
        lost.then(|| format!("{id:?} of {owner:?} gave way, and is the newest"))
    }

    pub(crate) fn all_ended(&self, life: Life) -> bool {
        self.unresolved.range((life, ProposalId(0))..=(life, ProposalId(u64::MAX))).next().is_none()
            && self.waiting.range((life, 0)..=(life, u64::MAX)).next().is_none()
    }

    /// Whether that manager is older than one that spoke to the same router before.
    pub(crate) fn is_stale(&mut self, router: Life, sender: &Sender) -> bool {
        let youngest = self.youngest.entry((router, sender.log.clone())).or_default();
        *youngest = (*youngest).max(sender.epoch);
        sender.epoch < *youngest
    }

    /// A revision goes live in a router.
    pub(crate) fn goes_live(
        &mut self,
        router: Life,
        log: &LogId,
        revision: Revision,
        digest: Digest,
    ) -> Option<String> {
        let before = self.live.insert(router, revision);
        if before.is_some_and(|before| before >= revision) {
            return Some(format!("a router goes from revision {before:?} to {revision}"));
        }
        match self.committed.get(&(log.clone(), revision)) {
            Some(decided) if *decided == digest => None,
            Some(decided) => Some(format!("{revision} is {decided:?}, and live as {digest:?}")),
            None => Some(format!("{revision} is live and not in the log")),
        }
    }

    /// The coordinator hears of a departure.
    pub(crate) fn counted(&mut self, router: Life, departure: &Departure) {
        let key = (departure.drain.clone(), router, departure.endpoint.clone());
        let newer = self.heard.get(&key).is_none_or(|before| {
            (before.phase, before.finished + before.evicted)
                <= (departure.phase, departure.finished + departure.evicted)
        });
        if newer {
            self.heard.insert(key, departure.clone());
        }
    }

    /// Reports that the coordinator heard and did not write down are sent again.
    pub(crate) fn coordinator_died(&mut self) {
        self.heard.clear();
    }

    /// Whether a router reports less than the truth on a departure that it has not reported as over before.
    pub(crate) fn reports(&mut self, router: Life, departure: &Departure, truth: u64) -> Option<String> {
        let key = (departure.drain.clone(), router, departure.endpoint.clone());
        let ended = matches!(departure.phase, Phase::Closed | Phase::Reopened);
        // The end of an earlier departure is reported again until it is on record.
        let said = ended && !self.over.insert(key.clone());
        if !ended {
            self.over.remove(&key);
        }
        let says = departure.in_flight;
        (!said && says < truth).then(|| format!("says {says} in flight on {}, and {truth} are", departure.endpoint))
    }

    pub(crate) fn taken_for_dead(&mut self, router: Life) {
        self.heard.retain(|(_, life, _), _| *life != router);
    }

    pub(crate) fn router_died(&mut self, router: Life) {
        self.taken_for_dead(router);
        self.live.remove(&router);
    }

    /// The record of drains is written: a share that falls never rises, whatever became of the coordinator meanwhile.
    pub(crate) fn recorded(&mut self, image: &Image) -> Option<String> {
        let falling = image.drains.iter().filter(|drain| drain.falling.is_some());
        let falling: BTreeMap<_, _> = falling.map(|drain| (drain.id.clone(), drain.weight)).collect();
        let before = std::mem::replace(&mut self.falling, falling);
        let rises = |(id, weight): &(&DrainId, &Weight)| before.get(*id).is_some_and(|before| *weight > before);
        let (id, weight) = self.falling.iter().find(rises)?;
        Some(format!("the share that {id} leaves falls, and is {weight} again"))
    }

    /// The coordinator says that a drain is over: then the last report of no living router may contradict it.
    pub(crate) fn drain_over(&self, drain: &DrainId) -> Option<String> {
        let open = self.heard.iter().find(|((id, ..), departure)| {
            id == drain && !matches!(departure.phase, Phase::Closed | Phase::Reopened) && departure.in_flight > 0
        })?;
        Some(format!("{drain} is over, and {:?} has {} in flight", open.0.1, open.1.in_flight))
    }

    /// The number of commits.
    pub(crate) fn revisions(&self) -> usize {
        self.committed.len()
    }
}
