//! What an HTTP server answered to one POST: a JSON message, an event stream, a lost session, or a refusal.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, StatusCode};
use http_body_util::BodyExt;
use mcp::{ErrorCode, message};
use model::Transport;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::events::HttpEvents;
use super::http1::{Headers, Http1Error};
use super::pool::{self, Body, Response};
use super::shown_url;
use super::target::Target;
use super::whole::{self, Whole};
use super::{Aside, Beginning, HttpLink};
use crate::beside::{LONG, beside};
use crate::call::{Answer, CallError, Cause, EventStream};
use crate::endpoint::Endpoint;
use crate::secrets::{Echo, Said};
use crate::upstream::inbound::{self, Inbound, Restore, read};
use crate::upstream::{Doubt, Link};

/// How much of a refusal's body is read, in bytes, and for how long.
const REFUSAL: usize = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(2);

/// One request that is out. Dropped before it is over, it is cancelled at the server.
pub(super) struct Exchange {
    pub(super) endpoint: Arc<Endpoint>,
    /// Absent for `initialize`, which may not be cancelled and has no session to lose.
    pub(super) link: Option<Arc<Link>>,
    /// Of `initialize` alone.
    pub(super) beginning: Option<Arc<Beginning>>,
    pub(super) restore: Restore,
    out: bool,
}

impl Exchange {
    pub(super) fn new(endpoint: &Arc<Endpoint>, link: Option<&Arc<Link>>, restore: Restore) -> Self {
        Self { endpoint: Arc::clone(endpoint), link: link.cloned(), beginning: None, restore, out: true }
    }

    /// The exchange has its answer, or will never have one.
    pub(super) fn over(&mut self) {
        self.out = false;
    }

    pub(super) fn server(&self) -> &str {
        self.endpoint.key.backend.as_str()
    }

    pub(super) fn limit(&self) -> u64 {
        self.endpoint.limits().response_bytes
    }

    /// Replies to the server beside the exchange, in its session. Returns whether the reply is on its way.
    pub(super) fn reply(&self, message: Vec<u8>) -> bool {
        match (&self.link, &self.beginning) {
            (Some(link), _) => HttpLink::post_aside(&self.endpoint, link, Aside::Reply, message),
            (None, Some(beginning)) => beginning.reply(&self.endpoint, message),
            (None, None) => false,
        }
    }

    /// The answer in a message that must be one.
    fn only_answer(&self, message: Whole) -> Result<Bytes, CallError> {
        match (read(&message), message) {
            (Inbound::Answer { id, span }, message) if id == self.restore.id => Ok(match message {
                Whole::Small { bytes: message, .. } => self.restore.answer(&message, span),
                Whole::Large(large) => large.with(|message| self.restore.answer_in_place(message, span)),
            }),
            (Inbound::NamelessError { error }, message) => Ok(match message {
                Whole::Small { bytes: message, .. } => self.restore.named(&message, error),
                Whole::Large(large) => large.with(|message| self.restore.name_in_place(message, error)),
            }),
            (
                found @ (Inbound::Answer { .. }
                | Inbound::Progress { .. }
                | Inbound::Request { .. }
                | Inbound::ListChanged
                | Inbound::Notification
                | Inbound::Stray
                | Inbound::Malformed { .. }),
                message,
            ) => Err(self.unexpected(&found, &message)),
        }
    }

    /// The error for `message`, which came in place of the answer.
    pub(super) fn unexpected(&self, found: &Inbound, message: &[u8]) -> CallError {
        let said = self.endpoint.echo.said(message);
        let said = if message.is_empty() { said } else { said.set_in(|text| format!("it begins: {text}")) };
        explained(self.restore.unexpected(found, self.server()), &self.endpoint, &said)
    }

    pub(super) fn broken(&self, error: &Http1Error) -> CallError {
        CallError::sent(Cause::Lost, format!("the connection to server `{}` broke: {error}", self.server()))
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(link) = self.link.as_ref().filter(|_| self.out) {
            let message = message::cancelled(&self.restore.id.to_string(), None);
            HttpLink::post_aside(&self.endpoint, link, Aside::Cancellation, message);
        }
    }
}

#[derive(PartialEq, Eq)]
pub(super) enum Media {
    Json,
    Events,
    Other,
}

pub(super) fn media(headers: &Headers) -> Media {
    let value = headers.content_type.as_ref().and_then(|value| value.to_str().ok()).unwrap_or_default();
    if value == "application/json" {
        return Media::Json;
    }
    let essence = value.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        Media::Json
    } else if essence.eq_ignore_ascii_case("text/event-stream") {
        Media::Events
    } else {
        Media::Other
    }
}

/// Where a response sends the client, which may repeat a POST there.
pub(super) fn redirect(response: &Response) -> Option<&str> {
    let moved = matches!(response.status.as_u16(), 301 | 302 | 307 | 308);
    response.headers.location.as_ref().filter(|_| moved)?.to_str().ok()
}

