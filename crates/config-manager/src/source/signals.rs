//! What the source's task is woken for. Any number of equal wishes are one, so nothing can overflow.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(crate) struct Signals {
    look: AtomicBool,
    read: AtomicBool,
    whole: AtomicBool,
    in_place: AtomicBool,
    wake: Notify,
}

/// What was wished since the last time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wished {
    pub(super) look: bool,
    pub(super) read: bool,
    pub(super) whole: bool,
    pub(super) in_place: bool,
}

impl Signals {
    /// Asks for a look at the file's size and time.
    pub(crate) fn look(&self) {
        self.set(&self.look);
    }

    /// Asks for the file's text.
    pub(crate) fn read(&self) {
        self.set(&self.read);
    }

    /// Something was written; `whole`: and it is complete.
    pub(super) fn written(&self, whole: bool) {
        self.set(if whole { &self.whole } else { &self.in_place });
    }

    fn set(&self, flag: &AtomicBool) {
        flag.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    pub(super) async fn wished(&self) -> Wished {
        self.wake.notified().await;
        let take = |flag: &AtomicBool| flag.swap(false, Ordering::AcqRel);
        Wished {
            look: take(&self.look),
            read: take(&self.read),
            whole: take(&self.whole),
            in_place: take(&self.in_place),
        }
    }
}
