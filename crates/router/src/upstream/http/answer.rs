//! What an HTTP server answered to one POST: a JSON message, an event stream, a lost session, or a refusal.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, StatusCode};
use http_body_util::BodyExt;
use mcp::ErrorCode;
use model::Transport;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::awaited::{Awaited, explained};
use super::events::HttpEvents;
use super::http1::Headers;
use super::media::{Media, form, media};
use super::pool::{self, Body, Response};
use super::shown_url;
use super::target::Target;
use super::whole::{self, Whole};
use crate::beside::{LONG, beside};
use crate::call::{Answer, CallError, Cause, EventStream};
use crate::endpoint::Endpoint;
use crate::upstream::Doubt;
use crate::upstream::inbound::{Inbound, read};

/// How much of a refusal's body is read, in bytes, and for how long.
const REFUSAL: usize = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(2);

/// Where a response sends the client, which may repeat a POST there.
pub(super) fn redirect(response: &Response) -> Option<&str> {
    let moved = matches!(response.status.as_u16(), 301 | 302 | 307 | 308);
    response.headers.rare().location.as_ref().filter(|_| moved)?.to_str().ok()
}

/// Turns a response whose head has arrived into an answer.
pub(super) async fn accept(mut awaited: Awaited, response: Response) -> Result<Answer, CallError> {
    let Response { status, headers, body } = response;
    if !status.is_success() {
        let text = read_refusal(body).await;
        awaited.over();
        return refused(&awaited, status, &headers, &text);
    }
    let coded = body.coding().is_some();
    match media(&headers) {
        Media::Events if !coded => Ok(Answer::Events(EventStream::new(HttpEvents::new(awaited, body)))),
        Media::Json if !coded => {
            let whole = whole::read(body, &awaited).await;
            awaited.over();
            let whole = whole.map_err(|error| error.of(&awaited))?;
            if whole.len() > LONG {
                return Box::pin(beside(move || only_answer(&awaited, whole))).await.map(Answer::Whole);
            }
            only_answer(&awaited, whole).map(Answer::Whole)
        }
        Media::Events | Media::Json | Media::Other => {
            awaited.over();
            let (form, said) = form(&awaited.endpoint.echo, status, &headers, &body);
            let message = format!("server `{}` answered a request with {form}", awaited.server());
            body.leave(&awaited.endpoint.upstreams);
            Err(explained(CallError::sent(Cause::Protocol, message), &awaited.endpoint, &said))
        }
    }
}

/// The answer in a message that must be one.
fn only_answer(awaited: &Awaited, message: Whole) -> Result<Bytes, CallError> {
    match (read(&message), message) {
        (Inbound::Answer { id, span }, message) if id == awaited.restore.id => Ok(match message {
            Whole::Small { bytes: message, .. } => awaited.restore.answer(&message, span),
            Whole::Large(large) => large.with(|message| awaited.restore.answer_in_place(message, span)),
        }),
        (Inbound::NamelessError { error }, message) => Ok(match message {
            Whole::Small { bytes: message, .. } => awaited.restore.named(&message, error),
            Whole::Large(large) => large.with(|message| awaited.restore.name_in_place(message, error)),
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
        ) => Err(awaited.unexpected(&found, &message)),
    }
}

fn refused(awaited: &Awaited, status: StatusCode, headers: &Headers, body: &Bytes) -> Result<Answer, CallError> {
    // An error for our request is the server's answer to it, whatever the status. But a server that does not know the
    // session answers in the same way.
    let certain = awaited.link.is_none() || Doubt::of(status.as_u16()).is_none();
    let error = match read(body) {
        Inbound::Answer { id, span } if id == awaited.restore.id => {
            let doubtful = if certain { None } else { error_in(body) };
            match doubtful.and_then(|error| addressed(status, error)) {
                Some(error) => Some(error),
                None => return Ok(Answer::Whole(awaited.restore.answer(body, span))),
            }
        }
        // Only this request can be meant.
        Inbound::NamelessError { error } if certain => {
            return Ok(Answer::Whole(awaited.restore.named(body, error)));
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
    Err(error.unwrap_or_else(|| unspoken(&awaited.endpoint, status, headers, body)))
}

/// The error that a message is, if it is one.
fn error_in(message: &[u8]) -> Option<&[u8]> {
    #[derive(Deserialize)]
    struct Said<'a> {
        #[serde(borrow)]
        error: &'a RawValue,
    }
    serde_json::from_slice::<Said<'_>>(message).ok().map(|said| said.error.get().as_bytes())
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
        && let Some(seconds) = text(&headers.rare().retry_after).and_then(|text| text.parse::<u32>().ok())
    {
        error = error.with("retryAfterMs", (u64::from(seconds) * 1000).into());
    }
    if let Some(location) = text(&headers.rare().location).filter(|_| status.is_redirection()) {
        let configured = if let Transport::Http { url, .. } = &endpoint.spec.transport { url } else { "" };
        let location = endpoint.echo.said(shown_url::location(&location, configured));
        let moved = format!("it has moved to {location}, which the configuration must name");
        said = said.set_in(|text| if text.is_empty() { moved } else { format!("{text}; {moved}") });
    }
    explained(error, endpoint, &said).with("status", status.as_u16().into())
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
