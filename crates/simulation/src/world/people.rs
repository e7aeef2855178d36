//! The people that edit the file and operate, and the faults that strike.

use std::collections::VecDeque;
use std::time::Duration;

use model::{Digest, Owner, Revision, Time};
use rollout::cursor::{MAX_SETTLE, Stamp, Write};
use rollout::desk::{Event, Want};

use crate::content::{Fate, SERVERS, Server, Text};
use crate::fault::Fault;
use crate::world::config_manager::{Log, Says};
use crate::world::{Happening, World};

#[derive(Debug)]
pub(crate) struct File {
    pub(crate) text: Option<Text>,
    /// What its author means it to say.
    meant: Text,
    written: u64,
    last: Time,
    comment: u32,
    /// Earlier texts, to go back to.
    past: Vec<Text>,
    /// The remaining steps of the present edit.
    steps: VecDeque<Step>,
}

#[derive(Debug)]
struct Step {
    text: Option<Text>,
    write: Write,
    /// The longest wait until the next step, in milliseconds.
    pause: u64,
}

impl File {
    pub(crate) fn new(text: Text) -> Self {
        Self {
            text: Some(text.clone()),
            meant: text,
            written: 1,
            last: Time::ZERO,
            comment: 0,
            past: Vec::new(),
            steps: VecDeque::new(),
        }
    }

    pub(crate) fn stamp(&self) -> Option<Stamp> {
        self.text.as_ref().map(|text| Stamp { size: text.servers.len() as u64, modified: self.written, identity: 0 })
    }

    pub(crate) fn digest(&self) -> Option<Digest> {
        self.text.as_ref().map(Text::digest)
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.steps.is_empty() && self.text.is_some()
    }

    /// The writer has the file open, and only events tell that: the file may hold still for longer than it has to.
    pub(crate) fn stalls(&self) -> bool {
        self.steps.front().is_some_and(|step| step.write == Write::Closed)
    }

    /// Whether a writer may begin: no writer writes over what another one has just put there.
    fn is_free(&self, now: Time) -> bool {
        self.is_settled() && now.since(self.last) > Duration::from_millis(50)
    }
}

/// The kind of edit that is many in a row.
const SAVES: u64 = 14;

impl World {
    pub(crate) fn edit(&mut self) {
        if self.chaos {
            self.after_millis(600, 4000, Happening::Edit);
        }
        if self.file.is_free(self.now) {
            let kind = self.random.below(22);
            self.plan(kind);
            self.write_on();
        }
    }

    /// One edit that is whole and right, made at once.
    pub(crate) fn edit_well(&mut self) {
        if self.file.is_free(self.now) {
            loop {
                let next = self.next_text();
                if next.fate == Fate::Whole && next.servers.iter().all(|server| server.version < 12) {
                    self.file.steps.push_back(Step { text: Some(next), write: Write::Complete, pause: 0 });
                    break;
                }
            }
            self.write_on();
        }
    }

    fn next_text(&mut self) -> Text {
        self.file.comment += 1;
        self.file.meant.next(&mut self.random, self.file.comment)
    }

    fn plan(&mut self, kind: u64) {
        let mut steps = VecDeque::new();
        let mut step = |text: Option<Text>, write, pause| steps.push_back(Step { text, write, pause });
        match kind {
            0..9 => step(Some(self.next_text()), Write::Complete, 0),
            9..14 => {
                let text = self.next_text();
                for left in (1..2 + self.random.index(4)).rev() {
                    self.faults.count(Fault::FileHalfWritten);
                    step(Some(text.half(left)), Write::InPlace, 300);
                }
                step(Some(text), Write::InPlace, 0);
            }
            // A writer stalls in the middle: what it has written so far holds still, and is only half of the text.
            20 | 21 => {
                let text = self.next_text();
                self.faults.count(Fault::FileHalfWritten);
                step(Some(text.half(1)), Write::Open, 4000);
                step(Some(text), Write::Closed, 0);
            }
            SAVES | 15 => {
                for _ in 0..3 + self.random.below(4) {
                    step(Some(self.next_text()), Write::Complete, 12);
                }
            }
            16 | 17 => {
                if let Some(text) = self.random.pick(&self.file.past).cloned() {
                    step(Some(text), Write::Complete, 0);
                }
            }
            18 => {
                self.faults.count(Fault::FileMissing);
                step(None, Write::InPlace, 3000);
                let text = if self.random.permille(500) { self.file.meant.clone() } else { self.next_text() };
                step(Some(text), Write::Complete, 0);
            }
            _ => step(self.file.text.clone(), Write::InPlace, 0),
        }
        self.file.steps = steps;
    }

