//! The event stream of one POST: messages of the server until its answer, ready for the client.
//!
//! A server may end a stream before the answer, on purpose or not. If its events had ids, it is asked for the rest of
//! them; only if it has none is the call lost.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderValue, Method, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;
use mcp::sse::{Decoder, Event};

use super::Link;
use super::http_answer::{Exchange, too_large};
use super::http_pool::{self, Body};
use super::http_target::LAST_EVENT_ID;
use super::inbound::{Inbound, read};
use crate::call::{CallError, Cause};
use crate::endpoint::{Endpoint, EndpointEvent};

pub(super) struct HttpEvents {
    exchange: Exchange,
    from: Source,
    decoder: Decoder,
    events: Vec<Event>,
    ready: VecDeque<Bytes>,
    answered: bool,
    resume: Resume,
}

/// Where messages come from.
enum Source {
    Stream(Body),
    /// The rest of them is being asked for.
    Resuming(Pin<Box<dyn Future<Output = Result<Body, CallError>> + Send>>),
    Nowhere,
}

/// What it takes to go on after a stream has ended.
#[derive(Default)]
struct Resume {
    last_event: Option<HeaderValue>,
    /// As the server wishes.
    wait: Option<Duration>,
    /// Tries since the last event.
    fruitless: u32,
}

/// For a stream that is not ended after its answer. Until then its connection serves nobody else.
const LINGER: Duration = Duration::from_secs(1);
/// How often in a row the rest of a stream is asked for without any event coming.
const FRUITLESS: u32 = 5;
/// Before the rest is asked for, if the server does not say, and at most.
const WAIT: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(30);

impl HttpEvents {
    pub(super) fn new(exchange: Exchange, body: Body) -> Self {
        Self {
            decoder: decoder(&exchange),
            exchange,
            from: Source::Stream(body),
            events: Vec::new(),
            ready: VecDeque::new(),
            answered: false,
            resume: Resume::default(),
        }
    }

    fn take_events(&mut self) {
        for event in std::mem::take(&mut self.events) {
            self.resume.fruitless = 0;
            if let Some(id) = event.id.as_deref() {
                self.resume.last_event = HeaderValue::from_str(id).ok().filter(|_| !id.is_empty());
            }
            self.resume.wait = event.retry.map(Duration::from_millis).or(self.resume.wait);
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
            Inbound::Notification => {
                let mark = message.len() - mcp::without_bom(&message).len();
                self.ready.push_back(Bytes::from(message).slice(mark..));
            }
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

    /// The end of a stream mostly comes with its last event; if not, it is waited for elsewhere.
    fn end(&mut self, context: &mut Context<'_>) {
        while let Source::Stream(mut body) = std::mem::replace(&mut self.from, Source::Nowhere) {
            match Pin::new(&mut body).poll_frame(context) {
                Poll::Ready(Some(Ok(_))) => self.from = Source::Stream(body),
                Poll::Ready(Some(Err(_)) | None) => {}
                Poll::Pending => self.linger(body),
            }
        }
    }

    /// The client need not wait for a stream that its server leaves open.
    fn linger(&self, mut body: Body) {
        self.exchange.endpoint.upstreams.tasks.spawn("end of an event stream", async move {
            let rest = async { while let Some(Ok(_)) = body.frame().await {} };
            // Whether it came in time: the body knows what becomes of its connection.
            drop(tokio::time::timeout(LINGER, rest).await);
        });
    }

    /// The stream is over and the answer not there: asks for the rest, or says why it cannot.
    fn interrupted(&mut self, error: CallError) -> Result<(), CallError> {
        let Resume { last_event, wait, fruitless } = &mut self.resume;
        let (Some(link), Some(last)) = (&self.exchange.link, last_event.as_ref()) else { return Err(error) };
        if *fruitless == FRUITLESS {
            return Err(error);
        }
        *fruitless += 1;
        let wait = wait.unwrap_or(WAIT * *fruitless).min(WAIT_MAX);
        let rest = rest(Arc::clone(&self.exchange.endpoint), Arc::clone(link), last.clone(), wait);
        self.from = Source::Resuming(Box::pin(rest));
        self.decoder = decoder(&self.exchange);
        Ok(())
    }

    fn failed(&mut self, error: CallError) -> Poll<Option<Result<Bytes, CallError>>> {
        self.from = Source::Nowhere;
        self.answer_came();
        Poll::Ready(Some(Err(error)))
    }

    /// Reads a little further. An error ends the call.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        let body = match &mut self.from {
            Source::Stream(body) => body,
            Source::Resuming(rest) => {
                let outcome = ready!(rest.as_mut().poll(context));
                return Poll::Ready(match outcome {
                    Ok(opened) => {
                        self.from = Source::Stream(opened);
                        Ok(())
                    }
                    Err(error) if error.cause == Cause::Connect => self.interrupted(error),
                    Err(error) => Err(error),
                });
            }
            Source::Nowhere => return Poll::Ready(Ok(())),
        };
        Poll::Ready(match ready!(Pin::new(body).poll_frame(context)) {
            Some(Ok(frame)) => {
                let data = frame.into_data().unwrap_or_default(); // trailers say nothing
                let too_much = self.decoder.push(&data, &mut self.events).is_err();
                self.take_events();
                if too_much && !self.answered { Err(too_large(&self.exchange)) } else { Ok(()) }
            }
            Some(Err(error)) => {
                let error = self.exchange.broken(&error);
                self.interrupted(error)
            }
            None => {
                self.from = Source::Nowhere;
                let server = self.exchange.server();
                let message = format!("the event stream of server `{server}` ended before the answer");
                self.interrupted(CallError::sent(Cause::Lost, message))
            }
        })
    }
}

fn decoder(exchange: &Exchange) -> Decoder {
    Decoder::new(usize::try_from(exchange.limit()).unwrap_or(usize::MAX))
}

/// Asks for the events after `last`.
async fn rest(endpoint: Arc<Endpoint>, link: Arc<Link>, last: HeaderValue, wait: Duration) -> Result<Body, CallError> {
    tokio::time::sleep(wait).await;
    let server = &endpoint.key.backend;
    let lost = |what: String| {
        let message = format!("the event stream of server `{server}` ended before the answer, and {what}");
        CallError::sent(Cause::Lost, message)
    };
    let Link::Http(http) = &*link else { return Err(lost("there is no way to resume it".to_owned())) };
    let mut request = http.target.bare(&Method::GET);
    request.header(&LAST_EVENT_ID, &last);
    let response = http_pool::send(&endpoint, &http.target, &request).await.map_err(|error| {
        let cause = error.cause;
        CallError { cause, ..lost(format!("could not be resumed: {error}")) }
    })?;
    match response.status() {
        StatusCode::OK => Ok(response.into_body()),
        status => Err(lost(format!("was not resumed: status {status}"))),
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
                this.end(context);
                return Poll::Ready(None);
            }
            if let Err(error) = ready!(this.poll_read(context)) {
                return this.failed(error);
            }
        }
    }
}
