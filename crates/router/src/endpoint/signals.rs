//! Carries events of endpoints to the fleet: a flag per event and endpoint, and one wake-up.
//!
//! However often a server says something (that its list has changed, say), it raises a flag that may be up already. So
//! what waits here is bounded by the number of endpoints, and telling never waits, on any core.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::EndpointEvent;

/// Raised by endpoints, lowered only by the fleet's task (`control.rs`).
#[derive(Debug, Default)]
pub struct Signals {
    raised: Mutex<Raised>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Raised {
    by_number: BTreeMap<u64, Flags>,
    /// The endpoint whose turn was last: those after it come first, so that an endpoint that raises again at once
    /// delays no other.
    last: u64,
}

/// The flags of one endpoint.
#[derive(Debug, Default)]
struct Flags {
    list_changed: bool,
    renewed: bool,
    /// With the newest reason.
    lost: Option<Arc<str>>,
    wanted: bool,
    empty: bool,
}

impl Flags {
    fn raise(&mut self, event: EndpointEvent) {
        match event {
            EndpointEvent::ListChanged => self.list_changed = true,
            EndpointEvent::Renewed => self.renewed = true,
            EndpointEvent::Lost { reason } => self.lost = Some(reason),
            EndpointEvent::Wanted => self.wanted = true,
            EndpointEvent::Empty => self.empty = true,
        }
    }

    fn lower(&mut self) -> Option<EndpointEvent> {
        if std::mem::take(&mut self.renewed) {
            return Some(EndpointEvent::Renewed);
        }
        if std::mem::take(&mut self.list_changed) {
            return Some(EndpointEvent::ListChanged);
        }
        if let Some(reason) = self.lost.take() {
            return Some(EndpointEvent::Lost { reason });
        }
        if std::mem::take(&mut self.wanted) {
            return Some(EndpointEvent::Wanted);
        }
        std::mem::take(&mut self.empty).then_some(EndpointEvent::Empty)
    }
}

impl Signals {
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The endpoint with that number has something to say. Saying it twice is saying it once.
    pub(crate) fn raise(&self, number: u64, event: EndpointEvent) {
        let mut raised = self.lock();
        let idle = raised.by_number.is_empty();
        raised.by_number.entry(number).or_default().raise(event);
        drop(raised);
        if idle {
            self.wake.notify_one();
        }
    }

    /// The next event, with the number of its endpoint; waits while there is none. Only for the fleet's task; if the
    /// future is dropped before it is ready, it has taken nothing.
    pub async fn next(&self) -> (u64, EndpointEvent) {
        loop {
            if let Some(event) = self.try_next() {
                return event;
            }
            self.wake.notified().await;
        }
    }

    /// The next event, if there is one.
    pub fn try_next(&self) -> Option<(u64, EndpointEvent)> {
        let mut raised = self.lock();
        loop {
            let after = (Bound::Excluded(raised.last), Bound::Unbounded);
            let next = raised.by_number.range(after).next().or_else(|| raised.by_number.iter().next());
            let number = *next?.0;
            match raised.by_number.get_mut(&number).and_then(Flags::lower) {
                Some(event) => {
                    raised.last = number;
                    return Some((number, event));
                }
                None => drop(raised.by_number.remove(&number)),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Raised> {
        // Flags are valid even if a task that raised one panicked.
        self.raised.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_one_event_and_holds_up_none_of_the_others() {
        let signals = Signals::new();
        for _ in 0..100_000 {
            signals.raise(1, EndpointEvent::ListChanged);
        }
        signals.raise(2, EndpointEvent::Empty);
        signals.raise(3, EndpointEvent::Lost { reason: "first".into() });
        signals.raise(3, EndpointEvent::Lost { reason: "second".into() });
        assert_eq!(signals.try_next(), Some((1, EndpointEvent::ListChanged)));
        signals.raise(1, EndpointEvent::ListChanged);
        assert_eq!(signals.try_next(), Some((2, EndpointEvent::Empty)), "the loud one waits for its turn");
        assert_eq!(signals.try_next(), Some((3, EndpointEvent::Lost { reason: "second".into() })));
        assert_eq!(signals.try_next(), Some((1, EndpointEvent::ListChanged)));
        assert_eq!(signals.try_next(), None);
        assert!(signals.lock().by_number.is_empty(), "what is done leaves nothing");
    }

    #[test]
    fn who_waits_is_woken_and_a_wait_that_was_given_up_takes_nothing() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let signals = Signals::new();
            assert!(futures_util::poll!(std::pin::pin!(signals.next())).is_pending());
            signals.raise(7, EndpointEvent::Renewed);
            assert_eq!(signals.next().await, (7, EndpointEvent::Renewed));
            let waiting = tokio::join!(signals.next(), async { signals.raise(8, EndpointEvent::Empty) });
            assert_eq!(waiting.0, (8, EndpointEvent::Empty));
        });
    }
}