    pub(crate) fn write_on(&mut self) {
        let Some(Step { text, write, pause }) = self.file.steps.pop_front() else { return };
        self.note(|| format!("somebody writes {:?} {text:?}: {:?}", write, text.as_ref().map(Text::digest)));
        if text.as_ref().is_some_and(|text| text.fate == Fate::Broken) {
            self.faults.count(Fault::FileBroken);
        }
        self.file.text = text;
        self.file.written += 1;
        self.file.last = self.now;
        self.checker.file_says(self.file.digest());
        if let Some(text) = self.file.text.clone().filter(|text| text.fate != Fate::Half) {
            self.checker.may_judge_half = false;
            if text.fate == Fate::Whole {
                self.file.meant = text.clone();
            }
            self.file.past.push(text);
        }
        for life in self.managers.iter().map(|manager| manager.life).collect::<Vec<_>>() {
            if self.chaos && self.random.permille(80) {
                self.faults.count(Fault::FileEventLost);
                self.checker.may_judge_half |= self.file.stalls();
                if write == Write::Closed {
                    // The manager takes the file for open, whichever writer is next, until it has waited long enough.
                    self.checker.blind_until = self.now + 2 * MAX_SETTLE;
                }
            } else {
                self.after_millis(0, 3, Happening::FileEvent(life, write));
            }
        }
        if !self.file.steps.is_empty() {
            self.after_millis(1, pause.max(1), Happening::WriteOn);
        }
    }

    pub(crate) fn operate(&mut self) {
        if !self.chaos {
            return;
        }
        self.after_millis(800, 5000, Happening::Operate);
        match self.random.below(10) {
            0 | 1 => self.reload(false),
            2 => self.reload(true),
            3..6 => self.roll_back(),
            6 => self.apply(false),
            7 => self.apply(true),
            _ => self.operate_drains(),
        }
        // An editor saves again and again meanwhile, so that one change of the file overtakes another.
        if self.random.permille(400) && self.file.is_free(self.now) {
            self.plan(SAVES);
            self.write_on();
        }
    }

    fn reload(&mut self, force: bool) {
        let Some(life) = self.present_manager().map(|manager| manager.life) else { return };
        self.note(|| format!("somebody reloads, force: {force}"));
        self.checker.may_judge_half |= !self.file.steps.is_empty();
        self.checker.asked_at = self.now;
        if force {
            self.checker.undone = None;
        }
        let caller = self.caller(life);
        self.tell_desk(life, Event::Reload { force, caller });
    }

    fn roll_back(&mut self) {
        let entries = &self.log.entries;
        let older = entries.len().saturating_sub(1);
        let Some(to) = self.random.pick(&entries[..older]).map(|entry| entry.revision) else { return };
        let to = Some(to).filter(|_| self.random.permille(800));
        self.want(Want::Rollback { to, base: None }, Says::AsBefore);
    }

    /// Another source acts: it adds a server, or removes its own; or sees what would come of that.
    fn apply(&mut self, trial: bool) {
        let Some(manager) = self.present_manager() else { return };
        let (head, mut layers) = (manager.desk.head_revision(), manager.layers.clone());
        if layers.file.is_none() {
            return;
        }
        if layers.api.pop().is_none() {
            let id = SERVERS + u8::try_from(self.random.below(2)).unwrap_or(0);
            layers.api.push(Server { id, version: u8::try_from(self.random.below(4)).unwrap_or(0) });
        }
        let owner = Owner::api("somebody");
        if trial {
            return self.want(Want::Trial { of: owner, number: 0 }, Says::Api(layers.api));
        }
        let base = Some(head).filter(|_| self.random.permille(200));
        self.want(Want::Layer { owner, base }, Says::Api(layers.api));
    }

