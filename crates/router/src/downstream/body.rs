//! Bodies of answers: nothing, one piece, or events.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::get::NotificationStream;
use super::tools_call::CallStream;

#[derive(Debug)]
pub(super) enum Body {
    /// At most one frame.
    Whole(Option<Bytes>),
    /// What a server says about one call, up to its response.
    Call(Box<CallStream>),
    /// What the gateway has to say to a session, for as long as its client listens.
    Notifications(Box<NotificationStream>),
}

impl Body {
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self::Whole(Some(bytes))
    }

    pub(super) fn empty() -> Self {
        Self::Whole(None)
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take()),
            Self::Call(stream) => stream.poll_event(context),
            Self::Notifications(stream) => stream.poll_event(context),
        };
        next.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Call(_) | Self::Notifications(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Call(_) | Self::Notifications(_) => SizeHint::default(),
        }
    }
}

/// One message as a server-sent event. JSON holds no line breaks outside strings unless its writer was generous; an
/// event needs each line marked.
pub(super) fn event(message: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(message.len() + 24);
    out.extend_from_slice(b"event: message\n");
    for line in message.split(|byte| *byte == b'\n') {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.push(b'\n');
    out.into()
}
