//! A router's end: what to prepare, what to make live, what to say about it.

use model::{AttemptId, CandidateOutcome, Digest, Revision, Time};
use std::time::Duration;

use crate::{Content, Directive, Refusal, Report, Sender};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A stream to a manager is open: the hello is the first thing to be said on it.
    Attached,
    Detached,
    Directive { sender: Sender, directive: Directive },
    /// The answer to [`Effect::Build`]: one outcome per changed endpoint, or why there is nothing to try.
    Built { attempt: AttemptId, outcomes: Vec<CandidateOutcome>, refusal: Option<Refusal> },
    /// The answer to [`Effect::Swap`]: new exchanges are admitted by it from now on.
    Swapped { revision: Revision },
    /// The other answer to [`Effect::Swap`]: what was live before still is.
    SwapFailed { revision: Revision, refusal: Refusal },
    /// A deadline has come.
    Woke,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Build the table and bring up new endpoints beside what is live, within that time; say [`Event::Built`].
    /// At most one attempt is held.
    Build { attempt: AttemptId, content: Content, within: Duration },
    /// End what was started for it and stop building; endpoints may be kept until then for an equal one.
    Discard { attempt: AttemptId, keep_until: Time },
    /// Make it live, whatever its servers do; `prepared` names the attempt that was built from the same content.
    /// Say [`Event::Swapped`] or [`Event::SwapFailed`]. One is under way at a time.
    Swap { revision: Revision, content: Content, prepared: Option<AttemptId> },
    /// Over the stream that is attached.
    Send(Report),
    /// Write the disk copy. A newer one replaces one that waits.
    Save(Saved),
}

/// What a router starts from when nobody answers.
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
