//! The GET stream on which an HTTP server says that one of its lists has changed, where it offers one.
//!
//! What a server announces while no stream is open is lost, also between its list and the first stream. So each stream
//! that opens counts as one announcement: that costs a list request, and changes nothing for clients if the list is as
//! before.

use std::future::poll_fn;
use std::sync::{Arc, Weak};
use std::task::Context;
use std::time::Duration;

use backoff::Backoff;
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use mcp::sse::{Decoder, Event};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::http1::{Http1Error, READ_MAX};
use super::media::{Media, form, media};
use super::pool::{self, Body, Response};
use super::target::{LAST_EVENT_ID, event_id};
use super::{Aside, HttpLink};
use crate::endpoint::{Endpoint, EndpointEvent};
use crate::upstream::inbound::{Inbound, read};
use crate::upstream::unasked::Pace;
use crate::upstream::{Doubt, Link};

/// The pause between two streams. A stream that ended sooner than [`LIVED`] has proved nothing: the next one is
/// requested later, however soon the server would like it; a little sooner if the stream had brought something.
const RETRY: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(30));
const LIVED: Duration = Duration::from_secs(5);
const PROMPT: u32 = 2;
/// Bytes of one event.
const MAX_EVENT: usize = 4 << 20;

/// How one stream ended.
enum End {
    /// The server offers no stream: that is no failure, and is not tried again.
    NotOffered,
    /// The session may be gone; then its successor will listen.
    SessionInDoubt(StatusCode),
    /// The stream ended after it had been open.
    Closed {
        /// The reconnection time that the server asked for.
        retry: Option<Duration>,
        carried: bool,
        lived: Duration,
    },
    /// The stream could not be opened.
    Failed(String),
}

struct Listener {
    link: Arc<Link>,
    last_event: Option<HeaderValue>,
    /// A stream was open before: the server offers them.
    offered: bool,
    /// Over all streams: every message on them is unsolicited.
    pace: Pace,
}

/// Listens until the connection is replaced or its endpoint ends.
pub(crate) async fn listen(endpoint: Weak<Endpoint>, link: Arc<Link>, replaced: CancellationToken) {
    let mut listener = Listener { link, last_event: None, offered: false, pace: Pace::default() };
    tokio::select! {
        () = replaced.cancelled() => {}
        () = listener.run(&endpoint) => {}
    }
}

impl Listener {
    async fn run(&mut self, endpoint: &Weak<Endpoint>) {
        let mut failures = 0;
        loop {
            // Held for one stream at a time; the stream ends with the endpoint.
            let Some(endpoint) = endpoint.upgrade() else { return };
            let server = &endpoint.key.backend;
            let wait = match self.stream(&endpoint).await {
                End::NotOffered => return tracing::debug!(%server, "the server offers no stream of announcements"),
                End::SessionInDoubt(status) => {
                    let fallen = Box::pin(self.link.has_fallen(&endpoint, Doubt::Session)).await;
                    // The endpoint knows what becomes of a renewal, and tells the fleet.
                    if fallen && Box::pin(endpoint.renew(self.link.number())).await.unwrap_or(true) {
                        return;
                    }
                    tracing::debug!(%server, %status, "the stream of announcements cannot be opened");
                    failures += 1;
                    RETRY.ceiling(failures)
                }
                End::Closed { retry, carried, lived } => {
                    failures = if lived >= LIVED { 0 } else { failures };
                    let least = RETRY.ceiling(failures);
                    failures = if carried { (failures + 1).min(PROMPT) } else { failures + 1 };
                    retry.map_or(least, |retry| retry.clamp(least, RETRY.cap))
                }
                End::Failed(reason) => {
                    tracing::debug!(%server, reason, "the stream of announcements cannot be opened");
                    failures += 1;
                    RETRY.ceiling(failures)
                }
            };
            drop(endpoint);
            tokio::time::sleep(wait).await;
        }
    }

