//! The gateway's own requests: they are sent like calls, but for the fleet rather than for a client.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mcp::Message;
use mcp::initialize::ServerInitialize;
use mcp::message::ErrorObject;

use super::{Link, transact};
use crate::call::{Answer, Call, CallError, Cause};
use crate::endpoint::{AskError, Endpoint};
use crate::secrets::Echo;

/// The whole response to one request, which may also be a JSON-RPC error.
pub(crate) async fn ask(
    endpoint: &Arc<Endpoint>,
    link: &Arc<Link>,
    call: &Call,
    limit: Duration,
) -> Result<Bytes, AskError> {
    let answered = async {
        match transact(endpoint, link, call).await.map_err(|error| unquoted(endpoint, error))? {
            Answer::Whole(response) => Ok(response),
            Answer::Events(mut events) => last(&mut events).await,
        }
    };
    tokio::time::timeout(limit, answered).await.map_err(|_| AskError::TimedOut { limit, key: None })?
}

pub(super) async fn last(events: &mut crate::call::EventStream) -> Result<Bytes, AskError> {
    let mut last = None;
    while let Some(message) = events.next().await {
        last = Some(message?);
    }
    last.ok_or_else(|| CallError::sent(Cause::Protocol, "the answer was an empty stream".into()).into())
}

/// There is no client that the server could address: its words are for operators.
fn unquoted(endpoint: &Endpoint, error: CallError) -> CallError {
    if !error.quotes {
        return error;
    }
    let detail = endpoint.note_detail(&endpoint.echo.said(&error.message));
    let message = format!("the server refused with error {}", error.code.0);
    CallError { message, quotes: false, data: None, ..error }.explained(detail)
}

/// The raw `result` of a response.
pub(crate) fn result_of<'a>(response: &'a [u8], echo: &Echo) -> Result<&'a str, AskError> {
    let malformed = |reason: String| AskError::Malformed(echo.said(reason));
    match mcp::scan(response).map_err(|error| malformed(error.to_string()))?.message {
        Message::Response { result, .. } => Ok(result.text()),
        Message::Error { error, .. } => match ErrorObject::parse(error.text()) {
            Ok(error) => Err(AskError::Refused { code: error.code, message: echo.said(&*error.message) }),
            Err(error) => Err(malformed(error.to_string())),
        },
        Message::Request { .. } | Message::Notification(_) => Err(malformed("not a response".into())),
    }
}

/// What a server answers to `initialize`.
pub(super) fn greeting_of(response: &[u8], echo: &Echo) -> Result<ServerInitialize, AskError> {
    let result = result_of(response, echo)?;
    ServerInitialize::parse(result).map_err(|error| AskError::Unusable(echo.said(error.to_string())))
}
