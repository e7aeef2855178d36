//! The event stream of one POST: messages of the server until its answer, ready for the client.
//!
//! A server may end a stream before the answer, on purpose or not. If its events had ids, the router asks the server
//! for the rest of them; the call is lost only if there is no rest.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use backoff::Backoff;
use bytes::{Buf, Bytes};
use futures_util::Stream;
use http::{HeaderValue, Method, StatusCode};
use mcp::sse::{Decoder, Event, EventTooLarge};
use tokio::time::Instant;

use super::awaited::{Awaited, explained};
use super::http1::READ_MAX;
use super::media::{Media, form, media};
use super::pool::{self, Body, Response};
use super::target::{LAST_EVENT_ID, event_id};
use crate::beside::{LONG, beside};
use crate::budget::Share;
use crate::call::{CallError, Cause};
use crate::endpoint::{Endpoint, EndpointEvent};
use crate::upstream::Link;
use crate::upstream::half_read::{HalfRead, Refused};
use crate::upstream::inbound::{Inbound, read};
use crate::upstream::unasked::Pace;

pub(super) struct HttpEvents {
    awaited: Awaited,
    from: Source,
    decoder: Decoder,
    /// Bytes that were read and are not decoded. They are not decoded until the client has taken what came before them.
    piece: Bytes,
    /// A large message that is being read beside the core.
    sorting: Option<Pin<Box<dyn Future<Output = (Inbound, Vec<u8>)> + Send>>>,
    ready: VecDeque<Bytes>,
    answered: bool,
    pace: Pace,
    /// Why something that came, and was no answer, could not be read.
    unread: Option<String>,
    resume: Resume,
    /// The room for an event that is not complete.
    half: HalfRead,
    /// The share of the message that is being parsed, if it is large.
    share: Option<Share>,
    /// Waits for room to read on.
    waiting: Option<Pin<Box<Waiting>>>,
}

type Waiting = dyn Future<Output = (HalfRead, Result<(), Refused>)> + Send;

/// Where messages come from.
enum Source {
    Stream(Body),
    /// The rest of the stream is being requested.
    Resuming(Pin<Box<dyn Future<Output = Result<Body, NotResumed>> + Send>>),
    Nowhere,
}

/// The rest of the stream was not available; `again`: it may be later, and asking does no harm.
struct NotResumed {
    error: CallError,
    again: bool,
}

/// What it takes to go on after a stream has ended.
struct Resume {
    last_event: Option<HeaderValue>,
    /// The reconnection time that the server asked for.
    wait: Option<Duration>,
    /// Tries since the last event.
    fruitless: u32,
    /// Streams in a row that ended soon and had no message.
    barren: u32,
    /// When the present stream was opened.
    opened: Instant,
    /// The stream is not the response to the POST any more. Some servers then send the stream that all calls share.
    again: bool,
}

/// How often in a row the rest of a stream is requested without any event coming.
const FRUITLESS: u32 = 5;
/// The pause before the rest is requested, however soon the server would like it. Some servers end every stream on
/// purpose, to be asked again: after a stream that lived for a while, or brought a message, the rest is requested at
/// once.
const RESUME: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
const LIVED: Duration = Duration::from_secs(5);
/// The longest pause, whatever the server asks for.
const WAIT_MAX: Duration = Duration::from_secs(30);

impl Resume {
    fn new() -> Self {
        Self { last_event: None, wait: None, fruitless: 0, barren: 0, opened: Instant::now(), again: false }
    }

    /// How long to wait before the next try.
    fn next(&mut self) -> Duration {
        if self.opened.elapsed() >= LIVED {
            self.barren = 0;
        }
        let least = RESUME.ceiling(self.barren);
        self.barren += 1;
        self.fruitless += 1;
        self.wait.map_or(least, |wait| wait.clamp(least, WAIT_MAX))
    }
}

impl HttpEvents {
    pub(super) fn new(awaited: Awaited, body: Body) -> Self {
        Self {
            decoder: decoder(&awaited),
            awaited,
            from: Source::Stream(body),
            piece: Bytes::new(),
            sorting: None,
            ready: VecDeque::new(),
            answered: false,
            pace: Pace::default(),
            unread: None,
            resume: Resume::new(),
            half: HalfRead::default(),
            share: None,
            waiting: None,
        }
    }

    /// Decodes the next event of what was read.
    fn take_next(&mut self) -> Result<(), CallError> {
        let mut left = &*self.piece;
        let event = self.pace.next(&mut self.decoder, &mut left);
        match left.len() {
            // An empty rest would still keep the whole piece in memory.
            0 => self.piece = Bytes::new(),
            left => self.piece.advance(self.piece.len() - left),
        }
        match event {
            Ok(Some(event)) => self.take_event(event),
            Ok(None) => Ok(()),
            Err(EventTooLarge { .. }) => Err(self.awaited.too_large()),
        }
    }

