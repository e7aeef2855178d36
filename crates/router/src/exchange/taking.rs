//! The body of a request as it is taken from hyper, piece by piece.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use http_body::Frame;
use hyper::body::{Body as _, Incoming};

thread_local! {
    /// The body of a request is being taken on this thread; whether that has woken a connection.
    static TAKING: Cell<Option<bool>> = const { Cell::new(None) };
}

/// Stands before the waker of a connection's task. When the last piece of a body is taken, hyper wakes the task to read
/// more of the body. There is no more, so each request would run the task once for nothing.
pub(crate) struct WakeFilter(Waker);

impl WakeFilter {
    pub(crate) fn before(task: &Waker) -> Waker {
        Arc::new(Self(task.clone())).into()
    }
}

impl Wake for WakeFilter {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if TAKING.get().is_some() {
            TAKING.set(Some(true));
        } else {
            self.0.wake_by_ref();
        }
    }
}

/// The next piece of a body.
pub(crate) fn take_frame(
    body: &mut Incoming,
    context: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
    TAKING.set(Some(false));
    let frame = Pin::new(&mut *body).poll_frame(context);
    let woken = TAKING.take() == Some(true);
    if woken && !body.is_end_stream() {
        context.waker().wake_by_ref();
    }
    frame
}
