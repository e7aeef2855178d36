//! The rules of a watched source: when to read it, what of it to propose, and what not to propose again.
//!
//! Level-triggered: any event leads to a read, and digests are compared until they are equal. The shell stats,
//! reads and parses; it decides nothing.

use std::time::Duration;

use model::{Digest, SourcePolicy, Time};

/// What `stat` says of the file in the end: equal stamps, probably equal bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    pub size: u64,
    /// Nanoseconds since 1970.
    pub modified: u64,
    /// Device and inode, folded together.
    pub identity: u64,
}

/// How a change became known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// Moved onto the name, or a symlink chain that resolves elsewhere: whole at once.
    Complete,
    /// Any other event of the file system: somebody may still be writing.
    InPlace,
    /// No event; this is how it looks now. Also the answer to [`Effect::Look`].
    Polled,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    Digest(Digest),
    Missing,
    Unreadable(String),
}

/// How a proposal ended, as far as its source needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    Applied,
    NoChange,
    /// `heals`: the same content may be taken later ([`crate::Reason::heals`]).
    Refused { heals: bool },
    /// Something else went first; ask again soon.
    Overtaken,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// `stamp` is `None` when there is no file.
    Noticed { write: Write, stamp: Option<Stamp> },
    /// The answer to [`Effect::Read`]. `torn`: the stamp was another one before the read than after it.
    Read { stamp: Option<Stamp>, torn: bool, found: Found },
    /// The answer to [`Effect::Propose`].
    Judged { digest: Digest, judgement: Judgement },
    /// A rollback is in the log, with this cursor for the source (`SourceCore::rollback_cursor` when it was proposed).
    RolledBack { cursor: Digest },
    /// Somebody says `reload`: read now, without settling. `force`: propose it even if it was judged before.
    Asked { force: bool },
    /// Another revision is live, and with it other rules for following the file.
    Policy(SourcePolicy),
    /// A deadline has come.
    Woke,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// `stat` the file and say [`Event::Noticed`] with [`Write::Polled`] (or `Complete`, if its symlinks moved).
    Look,
    /// Read the file and say [`Event::Read`]. One is under way at a time.
    Read,
    /// Parse what was read last, merge and propose it; say [`Event::Judged`] when that has ended, also for a text
    /// that is no configuration.
    Propose { digest: Digest, retry: bool },
    /// Keep this over a restart, if the record of a revision does not do so already.
    SaveCursor { digest: Digest },
    /// To whoever asked, when what was read leads to no proposal.
    Answer(Answer),
    /// `SourceCore::state()` is another one.
    StateChanged,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It was judged before; nothing to do.
    Unchanged { digest: Digest },
    /// It is being judged right now: its [`Event::Judged`] is the answer.
    UnderWay { digest: Digest },
    Missing,
    Unreadable(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not read yet.
    Unread,
    /// What the file says has been judged.
    Followed { digest: Digest },
    /// It is being written in place.
    Settling { since: Time },
    Judging { digest: Digest },
    /// Refused; `next_attempt` when that can heal.
    Refused { digest: Digest, next_attempt: Option<Duration> },
    /// What is live stays live.
    Missing { since: Time },
    Unreadable { since: Time, reason: String },
}
