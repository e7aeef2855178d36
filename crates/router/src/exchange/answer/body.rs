//! Bodies of answers: nothing, one piece, or events.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::SizeHint;

use super::notifications::NotificationStream;
use super::outbox::{FRAME, Outlet};
use crate::budget::{Charge, LARGE};
use crate::core::clients::Takes;

/// The part of a large answer that was not given to hyper yet, and its charge.
#[derive(Debug)]
pub(crate) struct Large {
    rest: Bytes,
    charge: Option<Charge>,
}

impl Large {
    fn next(&mut self) -> Option<Bytes> {
        let frame = self.rest.split_to(self.rest.len().min(FRAME));
        if self.rest.is_empty() {
            self.charge = None;
        }
        (!frame.is_empty()).then_some(frame)
    }
}

#[derive(Debug)]
pub(crate) enum Body {
    /// At most one frame.
    Whole(Option<Bytes>),
    /// One message in several frames.
    Large(Box<Large>),
    /// The events of one call, up to its response.
    Call(Outlet),
    /// The notifications of a session, for as long as its client listens.
    Notifications(Box<NotificationStream>),
}

impl Body {
    pub(crate) fn whole(bytes: Bytes) -> Self {
        if bytes.len() <= FRAME { Self::Whole(Some(bytes)) } else { Self::large(bytes, None) }
    }

    /// A large answer, charged for as long as it is held.
    pub(crate) fn large(bytes: Bytes, charge: Option<Charge>) -> Self {
        Self::Large(Box::new(Large { rest: bytes, charge }))
    }

    pub(crate) fn empty() -> Self {
        Self::Whole(None)
    }

    /// What kind of answer the client is to read.
    pub(crate) fn takes(&self) -> Takes {
        match self {
            Self::Large(large) if large.rest.len() > LARGE => Takes::Large,
            Self::Notifications(_) => Takes::Notifications,
            Self::Whole(_) | Self::Large(_) | Self::Call(_) => Takes::Little,
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        let next = match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take()),
            Self::Large(large) => Poll::Ready(large.next()),
            Self::Call(stream) => stream.poll_event(context),
            Self::Notifications(stream) => stream.poll_event(context),
        };
        next.map(|bytes| bytes.map(|bytes| Ok(http_body::Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Large(large) => large.rest.is_empty(),
            Self::Call(_) | Self::Notifications(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Large(large) => SizeHint::with_exact(large.rest.len() as u64),
            Self::Call(_) | Self::Notifications(_) => SizeHint::default(),
        }
    }
}
