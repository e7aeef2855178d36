//! The sessions of the demo server's HTTP clients.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use tokio_util::sync::CancellationToken;

/// One client between `initialize` and DELETE. Sessions of this server never expire.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: String,
    /// The change of the list of tools up to which the client was told.
    pub(crate) told: Cell<u64>,
    /// Ends its stream of notifications: there is one, and a newer one takes over.
    stream: RefCell<CancellationToken>,
}

impl Session {
    /// The token of a new stream, which ends the one before.
    pub(crate) fn take_stream(&self) -> CancellationToken {
        let token = CancellationToken::new();
        self.stream.replace(token.clone()).cancel();
        token
    }
}

/// All open sessions, by id.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    open: RefCell<BTreeMap<String, Rc<Session>>>,
}

impl Sessions {
    /// `turn` is the present state of the list of tools.
    pub(crate) fn open(&self, turn: u64) -> String {
        let id = uuid::Uuid::new_v4().to_string();
        let session = Session { id: id.clone(), told: Cell::new(turn), stream: RefCell::default() };
        self.open.borrow_mut().insert(id.clone(), Rc::new(session));
        id
    }

    pub(crate) fn find(&self, id: &str) -> Option<Rc<Session>> {
        self.open.borrow().get(id).cloned()
    }

    pub(crate) fn close(&self, id: &str) {
        if let Some(session) = self.open.borrow_mut().remove(id) {
            session.stream.borrow().cancel();
        }
    }
}
