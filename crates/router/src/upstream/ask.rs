//! Requests of the gateway's own: they go the way of calls, with nobody behind them but the fleet.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mcp::message::{ErrorObject, method, push_string};
use mcp::{Message, Tool, ToolPage};

use super::{Link, transact};
use crate::call::{Answer, Call, CallError, Cause};
use crate::endpoint::{AskError, Endpoint, Listing};

/// More pages than this are a server that hands out the same page for ever.
const MAX_PAGES: usize = 1000;
const MAX_TOOLS: usize = 100_000;

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
    tokio::time::timeout(limit, answered).await.map_err(|_| AskError::TimedOut { limit })?
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

/// All pages of `tools/list`; `limit` is for each page.
pub(crate) async fn list_all(endpoint: &Arc<Endpoint>, link: &Arc<Link>, limit: Duration) -> Result<Listing, AskError> {
    let greeting = link.greeting();
    let mut tools: Vec<Tool> = Vec::new();
    let mut cursor: Option<String> = None;
    let mut pages = 0;
    // A server without tools need not know the method.
    let mut more = greeting.tools;
    while more {
        let params = cursor.as_deref().map(|cursor| {
            let mut params = br#"{"cursor":"#.to_vec();
            push_string(&mut params, cursor);
            params.push(b'}');
            params
        });
        let response = ask(endpoint, link, &Call::own(method::TOOLS_LIST, params.as_deref()), limit).await?;
        let page = ToolPage::parse(result_of(&response)?)?;
        for (position, error) in &page.refused {
            tracing::warn!(backend = %endpoint.key.backend, page = pages, position, %error, "a tool is left out");
        }
        tools.extend(page.tools);
        pages += 1;
        if tools.len() > MAX_TOOLS {
            return Err(AskError::TooLong { limit: MAX_TOOLS, unit: "tools" });
        }
        if pages == MAX_PAGES && page.next_cursor.is_some() {
            return Err(AskError::TooLong { limit: MAX_PAGES, unit: "pages" });
        }
        more = page.next_cursor.is_some();
        cursor = page.next_cursor;
    }
    Ok(Listing {
        tools: tools.into(),
        instructions: greeting.instructions.as_deref().map(Arc::from),
        server_info: greeting.server_info.as_deref().map(Arc::from),
        protocol_version: greeting.protocol_version,
    })
}
