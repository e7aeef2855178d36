//! How much of an unfinished line of a child may be held. Where there is no room for more, the child holds the rest.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};

use crate::budget::Share;
use crate::endpoint::Endpoint;
use crate::upstream::half_read::{HalfRead, Refused};

type Waiting = dyn Future<Output = (HalfRead, Result<(), Refused>)> + Send;

/// Holds nothing at first.
#[derive(Default)]
pub(super) struct HalfLine {
    held: Option<HalfRead>,
    waits: Option<Pin<Box<Waiting>>>,
}

impl HalfLine {
    pub(super) fn is_held(&self) -> bool {
        self.held.is_some() || self.waits.is_some()
    }

    /// Whether more of the line may be read.
    pub(super) fn may_grow(&self) -> bool {
        self.waits.is_none()
    }

    /// Notes that `bytes` of the line are there now.
    pub(super) fn is_now(&mut self, bytes: usize, endpoint: &Arc<Endpoint>) {
        if self.waits.is_some() {
            return;
        }
        let mut held = self.held.take().unwrap_or_else(HalfRead::of_line);
        if held.try_hold(bytes, endpoint) {
            self.held = Some(held);
            return;
        }
        let (write, endpoint) = (endpoint.limits().write, Arc::clone(endpoint));
        self.waits = Some(Box::pin(async move {
            let hold = async move {
                let outcome = held.hold(bytes, None, &endpoint).await;
                (held, outcome)
            };
            let none = |_| (HalfRead::of_line(), Err(Refused::NoRoom(bytes)));
            tokio::time::timeout(write, hold).await.unwrap_or_else(none)
        }));
    }

    /// Returns when there is room for more of the line, or why no more of it may be held. While the child is not
    /// `heard` (its output is not read), it does not count as too slow.
    pub(super) async fn changed(&mut self, heard: bool) -> Result<(), Refused> {
        poll_fn(|context| {
            if let Some(waits) = &mut self.waits {
                let (held, outcome) = ready!(waits.as_mut().poll(context));
                (self.held, self.waits) = (outcome.is_ok().then_some(held), None);
                return Poll::Ready(outcome);
            }
            match &mut self.held {
                Some(held) if heard => held.poll_too_slow(context).map(|()| Err(Refused::TooSlow)),
                _ => Poll::Pending,
            }
        })
        .await
    }

    /// The line is complete, or is not kept. A large line has its share of the room for as long as it is held.
    pub(super) fn end(&mut self, bytes: usize) -> Option<Share> {
        self.waits = None;
        self.held.take()?.complete(bytes).map(|(share, _)| share)
    }
}
