//! The records of the log: one per revision, one audit record per outcome, and the layers of a revision.

use std::collections::BTreeMap;

use config_file::Format;
use model::{AttemptId, Diff, Digest, NodeId, Owner, Revision, Violation, WallTime};
use serde::{Deserialize, Serialize};

/// What every owner wanted when a revision was made, as the owner wrote it: so a layer that came over the API
/// survives a reload of the file.
pub type Layers = BTreeMap<Owner, Layer>;

#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Layer {
    /// The prefix of positions in the text: a path, or the name of a layer.
    pub name: String,
    /// Absent in records that are older than TOML support.
    #[serde(default)]
    pub format: Format,
    pub text: String,
}

/// Without the text, which may hold secrets.
impl std::fmt::Debug for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, format, text } = self;
        f.debug_struct("Layer").field("name", name).field("format", format).field("bytes", &text.len()).finish()
    }
}

impl Layer {
    /// Whether the two differ in nothing but comments and layout.
    pub(crate) fn means(&self, other: &Self) -> bool {
        config_file::means_the_same((&self.text, self.format), (&other.text, other.format))
    }
}

/// The digest of the texts of the layers.
pub(crate) fn layers_digest(layers: &Layers) -> Digest {
    let mut hasher = blake3::Hasher::new();
    for (owner, layer) in layers {
        for part in [&owner.0, &layer.text] {
            hasher.update(&part.len().to_be_bytes()).update(part.as_bytes());
        }
    }
    Digest::from_bytes(hasher.finalize().into())
}

/// Whether the content of the file (by its digest) differs from the file's layer in these layers.
pub(crate) fn is_undone(layers: &Layers, said: Digest) -> bool {
    layers.get(&Owner::file()).is_none_or(|layer| Digest::of_bytes(layer.text.as_bytes()) != said)
}

/// One revision, without its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionRecord {
    pub revision: Revision,
    pub parent: Revision,
    pub digest: Digest,
    /// From the credential.
    pub actor: String,
    /// `file`, `api:NAME`, `rollback to N` or `config-manager`.
    pub source: String,
    pub time: WallTime,
    pub attempt: AttemptId,
    pub diff: Diff,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<NodeId>,
}

impl RevisionRecord {
    /// Whether the revision brought back an older one.
    pub fn is_rollback(&self) -> bool {
        self.source.starts_with(ROLLBACK)
    }

    /// The revision whose content it brought back, if it is a rollback.
    pub(crate) fn brought_back(&self) -> Option<Revision> {
        self.source.strip_prefix(ROLLBACK)?.parse().ok().map(Revision)
    }

    /// Whether the revision gave what was live another number, and changed nothing else.
    pub(crate) fn is_renumbering(&self) -> bool {
        self.source == Self::RENUMBERING
    }

    /// How the history names that.
    pub(crate) const RENUMBERING: &str = "config-manager";

    /// How the history names a rollback.
    pub(crate) fn rollback(to: Revision) -> String {
        format!("{ROLLBACK}{to}")
    }
}

const ROLLBACK: &str = "rollback to ";

/// How one proposal ended. Never changed and never removed: each is hashed together with the one before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Counts from 1.
    pub sequence: u64,
    pub time: WallTime,
    /// `applied`, `no_change`, `refused` or `superseded`.
    pub result: String,
    /// The revision that was made, or that stayed live.
    pub revision: Revision,
    pub actor: String,
    pub source: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<AttemptId>,
    /// The digest of the candidate; absent when it was no configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    #[serde(default, skip_serializing_if = "Diff::is_empty")]
    pub diff: Diff,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub violations: Vec<Violation>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<NodeId>,
}

/// An audit record before it has its place in the chain.
#[derive(Debug, Clone)]
pub struct Ended {
    pub time: WallTime,
    pub result: &'static str,
    pub revision: Revision,
    pub actor: String,
    pub source: String,
    pub attempt: Option<AttemptId>,
    pub digest: Option<Digest>,
    pub diff: Diff,
    pub reason: String,
    pub violations: Vec<Violation>,
    pub without: Vec<NodeId>,
}

impl Ended {
    pub(super) fn at(self, sequence: u64) -> AuditRecord {
        let Self { time, result, revision, actor, source, attempt, digest, diff, reason, violations, without } = self;
        let result = result.to_owned();
        AuditRecord {
            sequence,
            time,
            result,
            revision,
            actor,
            source,
            attempt,
            digest,
            diff,
            reason,
            violations,
            without,
        }
    }

    /// The audit record of a revision.
    pub(super) fn applied(record: &RevisionRecord) -> Self {
        let record = record.clone();
        Self {
            time: record.time,
            result: "applied",
            revision: record.revision,
            actor: record.actor,
            source: record.source,
            attempt: Some(record.attempt),
            digest: Some(record.digest),
            diff: record.diff,
            reason: record.reason,
            violations: Vec::new(),
            without: record.without,
        }
    }
}
