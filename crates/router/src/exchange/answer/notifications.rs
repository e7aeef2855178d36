//! The stream that a session listens on: it tells the client when a list that the client has seen has changed.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use mcp::{ByKind, Kind, message};
use model::Time;
use tokio::sync::futures::OwnedNotified;
use tokio::time::Interval;
use tokio_stream::wrappers::WatchStream;

use super::outbox::event;
use crate::core::{Core, Shared};
use crate::session::{Listener, Session};

/// How often a silent stream sends a comment, so that no intermediary cuts it.
const KEEP_ALIVE: Duration = Duration::from_secs(25);
const COMMENT: Bytes = Bytes::from_static(b": keep-alive\n\n");

pub(crate) struct NotificationStream {
    session: Session,
    id: u64,
    since: Time,
    shared: Arc<Shared>,
    turns: WatchStream<ByKind<u64>>,
    /// Turns of lists of which this session may still have to be told.
    pending: Option<ByKind<u64>>,
    keep_alive: Interval,
    /// Ready when another stream of the session gets notifications, or the session has ended.
    changed: Pin<Box<OwnedNotified>>,
    closing: Pin<Box<dyn Future<Output = ()>>>,
}

impl NotificationStream {
    pub(crate) fn open(core: &Core, session: Session) -> Self {
        let mut keep_alive = tokio::time::interval(KEEP_ALIVE);
        keep_alive.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let id = core.next_stream();
        session.known.takes(id);
        Self {
            changed: Box::pin(session.known.changed()),
            session,
            id,
            since: core.clients.now(),
            shared: Arc::clone(&core.shared),
            turns: WatchStream::new(core.shared.live.list_turns()),
            pending: None,
            keep_alive,
            closing: Box::pin(core.draining.clone().cancelled_owned()),
        }
    }

    pub(crate) fn listener(&self) -> Listener {
        Listener { known: Arc::clone(&self.session.known), stream: self.id, since: self.since }
    }

    /// The next event. The stream ends with the session, when the core drains, and when the session has as many newer
    /// streams as it may.
    pub(crate) fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        while let Poll::Ready(turns) = self.turns.poll_next_unpin(context) {
            let Some(turns) = turns else { return Poll::Ready(None) };
            self.pending = Some(turns);
        }
        while self.changed.as_mut().poll(context).is_ready() {
            self.changed.set(self.session.known.changed());
        }
        let known = &self.session.known;
        if known.has_ended() || !known.has_stream(self.id) || self.closing.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        if let Some(turns) = self.pending
            && self.session.known.claims(self.id)
        {
            for kind in Kind::SERVED {
                if self.session.known.to_be_told(kind, turns[kind]) {
                    let (revision, turn) = (self.shared.live.load().revision.0, turns[kind]);
                    tracing::debug!(revision, turn, list = kind.array(), "list_changed sent");
                    return Poll::Ready(Some(event(&message::notification(kind.list_changed(), None))));
                }
            }
            self.pending = None;
        }
        // The first comment comes at once: it sends the head, so the client knows that the stream is open.
        self.keep_alive.poll_tick(context).map(|_| Some(COMMENT))
    }
}

impl Drop for NotificationStream {
    fn drop(&mut self) {
        self.session.known.gives_up(self.id, self.shared.sessions.now());
    }
}

impl std::fmt::Debug for NotificationStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NotificationStream({})", self.id)
    }
}
