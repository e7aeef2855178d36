//! config-manager's shell: it reads, parses, writes and carries messages, and may die at any moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Digest, LogId, NodeId, Owner, Revision, SourcePolicy};
use rollout::cursor::{self, Found, Judgement, SourceCore, Turn};
use rollout::reconciler::{self, Effect, Head, Link, Notice, Rollout};
use rollout::{Kind, Outcome, Proposal, ProposalId, Reason, Record, Report, Sender, Source};

use crate::content::{Fate, Known, Layers, Text};
use crate::fault::Fault;
use crate::wire::{Message, Way, WireId};
use crate::world::{Happening, Life, World};

/// What outlives a process.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) id: LogId,
    pub(crate) epoch: u64,
    pub(crate) entries: Vec<Entry>,
    pub(crate) cursor: Option<Digest>,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) revision: Revision,
    pub(crate) known: Arc<Known>,
    pub(crate) layers: Layers,
}

impl Log {
    pub(crate) fn new(number: u64) -> Self {
        Self { id: LogId(format!("log{number}")), epoch: 0, entries: Vec::new(), cursor: None }
    }
}

#[derive(Debug)]
pub(crate) struct ConfigManager {
    pub(crate) life: Life,
    pub(crate) rollout: Rollout<Layers>,
    pub(crate) source: SourceCore,
    /// The layers of the head.
    pub(crate) layers: Layers,
    /// The text that was read last, and its digest.
    text: Option<(Digest, Text)>,
    turns: BTreeMap<ProposalId, Turn>,
    proposals: u64,
    /// The record handed to the log; `None` for the layers: as before.
    appending: Option<Record<Layers>>,
    /// The stream that speaks for each router.
    streams: BTreeMap<usize, WireId>,
    /// Another process has the log.
    pub(crate) fenced: bool,
}

pub(crate) fn node(router: usize) -> NodeId {
    NodeId::new(&format!("r{router}")).expect("letters and digits are an id")
}

impl World {
    pub(crate) fn manager(&mut self, life: Life) -> Option<&mut ConfigManager> {
        self.managers.iter_mut().find(|manager| manager.life == life)
    }

    /// The manager that has the log.
    pub(crate) fn present_manager(&self) -> Option<&ConfigManager> {
        self.managers.last().filter(|manager| !manager.fenced)
    }

    pub(crate) fn start_manager(&mut self) {
        if self.present_manager().is_some() {
            return;
        }
        let life = self.life();
        self.log.epoch += 1;
        let sender = Sender { log: self.log.id.clone(), epoch: self.log.epoch };
        let last = self.log.entries.last();
        let layers = last.map_or_else(Layers::default, |entry| entry.layers.clone());
        let head = last.map(|entry| Head {
            revision: entry.revision,
            content: entry.known.content.clone(),
            layers: layers.digest(),
        });
        // If nothing was ever judged, the content of the file is taken as it is.
        self.checker.may_judge_half |= self.log.cursor.is_none() && !self.file.is_settled() || self.file.stalls();
        self.checker.manager_started(life, head.as_ref().map_or(Revision::NONE, |head| head.revision));
        self.note(|| format!("config-manager {life:?} starts: {sender:?} at {:?}", head.as_ref().map(|h| h.revision)));
        self.managers.push(ConfigManager {
            life,
            rollout: Rollout::new(sender, head),
            source: SourceCore::new(self.now, SourcePolicy::default(), self.log.cursor),
            layers,
            text: None,
            turns: BTreeMap::new(),
            proposals: 0,
            appending: None,
            streams: BTreeMap::new(),
            fenced: false,
        });
        self.manager_acts(life);
    }

    /// Ends the process without a message to any other.
    pub(crate) fn kill_manager(&mut self, life: Life) {
        self.note(|| format!("config-manager {life:?} dies"));
        self.managers.retain(|manager| manager.life != life);
        self.break_wires_of(life);
        self.after_millis(200, 15_000, Happening::StartManager);
    }

    /// A manager that was replaced comes to its end.
    pub(crate) fn end_manager(&mut self, life: Life) {
        self.managers.retain(|manager| manager.life != life);
        self.break_wires_of(life);
    }

    pub(crate) fn manager_decides(&mut self, life: Life, event: reconciler::Event<Layers>) {
        let now = self.now;
        let Some(manager) = self.manager(life) else { return };
        manager.rollout.handle(now, event);
        self.manager_acts(life);
    }

    pub(crate) fn source_decides(&mut self, life: Life, event: cursor::Event) {
        let now = self.now;
        self.note(|| format!("{life:?} {event:?}"));
        let Some(manager) = self.manager(life) else { return };
        manager.source.handle(now, event);
        self.manager_acts(life);
    }

    /// Carries out all effects of both cores, in order, until there are none or the process is gone.
    fn manager_acts(&mut self, life: Life) {
        while let Some(manager) = self.manager(life) {
            if let Some(effect) = manager.rollout.poll_effect() {
                self.carry_out(life, effect);
            } else if let Some(effect) = manager.source.poll_effect() {
                self.carry_out_of_source(life, effect);
            } else {
                break;
            }
        }
    }

