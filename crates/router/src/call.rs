//! One client request on its way to an endpoint and back: what is replaced in it, and what came of it.
//!
//! May be driven from any data core. Dropping the future of [`forward`](crate::upstream::forward), or the
//! [`EventStream`] before its end, cancels the call: the server is told, and its later messages about the call are
//! ignored.

mod detail;
pub(crate) mod life;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use mcp::{Edit, ErrorCode, Item, Span};
use model::Limits;

pub use detail::Detail;
pub(crate) use detail::Noted;

/// One client request, to be forwarded. Spans lie in `body`.
#[derive(Clone, Debug)]
pub struct Call {
    /// The client's whole JSON-RPC message.
    pub body: Bytes,
    /// The raw id: replaced by a number of our own on the way out, restored in the answer.
    pub id: Span,
    /// Replaces the tool's exposed name, quotes included, by that of the server's own item.
    pub name: Option<(Span, Arc<Item>)>,
    /// The raw progress token, if the client wants progress: replaced and restored as the id is.
    pub progress: Option<Span>,
    /// Boxed because it is rare.
    pub traceparent: Option<Box<Traceparent>>,
    /// Running the call twice has the effect of running it once, so it may be retried although it may have been
    /// executed.
    pub idempotent: bool,
    /// How long it has waited for its server before.
    pub waited: Duration,
}

/// The trace a call belongs to, as the server shall see it.
#[derive(Clone, Debug)]
pub struct Traceparent {
    /// 55 characters of plain ASCII; also sent as a header over HTTP.
    pub value: Box<str>,
    /// The `tracestate` that belongs to it, sent as a header over HTTP.
    pub state: Option<Box<str>>,
    /// What [`mcp::Envelope::traceparent_edit`] gave for `value` and the body; absent if the body says so already.
    pub edit: Option<Edit<'static>>,
}

/// How long an exchange may take, as set by the revision that admitted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeLimits {
    pub idle: Duration,
    pub total: Duration,
}

impl From<&Limits> for TimeLimits {
    fn from(limits: &Limits) -> Self {
        Self { idle: limits.idle, total: limits.total }
    }
}

/// A short piece of a body that outlives the body: it must not keep the whole of a large body in memory.
pub(crate) fn piece(body: &Bytes, range: std::ops::Range<usize>) -> Bytes {
    if body.len() > COPIED_FROM { Bytes::copy_from_slice(&body[range]) } else { body.slice(range) }
}

/// Up to this length, a body is shared rather than copied.
const COPIED_FROM: usize = 4 << 10;

/// What a server returned for a call.
#[derive(Debug)]
pub enum Answer {
    /// One JSON-RPC response, with the client's id. A JSON-RPC error of the server is an answer, too.
    Whole(Bytes),
    /// Messages, of which the last is the response.
    Events(EventStream),
}

/// Complete JSON-RPC messages for the client, ids and progress tokens restored. Ends after the response, or after an
/// error in its place. Must be polled on the thread that called [`crate::upstream::forward`].
pub struct EventStream(Pin<Box<dyn Stream<Item = Result<Bytes, CallError>> + Send>>);

impl EventStream {
    pub(crate) fn new(messages: impl Stream<Item = Result<Bytes, CallError>> + Send + 'static) -> Self {
        Self(Box::pin(messages))
    }

    /// The next message; `None` after the response.
    pub async fn next(&mut self) -> Option<Result<Bytes, CallError>> {
        std::future::poll_fn(|context| self.0.as_mut().poll_next(context)).await
    }
}

impl Stream for EventStream {
    type Item = Result<Bytes, CallError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(context)
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventStream")
    }
}

/// The side that is at fault for a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The gateway would not pass on the call, or its answer.
    Gateway,
    /// The server is there, and refuses what the client sent.
    Client,
    /// The server, or the connection to it.
    Upstream,
}

