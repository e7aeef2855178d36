//! The answer to one call as events. It ends with the response, written by the server or by the gateway.
//!
//! The exchange is a task of its core: it reads from the server, and ends by the router's clock, whatever its client
//! does. The client gets what there is room for. If the client does not read, reading from the server soon stops, until
//! the connection is given up (`limits.write`). If the client goes away, nothing is cancelled: the call runs to its
//! end.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::StreamExt;
use http::Response;
use mcp::Message;

use super::answer;
use super::answer::body::Body;
use super::answer::outbox::{self, Outbox, event};
use super::conclusion::{self, Conclusion, Exchange};
use super::fault::Fault;
use super::traced::Traced;
use crate::beside::{LONG, beside};
use crate::call::EventStream;
use crate::call::life;
use crate::core::Core;
use crate::core::in_flight::{EndedBy, Ticket};
use crate::generation::Admitted;

/// A call whose server answers with events. It holds its admission and its place until the response.
pub(super) struct Open {
    pub(super) events: EventStream,
    pub(super) ticket: Ticket,
    pub(super) admitted: Admitted,
    pub(super) exchange: Exchange,
    /// Raw, as the client wrote it.
    pub(super) id: Bytes,
    pub(super) traced: Option<Box<Traced>>,
    /// The fault in the last message that the server sent. The message itself is not kept: nothing bounds spans.
    pub(super) fault: Option<Fault>,
}

/// Runs the call to its end, in a task beside the answer that this returns.
pub(super) fn begin(core: Rc<Core>, open: Open) -> Response<Body> {
    let (outbox, outlet) = outbox::new(&core.shared.budget);
    let revision = open.admitted.lease.revision;
    tokio::task::spawn_local(open.run(core, outbox));
    answer::events(revision, Body::Call(outlet))
}

enum Step {
    Message(Bytes),
    /// The response was the message before.
    Done,
    /// The gateway writes this response; none if the client has cancelled.
    Failed(Option<Vec<u8>>),
}

impl Open {
    async fn run(mut self, core: Rc<Core>, outbox: Outbox) {
        let last = loop {
            match poll_fn(|context| self.poll(&core, context)).await {
                Step::Message(message) => {
                    if let Err(cause) = self.wait_for_room(&core, &outbox, &message).await {
                        break self.ended(&core, cause);
                    }
                    self.pass_on(&core, &outbox, &message).await;
                }
                Step::Done => break None,
                Step::Failed(last) => break last,
            }
        };
        // Admission and place are freed before the client can see the response.
        drop(self);
        if let Some(last) = last {
            let _small = outbox.put(event(&last), || core.buffered_bytes());
        }
    }

    /// A message without room is lost: progress may be lost at any time; a response is replaced by an error.
    async fn pass_on(&self, core: &Core, outbox: &Outbox, message: &Bytes) {
        let limit = || core.buffered_bytes();
        let event_of_it = if message.len() > LONG { Box::pin(large_event(message)).await } else { event(message) };
        if outbox.put(event_of_it, limit) {
            return;
        }
        if is_response(message).await {
            let lost = conclusion::lost(text(&self.id), message.len(), limit());
            let _small = outbox.put(event(&lost), limit);
        } else {
            metrics::counter!("only1mcp_router_progress_dropped_total").increment(1);
        }
    }

    /// Waits for a client that is behind. Meanwhile its server cannot be told from a silent one, so `limits.idle` is
    /// suspended; no other limit is.
    async fn wait_for_room(&self, core: &Core, outbox: &Outbox, message: &Bytes) -> Result<(), EndedBy> {
        if outbox.has_room() || is_response(message).await {
            return Ok(());
        }
        // A message for which the budget has no room does not wait: it is lost at once.
        let charge = core.shared.budget.try_charge(message.len(), core.buffered_bytes());
        if charge.is_none() {
            return Ok(());
        }
        outbox.is_waited_for(message.len());
        let room = self.ticket.run(pin!(life::deaf(poll_fn(|context| outbox.poll_room(context))))).await;
        self.ticket.seen(core.now());
        room
    }

    fn poll(&mut self, core: &Core, context: &mut Context<'_>) -> Poll<Step> {
        let ended = self.ticket.poll_ended(context);
        let Self { ticket, events, .. } = self;
        if let Poll::Ready(cause) = ended {
            // The response may have been the message before: then the call is answered, and gets no other response.
            return Poll::Ready(match events.poll_next_unpin(context) {
                Poll::Ready(None) => self.answered(core),
                Poll::Ready(Some(_)) | Poll::Pending => Step::Failed(self.ended(core, cause)),
            });
        }
        Poll::Ready(match ready!(ticket.watch(|| events.poll_next_unpin(context))) {
            Some(Ok(message)) => {
                self.ticket.seen(core.now());
                self.fault = Fault::of(&message);
                Step::Message(message)
            }
            Some(Err(error)) => {
                let traced = self.traced.take();
                Step::Failed(Some(self.exchange.failed(core, &self.admitted, text(&self.id), &error, traced)))
            }
            None => self.answered(core),
        })
    }

    fn answered(&mut self, core: &Core) -> Step {
        self.exchange.conclude(core, &self.admitted, &Conclusion::Answered(self.fault), self.traced.take());
        Step::Done
    }

    fn ended(&mut self, core: &Core, cause: EndedBy) -> Option<Vec<u8>> {
        self.exchange.ended(core, &self.admitted, text(&self.id), cause, self.traced.take())
    }
}

fn text(id: &[u8]) -> &str {
    std::str::from_utf8(id).unwrap_or("null")
}

/// Whether the message is the response. The response always has its place, so that the exchange can end with it.
async fn is_response(message: &Bytes) -> bool {
    let look = |message: &[u8]| {
        mcp::scan(message)
            .is_ok_and(|envelope| matches!(envelope.message, Message::Response { .. } | Message::Error { .. }))
    };
    if message.len() <= LONG {
        return look(message);
    }
    let message = message.clone();
    Box::pin(beside(move || look(&message))).await
}

async fn large_event(message: &Bytes) -> Bytes {
    let message = message.clone();
    beside(move || event(&message)).await
}