    fn carry_out(&mut self, life: Life, effect: Effect<Layers>) {
        match effect {
            Effect::Send { node, link, directive } => {
                let Some(manager) = self.manager(life) else { return };
                let sender = manager.rollout.sender().clone();
                self.checker.directs(life, &node, link, &directive);
                self.send(WireId(link.0), Way::Down, Message::Directive(sender, directive));
            }
            Effect::Append(record) => self.append(life, *record),
            Effect::RaiseEpoch { above } => self.raise_epoch(life, above),
            Effect::Resolve { proposal, outcome } => self.resolved(life, proposal, &outcome),
            Effect::Notice(notice) => self.noticed(life, notice),
        }
    }

    fn raise_epoch(&mut self, life: Life, above: u64) {
        let (now, log) = (self.now, &mut self.log);
        let Some(manager) = self.managers.iter_mut().find(|manager| manager.life == life) else { return };
        let epoch = (!manager.fenced).then(|| {
            log.epoch = above + 1;
            log.epoch
        });
        manager.rollout.handle(now, reconciler::Event::EpochRaised { epoch });
    }

    fn append(&mut self, life: Life, record: Record<Layers>) {
        self.note(|| format!("{life:?} appends {} after {}: {:?}", record.revision, record.parent, record.kind));
        let why = self.checker.appends(life, &record);
        if let Some(why) = why {
            self.fail(why);
        }
        let Some(manager) = self.manager(life) else { return };
        manager.appending = Some(record);
        if manager.fenced {
            return self.after_millis(0, 3, Happening::Appended(life, Err("another process has the log")));
        }
        if self.chaos && self.random.permille(40) {
            self.faults.count(Fault::AppendFailed);
            return self.after_millis(0, 20, Happening::Appended(life, Err("disk full")));
        }
        if self.chaos && self.random.permille(30) {
            self.faults.count(Fault::CrashedBeforeFsync);
            return self.kill_manager(life);
        }
        let dies = self.chaos && self.random.permille(40);
        self.after_millis(0, 8, Happening::Fsynced(life, dies));
    }

    /// The record is durable, and no other process knows it yet.
    pub(crate) fn fsynced(&mut self, life: Life, dies: bool) {
        let Some(manager) = self.manager(life).filter(|manager| !manager.fenced) else {
            return self.appended(life, Err("another process has the log"));
        };
        let Some(record) = manager.appending.as_mut() else { return };
        let before = &manager.layers;
        let layers = record.payload.take().unwrap_or_else(|| before.clone());
        record.payload = Some(layers.clone());
        let record = record.clone();
        let known = self.contents.known(&record.content.digest);
        self.log.entries.push(Entry { revision: record.revision, known, layers });
        if let Some(cursor) = record.cursors.get(&Owner::file()) {
            self.log.cursor = Some(*cursor);
            self.checker.cursor_moves(*cursor);
        }
        let log = self.log.id.clone();
        let file = self.file.digest();
        let why = self.checker.committed(life, &log, &record, file);
        self.note(|| format!("{} is durable: {:?}", record.revision, record.content.digest));
        if let Some(why) = why {
            self.fail(why);
        }
        if dies {
            self.faults.count(Fault::CrashedAfterFsync);
            self.kill_manager(life);
        } else {
            self.after_millis(0, 3, Happening::Appended(life, Ok(())));
        }
    }

    pub(crate) fn appended(&mut self, life: Life, result: Result<(), &'static str>) {
        let Some(manager) = self.manager(life) else { return };
        let Some(Record { attempt, revision, payload, .. }) = manager.appending.take() else { return };
        let event = match result {
            Ok(()) => {
                if let Some(layers) = payload {
                    manager.layers = layers;
                }
                reconciler::Event::Appended { attempt, revision }
            }
            Err(reason) => reconciler::Event::AppendFailed { attempt, reason: reason.into() },
        };
        self.manager_decides(life, event);
    }

    fn resolved(&mut self, life: Life, proposal: ProposalId, outcome: &Outcome) {
        self.note(|| format!("{life:?} {proposal:?} {outcome:?}"));
        let why = self.checker.resolved(life, proposal);
        if let Some(why) = why {
            self.fail(why);
        }
        let now = self.now;
        let Some(manager) = self.manager(life) else { return };
        let Some(turn) = manager.turns.remove(&proposal) else { return };
        let judgement = match outcome {
            Outcome::Applied(_) => Judgement::Applied,
            Outcome::NoChange { .. } => Judgement::NoChange,
            Outcome::Refused(Reason::StaleBase { .. } | Reason::Overtaken { .. }) => Judgement::Overtaken,
            Outcome::Refused(reason) => Judgement::Refused { heals: reason.heals() },
        };
        manager.source.handle(now, cursor::Event::Judged { turn, judgement });
    }

