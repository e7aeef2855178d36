//! The signals that wake the source's task. Any number of equal requests are one, so nothing can overflow.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use rollout::cursor::Write;
use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(crate) struct Signals {
    look: AtomicBool,
    read: AtomicBool,
    whole: AtomicBool,
    in_place: AtomicBool,
    /// What the last event said of the writer: 0 if none did since the last time, else [`OPEN`] or [`CLOSED`].
    writer: AtomicU8,
    wake: Notify,
}

const OPEN: u8 = 1;
const CLOSED: u8 = 2;

/// The requests since the last time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wished {
    pub(super) look: bool,
    pub(super) read: bool,
    pub(super) whole: bool,
    /// How the file was written, if it was written in place.
    pub(super) in_place: Option<Write>,
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

    /// Something was written. Of several writes in place the last one says whether the writer has the file open.
    pub(super) fn written(&self, write: Write) {
        match write {
            Write::Complete => return self.set(&self.whole),
            Write::Polled => return self.set(&self.look),
            Write::Open => self.writer.store(OPEN, Ordering::Release),
            Write::Closed => self.writer.store(CLOSED, Ordering::Release),
            Write::InPlace => {}
        }
        self.set(&self.in_place);
    }

    fn set(&self, flag: &AtomicBool) {
        flag.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    pub(super) async fn wished(&self) -> Wished {
        self.wake.notified().await;
        let take = |flag: &AtomicBool| flag.swap(false, Ordering::AcqRel);
        let in_place = take(&self.in_place).then(|| match self.writer.swap(0, Ordering::AcqRel) {
            OPEN => Write::Open,
            CLOSED => Write::Closed,
            _ => Write::InPlace,
        });
        Wished { look: take(&self.look), read: take(&self.read), whole: take(&self.whole), in_place }
    }
}
