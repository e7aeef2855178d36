//! A gateway as far as sessions are concerned, in virtual time, with a disk that can fail, a clock that can be set, and
//! a process that can be killed.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex, MutexGuard, PoisonError};

use mcp::ProtocolVersion;
use tokio::sync::mpsc;

use crate::session::ends::EndError;
use crate::session::journal::Journal;
use crate::session::own_time::OwnTime;
use crate::session::record::Past;
use crate::session::scribe::{Scribe, Word};
use crate::session::{Bounds, Known, Sealed, SessionId, Sessions};

/// When the gateway is started first, as a stamp.
pub(super) const START: u64 = 1_764_000_000_000;

/// How a write fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The partial write can be taken back.
    Clean,
    /// The partial write cannot be taken back: half a line stays.
    Half,
}

#[derive(Debug, Default)]
struct Disk {
    content: String,
    fault: Option<Fault>,
    torn: bool,
}

impl Journal for Arc<Mutex<Disk>> {
    fn append(&mut self, lines: &str, _durable: bool) -> io::Result<()> {
        let mut disk = locked(self);
        if std::mem::take(&mut disk.torn) {
            disk.content.push('\n');
        }
        match disk.fault {
            None => {
                disk.content.push_str(lines);
                return Ok(());
            }
            Some(Fault::Half) => {
                disk.content.push_str(&lines[..lines.len() / 2]);
                disk.torn = true;
            }
            Some(Fault::Clean) => {}
        }
        Err(io::ErrorKind::StorageFull.into())
    }

    fn replace(&mut self, lines: &str) -> io::Result<()> {
        let mut disk = locked(self);
        if disk.fault.is_some() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        lines.clone_into(&mut disk.content);
        disk.torn = false;
        Ok(())
    }

    fn share(&mut self, _shared: bool) {}

    fn read(&mut self) -> io::Result<Past> {
        Ok(Past::read(locked(self).content.as_bytes()))
    }
}

fn locked(disk: &Mutex<Disk>) -> MutexGuard<'_, Disk> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) struct Gateway {
    pub(super) sessions: Sessions,
    pub(super) bounds: Bounds,
    scribe: Scribe<Arc<Mutex<Disk>>>,
    words: mpsc::Receiver<Word>,
    disk: Arc<Mutex<Disk>>,
    /// The gateway's own time, and what the wall clock shows.
    now: u64,
    wall: u64,
    ids: u64,
}

impl Gateway {
    pub(super) fn new(bounds: Bounds) -> Self {
        let disk = Arc::<Mutex<Disk>>::default();
        let (sessions, scribe, words, now) = open(&disk, START);
        Self { sessions, bounds, scribe, words, disk, now, wall: START, ids: 0 }
    }

    pub(super) fn now(&self) -> u64 {
        self.now
    }

    pub(super) fn text(&self) -> String {
        locked(&self.disk).content.clone()
    }

    pub(super) fn fault(&self, fault: Option<Fault>) {
        locked(&self.disk).fault = fault;
    }

    pub(super) fn begin(&mut self) -> Sealed {
        self.ids += 1;
        let mut bytes = [0; 12];
        bytes[4..].copy_from_slice(&self.ids.to_be_bytes());
        let id = SessionId::from_bytes(bytes);
        self.sessions.begin(id, self.now, self.bounds);
        self.write();
        Sealed {
            id,
            version: ProtocolVersion::LATEST,
            issued: self.sessions.stamp(self.now),
            principal: String::new(),
            client_info: String::new(),
        }
    }

    pub(super) fn touch(&mut self, session: &Sealed) -> Option<Arc<Known>> {
        let known = self.sessions.touch(session, self.now, || self.bounds);
        self.write();
        known
    }

    pub(super) fn uses(&mut self, session: &Sealed) -> bool {
        self.touch(session).is_some()
    }

    pub(super) fn knows(&self, session: &Sealed) -> bool {
        self.sessions.tables.known.contains_key(&session.id)
    }

    /// Ends a session as a request does: only if the session lives.
    pub(super) fn ends(&mut self, session: &Sealed) -> Result<(), EndError> {
        assert!(self.sessions.touch(session, self.now, || self.bounds).is_some());
        let mut end = std::pin::pin!(self.sessions.end(session, self.now, self.bounds));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(end.as_mut().poll(&mut context).is_pending());
        let words: Vec<Word> = std::iter::from_fn(|| self.words.try_recv().ok()).collect();
        self.scribe.take_down(words);
        match end.as_mut().poll(&mut context) {
            std::task::Poll::Ready(ended) => ended,
            std::task::Poll::Pending => unreachable!("it was taken down"),
        }
    }

    /// The scribe takes down the words of the cores.
    pub(super) fn write(&mut self) {
        let words: Vec<Word> = std::iter::from_fn(|| self.words.try_recv().ok()).collect();
        self.scribe.take_down(words);
    }

    /// The queue had no room: the words of the cores are lost.
    pub(super) fn forget_words(&mut self) {
        while self.words.try_recv().is_ok() {}
    }

    /// Time goes by, and nothing tends the sessions.
    pub(super) fn elapse(&mut self, time: u64) {
        self.now += time;
        self.wall += time;
    }

    /// Time goes by.
    pub(super) fn pass(&mut self, time: u64) {
        self.elapse(time);
        self.tend();
    }

    /// Sweeps while another core asks for the session without a pause. Returns whether the session was served.
    pub(super) fn sweep_beside(&mut self, session: &Sealed) -> bool {
        let (sessions, now, bounds) = (&self.sessions, self.now, self.bounds);
        let (begun, swept) = (Barrier::new(2), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| {
                begun.wait();
                let mut served = false;
                loop {
                    let last = swept.load(Ordering::Acquire);
                    served |= sessions.touch(session, now, || bounds).is_some();
                    if last {
                        return served;
                    }
                }
            });
            begun.wait();
            self.scribe.take_down([Word::Sweep { now, bounds }]);
            swept.store(true, Ordering::Release);
            asked.join().unwrap()
        })
    }

    pub(super) fn tend(&mut self) {
        self.sessions.tend_at(self.now, self.wall, || self.bounds);
        self.write();
    }

    /// The wall clock is set, and the gateway notices it.
    pub(super) fn set_clock(&mut self, by: i64) {
        self.wall = self.wall.checked_add_signed(by).unwrap();
        self.tend();
    }

    /// The stamp that the gateway would use now.
    pub(super) fn stamp(&self) -> u64 {
        self.sessions.stamp(self.now)
    }

    pub(super) fn wall(&self) -> u64 {
        self.wall
    }

    /// Killed, and started again after `down`.
    pub(super) fn restart(&mut self, down: u64) {
        self.wall += down;
        (self.sessions, self.scribe, self.words, self.now) = open(&self.disk, self.wall);
    }
}

fn open(disk: &Arc<Mutex<Disk>>, wall: u64) -> (Sessions, Scribe<Arc<Mutex<Disk>>>, mpsc::Receiver<Word>, u64) {
    let past = Past::read(locked(disk).content.as_bytes());
    // The journal that is opened sees where its last line ends.
    {
        let mut disk = locked(disk);
        disk.torn = !disk.content.is_empty() && !disk.content.ends_with('\n');
    }
    let time = OwnTime::after(past.latest, wall, runtime::Clock::start());
    let now = wall.max(past.latest);
    let (sessions, scribe, words) = Sessions::with(past, Arc::clone(disk), time);
    (sessions, scribe, words, now)
}
