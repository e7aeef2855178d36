//! What is wrong with the log now, for every part that asks.

use std::fmt;

use runtime::fault::chain;
use tokio::sync::watch;

use super::LogError;

/// Why the log is not sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The last write failed. The log can be read.
    Unwritten(String),
    /// The log cannot be opened: it can be neither read nor written.
    Away(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unwritten(why) => write!(out, "the last write to it failed: {why}"),
            Self::Away(why) => out.write_str(why),
        }
    }
}

/// The one that there is.
#[derive(Debug)]
pub(super) struct Faults(watch::Sender<Option<Fault>>);

impl Faults {
    pub(super) fn none() -> Self {
        Self(watch::Sender::new(None))
    }

    pub(super) fn watch(&self) -> watch::Receiver<Option<Fault>> {
        self.0.subscribe()
    }

    pub(super) fn now(&self) -> Option<Fault> {
        self.0.borrow().clone()
    }

    /// That it cannot be opened says more, and stands until it is open.
    pub(super) fn unwritten(&self, error: &LogError) {
        if !matches!(self.now(), Some(Fault::Away(_))) {
            self.set(Some(Fault::Unwritten(chain(error))));
        }
    }

    pub(super) fn away(&self, error: &LogError) {
        self.set(Some(Fault::Away(chain(error))));
    }

    /// A file that was `renewed` was written as a whole; one that was only opened may still take no write.
    pub(super) fn opened(&self, renewed: bool) {
        if renewed || matches!(self.now(), Some(Fault::Away(_))) {
            self.set(None);
        }
    }

    pub(super) fn written(&self) {
        self.set(None);
    }

    fn set(&self, fault: Option<Fault>) {
        self.0.send_if_modified(|shown| {
            let changed = *shown != fault;
            *shown = fault;
            changed
        });
    }
}