    async fn stream(&mut self, endpoint: &Arc<Endpoint>) -> End {
        // Boxed, so that a stream that is open keeps no room for what opening it takes.
        match Box::pin(self.open(endpoint)).await {
            Ok(body) => self.read(endpoint, body).await,
            Err(end) => end,
        }
    }

    async fn open(&mut self, endpoint: &Arc<Endpoint>) -> Result<Body, End> {
        let Link::Http(http) = &*self.link else { return Err(End::NotOffered) };
        let mut request = http.target.bare(&Method::GET);
        if let Some(last) = &self.last_event {
            request.header(&LAST_EVENT_ID, last);
        }
        let response = match pool::send(endpoint, &http.target, &mut request).await {
            Ok(response) => response,
            Err(error) => return Err(End::Failed(error.to_string())),
        };
        let Response { status, headers, body } = response;
        match status {
            StatusCode::OK => {}
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => return Err(End::NotOffered),
            StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST if http.session.is_some() => {
                return Err(if self.offered { End::SessionInDoubt(status) } else { End::NotOffered });
            }
            StatusCode::NOT_FOUND => return Err(End::NotOffered),
            _ => return Err(End::Failed(format!("status {status}"))),
        }
        if media(&headers) != Media::Events || body.coding().is_some() {
            let (form, said) = form(&endpoint.echo, status, &headers, &body);
            return Err(End::Failed(format!("{form}; {said}")));
        }
        self.offered = true;
        endpoint.tell(EndpointEvent::ListChanged);
        Ok(body)
    }

    async fn read(&mut self, endpoint: &Arc<Endpoint>, mut body: Body) -> End {
        let mut decoder = Decoder::new(MAX_EVENT);
        let (mut retry, mut carried) = (None, false);
        let opened = Instant::now();
        while let Some(Ok(piece)) = self.piece(endpoint, &mut body, decoder.held()).await {
            let (mut piece, mut list_changed) = (&*piece, false);
            let outcome = loop {
                poll_fn(|context| self.pace.poll_turn(&endpoint.together, context)).await;
                let event = match self.pace.next(&mut decoder, &mut piece) {
                    Ok(Some(event)) => event,
                    outcome => break outcome,
                };
                retry = event.retry.map(Duration::from_millis).or(retry);
                carried |= !event.data.is_empty();
                list_changed |= self.hear(endpoint, &event);
            };
            if list_changed {
                endpoint.tell(EndpointEvent::ListChanged);
            }
            if outcome.is_err() {
                break;
            }
        }
        End::Closed { retry, carried, lived: opened.elapsed() }
    }

    /// The next piece, once the messages before it are paid for.
    async fn piece(&mut self, endpoint: &Endpoint, body: &mut Body, held: usize) -> Option<Result<Bytes, Http1Error>> {
        poll_fn(|context| self.pace.poll_turn(&endpoint.together, context)).await;
        poll_fn(|context| self.pace.poll_read(&endpoint.together, context)).await;
        let wait = |context: &mut Context<'_>| {
            let polled = body.poll_piece(held.min(READ_MAX), context);
            if polled.is_pending() {
                body.rest();
            }
            polled
        };
        poll_fn(wait).await
    }

    /// Whether the event says that the list has changed.
    fn hear(&mut self, endpoint: &Arc<Endpoint>, event: &Event) -> bool {
        self.pace.add(event.data.len());
        if let Some(id) = event.id.as_deref() {
            self.last_event = event_id(id);
        }
        if event.data.is_empty() {
            return false;
        }
        match read(&event.data) {
            Inbound::ListChanged => return true,
            Inbound::Request { reply, .. } => {
                if HttpLink::post_aside(endpoint, &self.link, Aside::Reply, reply) {
                    self.pace.replied();
                }
            }
            // All calls share this stream: it is not known which call an answer here belongs to.
            Inbound::Answer { .. }
            | Inbound::NamelessError { .. }
            | Inbound::Progress { .. }
            | Inbound::Notification
            | Inbound::Stray
            | Inbound::Malformed { .. } => {}
        }
        false
    }
}
