//! A client's message as the server gets it: our id, the server's own tool name, our progress token, the trace.

use std::time::Duration;

use arrayvec::ArrayVec;
use bytes::Bytes;
use mcp::{Edit, splice};

use crate::call::Call;

impl Call {
    /// A request of the gateway's own. Its id is a placeholder, as ids of calls always are on the way out.
    pub(crate) fn own(method: &str, params: Option<&[u8]>) -> Self {
        Self::of_message(mcp::message::request("0", method, params))
    }

    /// `message` is a request that the gateway wrote.
    pub(crate) fn of_message(message: Vec<u8>) -> Self {
        let Ok(Some(id)) = mcp::scan(&message).map(|envelope| envelope.id().map(mcp::Id::span)) else {
            unreachable!("requests written by the gateway have an id")
        };
        Self {
            body: message.into(),
            id,
            name: None,
            progress: None,
            traceparent: None,
            idempotent: false,
            waited: Duration::ZERO,
        }
    }
}

/// The message for the server, with `id` as request id and, if the client wants progress, as progress token.
pub(crate) fn write(call: &Call, id: u64) -> Bytes {
    let mut number = itoa::Buffer::new();
    let id = number.format(id).as_bytes();
    // In the order of most messages, in which they need not be sorted.
    let mut edits = ArrayVec::<Edit<'_>, 4>::new();
    edits.extend(call.traceparent.as_ref().and_then(|trace| trace.edit.clone()));
    edits.extend(call.progress.map(|span| Edit::new(span, id)));
    edits.push(Edit::new(call.id, id));
    edits.extend(call.name.as_ref().map(|(span, item)| Edit::new(*span, item.name_json().as_bytes())));
    splice(&call.body, &mut edits).into()
}

/// As [`write`], in one line: over stdio a line break ends the message, and in JSON it can only be white space.
pub(crate) fn write_line(call: &Call, id: u64) -> Vec<u8> {
    let mut line = Vec::from(write(call, id));
    if memchr::memchr2(b'\n', b'\r', &line).is_some() {
        line.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
    }
    line
}
