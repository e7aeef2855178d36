//! The rules of a watched source: when to read it, what to propose from it, and what not to propose again.
//!
//! Level-triggered: any event leads to a read, and digests are compared until they are equal. The shell stats,
//! reads and parses; it decides nothing.

mod judging;
mod settling;

use std::collections::VecDeque;
use std::time::Duration;

use model::{Digest, SourcePolicy, Time};

/// After a complete write was read, this long without another write ends the burst …
pub const QUIET: Duration = Duration::from_millis(10);
/// … and after this long at most, the writes that came meanwhile are read.
pub const BURST: Duration = Duration::from_millis(250);
/// A file that never settles, or that its writer never closes, is judged as it is after this time.
pub const MAX_SETTLE: Duration = Duration::from_secs(10);
/// The wait until a proposal that was overtaken is made again.
pub const AGAIN: Duration = Duration::from_millis(100);
/// The wait between retries of a refused content that can heal: doubled from the first to the last.
pub const RETRY: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);

/// What `stat` says of the file after all symlinks: equal stamps mean probably equal bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    pub size: u64,
    /// Nanoseconds since 1970.
    pub modified: u64,
    /// Device and inode, folded together.
    pub identity: u64,
}

/// How a change was noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// A file moved onto the name, or a symlink chain that resolves elsewhere: the content is whole at once.
    Complete,
    /// Written in place by a writer that still has the file open.
    Open,
    /// The writer in place has closed the file, or the file is gone.
    Closed,
    /// Any other file system event. It says nothing new about whether a writer has the file open.
    InPlace,
    /// No event: this is how the file looks now. Also the answer to [`Effect::Look`].
    Polled,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    Digest(Digest),
    Missing,
    Unreadable(String),
}

/// The content of the file that was judged last, as the log keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    pub digest: Digest,
    pub judged: Judged,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    /// The content is live, or was live when the file had it.
    Live,
    Refused,
    /// The content was live, and was undone.
    RolledBack,
}

/// One proposal of this source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn(pub u64);

/// How a proposal ended, as far as its source needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    Applied,
    NoChange,
    /// `heals`: the same content may be taken later ([`crate::Reason::heals`]).
    Refused {
        heals: bool,
    },
    /// Something else went first; ask again soon.
    Overtaken,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// `stamp` is `None` when there is no file.
    Noticed { write: Write, stamp: Option<Stamp> },
    /// The answer to [`Effect::Read`]. `torn`: the stamp changed between before and after the read.
    Read { stamp: Option<Stamp>, torn: bool, found: Found },
    /// The answer to [`Effect::Propose`].
    Judged { turn: Turn, judgement: Judgement },
    /// A rollback is in the log, with this cursor for the source: the digest of the file when the rollback was asked
    /// for, or else [`SourceCore::rollback_cursor`]. `refused`: that content was refused, so nothing of it is undone.
    RolledBack { cursor: Digest, refused: bool },
    /// A caller asks for `reload`. `force`: propose the content even if it was judged before. `sure`: the caller says
    /// that the file is whole, so it need not settle.
    Asked { force: bool, sure: bool },
    /// Another revision is live, and other rules for following the file come with it.
    Policy(SourcePolicy),
    /// A deadline has come.
    Woke,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// `stat` the file and report [`Event::Noticed`] with [`Write::Polled`] (or `Complete`, if its symlinks moved).
    Look,
    /// Read the file and report [`Event::Read`]. Only one read is under way at a time.
    Read,
    /// Parse the text just read, which has that digest, then merge and propose it. Report [`Event::Judged`] when the
    /// proposal has ended, also for a text that is no configuration.
    Propose { turn: Turn, digest: Digest, retry: bool },
    /// Keep this digest over a restart, if the record of a revision does not do so already.
    SaveCursor { digest: Digest },
    /// The answer to the caller, when the read leads to no proposal.
    Answer(Answer),
    /// [`SourceCore::state`] has changed.
    StateChanged,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The content was judged before; nothing to do.
    Unchanged {
        digest: Digest,
    },
    /// The content is being judged now: its [`Event::Judged`] is the answer.
    UnderWay {
        turn: Turn,
    },
    Missing,
    Unreadable(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not read yet.
    Unread,
    /// The content of the file has been judged.
    Followed {
        digest: Digest,
    },
    /// The file is being written in place: it changes, or its writer has it open.
    Settling {
        since: Time,
    },
    Judging {
        digest: Digest,
    },
    /// Refused; `next_attempt` is set when the refusal can heal.
    Refused {
        digest: Digest,
        next_attempt: Option<Time>,
    },
    /// There is no file; the live revision stays live.
    Missing {
        since: Time,
    },
    Unreadable {
        since: Time,
        reason: String,
    },
}

#[derive(Debug)]
struct Settle {
    stamp: Option<Stamp>,
    held_since: Time,
    first: Time,
    /// The writer is known to have the file open, so an unchanged file means nothing.
    open: bool,
    /// Whether the look that ends the settling, or the read after it, is under way.
    ending: bool,
}

/// The time after a complete write in which further writes make one read together.
#[derive(Debug)]
struct Burst {
    quiet_at: Time,
    end_at: Time,
    more: bool,
}

#[derive(Debug)]
struct Retry {
    digest: Digest,
    at: Time,
    /// The wait is over, and the read before the retry is under way.
    due: bool,
}

#[derive(Debug, Clone, Copy)]
struct Ask {
    force: bool,
    /// The caller says that the file is whole. True until the file was seen to change under a read.
    sure: bool,
}

#[derive(Debug)]
enum Absence {
    Missing,
    Unreadable(String),
}

