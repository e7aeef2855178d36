//! A proposal from the wish to the answer: layers are merged and judged off this task, the reconciler decides, and
//! whoever asked is told.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use config_file::{Format, Source};
use model::{AttemptId, Digest, NodeId, Owner, Revision, Violation};
use rollout::{Content, Exclusions, cursor::Turn};
use runtime::{Clock, Span};

use super::said::Saying;
use crate::command::Answer;
use crate::log::{Kept, Layer, Layers, RevisionRecord};

/// What the log keeps with a revision beyond what the reconciler looks at.
#[derive(Debug, Clone)]
pub(crate) struct Payload {
    /// Canonical JSON of the snapshot.
    pub(crate) bytes: Arc<[u8]>,
    pub(crate) layers: Arc<Layers>,
    pub(crate) reason: String,
}

/// What somebody wants to be live.
#[derive(Debug, Clone)]
pub(crate) enum Want {
    /// The file says something else.
    File { turn: Turn, digest: Digest, layer: Layer },
    /// An empty document takes the layer away. `base`: only on top of that revision.
    Api { name: String, document: String, format: Format, base: Option<Revision> },
    /// [`Revision::NONE`]: the one before the live one.
    Rollback {
        to: Revision,
        base: Option<Revision>,
        reason: String,
        /// What the file said when it was asked for.
        over: Option<Digest>,
    },
}

#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) want: Want,
    pub(crate) actor: String,
    pub(crate) without: Exclusions,
    /// Routers that are asked about it now, or were when it ended.
    pub(crate) voters: BTreeSet<NodeId>,
    /// The whole of it, and its judging while that lasts.
    pub(crate) span: Span,
    pub(crate) judging: Option<Span>,
    pub(crate) answers: Vec<Answer>,
    /// How often it was merged: anew after something else went first.
    pub(crate) merges: u32,
    /// When the write of it was seen to be complete, and when it was read: nanoseconds of the clock.
    pub(crate) written_at: Option<u64>,
    pub(crate) read_at: u64,
    /// What was live when it was merged last.
    pub(crate) base: Revision,
    pub(crate) timing: Timing,
    /// What is probably not meant, although it is right.
    pub(crate) advice: Vec<Violation>,
    /// Absent until it is a snapshot.
    pub(crate) layers: Option<Arc<Layers>>,
    pub(crate) digest: Option<Digest>,
    /// The one that is or was tried last.
    pub(crate) attempt: Option<AttemptId>,
    /// What its refusal says, if that is one of the file.
    pub(super) saying: Option<Saying>,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Timing {
    pub(crate) parse: Duration,
    pub(crate) validate: Duration,
}

/// A candidate that is a snapshot.
#[derive(Debug)]
pub(crate) struct Merged {
    /// That it comes from, if it was live before.
    pub(crate) revision: Option<Revision>,
    pub(crate) content: Content,
    pub(crate) bytes: Arc<[u8]>,
    pub(crate) layers: Arc<Layers>,
    pub(crate) advice: Vec<Violation>,
    pub(crate) timing: Timing,
}

impl Want {
    /// The file's, only to see what it would be.
    pub(crate) fn file_of(layer: Layer) -> Self {
        Self::File { turn: Turn(0), digest: Digest::of_bytes(layer.text.as_bytes()), layer }
    }

    pub(crate) fn owner(&self) -> Owner {
        match self {
            Self::File { .. } => Owner::file(),
            Self::Api { name, .. } => Owner::api(name),
            Self::Rollback { .. } => Owner("rollback".into()),
        }
    }

    /// Of the text that it brings.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::File { layer, .. } => layer.text.len(),
            Self::Api { document, .. } => document.len(),
            Self::Rollback { .. } => 0,
        }
    }

    /// As the history shows it.
    pub(crate) fn source(&self) -> String {
        match self {
            Self::File { .. } | Self::Api { .. } => self.owner().0,
            Self::Rollback { to: Revision::NONE, .. } => self.owner().0,
            Self::Rollback { to, .. } => RevisionRecord::rollback(*to),
        }
    }

    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Rollback { reason, .. } => reason.clone(),
            Self::File { .. } | Self::Api { .. } => String::new(),
        }
    }

    /// The only revision that it is meant to follow, if that is said.
    pub(crate) fn base(&self) -> Option<Revision> {
        match self {
            Self::Api { base, .. } | Self::Rollback { base, .. } => *base,
            Self::File { .. } => None,
        }
    }

    /// Whether it may be merged anew on top of what went first.
    pub(crate) fn follows_head(&self) -> bool {
        matches!(self, Self::File { .. } | Self::Api { base: None, .. })
    }

    /// What all owners want, if this is granted.
    pub(crate) fn on(&self, layers: &Layers) -> Layers {
        let mut layers = layers.clone();
        match self {
            Self::File { layer, .. } => {
                layers.insert(Owner::file(), layer.clone());
            }
            Self::Api { name, document, .. } if document.trim().is_empty() => {
                layers.remove(&Owner::api(name));
            }
            Self::Api { name, document, format, .. } => {
                let layer = Layer { name: Owner::api(name).0, format: *format, text: document.clone() };
                layers.insert(Owner::api(name), layer);
            }
            Self::Rollback { .. } => {}
        }
        layers
    }
}

/// Taking apart that much text takes up to sixty times as much memory, in small pieces.
const LARGE: usize = 256 << 10;

/// Layers as a snapshot, or everything that is wrong with them. Takes milliseconds of a core for hundreds of servers.
pub(crate) fn merge(layers: Layers, clock: Clock) -> Result<Merged, Vec<Violation>> {
    let length: usize = layers.values().map(|layer| layer.text.len()).sum();
    let merged = take_apart(layers, clock);
    if length >= LARGE {
        runtime::memory::trim();
    }
    merged
}

fn take_apart(layers: Layers, clock: Clock) -> Result<Merged, Vec<Violation>> {
    let started = clock.now_nanos();
    let sources: Vec<Source> = layers
        .iter()
        .map(|(owner, layer)| Source {
            owner: owner.clone(),
            name: layer.name.as_str().into(),
            format: layer.format,
            text: layer.text.clone(),
        })
        .collect();
    let merged = config_file::merge(&sources);
    let parsed = clock.now_nanos();
    let advice = merged.advice();
    let snapshot = merged.judge()?;
    let (bytes, digest) = snapshot.canonical();
    let since = |from: u64, to: u64| Duration::from_nanos(to.saturating_sub(from));
    Ok(Merged {
        revision: None,
        content: Content { snapshot: Arc::new(snapshot), digest },
        bytes: bytes.into(),
        layers: Arc::new(layers),
        advice,
        timing: Timing { parse: since(started, parsed), validate: since(parsed, clock.now_nanos()) },
    })
}

impl Merged {
    /// As it is on record already, if it differs from what is live in comments alone.
    pub(crate) fn with_recorded(mut self, live: Option<Digest>, recorded: &Arc<Layers>) -> Self {
        let means_the_same = || {
            let mut pairs = self.layers.iter().zip(recorded.iter());
            self.layers.keys().eq(recorded.keys()) && pairs.all(|((_, layer), (_, other))| layer.means(other))
        };
        if live == Some(self.content.digest) && means_the_same() {
            self.layers = recorded.clone();
        }
        self
    }
}

impl From<Kept> for Merged {
    fn from(kept: Kept) -> Self {
        Self {
            revision: Some(kept.record.revision),
            content: kept.content,
            bytes: kept.bytes,
            layers: kept.layers,
            advice: Vec::new(),
            timing: Timing::default(),
        }
    }
}