/// Turns a response whose head has arrived into an answer.
pub(super) async fn accept(mut exchange: Exchange, response: Response) -> Result<Answer, CallError> {
    let Response { status, headers, body } = response;
    if !status.is_success() {
        let text = read_refusal(body).await;
        exchange.over();
        return refused(&exchange, status, &headers, &text);
    }
    let coded = body.coding().is_some();
    match media(&headers) {
        Media::Events if !coded => Ok(Answer::Events(EventStream::new(HttpEvents::new(exchange, body)))),
        Media::Json if !coded => {
            let whole = whole::read(body, &exchange).await;
            exchange.over();
            let whole = whole.map_err(|error| error.of(&exchange))?;
            if whole.len() > LONG {
                return Box::pin(beside(move || exchange.only_answer(whole))).await.map(Answer::Whole);
            }
            exchange.only_answer(whole).map(Answer::Whole)
        }
        Media::Events | Media::Json | Media::Other => {
            exchange.over();
            let (form, said) = form(&exchange.endpoint.echo, status, &headers, &body);
            let message = format!("server `{}` answered a request with {form}", exchange.server());
            body.leave(&exchange.endpoint.upstreams);
            Err(explained(CallError::sent(Cause::Protocol, message), &exchange.endpoint, &said))
        }
    }
}

/// The form in which a response came, with the expected one; then what the server calls its form.
pub(super) fn form(echo: &Echo, status: StatusCode, headers: &Headers, body: &Body) -> (String, Said) {
    if let Some(coding) = body.coding() {
        let said = echo.said(coding).set_in(|coding| format!("Content-Encoding: {coding}"));
        return ("a content coding, although it was asked for identity".to_owned(), said);
    }
    let said = headers.content_type.as_ref().map(|found| echo.said(found));
    let found = if said.is_some() { "another content type" } else { "no content type" };
    let form = format!("status {status} and {found}; expected application/json or text/event-stream");
    (form, said.map(|found| found.set_in(|found| format!("Content-Type: {found}"))).unwrap_or_default())
}

fn refused(exchange: &Exchange, status: StatusCode, headers: &Headers, body: &Bytes) -> Result<Answer, CallError> {
    // An error for our request is the server's answer to it, whatever the status.
    let error = match read(body) {
        Inbound::Answer { id, span } if id == exchange.restore.id => {
            return Ok(Answer::Whole(exchange.restore.answer(body, span)));
        }
        // Only this request can be meant. But a server that does not know the session answers in the same way.
        Inbound::NamelessError { error } if exchange.link.is_none() || Doubt::of(status.as_u16()).is_none() => {
            return Ok(Answer::Whole(exchange.restore.named(body, error)));
        }
        Inbound::NamelessError { error } => addressed(status, &body[error.range()]),
        Inbound::Answer { .. }
        | Inbound::Progress { .. }
        | Inbound::Request { .. }
        | Inbound::ListChanged
        | Inbound::Notification
        | Inbound::Stray
        | Inbound::Malformed { .. } => None,
    };
    Err(error.unwrap_or_else(|| unspoken(&exchange.endpoint, status, headers, body)))
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
    Some(CallError { code: ErrorCode(code), quotes: true, data: data.map(|data| data.get().to_owned()), ..said })
}

/// A status without words for the client. The call may have been executed.
fn unspoken(endpoint: &Endpoint, status: StatusCode, headers: &Headers, body: &Bytes) -> CallError {
    let message = format!("server `{}` answered with status {status}", endpoint.key.backend);
    let text = |value: &Option<HeaderValue>| value.as_ref().and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut said = endpoint.echo.said(body);
    let mut error = CallError::sent(Cause::Status(status.as_u16()), message);
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
        && let Some(seconds) = text(&headers.retry_after).and_then(|text| text.parse::<u32>().ok())
    {
        error = error.with("retryAfterMs", (u64::from(seconds) * 1000).into());
    }
    if let Some(location) = text(&headers.location).filter(|_| status.is_redirection()) {
        let configured = if let Transport::Http { url, .. } = &endpoint.spec.transport { url } else { "" };
        let location = endpoint.echo.said(shown_url::location(&location, configured));
        let moved = format!("it has moved to {location}, which the configuration must name");
        said = said.set_in(|text| if text.is_empty() { moved } else { format!("{text}; {moved}") });
    }
    explained(error, endpoint, &said).with("status", status.as_u16().into())
}

/// Adds what the server said, which is for operators alone.
pub(super) fn explained(error: CallError, endpoint: &Endpoint, said: &Said) -> CallError {
    if said.as_str().is_empty() { error } else { error.explained(endpoint.note_detail(said)) }
}

/// Posts a notification or a reply. They have no answer, so the head of the response says all: some servers never end
/// what follows.
pub(super) async fn post(endpoint: &Endpoint, target: &Target, message: Bytes) -> Result<(), CallError> {
    let response = pool::send(endpoint, target, &mut target.post(message)).await?;
    let status = response.status;
    if status.is_success() {
        response.body.leave(&endpoint.upstreams);
        return Ok(());
    }
    let body = read_refusal(response.body).await;
    let text = format!("server `{}` refused a notification with status {status}", endpoint.key.backend);
    let error = CallError::sent(Cause::Status(status.as_u16()), text);
    Err(explained(error, endpoint, &endpoint.echo.said(&body)))
}

/// As much of a body as comes soon: the status has said what matters, and some servers never end what follows.
async fn read_refusal(mut body: Body) -> Bytes {
    if body.coding().is_some() {
        return Bytes::new();
    }
    let mut read = BytesMut::new();
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            let room = REFUSAL - read.len();
            let data = frame.into_data().unwrap_or_default();
            read.extend_from_slice(&data[..data.len().min(room)]);
            if data.len() > room {
                return;
            }
        }
    };
    drop(tokio::time::timeout(PATIENCE, reading).await);
    read.freeze()
}

pub(super) fn too_large(exchange: &Exchange) -> CallError {
    inbound::too_large(exchange.server(), exchange.limit())
}
