//! What the requests of one connection said last. The next one most likely says the same, and is not judged anew.

use std::cell::RefCell;
use std::sync::Arc;

use http::HeaderValue;

use crate::session::{Keys, Sealed};

/// Bytes of a host that is remembered: a name in the DNS has at most 253, and a port 6.
const HOST_MAX: usize = 260;

#[derive(Debug, Default)]
pub(crate) struct Remembered {
    /// A host that requests may name. A copy: the header would keep the whole buffer that it was read into.
    host: RefCell<Box<[u8]>>,
    /// A session id, and what it says.
    session: RefCell<Option<(Box<str>, Arc<Sealed>)>>,
}

impl Remembered {
    pub(crate) fn has_host(&self, host: &HeaderValue) -> bool {
        !host.is_empty() && **self.host.borrow() == *host.as_bytes()
    }

    /// Requests may name that host. A longer one is judged anew each time.
    pub(crate) fn host(&self, host: &HeaderValue) {
        if host.len() <= HOST_MAX {
            *self.host.borrow_mut() = host.as_bytes().into();
        }
    }

    /// What the last session id said, if `id` is the same.
    pub(crate) fn session(&self, id: &HeaderValue) -> Option<Arc<Sealed>> {
        let session = self.session.borrow();
        let last = session.as_ref().filter(|(last, _)| last.as_bytes() == id.as_bytes());
        last.map(|(_, sealed)| Arc::clone(sealed))
    }

    /// What `id` says, if it is one of ours. To open a seal costs more than to find the way of a call.
    pub(crate) fn opened(&self, id: &str, keys: &Keys) -> Option<Arc<Sealed>> {
        let sealed = Arc::new(keys.open(id)?);
        *self.session.borrow_mut() = Some((id.into(), Arc::clone(&sealed)));
        Some(sealed)
    }
}
