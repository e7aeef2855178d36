//! A proposal from the request to the answer: layers are merged and judged off this task, the reconciler decides, and
//! the callers are told.

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

/// What a caller or the file wants to be live.
#[derive(Debug, Clone)]
pub(crate) enum Want {
    /// The file has other content.
    File { turn: Turn, digest: Digest, layer: Layer },
    /// An empty document removes the layer. `base`: apply only on top of that revision.
    Api { name: String, document: String, format: Format, base: Option<Revision> },
    /// [`Revision::NONE`]: the revision before the live one.
    Rollback {
        to: Revision,
        base: Option<Revision>,
        reason: String,
        /// The digest of the file when the rollback was asked for.
        over: Option<Digest>,
    },
}

#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) want: Want,
    pub(crate) actor: String,
    pub(crate) without: Exclusions,
    /// Routers that are asked about the candidate now, or that were asked when it ended.
    pub(crate) voters: BTreeSet<NodeId>,
    /// The span of the whole change, and the span of its judging while that lasts.
    pub(crate) span: Span,
    pub(crate) judging: Option<Span>,
    pub(crate) answers: Vec<Answer>,
    /// How often the candidate was merged: it is merged anew after another change went first.
    pub(crate) merges: u32,
    /// When its write was seen to be complete, and when it was read: nanoseconds of the clock.
    pub(crate) written_at: Option<u64>,
    pub(crate) read_at: u64,
    /// The live revision when the candidate was merged last.
    pub(crate) base: Revision,
    pub(crate) timing: Timing,
    /// Advice on settings that are right but probably not meant.
    pub(crate) advice: Vec<Violation>,
    /// Absent until the candidate is a snapshot.
    pub(crate) layers: Option<Arc<Layers>>,
    pub(crate) digest: Option<Digest>,
    /// The attempt that is under way, or that was the last one.
    pub(crate) attempt: Option<AttemptId>,
    /// What the refusal says, if it is a refusal of the file.
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
    /// The revision that the content comes from, if it was live before.
    pub(crate) revision: Option<Revision>,
    pub(crate) content: Content,
    pub(crate) bytes: Arc<[u8]>,
    pub(crate) layers: Arc<Layers>,
    pub(crate) advice: Vec<Violation>,
    pub(crate) timing: Timing,
}

impl Want {
    /// A change by the file, only to see what it would lead to.
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

    /// The size of the text that the change brings.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::File { layer, .. } => layer.text.len(),
            Self::Api { document, .. } => document.len(),
            Self::Rollback { .. } => 0,
        }
    }

    /// The source as the history shows it.
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

    /// The only revision that the change may follow, if one is named.
    pub(crate) fn base(&self) -> Option<Revision> {
        match self {
            Self::Api { base, .. } | Self::Rollback { base, .. } => *base,
            Self::File { .. } => None,
        }
    }

    /// Whether the change may be merged anew on top of one that went first.
    pub(crate) fn follows_head(&self) -> bool {
        matches!(self, Self::File { .. } | Self::Api { base: None, .. })
    }

    /// The layers of all owners, if this change is granted.
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

/// Parsing a text of this size takes up to sixty times as much memory, in small pieces.
const LARGE: usize = 256 << 10;

/// Layers as a snapshot, or all their violations. Takes milliseconds of a core for hundreds of servers.
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
    /// Takes the form that is already on record, if the candidate differs from the live content in comments alone.
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
