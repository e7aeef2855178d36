//! What the shell keeps of a change, and how layers become a snapshot.

use std::sync::Arc;
use std::time::Duration;

use config_file::{Judged, Known, Source};
use model::{Digest, Owner, Revision, Snapshot, Violation};
use rollout::Content;
use rollout::desk::{self, Candidate, Want};
use runtime::{Clock, Span};

use crate::command::Asker;
use crate::log::{Kept, Layer, Layers, RevisionRecord, layers_digest};
use crate::outcome::Fault;

/// What the log keeps with a revision beyond what the reconciler looks at.
#[derive(Debug, Clone)]
pub(crate) struct Payload {
    /// Canonical JSON of the snapshot.
    pub(crate) bytes: Arc<[u8]>,
    pub(crate) layers: Arc<Layers>,
    pub(crate) reason: String,
}

/// What a change says: the layer of its owner, or why there is a rollback.
#[derive(Debug, Default)]
pub(crate) struct Text {
    /// Without one, the layer is removed.
    pub(crate) layer: Option<Layer>,
    pub(crate) reason: String,
    /// The size of the layers that were there when the change was wanted.
    pub(crate) beside: usize,
}

/// The papers of this shell.
#[derive(Debug)]
pub(crate) enum Papers {}

impl desk::Papers for Papers {
    type Text = Text;
    type Caller = Asker;
    type Payload = Payload;
    type Fault = Fault;

    /// Each change keeps the layers it was made of, and the result.
    fn bytes(text: &Text) -> usize {
        text.beside + text.layer.as_ref().map_or(0, |layer| layer.text.len())
    }
}

/// What is kept of a change until it is decided: its trace, its times, and what came of its text.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) actor: String,
    /// The span of the whole change, and the span of its judging while that lasts.
    pub(crate) span: Span,
    pub(crate) judging: Option<Span>,
    /// When its write was seen to be complete, and when it was read: nanoseconds of the clock.
    pub(crate) written_at: Option<u64>,
    pub(crate) read_at: u64,
    pub(crate) timing: Timing,
    /// Advice on settings that are right but probably not meant.
    pub(crate) advice: Vec<Violation>,
    /// Absent until the candidate is a snapshot.
    pub(crate) layers: Option<Arc<Layers>>,
    /// Of a rollback: what the file said when it was looked at, if it could be read …
    pub(crate) over: Option<Digest>,
    /// … and whether that was live until the rollback.
    pub(crate) undoes_file: bool,
}

impl Open {
    /// Records on the span how the candidate ended; a result other than the wanted one has a reason.
    pub(super) fn concluded(&mut self, candidate: &Candidate<Papers>, result: &'static str, reason: &str) {
        self.span.set("only1mcp.result", result);
        if let Some(digest) = candidate.digest() {
            self.span.set("only1mcp.digest", digest.to_string());
        }
        if let Some(attempt) = candidate.attempt {
            self.span.set("only1mcp.attempt", attempt.to_string());
        }
        if !reason.is_empty() {
            self.span.fail(reason.to_owned());
        }
    }
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
    pub(crate) back: Revision,
    /// Of a rollback: the digest of the file when it was asked for.
    pub(crate) over: Option<Digest>,
    pub(crate) content: Content,
    pub(crate) bytes: Arc<[u8]>,
    pub(crate) layers: Arc<Layers>,
    /// What the next candidate can be read by; absent if this one was not read from its layers.
    pub(crate) known: Option<Known>,
    pub(crate) advice: Vec<Violation>,
    pub(crate) timing: Timing,
}

/// The source of a change as the history shows it.
pub(super) fn source_of(want: &Want) -> String {
    match want {
        Want::Rollback { to: Some(to), .. } => RevisionRecord::rollback(*to),
        Want::File { .. } | Want::Layer { .. } | Want::Trial { .. } | Want::Rollback { to: None, .. } => want.owner().0,
    }
}

/// The layers of all owners, with this owner's layer replaced.
pub(crate) fn with_layer(layers: &Layers, owner: Owner, layer: Option<Layer>) -> Layers {
    let mut layers = layers.clone();
    match layer {
        Some(layer) => layers.insert(owner, layer),
        None => layers.remove(&owner),
    };
    layers
}

/// Layers as a snapshot, which shares with `live` what is equal, or all their violations. Takes milliseconds of a core
/// for hundreds of servers, unless most are `known`. `recorded`: the layers that are in force.
pub(crate) fn merge(
    layers: Layers,
    recorded: &Layers,
    known: &Known,
    live: Option<&Snapshot>,
    clock: Clock,
) -> Result<Merged, Vec<Violation>> {
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
    let in_force = layers.iter().filter(|(owner, layer)| recorded.get(*owner) == Some(*layer));
    let in_force: Vec<Owner> = in_force.map(|(owner, _)| owner.clone()).collect();
    let merged = config_file::merge_again(&sources, &in_force, known);
    let parsed = clock.now_nanos();
    let mut judged = merged.judge()?;
    if let Some(live) = live {
        judged.snapshot.share(live);
    }
    let known = Some(judged.known());
    let Judged { snapshot, advice, .. } = judged;
    let (bytes, digest) = snapshot.canonical();
    let since = |from: u64, to: u64| Duration::from_nanos(to.saturating_sub(from));
    Ok(Merged {
        back: Revision::NONE,
        over: None,
        content: Content { snapshot: Arc::new(snapshot), digest },
        bytes: bytes.into(),
        layers: Arc::new(layers),
        known,
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

    /// As the desk takes it.
    pub(super) fn proposed(self, actor: String, reason: String) -> desk::Merged<Payload> {
        let file = self.layers.get(&Owner::file());
        desk::Merged {
            content: self.content,
            layers: layers_digest(&self.layers),
            file: file.map(|layer| Digest::of_bytes(layer.text.as_bytes())),
            payload: Payload { bytes: self.bytes, layers: self.layers, reason },
            actor,
            back: self.back,
            over: self.over,
        }
    }
}

impl From<Kept> for Merged {
    fn from(kept: Kept) -> Self {
        Self {
            back: kept.record.revision,
            over: None,
            content: kept.content,
            bytes: kept.bytes,
            layers: kept.layers,
            known: None,
            advice: Vec::new(),
            timing: Timing::default(),
        }
    }
}