/// Why a call failed: a closed set, for decisions and metric labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The endpoint has as many calls in flight as it may.
    InFlight,
    /// Not connected, and no attempt to connect is under way.
    Down,
    /// No connection could be made.
    Connect,
    /// The connection or the process ended under the call.
    Lost,
    /// The answer is no MCP.
    Protocol,
    /// The answer is larger than allowed.
    TooLarge,
    /// An HTTP status that is no answer.
    Status(u16),
}

impl Cause {
    fn side(self) -> Side {
        match self {
            Self::InFlight | Self::TooLarge => Side::Gateway,
            // These statuses are about the gateway's credentials, or the server's load.
            Self::Status(401 | 403 | 407 | 408 | 429) => Side::Upstream,
            Self::Status(400..=499) => Side::Client,
            Self::Down | Self::Connect | Self::Lost | Self::Protocol | Self::Status(_) => Side::Upstream,
        }
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InFlight => "in_flight",
            Self::Down => "down",
            Self::Connect => "connect",
            Self::Lost => "lost",
            Self::Protocol => "protocol",
            Self::TooLarge => "too_large",
            Self::Status(_) => "status",
        }
    }
}

/// A call without an answer. Its `Display` text is for operators; a client gets only `code`, `message` and `data`.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}{}", Rest(detail.as_deref()))]
pub struct CallError {
    pub side: Side,
    pub cause: Cause,
    /// A byte of the call was written, so it may have been executed.
    pub sent: bool,
    pub code: ErrorCode,
    /// For people: which server, what happened. Nothing that the server said, unless `quotes`.
    pub message: String,
    /// Code, message and data are the server's own, addressed to the client that called.
    pub quotes: bool,
    /// For the client's error object: raw JSON.
    pub data: Option<String>,
    /// What the server said, for operators alone.
    pub detail: Option<Arc<Detail>>,
}

/// The end of a displayed error.
struct Rest<'a>(Option<&'a Detail>);

impl fmt::Display for Rest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |detail| detail.fmt(f))
    }
}

impl CallError {
    /// Nothing of the call reached the server.
    pub(crate) fn unsent(cause: Cause, message: String) -> Self {
        Self { sent: false, code: ErrorCode::UNAVAILABLE, ..Self::sent(cause, message) }
    }

    /// The server has, or may have, seen the call.
    pub(crate) fn sent(cause: Cause, message: String) -> Self {
        let code = ErrorCode::INTERNAL_ERROR;
        Self { side: cause.side(), cause, sent: true, code, message, quotes: false, data: None, detail: None }
    }

    /// What became of an answer that there is no room for.
    pub(crate) fn lost_answer(bytes: usize, limit: u64) -> String {
        format!(
            "the call was executed and its answer of {bytes} bytes is lost: the gateway holds no more than {limit} bytes \
             for clients that have not read them (limits.buffered_bytes)"
        )
    }

    /// Adds a member to `data`, which stays an object.
    #[must_use]
    pub(crate) fn with(mut self, key: &str, value: serde_json::Value) -> Self {
        let object = self.data.as_deref().and_then(|data| serde_json::from_str(data).ok());
        let mut object: serde_json::Map<String, serde_json::Value> = object.unwrap_or_default();
        object.insert(key.to_owned(), value);
        self.data = Some(serde_json::Value::Object(object).to_string());
        self
    }

    /// Adds what the server said: operators read it, the client gets its reference.
    #[must_use]
    pub(crate) fn explained(mut self, detail: Arc<Detail>) -> Self {
        self = self.with("reference", detail.reference.to_string().into());
        self.detail = Some(detail);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_of_a_large_body_does_not_keep_the_body() {
        for (length, alone) in [(100, false), (1 << 20, true)] {
            let body = Bytes::from(vec![b'7'; length]);
            let kept = piece(&body, 3..5);
            assert_eq!((&*kept, body.is_unique()), (&b"77"[..], alone), "{length}");
        }
    }
}