    fn take_event(&mut self, event: Event) -> Result<(), CallError> {
        // A complete event waits for its client to take it, and no longer for the server to end it.
        let whole = std::mem::take(&mut self.half).complete(event.data.len());
        self.resume.fruitless = 0;
        if let Some(id) = event.id.as_deref() {
            self.resume.last_event = event_id(id);
        }
        self.resume.wait = event.retry.map(Duration::from_millis).or(self.resume.wait);
        // Events without a message carry only ids and reconnection times.
        if event.data.is_empty() {
            self.pace.add(0);
            return Ok(());
        }
        self.resume.barren = 0;
        self.share = whole.map(|(share, _)| share);
        let message = event.data;
        if message.len() > LONG {
            self.sorting = Some(Box::pin(beside(move || (read(&message), message))));
            return Ok(());
        }
        self.take_message(read(&message), message)
    }

    fn take_message(&mut self, inbound: Inbound, message: Vec<u8>) -> Result<(), CallError> {
        let bytes = message.len();
        let share = self.share.take();
        let restore = &self.awaited.restore;
        match inbound {
            Inbound::Answer { id, span } if id == restore.id => {
                self.ready.push_back(restore.answer(&message, span));
                self.answer_came();
            }
            found @ (Inbound::NamelessError { .. } | Inbound::Malformed { id: None, answer: true, .. })
                if self.resume.again =>
            {
                self.unmatched(&found, &message);
            }
            Inbound::Answer { .. } | Inbound::Notification if self.resume.again => self.skipped(),
            Inbound::Malformed { id: Some(id), .. } if self.resume.again && id != restore.id => self.skipped(),
            Inbound::NamelessError { error } => {
                self.ready.push_back(restore.named(&message, error));
                self.answer_came();
            }
            Inbound::Progress { token, span } if token == restore.id => {
                self.ready.extend(restore.progress(&message, span));
            }
            Inbound::Request { method, reply } => {
                tracing::debug!(backend = self.awaited.server(), method, "a request of the server is answered here");
                if self.awaited.reply(reply) {
                    self.pace.replied();
                }
            }
            Inbound::ListChanged => self.awaited.endpoint.tell(EndpointEvent::ListChanged),
            Inbound::Notification => {
                let mark = message.len() - mcp::without_bom(&message).len();
                self.ready.push_back(Bytes::from(message).slice(mark..));
            }
            Inbound::Progress { .. } | Inbound::Stray => self.skipped(),
            Inbound::Malformed { answer: false, reason, .. } => {
                tracing::debug!(backend = self.awaited.server(), reason, "a message of the server cannot be read");
                self.unread = Some(reason);
            }
            // Only one call waits here, so the message was meant to be its answer.
            found @ (Inbound::Answer { .. } | Inbound::Malformed { .. }) => {
                return Err(self.awaited.unexpected(&found, &message));
            }
        }
        if let Some(share) = share {
            // Held until the client has its own place in the room.
            let passed_on = self.ready.pop_back().map(|message| share.of(message));
            self.ready.extend(passed_on);
        }
        if !self.answered {
            self.pace.add(bytes);
        }
        Ok(())
    }

    /// The message belongs to another call, or may belong to one.
    fn skipped(&self) {
        tracing::debug!(
            backend = self.awaited.server(),
            "a message on the stream of a call is not known to be its own"
        );
    }

    /// The message may be about any call, so its words are for operators; a call that times out reports that it came.
    fn unmatched(&self, found: &Inbound, message: &[u8]) {
        let endpoint = &self.awaited.endpoint;
        let nameless = matches!(found, Inbound::NamelessError { .. });
        let what = if nameless { "an error that names no request" } else { "a message that cannot be read" };
        let said = self.awaited.unexpected(found, message);
        let reference = said.detail.map(|detail| format!(" (reference {})", detail.reference));
        endpoint.note_unmatched(&format!("{what}{}", reference.unwrap_or_default()));
    }

    fn answer_came(&mut self) {
        self.answered = true;
        self.half = HalfRead::default();
        self.awaited.over();
    }

    /// The end of a stream mostly comes with its last event; if not, it is waited for elsewhere.
    fn end(&mut self, context: &mut Context<'_>) {
        while let Source::Stream(mut body) = std::mem::replace(&mut self.from, Source::Nowhere) {
            match body.poll_piece(0, context) {
                Poll::Ready(Some(Ok(_))) => self.from = Source::Stream(body),
                Poll::Ready(Some(Err(_)) | None) => {}
                // The client need not wait for a stream that its server leaves open.
                Poll::Pending => body.leave(&self.awaited.endpoint.upstreams),
            }
        }
    }

    /// The stream ended without the answer: requests the rest, or returns why it cannot.
    fn interrupted(&mut self, error: CallError) -> Result<(), CallError> {
        let error = match self.unread.take() {
            Some(reason) => {
                let message = format!("{}; before that, something came that cannot be read: {reason}", error.message);
                CallError { message, ..error }
            }
            None => error,
        };
        let (Some(link), Some(last)) = (&self.awaited.link, &self.resume.last_event) else { return Err(error) };
        if self.resume.fruitless == FRUITLESS {
            return Err(error);
        }
        let (endpoint, link, last) = (Arc::clone(&self.awaited.endpoint), Arc::clone(link), last.clone());
        self.from = Source::Resuming(Box::pin(rest(endpoint, link, last, self.resume.next())));
        self.decoder = decoder(&self.awaited);
        Ok(())
    }

