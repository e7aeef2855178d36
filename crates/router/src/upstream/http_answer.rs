//! What an HTTP server answered to one POST: a JSON message, an event stream, a lost session, or a refusal.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER};
use http::{Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;
use mcp::{ErrorCode, message};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::http::HttpLink;
use super::http_events::HttpEvents;
use super::http_pool::{self, Body};
use super::http_target::Target;
use super::http1::Http1Error;
use super::inbound::{self, Inbound, Restore, read};
use super::{Doubt, Link};
use crate::call::{Answer, CallError, Cause, EventStream};
use crate::endpoint::Endpoint;

/// How much of a refusal's body is read, in bytes.
const REFUSAL: u64 = 64 << 10;
/// How much of it is shown, in characters.
const SHOWN: usize = 200;

/// One request that is out. Dropped before it is over, it is cancelled at the server.
pub(super) struct Exchange {
    pub(super) endpoint: Arc<Endpoint>,
    /// Absent for `initialize`, which may not be cancelled and has no session to lose.
    pub(super) link: Option<Arc<Link>>,
    pub(super) restore: Restore,
    out: bool,
}

impl Exchange {
    pub(super) fn new(endpoint: &Arc<Endpoint>, link: Option<&Arc<Link>>, restore: Restore) -> Self {
        Self { endpoint: Arc::clone(endpoint), link: link.cloned(), restore, out: true }
    }

    /// It has its answer, or will never have one.
    pub(super) fn over(&mut self) {
        self.out = false;
    }

    pub(super) fn server(&self) -> &str {
        self.endpoint.key.backend.as_str()
    }

    pub(super) fn limit(&self) -> u64 {
        self.endpoint.limits().response_bytes
    }

    /// Says something to the server beside the exchange, in its session.
    pub(super) fn aside(&self, message: Vec<u8>) {
        if let Some(link) = &self.link {
            HttpLink::post_aside(&self.endpoint, link, message);
        }
    }

    pub(super) fn broken(&self, error: &Http1Error) -> CallError {
        CallError::sent(Cause::Lost, format!("the connection to server `{}` broke: {error}", self.server()))
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.out {
            self.aside(message::cancelled(&self.restore.id.to_string(), None));
        }
    }
}

#[derive(PartialEq, Eq)]
enum Media {
    Json,
    Events,
    Other,
}

fn media(headers: &HeaderMap) -> Media {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        Media::Json
    } else if essence.eq_ignore_ascii_case("text/event-stream") {
        Media::Events
    } else {
        Media::Other
    }
}

/// Makes an answer of a response whose head has come.
pub(super) async fn accept(mut exchange: Exchange, response: Response<Body>) -> Result<Answer, CallError> {
    let (head, body) = response.into_parts();
    let media = media(&head.headers);
    if !head.status.is_success() {
        let text = read_refusal(body).await;
        exchange.over();
        return refused(&exchange, head.status, &head.headers, &text);
    }
    match media {
        Media::Events => Ok(Answer::Events(EventStream::new(HttpEvents::new(exchange, body)))),
        Media::Json => {
            let whole = read_whole(body, exchange.limit()).await;
            exchange.over();
            let whole = whole.map_err(|error| error.of(&exchange))?;
            exchange.restore.only_answer(&whole, exchange.server()).map(Answer::Whole)
        }
        Media::Other => {
            exchange.over();
            let (server, status) = (exchange.server(), head.status);
            let found = head
                .headers
                .get(CONTENT_TYPE)
                .map_or_else(|| "no content type".to_owned(), |value| format!("{value:?}"));
            let message = format!(
                "server `{server}` answered a request with status {status} and {found}; \
                 expected application/json or text/event-stream"
            );
            Err(CallError::sent(Cause::Protocol, message))
        }
    }
}