    fn want(&mut self, want: Want, text: Says) {
        let Some(life) = self.present_manager().map(|manager| manager.life) else { return };
        self.note(|| format!("somebody wants {want:?}: {text:?}"));
        let caller = self.caller(life);
        self.tell_desk(life, Event::Wanted { want, text, caller });
    }

    pub(crate) fn strike(&mut self) {
        if !self.chaos {
            return;
        }
        self.after_millis(100, 2000, Happening::Strike);
        let router = self.random.index(self.routers.len());
        match self.random.below(100) {
            0..30 => {
                let ids: Vec<_> = self.wires.keys().copied().collect();
                if let Some(id) = self.random.pick(&ids[ids.len().saturating_sub(8)..]).copied() {
                    self.faults.count(Fault::StreamBroken);
                    self.break_wire(id);
                }
            }
            30..40 => self.kill_router(router),
            40..52 => {
                if let Some(life) = self.present_manager().map(|manager| manager.life) {
                    self.faults.count(Fault::ManagerCrashed);
                    self.kill_manager(life);
                }
            }
            52..60 => self.replace_manager(),
            60..68 => self.kill_coordinator(),
            68..84 => self.break_server(router),
            84..90 => self.lose_server(router),
            90..98 => self.take_secret(router),
            _ if self.random.permille(300) => self.lose_log(),
            _ => {}
        }
    }

    /// Starts another manager while the present one hangs. The present one does not know yet that it is not the writer.
    fn replace_manager(&mut self) {
        if self.managers.len() > 1 {
            return;
        }
        let Some(manager) = self.managers.last_mut() else { return };
        manager.fenced = true;
        let life = manager.life;
        self.faults.count(Fault::ManagerReplaced);
        self.after_millis(3_000, 15_000, Happening::EndManager(life));
        self.start_manager();
    }

    /// A server that the file names, or any other.
    fn server(&mut self) -> Server {
        let known = self.random.pick(&self.file.meant.servers).copied();
        let some = Server {
            id: u8::try_from(self.random.below(u64::from(SERVERS))).unwrap_or(0),
            version: u8::try_from(self.random.below(12)).unwrap_or(0),
        };
        known.filter(|_| self.random.permille(400)).unwrap_or(some)
    }

    fn break_server(&mut self, router: usize) {
        self.faults.count(Fault::ServerDown);
        for _ in 0..4 {
            let server = self.server();
            self.routers[router].down.insert(server);
            self.after_millis(1000, 20_000, Happening::ServerUp(router, server));
        }
    }

    /// A server that is up ends by itself.
    fn lose_server(&mut self, router: usize) {
        let Some(process) = &self.routers[router].process else { return };
        let members = process.fleet.roster().members().values();
        let up: Vec<_> = members.filter(|member| member.state.is_up()).map(|member| member.serial).collect();
        let life = process.life;
        if let Some(serial) = self.random.pick(&up).copied() {
            self.faults.count(Fault::ServerLost);
            self.server_lost(router, life, serial);
        }
    }

    fn take_secret(&mut self, router: usize) {
        self.faults.count(Fault::SecretMissing);
        let server = self.server();
        self.routers[router].secretless.insert(server);
        self.after_millis(1000, 20_000, Happening::SecretBack(router, server));
    }

    /// The disk of config-manager is lost. It begins a new log, and must not use a number again.
    fn lose_log(&mut self) {
        let Some(life) = self.present_manager().map(|manager| manager.life).filter(|_| self.managers.len() == 1) else {
            return;
        };
        if self.log.entries.last().is_none_or(|last| last.revision < Revision(3)) {
            return;
        }
        self.faults.count(Fault::LogLost);
        self.note(|| "the log is lost".into());
        self.kill_manager(life);
        let number = self.serial();
        self.log = Log::new(number);
        self.checker.undone = None;
    }
}
