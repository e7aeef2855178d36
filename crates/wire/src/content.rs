//! Snapshots on the wire: whole, or as what differs from one the receiver holds. What travels is the canonical
//! JSON the digest is of, so a receiver checks what it got by hashing it, and refuses by name a key that its
//! release does not know.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Backend, Digest, Snapshot};
use rollout::{Content, Refusal};

use crate::pb::config::v1 as pb;
use crate::words::{Invalid, digest, optional_digest};

/// What this release can do with a snapshot beyond what every release could.
pub const FEATURES: &[&str] = &[];

/// Why a content did not arrive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ContentError {
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the content is a difference from {0}, which is not held here")]
    BaseNotHeld(Digest),
}

/// As a difference from `base` where the receiver holds one.
pub(crate) fn content_to_pb(content: &Content, base: Option<&Content>) -> pb::Content {
    let held: BTreeMap<_, _> =
        base.iter().flat_map(|base| base.snapshot.backends.iter().map(|backend| (&backend.id, backend))).collect();
    let differs = |backend: &&Arc<Backend>| held.get(&backend.id).is_none_or(|have| have != backend);
    let spelled =
        |backend: &Arc<Backend>| pb::Backend { id: backend.id.to_string(), content: Digest::of(backend.as_ref()).0 };
    pb::Content {
        digest: content.digest.as_bytes().to_vec(),
        features: Vec::new(),
        base_digest: base.map(|base| base.digest.as_bytes().to_vec()).unwrap_or_default(),
        policy: Digest::of(&content.snapshot.policy).0,
        backends: content.snapshot.backends.iter().filter(differs).map(spelled).collect(),
        order: content.snapshot.backends.iter().map(|backend| backend.id.to_string()).collect(),
    }
}

/// `held` is asked for the base of a difference.
pub(crate) fn content(
    content: Option<pb::Content>,
    held: impl Fn(&Digest) -> Option<Arc<Snapshot>>,
) -> Result<Content, ContentError> {
    let content = content.ok_or_else(|| Invalid::missing("content"))?;
    if let Some(lacking) = content.features.iter().find(|feature| !FEATURES.contains(&feature.as_str())) {
        return Err(Refusal::Feature(lacking.clone()).into());
    }
    let base = match optional_digest("content.base_digest", &content.base_digest)? {
        Some(digest) => Some(held(&digest).ok_or(ContentError::BaseNotHeld(digest))?),
        None => None,
    };
    let mut known: BTreeMap<String, Arc<Backend>> = base
        .iter()
        .flat_map(|base| base.backends.iter().map(|backend| (backend.id.to_string(), Arc::clone(backend))))
        .collect();
    for backend in content.backends {
        known.insert(backend.id, Arc::new(understood(&backend.content)?));
    }
    let place = |id: &String| known.get(id).cloned().ok_or(Refusal::Damaged);
    let snapshot = Snapshot {
        policy: understood(&content.policy)?,
        backends: content.order.iter().map(place).collect::<Result<_, _>>()?,
    };
    let arrived = Content::new(Arc::new(snapshot));
    if arrived.digest == digest("content.digest", &content.digest)? {
        Ok(arrived)
    } else {
        Err(Refusal::Damaged.into())
    }
}

/// A key this release does not know is a feature it lacks.
fn understood<T: serde::de::DeserializeOwned>(json: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(json).map_err(|error| Refusal::Feature(format!("a configuration key ({error})")))
}
