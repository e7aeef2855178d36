//! A content as it travels: whole, or as what differs from one that the receiver holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{BackendId, Digest, FixedBackend, Policy, Snapshot};

use crate::{Content, Refusal};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Of the whole content.
    pub digest: Digest,
    /// What it is a difference from.
    pub base: Option<Digest>,
    pub policy: Policy,
    /// The backends that the base does not have like this.
    pub backends: Vec<Arc<FixedBackend>>,
    /// All backends.
    pub order: Vec<BackendId>,
}

/// Why a content did not arrive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotArrived {
    /// The stream has to begin anew, with a hello that says what is held.
    #[error("a difference from {0}, which is not held here")]
    BaseNotHeld(Digest),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl Difference {
    pub fn between(content: &Content, base: Option<&Content>) -> Self {
        let mut held = base.map(|base| base.snapshot.lookup());
        let differs = |backend: &&Arc<FixedBackend>| {
            held.as_mut().and_then(|held| held.find(&backend.id)).is_none_or(|have| have != *backend)
        };
        Self {
            digest: content.digest,
            base: base.map(|base| base.digest),
            policy: content.snapshot.policy.clone(),
            backends: content.snapshot.backends.iter().filter(differs).cloned().collect(),
            order: content.snapshot.backends.iter().map(|backend| backend.id.clone()).collect(),
        }
    }

    /// The whole content, checked against its digest. `held` is asked for the base.
    ///
    /// # Errors
    /// See [`NotArrived`].
    pub fn on(self, held: impl FnOnce(&Digest) -> Option<Arc<Snapshot>>) -> Result<Content, NotArrived> {
        let base = match self.base {
            Some(digest) => Some(held(&digest).ok_or(NotArrived::BaseNotHeld(digest))?),
            None => None,
        };
        let differing: BTreeMap<_, _> = self.backends.iter().map(|backend| (&backend.id, backend)).collect();
        let mut held = base.as_ref().map(|base| base.lookup());
        let mut place = |id: &BackendId| {
            // Both, so that the next one is found at once.
            let of_base = held.as_mut().and_then(|held| held.find(id));
            differing.get(id).copied().or(of_base).cloned().ok_or(Refusal::Damaged)
        };
        let backends = self.order.iter().map(&mut place).collect::<Result<_, _>>()?;
        let arrived = Content::new(Arc::new(Snapshot { policy: self.policy, backends }));
        if arrived.digest == self.digest { Ok(arrived) } else { Err(Refusal::Damaged.into()) }
    }
}