    fn noticed(&mut self, life: Life, notice: Notice) {
        let now = self.now;
        self.note(|| format!("{life:?} {notice:?}"));
        if let Notice::Committed { kind: Kind::Rollback { .. }, cursors, .. } = notice {
            let Some(manager) = self.manager(life) else { return };
            if let Some(cursor) = cursors.get(&Owner::file()) {
                manager.source.handle(now, cursor::Event::RolledBack { cursor: *cursor });
            }
        }
    }

    fn carry_out_of_source(&mut self, life: Life, effect: cursor::Effect) {
        match effect {
            cursor::Effect::Look => self.after_millis(0, 2, Happening::Looked(life)),
            cursor::Effect::Read => {
                let before = self.file.stamp();
                self.after_millis(0, 4, Happening::HasRead(life, before));
            }
            cursor::Effect::Propose { turn, digest, .. } => self.propose_file(life, turn, digest),
            cursor::Effect::SaveCursor { digest } => {
                if self.manager(life).is_some_and(|manager| !manager.fenced) {
                    self.log.cursor = Some(digest);
                    self.checker.cursor_moves(digest);
                }
            }
            cursor::Effect::Answer(_) | cursor::Effect::StateChanged => {}
        }
    }

    pub(crate) fn file_event(&mut self, life: Life, write: cursor::Write) {
        let stamp = self.file.stamp();
        self.source_decides(life, cursor::Event::Noticed { write, stamp });
    }

    pub(crate) fn looked(&mut self, life: Life) {
        self.file_event(life, cursor::Write::Polled);
    }

    pub(crate) fn has_read(&mut self, life: Life, before: Option<cursor::Stamp>) {
        let stamp = self.file.stamp();
        let found = match &self.file.text {
            Some(text) => Found::Digest(text.digest()),
            None => Found::Missing,
        };
        let text = self.file.text.clone();
        let Some(manager) = self.manager(life) else { return };
        manager.text = text.map(|text| (text.digest(), text));
        self.source_decides(life, cursor::Event::Read { stamp, torn: before != stamp, found });
    }

    fn propose_file(&mut self, life: Life, turn: Turn, digest: Digest) {
        let now = self.now;
        let Some(manager) = self.manager(life) else { return };
        let Some((_, text)) = manager.text.take_if(|(read, _)| *read == digest) else {
            return self.fail(format!("what is proposed is not what was read last: {digest:?}"));
        };
        if text.fate != Fate::Whole {
            let judgement = Judgement::Refused { heals: false };
            manager.source.handle(now, cursor::Event::Judged { turn, judgement });
            let just_asked = now.since(self.checker.asked_at).as_millis() < 10;
            let may = just_asked || self.checker.may_judge_half || now < self.checker.blind_until;
            if text.fate == Fate::Half && !may {
                self.fail(format!("a half-written file was judged: {text:?}"));
            }
            return;
        }
        let layers = Layers { file: Some(text), api: manager.layers.api.clone() };
        let cursors = BTreeMap::from([(Owner::file(), digest)]);
        let proposal = self.propose(life, Owner::file(), Kind::Change, layers, cursors);
        if let Some((manager, proposal)) = self.manager(life).zip(proposal) {
            manager.turns.insert(proposal, turn);
        }
    }

    pub(crate) fn propose(
        &mut self,
        life: Life,
        owner: Owner,
        kind: Kind,
        layers: Layers,
        cursors: BTreeMap<Owner, Digest>,
    ) -> Option<ProposalId> {
        let content = self.contents.of(&layers).content.clone();
        let now = self.now;
        let manager = self.manager(life)?;
        manager.proposals += 1;
        let id = ProposalId(manager.proposals);
        let head = manager.rollout.head().map_or(Revision::NONE, |head| head.revision);
        let proposal = Proposal {
            id,
            source: Source { owner, actor: "somebody".into() },
            kind,
            base: (kind == Kind::Change).then_some(head),
            content,
            layers: layers.digest(),
            payload: layers,
            cursors,
            without: Default::default(),
        };
        manager.rollout.handle(now, reconciler::Event::Proposed(proposal));
        self.checker.proposed(life, id);
        Some(id)
    }

    pub(crate) fn manager_hears(&mut self, life: Life, router: usize, wire: WireId, report: Report) {
        let Some(manager) = self.manager(life) else { return };
        let hello = matches!(report, Report::Hello { .. });
        let before = hello.then(|| manager.streams.insert(router, wire)).flatten();
        if let Some(before) = before.filter(|before| *before != wire) {
            self.break_wire(before);
        }
        let (node, link) = (node(router), Link(wire.0));
        self.checker.heard(life, &node, link, &report);
        self.manager_decides(life, reconciler::Event::Report { node, link, report });
    }

    pub(crate) fn manager_loses(&mut self, life: Life, router: usize, wire: WireId) {
        let (node, link) = (node(router), Link(wire.0));
        self.checker.lost(life, &node, link);
        self.manager_decides(life, reconciler::Event::RouterDetached { node, link });
    }

    /// The head as every router should have it.
    pub(crate) fn head(&self) -> Option<(Revision, Arc<Known>)> {
        self.log.entries.last().map(|entry| (entry.revision, Arc::clone(&entry.known)))
    }
}
