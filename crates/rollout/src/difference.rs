//! A content as it travels: whole, or as what differs from one that the receiver holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Backend, BackendId, Digest, Policy, Snapshot};

use crate::{Content, Refusal};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Of the whole content.
    pub digest: Digest,
    /// What it is a difference from.
    pub base: Option<Digest>,
    pub policy: Policy,
    /// The backends that the base does not have like this.
    pub backends: Vec<Arc<Backend>>,
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
        let held: BTreeMap<_, _> =
            base.iter().flat_map(|base| base.snapshot.backends.iter().map(|backend| (&backend.id, backend))).collect();
        let differs = |backend: &&Arc<Backend>| held.get(&backend.id).is_none_or(|have| have != backend);
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
        let of_base = base.iter().flat_map(|base| base.backends.iter());
        let known: BTreeMap<_, _> =
            of_base.chain(&self.backends).map(|backend| (backend.id.clone(), Arc::clone(backend))).collect();
        let place = |id: &BackendId| known.get(id).cloned().ok_or(Refusal::Damaged);
        let backends = self.order.iter().map(place).collect::<Result<_, _>>()?;
        let arrived = Content::new(Arc::new(Snapshot { policy: self.policy, backends }));
        if arrived.digest == self.digest { Ok(arrived) } else { Err(Refusal::Damaged.into()) }
    }
}
