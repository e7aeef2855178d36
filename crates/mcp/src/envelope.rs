//! What a gateway needs of one JSON-RPC message, found in a single pass over its bytes.
//!
//! Everything borrows from the message and knows its byte span, so that an outgoing message is the incoming one with
//! a few spans replaced. Keys the gateway acts on may appear once and only in their exact spelling: a second `name`, or
//! a `Name` that a case-insensitive parser behind the gateway would read, would let a client show one tool to the
//! gateway and another to the backend.

mod fault;
mod scan;
#[cfg(test)]
mod tests;
mod walk;

use std::borrow::Cow;

use crate::kind::{Kind, Named};
use crate::raw::{Id, Raw, Span, Text};
use crate::splice::Edit;

pub use fault::{Fault, ScanError};
use scan::Found;
pub use scan::scan;

/// One message: its kind, and the offset of its opening brace (the place to add a top-level key after).
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope<'a> {
    pub open: usize,
    pub message: Message<'a>,
}

/// The four kinds of JSON-RPC message.
#[derive(Clone, Debug, PartialEq)]
pub enum Message<'a> {
    Request {
        id: Id<'a>,
        call: Call<'a>,
    },
    Notification(Call<'a>),
    Response {
        id: Id<'a>,
        result: Raw<'a>,
    },
    /// `id` is absent when the sender could not read the id of what it answers (`null` is read as absent).
    Error {
        id: Option<Id<'a>>,
        error: Raw<'a>,
    },
}

/// What a request and a notification have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct Call<'a> {
    pub method: Text<'a>,
    pub params: Option<Params<'a>>,
}

/// `params`, an object. A member is None when it is missing, `null`, or not a string; members that are ids of the wrong
/// type are refused by the scan, because they must be replaceable.
#[derive(Clone, Debug, PartialEq)]
pub struct Params<'a> {
    pub raw: Raw<'a>,
    pub name: Option<Text<'a>>,
    found: Found<'a>,
}

impl<'a> Params<'a> {
    pub fn cursor(&self) -> Option<Text<'a>> {
        self.found.cursor()
    }

    pub fn uri(&self) -> Option<Text<'a>> {
        self.found.uri()
    }

    /// Of `notifications/cancelled`.
    pub fn request_id(&self) -> Option<Id<'a>> {
        self.found.request_id()
    }

    /// Of `notifications/progress`.
    pub fn progress_token(&self) -> Option<Id<'a>> {
        self.found.progress_token()
    }

    pub fn meta(&self) -> Option<Meta<'a>> {
        self.found.meta()
    }
}

/// `params._meta`, an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Meta<'a> {
    pub raw: Raw<'a>,
    pub progress_token: Option<Id<'a>>,
    /// Of whatever type it is; see [`Call::traceparent`].
    pub traceparent: Option<Raw<'a>>,
    /// `io.modelcontextprotocol/protocolVersion`: present means the sender speaks a revision without sessions.
    pub protocol_version: Option<Text<'a>>,
}

impl<'a> Envelope<'a> {
    /// The request or notification in this message.
    pub const fn call(&self) -> Option<&Call<'a>> {
        match &self.message {
            Message::Request { call, .. } | Message::Notification(call) => Some(call),
            Message::Response { .. } | Message::Error { .. } => None,
        }
    }

    pub const fn id(&self) -> Option<Id<'a>> {
        match &self.message {
            Message::Request { id, .. } | Message::Response { id, .. } => Some(*id),
            Message::Error { id, .. } => *id,
            Message::Notification(_) => None,
        }
    }

    /// An edit that makes `params._meta.traceparent` equal `value` (plain ASCII), adding what is missing around it.
    /// None for a response.
    pub fn traceparent_edit(&self, value: &str) -> Option<Edit<'static>> {
        let call = self.call()?;
        let (span, with) = match (&call.params, call.meta()) {
            (_, Some(Meta { traceparent: Some(present), .. })) => (present.span(), format!("\"{value}\"")),
            (_, Some(meta)) => insertion(meta.raw, &format!("\"traceparent\":\"{value}\"")),
            (Some(params), None) => insertion(params.raw, &format!("\"_meta\":{{\"traceparent\":\"{value}\"}}")),
            // At least `jsonrpc` and `method` follow.
            (None, _) => {
                (Span::at(self.open + 1), format!("\"params\":{{\"_meta\":{{\"traceparent\":\"{value}\"}}}},"))
            }
        };
        Some(Edit::new(span, with.into_bytes()))
    }
}

impl<'a> Call<'a> {
    pub fn meta(&self) -> Option<Meta<'a>> {
        self.params.as_ref()?.meta()
    }

    /// `params._meta.progressToken`.
    pub fn progress_token(&self) -> Option<Id<'a>> {
        self.meta()?.progress_token
    }

    /// `params._meta.traceparent`, if it is a string.
    pub fn traceparent(&self) -> Option<Cow<'a, str>> {
        Text::parse(self.meta()?.traceparent?).map(Text::into_value)
    }

    /// Which of that kind the request is for.
    ///
    /// # Errors
    /// [`Fault::Missing`] unless the member that says it is a string.
    pub fn require_name(&self, kind: Kind) -> Result<Cow<'_, Text<'a>>, Fault> {
        let params = self.params.as_ref();
        let (path, name) = match kind.named_in() {
            Named::Name => ("params.name", params.and_then(|params| params.name.as_ref()).map(Cow::Borrowed)),
            Named::Uri => ("params.uri", params.and_then(Params::uri).map(Cow::Owned)),
        };
        name.ok_or(Fault::Missing { path, expected: "a string" })
    }
}

/// Puts `member` first into `object`.
fn insertion(object: Raw<'_>, member: &str) -> (Span, String) {
    let empty = object.text()[1..].trim_ascii_start().starts_with('}');
    let comma = if empty { "" } else { "," };
    (Span::at(object.span().start + 1), format!("{member}{comma}"))
}