fn refused(exchange: &Exchange, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> Result<Answer, CallError> {
    // An error for our request is the server's answer to it, whatever the status.
    let error = match read(body) {
        Inbound::Answer { id, span } if id == exchange.restore.id => {
            return Ok(Answer::Whole(exchange.restore.answer(body, span)));
        }
        // Nobody else can be meant. But it is also what servers say that know no such session.
        Inbound::NamelessError { error } if exchange.link.is_none() || Doubt::of(status.as_u16()).is_none() => {
            return Ok(Answer::Whole(exchange.restore.named(body, error)));
        }
        Inbound::NamelessError { error } => addressed(status, &body[error.range()]),
        _ => None,
    };
    Err(error.unwrap_or_else(|| unspoken(exchange.server(), status, headers, body)))
}

/// The server's own words to the client.
fn addressed(status: StatusCode, error: &[u8]) -> Option<CallError> {
    #[derive(Deserialize)]
    struct Said<'a> {
        code: i64,
        message: String,
        #[serde(borrow)]
        data: Option<&'a RawValue>,
    }
    let Said { code, message, data } = serde_json::from_slice(error).ok()?;
    let said = CallError::sent(Cause::Status(status.as_u16()), message);
    Some(CallError { code: ErrorCode(code), data: data.map(|data| data.get().to_owned()), ..said })
}

/// A status with nothing in it for the client. It may have been executed.
fn unspoken(server: &str, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> CallError {
    let mut message = format!("server `{server}` answered with {}", shown(status, body));
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(location) = header(LOCATION).filter(|_| status.is_redirection()) {
        message.push_str(&format!("; it has moved to {location}, which the configuration must name"));
    }
    let mut error = CallError::sent(Cause::Status(status.as_u16()), message);
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
        && let Some(seconds) = header(RETRY_AFTER).and_then(|text| text.parse::<u32>().ok())
    {
        error = error.with("retryAfterMs", (u64::from(seconds) * 1000).into());
    }
    error.with("status", status.as_u16().into())
}

/// Status and the beginning of a body, on one line.
fn shown(status: StatusCode, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SHOWN).collect();
    if text.is_empty() { format!("status {status}") } else { format!("status {status}: {text}") }
}

/// Posts a notification or a reply, which have no answer.
pub(super) async fn post(endpoint: &Endpoint, target: &Target, message: Bytes) -> Result<(), CallError> {
    let response = http_pool::send(endpoint, target, &target.post(message)).await?;
    let status = response.status();
    let body = read_refusal(response.into_body()).await;
    if status.is_success() {
        return Ok(());
    }
    let text = format!("server `{}` refused a notification with {}", endpoint.key.backend, shown(status, &body));
    Err(CallError::sent(Cause::Status(status.as_u16()), text))
}

/// A short body, or as much of it as came: what it says is only a hint.
async fn read_refusal(body: Body) -> Bytes {
    read_whole(body, REFUSAL).await.unwrap_or_default()
}

pub(super) enum ReadError {
    TooLarge,
    Broken(Http1Error),
}

impl ReadError {
    fn of(self, exchange: &Exchange) -> CallError {
        match self {
            Self::TooLarge => too_large(exchange),
            Self::Broken(error) => exchange.broken(&error),
        }
    }
}

pub(super) fn too_large(exchange: &Exchange) -> CallError {
    inbound::too_large(exchange.server(), exchange.limit())
}

/// Reads until the end was seen, not only until the last byte: a connection may be used again only after that.
async fn read_whole(mut body: Body, limit: u64) -> Result<Bytes, ReadError> {
    let mut first = Bytes::new();
    let mut more = BytesMut::new();
    let mut length = 0_u64;
    let announced = body.size_hint().lower();
    if announced > limit {
        return Err(ReadError::TooLarge);
    }
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(ReadError::Broken)?.into_data() else { continue };
        length += data.len() as u64;
        if length > limit {
            return Err(ReadError::TooLarge);
        }
        if first.is_empty() && more.is_empty() {
            first = data;
            continue;
        }
        if more.is_empty() {
            more.reserve(usize::try_from(announced).unwrap_or(0).max(first.len() + data.len()));
            more.extend_from_slice(&first);
        }
        more.extend_from_slice(&data);
    }
    Ok(if more.is_empty() { first } else { more.freeze() })
}