    fn failed(&mut self, error: CallError) -> Poll<Option<Result<Bytes, CallError>>> {
        self.from = Source::Nowhere;
        self.answer_came();
        Poll::Ready(Some(Err(error)))
    }

    /// Ready once there is room for the bytes held of an incomplete event.
    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        let (held, endpoint) = (self.decoder.held(), &self.awaited.endpoint);
        if self.waiting.is_none() && !self.half.try_hold(held, endpoint) {
            let mut half = std::mem::take(&mut self.half);
            let endpoint = Arc::clone(endpoint);
            self.waiting = Some(Box::pin(async move {
                let outcome = half.hold(held, None, &endpoint).await;
                (half, outcome)
            }));
        }
        if let Some(waiting) = &mut self.waiting {
            let (half, outcome) = ready!(waiting.as_mut().poll(context));
            (self.half, self.waiting) = (half, None);
            if outcome.is_err() {
                return Poll::Ready(outcome);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads a little further. An error ends the call.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        if let Err(refused) = ready!(self.poll_room(context)) {
            return Poll::Ready(Err(refused.said(&self.awaited.endpoint)));
        }
        ready!(self.pace.poll_read(&self.awaited.endpoint.together, context));
        let body = match &mut self.from {
            Source::Stream(body) => body,
            Source::Resuming(rest) => {
                let outcome = ready!(rest.as_mut().poll(context));
                return Poll::Ready(match outcome {
                    Ok(opened) => {
                        self.resume.opened = Instant::now();
                        self.resume.again = true;
                        self.from = Source::Stream(opened);
                        Ok(())
                    }
                    Err(NotResumed { error, again: true }) => self.interrupted(error),
                    Err(NotResumed { error, again: false }) => Err(error),
                });
            }
            Source::Nowhere => return Poll::Ready(Ok(())),
        };
        // Checked also while pieces come without a pause: they may be no part of the event.
        if self.half.poll_too_slow(context).is_ready() {
            return Poll::Ready(Err(Refused::TooSlow.said(&self.awaited.endpoint)));
        }
        // Reads no more than the event needs: what follows would be held beside the event until the client takes it.
        let Poll::Ready(piece) = body.poll_piece(self.decoder.held().min(READ_MAX), context) else {
            return Poll::Pending;
        };
        Poll::Ready(match piece {
            Some(Ok(piece)) => {
                self.piece = piece;
                Ok(())
            }
            Some(Err(error)) => {
                let error = self.awaited.broken(&error);
                self.interrupted(error)
            }
            None => {
                self.from = Source::Nowhere;
                let server = self.awaited.server();
                let message = format!("the event stream of server `{server}` ended before the answer");
                self.interrupted(CallError::sent(Cause::Lost, message))
            }
        })
    }
}

fn decoder(awaited: &Awaited) -> Decoder {
    Decoder::new(usize::try_from(awaited.endpoint.response_max()).unwrap_or(usize::MAX))
}

/// Asks for the events after `last`.
async fn rest(endpoint: Arc<Endpoint>, link: Arc<Link>, last: HeaderValue, wait: Duration) -> Result<Body, NotResumed> {
    tokio::time::sleep(wait).await;
    let server = &endpoint.key.backend;
    let lost = |again: bool, what: String| {
        let message = format!("the event stream of server `{server}` ended before the answer, and {what}");
        NotResumed { error: CallError::sent(Cause::Lost, message), again }
    };
    let Link::Http(http) = &*link else { return Err(lost(false, "there is no way to resume it".to_owned())) };
    let mut request = http.target.bare(&Method::GET);
    request.header(&LAST_EVENT_ID, &last);
    let response = pool::send(&endpoint, &http.target, &mut request)
        .await
        .map_err(|error| lost(true, format!("could not be resumed: {}", error.message)))?;
    let Response { status, headers, body } = response;
    match status {
        StatusCode::OK if media(&headers) == Media::Events && body.coding().is_none() => Ok(body),
        StatusCode::OK => {
            let (form, said) = form(&endpoint.echo, status, &headers, &body);
            let NotResumed { error, again } = lost(false, format!("was not resumed: {form}"));
            Err(NotResumed { error: explained(error, &endpoint, &said), again })
        }
        _ => Err(lost(may_pass(status), format!("was not resumed: status {status}"))),
    }
}

/// Whether a server that refuses a GET with this status may well take it a little later.
fn may_pass(status: StatusCode) -> bool {
    matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
        || status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
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
            ready!(this.pace.poll_turn(&this.awaited.endpoint.together, context));
            if let Some(sorting) = &mut this.sorting {
                let (inbound, message) = ready!(sorting.as_mut().poll(context));
                this.sorting = None;
                if let Err(error) = this.take_message(inbound, message) {
                    return this.failed(error);
                }
                continue;
            }
            let taken = if this.piece.is_empty() { ready!(this.poll_read(context)) } else { this.take_next() };
            if let Err(error) = taken {
                return this.failed(error);
            }
        }
    }
}
