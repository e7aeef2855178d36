//! config-manager's shell: it reads, parses, writes and carries messages, and may die at any moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{LogId, NodeId, Owner, Revision};
use rollout::cursor::{self, Cursor, Found, Judged};
use rollout::desk::{self, Caller, Desk, Effect, End, Ended, Event, Merged, Start, Want};
use rollout::reconciler::{self, Head, Link};
use rollout::{Content, Difference, Directive, Kind, ProposalId, Record, Report, Sender};

use crate::content::{Fate, Known, Layers, Server, Text};
use crate::fault::Fault;
use crate::world::wire::{Message, Sent, Way, WireId};
use crate::world::{Happening, Life, World};

/// What outlives a process.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) id: LogId,
    pub(crate) epoch: u64,
    pub(crate) entries: Vec<Entry>,
    pub(crate) cursor: Option<Cursor>,
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

/// What a change says.
#[derive(Debug)]
pub(crate) enum Says {
    File(Text),
    Api(Vec<Server>),
    AsBefore,
}

#[derive(Debug)]
pub(crate) enum Papers {}

impl desk::Papers for Papers {
    type Text = Says;
    type Caller = u64;
    type Payload = Layers;
    type Fault = &'static str;

    fn bytes(_: &Says) -> usize {
        1
    }
}

