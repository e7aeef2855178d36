//! The event stream of one POST: messages of the server until its answer, ready for the client.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use mcp::sse::{Decoder, Event};

use super::http_answer::{Exchange, too_large};
use super::http_pool::Borrowed;
use super::inbound::{Inbound, read};
use crate::call::{CallError, Cause};
use crate::endpoint::EndpointEvent;

pub(super) struct HttpEvents {
    exchange: Exchange,
    /// Taken when it ended or is no longer wanted.
    body: Option<(Incoming, Borrowed)>,
    decoder: Decoder,
    events: Vec<Event>,
    ready: VecDeque<Bytes>,
    answered: bool,
    /// How often the end of the stream was waited for by polling once more.
    yields: u8,
}

/// The end of a stream mostly comes with its last event and needs only a turn of the connection's own task.
const YIELDS: u8 = 4;
/// For a stream that is not ended after its answer. Until then its connection serves nobody else.
const LINGER: Duration = Duration::from_secs(1);

impl HttpEvents {
    pub(super) fn new(exchange: Exchange, body: Incoming, borrowed: Borrowed) -> Self {
        let decoder = Decoder::new(usize::try_from(exchange.limit()).unwrap_or(usize::MAX));
        Self {
            exchange,
            body: Some((body, borrowed)),
            decoder,
            events: Vec::new(),
            ready: VecDeque::new(),
            answered: false,
            yields: 0,
        }
    }

    fn take_events(&mut self) {
        for event in std::mem::take(&mut self.events) {
            // Events without data carry only ids and reconnection times.
            if !event.data.is_empty() && !self.answered {
                self.take_message(event.data);
            }
        }
    }

    fn take_message(&mut self, message: Vec<u8>) {
        let restore = &self.exchange.restore;
        match read(&message) {
            Inbound::Answer { id, span } if id == restore.id => {
                self.ready.push_back(restore.answer(&message, span));
                self.answer_came();
            }
            Inbound::NamelessError { error } => {
                self.ready.push_back(restore.named(&message, error));
                self.answer_came();
            }
            Inbound::Progress { token, span } if token == restore.id => {
                self.ready.extend(restore.progress(&message, span));
            }
            Inbound::Request { method, reply } => {
                tracing::debug!(backend = self.exchange.server(), method, "a request of the server is answered here");
                self.exchange.aside(reply);
            }
            Inbound::ListChanged => self.exchange.endpoint.tell(EndpointEvent::ListChanged),
            Inbound::Notification => self.ready.push_back(message.into()),
            stray
            @ (Inbound::Answer { .. } | Inbound::Progress { .. } | Inbound::Stray | Inbound::Malformed { .. }) => {
                tracing::debug!(backend = self.exchange.server(), ?stray, "a message of the server is for nobody");
            }
        }
    }

    fn answer_came(&mut self) {
        self.answered = true;
        self.exchange.over();
    }

    /// Ready when the connection is taken care of.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while let Some((mut body, borrowed)) = self.body.take() {
            match Pin::new(&mut body).poll_frame(context) {
                Poll::Ready(Some(Ok(_))) => self.body = Some((body, borrowed)),
                Poll::Ready(Some(Err(_))) => break,
                Poll::Ready(None) => borrowed.give_back(),
                Poll::Pending if self.yields < YIELDS => {
                    self.yields += 1;
                    self.body = Some((body, borrowed));
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Pending => self.linger(body, borrowed),
            }
        }
        Poll::Ready(())
    }

    /// The client need not wait for a stream that its server leaves open.
    fn linger(&self, mut body: Incoming, borrowed: Borrowed) {
        self.exchange.endpoint.upstreams.tasks.spawn("end of an event stream", async move {
            let rest = async {
                loop {
                    match body.frame().await {
                        Some(Ok(_)) => {}
                        Some(Err(_)) => return false,
                        None => return true,
                    }
                }
            };
            if tokio::time::timeout(LINGER, rest).await == Ok(true) {
                borrowed.give_back();
            }
        });
    }

    fn failed(&mut self, error: CallError) -> Poll<Option<Result<Bytes, CallError>>> {
        self.body = None;
        self.answer_came();
        Poll::Ready(Some(Err(error)))
    }
}

impl Stream for HttpEvents {
    type Item = Result<Bytes, CallError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(message) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(message)));
            }
            if this.answered {
                ready!(this.poll_end(context));
                return Poll::Ready(None);
            }
            let Some((body, _)) = &mut this.body else { return Poll::Ready(None) };
            match ready!(Pin::new(body).poll_frame(context)) {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    let too_much = this.decoder.push(&data, &mut this.events).is_err();
                    this.take_events();
                    if too_much && !this.answered {
                        let error = too_large(&this.exchange);
                        return this.failed(error);
                    }
                }
                Some(Err(error)) => {
                    let error = this.exchange.broken(&error);
                    return this.failed(error);
                }
                None => {
                    let server = this.exchange.server();
                    let message = format!("the event stream of server `{server}` ended before the answer");
                    return this.failed(CallError::sent(Cause::Lost, message));
                }
            }
        }
    }
}