/// The state of one watched source.
#[derive(Debug)]
pub struct SourceCore {
    policy: SourcePolicy,
    /// The digest that was judged last. Only a different digest is judged again.
    cursor: Option<Digest>,
    /// The digest of the file when it was read last.
    seen: Option<Digest>,
    /// The stamp of the file when it was read last, if it was ever read.
    read_stamp: Option<Option<Stamp>>,
    absence: Option<(Time, Absence)>,
    turn: Turn,
    under_way: Option<(Turn, Digest)>,
    refused: Option<Digest>,
    retry: Option<Retry>,
    backoff: Duration,
    /// The stamp of the file when it was known to be whole: moved onto its name, or settled.
    whole: Option<Option<Stamp>>,
    settle: Option<Settle>,
    burst: Option<Burst>,
    poll_at: Time,
    reading: bool,
    /// Something happened since the read under way began.
    read_again: bool,
    /// Pending requests of callers: `ask` for the next read, `asking` for the one under way.
    ask: Option<Ask>,
    asking: Option<Ask>,
    shown: State,
    effects: VecDeque<Effect>,
}

impl SourceCore {
    /// `cursor` is the one kept in the log; `None` when nothing was ever judged. Refused content is judged again when
    /// it is read first, so that the alarm is not lost.
    pub fn new(now: Time, policy: SourcePolicy, cursor: Option<Cursor>) -> Self {
        let refused = cursor.filter(|cursor| cursor.judged == Judged::Refused);
        let mut core = Self {
            poll_at: now + policy.poll_interval,
            policy,
            cursor: cursor.map(|cursor| cursor.digest),
            seen: None,
            read_stamp: None,
            absence: None,
            turn: Turn(0),
            under_way: None,
            refused: None,
            retry: refused.map(|Cursor { digest, .. }| Retry { digest, at: now, due: true }),
            backoff: *RETRY.start(),
            whole: None,
            settle: None,
            burst: None,
            reading: false,
            read_again: false,
            ask: None,
            asking: None,
            shown: State::Unread,
            effects: VecDeque::new(),
        };
        if core.policy.enabled || core.cursor.is_none() {
            core.read();
        }
        core
    }

    pub fn handle(&mut self, now: Time, event: Event) {
        match event {
            Event::Noticed { write, stamp } => self.noticed(now, write, stamp),
            Event::Read { stamp, torn, found } => self.was_read(now, stamp, torn, found),
            Event::Judged { turn, judgement } => self.judged(now, turn, judgement),
            Event::RolledBack { cursor, refused } => self.rolled_back(cursor, refused),
            Event::Asked { force, sure } => {
                let (forced, was_sure) = self.ask.map_or((false, false), |ask| (ask.force, ask.sure));
                self.ask = Some(Ask { force: force || forced, sure: sure || was_sure });
                self.read();
            }
            Event::Policy(policy) => self.follow(now, policy),
            Event::Woke => {}
        }
        self.expire(now);
        let state = self.state();
        if state != self.shown {
            self.shown = state;
            self.effects.push_back(Effect::StateChanged);
        }
    }

    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When to call `handle` with [`Event::Woke`], if nothing else happens before.
    pub fn next_deadline(&self) -> Option<Time> {
        let settle = self.settle.as_ref().filter(|settle| !settle.ending).map(|settle| self.settled_at(settle));
        let burst = self.burst.as_ref().map(|burst| burst.quiet_at.min(burst.end_at));
        let retry = self.retry.as_ref().filter(|retry| !retry.due).map(|retry| retry.at);
        let poll = self.policy.enabled.then_some(self.poll_at);
        settle.into_iter().chain(burst).chain(retry).chain(poll).min()
    }

    pub fn state(&self) -> State {
        if let Some((since, absence)) = &self.absence {
            return match absence {
                Absence::Missing => State::Missing { since: *since },
                Absence::Unreadable(reason) => State::Unreadable { since: *since, reason: reason.clone() },
            };
        }
        if let Some(settle) = &self.settle {
            return State::Settling { since: settle.first };
        }
        if let Some((_, digest)) = self.under_way {
            return State::Judging { digest };
        }
        if let Some(digest) = self.refused {
            return State::Refused { digest, next_attempt: self.retry.as_ref().map(|retry| retry.at) };
        }
        match self.seen.and(self.cursor) {
            Some(digest) => State::Followed { digest },
            None => State::Unread,
        }
    }

    /// Whether the judgement of that proposal is waited for. Once the file says something else, it is not.
    pub fn awaits(&self, turn: Turn) -> bool {
        self.under_way.is_some_and(|(under_way, _)| under_way == turn)
    }

    /// The digest that was judged last.
    pub fn cursor(&self) -> Option<Digest> {
        self.cursor
    }

    /// The digest over which a rollback that is proposed now has to move the cursor, as far as this source knows: the
    /// digest of the file when it was read last.
    pub fn rollback_cursor(&self) -> Option<Digest> {
        self.seen.or(self.cursor)
    }

    fn follow(&mut self, now: Time, policy: SourcePolicy) {
        if policy.enabled && !self.policy.enabled {
            self.read();
        }
        if self.policy.enabled && !policy.enabled {
            (self.settle, self.burst, self.retry) = (None, None, None);
        }
        if policy.poll_interval != self.policy.poll_interval {
            self.poll_at = now + policy.poll_interval;
        }
        self.policy = policy;
    }

    /// Starts a read, one at a time: a request during a read leads to another read.
    fn read(&mut self) {
        if self.reading {
            self.read_again = true;
        } else {
            self.reading = true;
            self.asking = self.ask.take();
            self.effects.push_back(Effect::Read);
        }
    }
}

#[cfg(test)]
mod tests;
