//! Requests of the gateway's own: they go the way of calls, with nobody behind them but the fleet.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mcp::Message;
use mcp::message::ErrorObject;

use super::{Link, transact};
use crate::call::{Answer, Call, CallError, Cause};
use crate::endpoint::{AskError, Endpoint};

/// The whole response to one request, which may also be a JSON-RPC error.
pub(crate) async fn ask(
    endpoint: &Arc<Endpoint>,
    link: &Arc<Link>,
    call: &Call,
    limit: Duration,
) -> Result<Bytes, AskError> {
    let answered = async {
        match transact(endpoint, link, call).await? {
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

/// The raw `result` of a response.
pub(crate) fn result_of(response: &[u8]) -> Result<&str, AskError> {
    let malformed = |reason: String| AskError::Malformed { reason };
    match mcp::scan(response).map_err(|error| malformed(error.to_string()))?.message {
        Message::Response { result, .. } => Ok(result.text()),
        Message::Error { error, .. } => match ErrorObject::parse(error.text()) {
            Ok(error) => Err(AskError::Refused { code: error.code, message: error.message.into_owned() }),
            Err(error) => Err(malformed(error.to_string())),
        },
        Message::Request { .. } | Message::Notification(_) => Err(malformed("not a response".into())),
    }
}
