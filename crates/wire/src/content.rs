//! Snapshots on the wire: whole, or as what differs from one the receiver holds. What travels are
//! parts of the canonical JSON that the digest is of: a receiver parses them, spells the whole again and compares the
//! digest, and refuses by name a key that its release does not know.

use std::sync::Arc;

use model::{BackendId, FixedBackend, canonical_json};
use rollout::{Difference, Refusal};

use crate::pb::config::v1 as pb;
use crate::pb::words::v1::Envelope;
use crate::words::{Invalid, digest, optional_digest};

/// What this release can do with a snapshot, or on a stream, beyond what every release could.
pub const FEATURES: &[&str] = &[ENDPOINT_CHANGES];

/// The endpoints of a router need not be said again as a whole: what differs is enough.
const ENDPOINT_CHANGES: &str = "endpoint_changes";

/// Whether the sender of that envelope takes differences between endpoints.
pub fn takes_changes(envelope: &Envelope) -> bool {
    envelope.features.iter().any(|feature| feature == ENDPOINT_CHANGES)
}

pub(crate) fn difference_to_pb(difference: Difference) -> pb::Content {
    let spelled =
        |backend: &Arc<FixedBackend>| pb::Backend { id: backend.id.to_string(), content: backend.canonical().to_vec() };
    pb::Content {
        digest: difference.digest.as_bytes().to_vec(),
        features: Vec::new(),
        base_digest: difference.base.map(|base| base.as_bytes().to_vec()).unwrap_or_default(),
        policy: canonical_json(&difference.policy),
        backends: difference.backends.iter().map(spelled).collect(),
        order: difference.order.iter().map(ToString::to_string).collect(),
    }
}

/// `Ok(Err(..))`: understood well enough to be refused.
pub(crate) fn difference(content: Option<pb::Content>) -> Result<Result<Difference, Refusal>, Invalid> {
    let content = content.ok_or_else(|| Invalid::missing("content"))?;
    if let Some(lacking) = content.features.into_iter().find(|feature| !FEATURES.contains(&feature.as_str())) {
        return Ok(Err(Refusal::Feature(lacking)));
    }
    let place = |id: &String| BackendId::new(id).map_err(|error| Invalid::new("content.order", error));
    let order = content.order.iter().map(place).collect::<Result<_, _>>()?;
    let backends = content.backends.iter().map(|backend| understood(&backend.content).map(Arc::new));
    let backends: Result<Vec<Arc<FixedBackend>>, Refusal> = backends.collect();
    let (digest, base) =
        (digest("content.digest", &content.digest)?, optional_digest("content.base_digest", &content.base_digest)?);
    let whole = |(policy, backends)| Difference { digest, base, policy, backends, order };
    Ok(understood(&content.policy).and_then(|policy| Ok((policy, backends?))).map(whole))
}

/// A key this release does not know is a feature it lacks.
fn understood<T: serde::de::DeserializeOwned>(json: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(json).map_err(|error| Refusal::Feature(format!("a configuration key ({error})")))
}
