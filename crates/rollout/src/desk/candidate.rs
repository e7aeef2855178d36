//! A change at the desk.

use std::collections::BTreeSet;

use model::{AttemptId, Digest, NodeId, Owner, Revision};

use crate::cursor::Turn;
use crate::{Content, Exclusions};

use super::{MERGES_MAX, Papers};

/// What a change asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Want {
    /// The file has other content.
    File { turn: Turn, digest: Digest },
    /// An owner has another layer. `base`: only on top of that revision.
    Layer { owner: Owner, base: Option<Revision> },
    /// To see what routers find if an owner has another layer, and no more. `number` tells trials apart.
    Trial { of: Owner, number: u64 },
    /// Without `to`: the revision before the live one. It is known once it is merged.
    Rollback { to: Option<Revision>, base: Option<Revision> },
}

impl Want {
    pub fn owner(&self) -> Owner {
        match self {
            Self::File { .. } => Owner::file(),
            Self::Layer { owner, .. } => owner.clone(),
            Self::Trial { number, .. } => Owner(format!("trial {number}")),
            Self::Rollback { .. } => Owner("rollback".into()),
        }
    }

    /// The only revision that the change may follow, if one is named.
    pub(super) fn base(&self) -> Option<Revision> {
        match self {
            Self::Layer { base, .. } | Self::Rollback { base, .. } => *base,
            Self::File { .. } | Self::Trial { .. } => None,
        }
    }

    /// Whether the change may be merged anew on top of one that went first.
    fn follows_head(&self) -> bool {
        matches!(self, Self::File { .. } | Self::Layer { base: None, .. } | Self::Trial { .. })
    }
}

/// Who waits for the end of a change.
#[derive(Debug)]
pub struct Caller<K: Papers> {
    /// Routers whose vote does not count.
    pub without: BTreeSet<NodeId>,
    pub handle: K::Caller,
}

/// A candidate as a snapshot.
#[derive(Debug)]
pub struct Merged<P> {
    pub content: Content,
    /// The digest of all layers.
    pub layers: Digest,
    /// The digest of the file's layer among them.
    pub file: Option<Digest>,
    pub payload: P,
    pub actor: String,
    /// Of a rollback: the revision that the content comes from …
    pub back: Revision,
    /// … and the digest of the file when it was looked at.
    pub over: Option<Digest>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Stage {
    ToMerge,
    /// On top of that revision.
    Merging {
        base: Revision,
    },
    /// The reconciler has it.
    Proposed {
        digest: Digest,
        file: Option<Digest>,
    },
}

/// A change that is not decided.
#[derive(Debug)]
pub struct Candidate<K: Papers> {
    pub want: Want,
    pub text: K::Text,
    pub callers: Vec<Caller<K>>,
    /// The attempt that is under way, or that was the last one.
    pub attempt: Option<AttemptId>,
    pub(super) stage: Stage,
    pub(super) without: Exclusions,
    /// Routers that are asked about the candidate now, or that were asked when it ended.
    pub(super) voters: BTreeSet<NodeId>,
    /// How often it was merged.
    pub(super) merges: u32,
}

impl<K: Papers> Candidate<K> {
    pub(super) fn new(want: Want, text: K::Text, without: Exclusions) -> Self {
        let (callers, voters) = (Vec::new(), BTreeSet::new());
        Self { want, text, callers, attempt: None, stage: Stage::ToMerge, without, voters, merges: 0 }
    }

    pub(super) fn is_trial(&self) -> bool {
        matches!(self.want, Want::Trial { .. })
    }

    /// Of the snapshot, if it is one by now.
    pub fn digest(&self) -> Option<Digest> {
        match self.stage {
            Stage::Proposed { digest, .. } => Some(digest),
            Stage::ToMerge | Stage::Merging { .. } => None,
        }
    }

    pub(super) fn file(&self) -> Option<Digest> {
        match self.stage {
            Stage::Proposed { file, .. } => file,
            Stage::ToMerge | Stage::Merging { .. } => None,
        }
    }

    pub(super) fn is_proposed(&self) -> bool {
        matches!(self.stage, Stage::Proposed { .. })
    }

    /// Whether it was refused as it came.
    pub fn never_entered(&self) -> bool {
        self.merges == 0
    }

    /// Whether it may be merged anew after another change went first.
    pub(super) fn may_follow(&self) -> bool {
        self.want.follows_head() && self.merges < MERGES_MAX
    }

    /// Routers that were named as left out and are not asked.
    pub fn left_out(&self) -> BTreeSet<NodeId> {
        self.without.left_out(&self.voters)
    }

    /// Whether the candidate leaves out every router that this caller does. A caller that leaves out fewer routers is
    /// served as well with the votes of the rest as without them.
    pub(super) fn serves(&self, caller: &Caller<K>) -> bool {
        caller.without.is_subset(&self.left_out())
    }

    /// Takes over the callers of an older candidate of the file, to answer them too. Returns whether there were any.
    pub(super) fn take_over(&mut self, older: &mut Self) -> bool {
        let both = matches!((&self.want, &older.want), (Want::File { .. }, Want::File { .. }));
        let some = both && !older.callers.is_empty();
        if some {
            self.callers.append(&mut older.callers);
            self.without.hear(older.without.barred());
        }
        some
    }
}
