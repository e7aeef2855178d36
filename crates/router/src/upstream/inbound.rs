//! Messages of a server: which call a message is for, and how the client's own id and token are put back into it.

use bytes::Bytes;
use mcp::message::{self, method};
use mcp::{Edit, ErrorCode, Kind, Message, Span, splice, splice_in_place};

use crate::beside::held;
use crate::call::{Call, CallError, Cause, piece};

/// Bytes of the id of a request of the server, which its reply repeats.
const MAX_ID: usize = 1 << 10;
/// Characters of a server's text that are quoted in messages about it.
const SHOWN: usize = 64;

/// One message of a server, sorted.
#[derive(Debug)]
pub(crate) enum Inbound {
    /// A response to the request we gave this number.
    Answer {
        id: u64,
        span: Span,
    },
    /// An error that does not repeat the request's id: it has `null`, no id, or a value of the server's own.
    NamelessError {
        error: Span,
    },
    /// Progress of the request we gave this number.
    Progress {
        token: u64,
        span: Span,
    },
    /// A request of the server; `reply` is what to send back.
    Request {
        method: String,
        reply: Vec<u8>,
    },
    ListChanged,
    /// Any other notification.
    Notification,
    /// Progress of no request of ours.
    Stray,
    Malformed {
        /// The message can only have been meant as the answer to this request of ours.
        id: Option<u64>,
        /// If the message was meant as anything, it was an answer.
        answer: bool,
        reason: String,
    },
}

/// Classifies one message. A shared session has no client that could answer the server's requests, so they are refused
/// here: only a ping is answered.
pub(crate) fn read(message: &[u8]) -> Inbound {
    let envelope = match mcp::scan(message) {
        Ok(envelope) => envelope,
        Err(error) => {
            let id = error.id.as_deref().filter(|_| error.is_answer).and_then(mcp::number_of);
            return Inbound::Malformed { id, answer: error.is_answer, reason: error.to_string() };
        }
    };
    match envelope.message {
        Message::Response { id, .. } => match id.as_u64() {
            Some(number) => Inbound::Answer { id: number, span: id.span() },
            None => {
                Inbound::Malformed { id: None, answer: true, reason: "it answers an id that no request had".to_owned() }
            }
        },
        Message::Error { id, error } => match id.and_then(|id| id.as_u64().map(|number| (number, id.span()))) {
            Some((id, span)) => Inbound::Answer { id, span },
            None => Inbound::NamelessError { error: error.span() },
        },
        Message::Request { id, .. } if id.text().len() > MAX_ID => {
            let reason = format!("the id of a request has {} bytes; at most {MAX_ID} are answered", id.text().len());
            Inbound::Malformed { id: None, answer: false, reason }
        }
        Message::Request { id, call } => {
            let method = call.method.value();
            let reply = if method == method::PING {
                message::result(id.text(), message::EMPTY_RESULT)
            } else {
                let text = format!("{} is not supported: this client declared no capabilities", shown(method));
                message::error(Some(id.text()), ErrorCode::METHOD_NOT_FOUND, &text, None)
            };
            Inbound::Request { method: shown(method), reply }
        }
        Message::Notification(call) => match call.method.value() {
            method::PROGRESS => {
                let token = call.params.as_ref().and_then(mcp::Params::progress_token);
                match token.and_then(|token| token.as_u64().map(|number| (number, token.span()))) {
                    Some((token, span)) => Inbound::Progress { token, span },
                    None => Inbound::Stray,
                }
            }
            method if Kind::is_changed_by(method) => Inbound::ListChanged,
            _ => Inbound::Notification,
        },
    }
}

impl Inbound {
    fn in_words(&self) -> String {
        match self {
            Self::Answer { id, .. } => format!("the response to request {id}"),
            Self::NamelessError { .. } => "an error that names no request".to_owned(),
            Self::Progress { .. } | Self::Stray => "a progress notification".to_owned(),
            Self::Request { .. } => "a request".to_owned(),
            Self::ListChanged | Self::Notification => "a notification".to_owned(),
            Self::Malformed { reason, .. } => reason.clone(),
        }
    }
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

/// The client's values that are put back into one call's messages.
#[derive(Clone, Debug)]
pub(crate) struct Restore {
    /// The router's own id for the call.
    pub(crate) id: u64,
    client_id: Bytes,
    client_token: Option<Bytes>,
}

impl Restore {
    pub(crate) fn new(call: &Call, id: u64) -> Self {
        Self {
            id,
            client_id: piece(&call.body, call.id.range()),
            client_token: call.progress.map(|span| piece(&call.body, span.range())),
        }
    }

    /// `span` is where our id stands in the response.
    pub(crate) fn answer(&self, message: &[u8], span: Span) -> Bytes {
        held(splice(message, &mut [Edit::new(span, &*self.client_id)]))
    }

    /// An error without an id, as an answer: only one call can be meant.
    pub(crate) fn named(&self, message: &[u8], error: Span) -> Bytes {
        let (id, error) = (&*self.client_id, &message[error.range()]);
        [br#"{"jsonrpc":"2.0","id":"#, id, br#","error":"#, error, b"}"].concat().into()
    }

    /// Like [`Self::answer`], for a large message.
    pub(crate) fn answer_in_place(&self, message: &mut Vec<u8>, span: Span) {
        splice_in_place(message, &Edit::new(span, &*self.client_id));
    }

    /// Like [`Self::named`], for a large message.
    pub(crate) fn name_in_place(&self, message: &mut Vec<u8>, error: Span) {
        let head = [br#"{"jsonrpc":"2.0","id":"#, &*self.client_id, br#","error":"#].concat();
        message.truncate(error.end);
        message.push(b'}');
        message.splice(..error.start, head);
    }

    /// `None` when the client asked for no progress.
    pub(crate) fn progress(&self, message: &[u8], span: Span) -> Option<Bytes> {
        let token = self.client_token.as_deref()?;
        Some(splice(message, &mut [Edit::new(span, token)]).into())
    }

    /// The error for a message that came in place of the answer.
    pub(crate) fn unexpected(&self, found: &Inbound, server: &str) -> CallError {
        let reason = match found {
            Inbound::Malformed { reason, .. } => reason.clone(),
            Inbound::Answer { .. }
            | Inbound::NamelessError { .. }
            | Inbound::Progress { .. }
            | Inbound::Request { .. }
            | Inbound::ListChanged
            | Inbound::Notification
            | Inbound::Stray => format!("expected the response to request {}, found {}", self.id, found.in_words()),
        };
        not_an_answer(server, &reason)
    }
}

pub(crate) fn not_an_answer(server: &str, reason: &str) -> CallError {
    CallError::sent(Cause::Protocol, format!("server `{server}` answered with something that is no MCP: {reason}"))
}

pub(crate) fn too_large(server: &str, limit: u64) -> CallError {
    CallError::sent(Cause::TooLarge, format!("the answer of server `{server}` is larger than {limit} bytes"))
}