#[derive(Debug)]
pub(crate) struct ConfigManager {
    pub(crate) life: Life,
    pub(crate) desk: Desk<Papers>,
    /// The layers of the head.
    pub(crate) layers: Layers,
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
        // While nothing is live, the content of the file is taken as it is.
        self.checker.may_judge_half |= head.is_none() && !self.file.is_settled() || self.file.stalls();
        self.checker.manager_started(life, head.as_ref().map_or(Revision::NONE, |head| head.revision));
        self.note(|| format!("config-manager {life:?} starts: {sender:?} at {:?}", head.as_ref().map(|h| h.revision)));
        self.managers.push(ConfigManager {
            life,
            desk: Desk::new(self.now, Start { sender, head, file: true, cursor: self.log.cursor }),
            layers,
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

    /// Tells the desk, and carries out all effects, in order, until there are none or the process is gone.
    pub(crate) fn tell_desk(&mut self, life: Life, event: Event<Papers>) {
        let now = self.now;
        let Some(manager) = self.manager(life) else { return };
        manager.desk.handle(now, event);
        self.manager_acts(life);
    }

    pub(crate) fn manager_decides(&mut self, life: Life, event: reconciler::Event<Layers>) {
        self.tell_desk(life, Event::Reconciler(event));
    }

    fn manager_acts(&mut self, life: Life) {
        while let Some(effect) = self.manager(life).and_then(|manager| manager.desk.poll_effect()) {
            self.carry_out(life, effect);
        }
    }

    fn carry_out(&mut self, life: Life, effect: Effect<Papers>) {
        match effect {
            Effect::Entered { proposal, .. } => self.entered(life, proposal),
            Effect::Merge { proposal } => self.merge(life, proposal),
            Effect::Ended(ended) => self.concluded(life, *ended),
            Effect::TurnedAway { caller, .. } => self.answered(life, [caller]),
            Effect::Answered { callers, .. } => self.answered(life, callers),
            Effect::Look => self.after_millis(0, 2, Happening::Looked(life)),
            Effect::Read => {
                let before = self.file.stamp();
                self.after_millis(0, 4, Happening::HasRead(life, before));
            }
            Effect::SaveCursor(cursor) => {
                if self.manager(life).is_some_and(|manager| !manager.fenced) {
                    self.save(cursor);
                }
            }
            Effect::Send { node, link, directive, base } => self.directs(life, &node, link, directive, base),
            Effect::Append(record) => self.append(life, *record),
            Effect::RaiseEpoch { above } => self.raise_epoch(life, above),
            Effect::Notice(notice) => {
                self.note(|| format!("{life:?} {notice:?}"));
                let why = self.checker.noticed(life, &notice);
                self.broken(why);
            }
            Effect::Joined { .. } | Effect::SourceChanged => {}
        }
    }

    fn directs(&mut self, life: Life, node: &NodeId, link: Link, directive: Directive, base: Option<Content>) {
        let Some(manager) = self.manager(life) else { return };
        let sender = manager.desk.reconciler().sender().clone();
        let why = self.checker.directs(life, node, link, &directive, base.as_ref().map(|base| base.digest));
        self.broken(why);
        let difference = match &directive {
            Directive::Prepare { content, .. } | Directive::Offer { content, .. } => {
                Some(Difference::between(content, base.as_ref()))
            }
            Directive::Renew { .. } | Directive::Abort { .. } | Directive::Commit { .. } => None,
        };
        let sent = Sent { sender, directive, difference };
        self.send(WireId(link.0), Way::Down, Message::Directive(Box::new(sent)));
    }

    fn raise_epoch(&mut self, life: Life, above: u64) {
        let fenced = self.manager(life).is_none_or(|manager| manager.fenced);
        let epoch = (!fenced).then_some(above + 1);
        self.log.epoch = epoch.unwrap_or(self.log.epoch);
        self.manager_decides(life, reconciler::Event::EpochRaised { epoch });
    }

    fn append(&mut self, life: Life, record: Record<Layers>) {
        self.note(|| format!("{life:?} appends {} after {}: {:?}", record.revision, record.parent, record.kind));
        let why = self.checker.appends(life, &record);
        self.broken(why);
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
        if let Some(digest) = record.cursors.get(&Owner::file()).copied() {
            let says = layers.file.as_ref().map(Text::digest);
            let undone = matches!(record.kind, Kind::Rollback { .. }) && says != Some(digest);
            self.save(Cursor { digest, judged: if undone { Judged::RolledBack } else { Judged::Live } });
        }
        self.log.entries.push(Entry { revision: record.revision, known, layers });
        let log = self.log.id.clone();
        let file = self.file.digest();
        let why = self.checker.committed(life, &log, &record, file);
        self.note(|| format!("{} is durable: {:?}", record.revision, record.content.digest));
        self.broken(why);
        if dies {
            self.faults.count(Fault::CrashedAfterFsync);
            self.kill_manager(life);
        } else {
            self.after_millis(0, 3, Happening::Appended(life, Ok(())));
        }
    }

    fn save(&mut self, cursor: Cursor) {
        self.log.cursor = Some(cursor);
        self.checker.cursor_moves(cursor.digest);
    }

    pub(crate) fn appended(&mut self, life: Life, result: Result<(), &'static str>) {
        let Some(manager) = self.manager(life) else { return };
        let Some(Record { attempt, revision, payload, kind, .. }) = manager.appending.take() else { return };
        let event = match result {
            Ok(()) => {
                if let Some(layers) = payload {
                    manager.layers = layers;
                }
                if matches!(kind, Kind::Rollback { .. }) {
                    let refused = manager.desk.refused();
                    self.checker.was_refused(refused);
                }
                reconciler::Event::Appended { attempt, revision }
            }
            Err(reason) => reconciler::Event::AppendFailed { attempt, reason: reason.into() },
        };
        self.manager_decides(life, event);
    }

    fn answered(&mut self, life: Life, callers: impl IntoIterator<Item = Caller<Papers>>) {
        for caller in callers {
            if !self.checker.waiting.remove(&(life, caller.handle)) {
                self.fail(format!("caller {} has a second answer", caller.handle));
            }
        }
    }

    /// Somebody asks that manager for something.
    pub(crate) fn caller(&mut self, life: Life) -> Caller<Papers> {
        let handle = self.serial();
        self.checker.waiting.insert((life, handle));
        let router = self.random.index(self.routers.len());
        Caller { without: self.random.permille(150).then(|| node(router)).into_iter().collect(), handle }
    }

    fn entered(&mut self, life: Life, proposal: ProposalId) {
        let now = self.now;
        let candidate = self.managers.iter().find(|one| one.life == life).and_then(|one| one.desk.candidate(proposal));
        let Some(candidate) = candidate else { return };
        let just_asked = now.since(self.checker.asked_at).as_millis() < 10;
        let may = just_asked || self.checker.may_judge_half || now < self.checker.blind_until;
        let half = match &candidate.text {
            Says::File(text) if text.fate == Fate::Half && !may => {
                Some(format!("a half-written file was judged: {text:?}"))
            }
            Says::File(_) | Says::Api(_) | Says::AsBefore => None,
        };
        let is_trial = matches!(candidate.want, Want::Trial { .. });
        self.checker.entered(life, proposal, candidate.want.owner());
        self.broken(half);
        if is_trial && self.random.permille(300) {
            // Its caller goes, early or late.
            self.after_millis(0, 2000, Happening::Told(life, Box::new(Event::Left { proposal })));
        }
    }

    /// Takes the layers as they are now; the result comes later.
    fn merge(&mut self, life: Life, proposal: ProposalId) {
        let Some(manager) = self.managers.iter().find(|manager| manager.life == life) else { return };
        let Some(candidate) = manager.desk.candidate(proposal) else { return };
        let Layers { file, api } = manager.layers.clone();
        let layers = match &candidate.text {
            Says::File(text) if text.fate != Fate::Whole => Err("no configuration"),
            Says::File(text) => Ok((Layers { file: Some(text.clone()), api }, Revision::NONE)),
            Says::Api(servers) => Ok((Layers { file, api: servers.clone() }, Revision::NONE)),
            Says::AsBefore => self.before(&candidate.want),
        };
        let merged = layers.map(|(layers, back)| Merged {
            content: self.contents.of(&layers).content.clone(),
            layers: layers.digest(),
            file: layers.file.as_ref().map(Text::digest),
            payload: layers,
            actor: "somebody".into(),
            back,
            over: self.file.digest(),
        });
        // A long text takes longer than others may take to be decided.
        let most = if self.random.permille(200) { 1000 } else { 30 };
        self.after_millis(0, most, Happening::Told(life, Box::new(Event::Merged { proposal, merged })));
    }

    /// What a rollback brings back.
    fn before(&self, want: &Want) -> Result<(Layers, Revision), &'static str> {
        let older = &self.log.entries[..self.log.entries.len().saturating_sub(1)];
        let entry = match want {
            Want::Rollback { to: Some(to), .. } => older.iter().find(|entry| entry.revision == *to),
            Want::Rollback { to: None, .. } | Want::File { .. } | Want::Layer { .. } | Want::Trial { .. } => {
                older.last()
            }
        };
        entry.map(|entry| (entry.layers.clone(), entry.revision)).ok_or("no such revision")
    }

    fn concluded(&mut self, life: Life, ended: Ended<Papers>) {
        let Ended { proposal, candidate, end, record, saying } = ended;
        self.note(|| format!("{life:?} {proposal:?} {end:?}"));
        let superseded = matches!(end, End::Superseded);
        if superseded && matches!(candidate.want, Want::File { .. }) && !candidate.callers.is_empty() {
            self.fail(format!("{proposal:?} gave way, and its callers stay without the answer of the newer one"));
        }
        if !candidate.never_entered() {
            let why = self.checker.ended(life, proposal, &candidate.want.owner(), superseded);
            self.broken(why);
        }
        self.answered(life, candidate.callers);
        if record {
            let durable = !(self.chaos && self.random.permille(40));
            self.after_millis(0, 8, Happening::Told(life, Box::new(Event::Recorded { saying, durable })));
        }
    }

    pub(crate) fn file_event(&mut self, life: Life, write: cursor::Write) {
        let stamp = self.file.stamp();
        self.source_decides(life, cursor::Event::Noticed { write, stamp }, None);
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
        let text = self.file.text.clone().map(Says::File);
        self.source_decides(life, cursor::Event::Read { stamp, torn: before != stamp, found }, text);
    }

    fn source_decides(&mut self, life: Life, event: cursor::Event, text: Option<Says>) {
        self.note(|| format!("{life:?} {event:?}"));
        self.tell_desk(life, Event::Source { event, text });
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
