//! The bodies of requests that are in memory, and which of them make way when there is no room for more.
//!
//! An incomplete body makes way for others. A complete body does not: it is kept for as long as its call runs. So
//! complete bodies are shared out: all calls to one server hold no more than they leave free for calls to other
//! servers, and all calls of one session no more than half as much. The first body of each server and of each session
//! always fits.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{BackendId, Time};
use tokio::sync::oneshot;

use crate::session::SessionId;

/// A body that has been arriving for less time is not given up for another one.
pub(super) const SETTLED: Duration = Duration::from_secs(1);

/// Why a body may not grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Requests hold as much as they may.
    NoRoom,
    /// Others needed its room, and of the incomplete bodies it had been arriving for longest.
    GivenUp,
}

/// Whose share of the room is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The share of the server.
    Server,
    /// The share of the client.
    Session,
    /// The room of all requests.
    All,
}

/// Whose call a body is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) session: SessionId,
    /// None while any server might have its tool.
    pub(crate) server: Option<BackendId>,
}

/// All bodies, ordered by number and so by age.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    next: u64,
    taken: usize,
    all: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    bytes: usize,
    since: Time,
    /// None once the body is complete.
    give_up: Option<oneshot::Sender<()>>,
    /// None until its call is known.
    owner: Option<Owner>,
}

impl Uploads {
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    pub(super) fn begin(&mut self, now: Time, give_up: oneshot::Sender<()>) -> u64 {
        self.next += 1;
        self.all.insert(self.next, Entry { bytes: 0, since: now, give_up: Some(give_up), owner: None });
        self.next
    }

    /// A body always fits when no other is held.
    pub(super) fn grow(&mut self, number: u64, bytes: usize, room: usize, now: Time) -> Result<(), Refused> {
        let own = self.all.get(&number).ok_or(Refused::GivenUp)?.bytes;
        let others = self.taken - own;
        let fits = |others: usize| others == 0 || others.saturating_add(bytes) <= room;
        let mut left = others;
        let mut given_up = Vec::new();
        let unfinished = self.all.iter().filter(|(_, entry)| entry.give_up.is_some());
        let mut settled = unfinished.filter(|(_, entry)| now.since(entry.since) >= SETTLED);
        while !fits(left) {
            let (oldest, entry) = settled.next().ok_or(Refused::NoRoom)?;
            if *oldest == number {
                self.end(number);
                return Err(Refused::GivenUp);
            }
            left -= entry.bytes;
            given_up.push(*oldest);
        }
        for one in given_up {
            self.end(one);
        }
        if let Some(entry) = self.all.get_mut(&number) {
            entry.bytes = bytes;
            self.taken = left + bytes;
        }
        Ok(())
    }

    pub(super) fn is_whole(&mut self, number: u64) -> Result<(), Refused> {
        self.all.get_mut(&number).ok_or(Refused::GivenUp)?.give_up = None;
        Ok(())
    }

    /// Keeps the body for a call of `owner` from now on, if there is a share for it.
    pub(super) fn keep(&mut self, number: u64, owner: Owner, room: usize) -> Result<(), Taken> {
        let Some(bytes) = self.all.get(&number).map(|entry| entry.bytes) else { return Ok(()) };
        let (mut all, mut server, mut session) = (bytes, 0, 0);
        for (_, entry) in self.all.iter().filter(|(other, _)| **other != number) {
            let Some(other) = &entry.owner else { continue };
            all += entry.bytes;
            server += if other.server == owner.server { entry.bytes } else { 0 };
            session += if other.session == owner.session { entry.bytes } else { 0 };
        }
        let free = room.saturating_sub(all);
        let fits = |others: usize, share: usize| others == 0 || others + bytes <= share;
        if !fits(server, free) {
            return Err(Taken::Server);
        }
        if !fits(session, free / 2) {
            return Err(Taken::Session);
        }
        if let Some(entry) = self.all.get_mut(&number) {
            entry.owner = Some(owner);
        }
        Ok(())
    }

    /// The end of the channel tells the body's task, which then frees the memory.
    pub(super) fn end(&mut self, number: u64) {
        if let Some(entry) = self.all.remove(&number) {
            self.taken -= entry.bytes;
        }
    }
}
