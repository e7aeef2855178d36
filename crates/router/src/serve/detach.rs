//! Requests that outlive their connection.
//!
//! A client that goes away has not cancelled anything (MCP up to 2025-11-25: "disconnection SHOULD NOT be interpreted
//! as the client cancelling its request"): its request runs to its end, only without a reader.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::core::Core;

/// A future that goes on in the background when it is dropped before its end.
pub(super) struct Detach<T: 'static> {
    future: Option<Pin<Box<dyn Future<Output = T>>>>,
    core: Rc<Core>,
}

impl<T: 'static> Detach<T> {
    /// The future is large: it is made where it stays, and never moved.
    pub(super) fn new<F: Future<Output = T> + 'static>(core: Rc<Core>, make: impl FnOnce() -> F) -> Self {
        let future = Box::write(Box::new_uninit(), make());
        Self { future: Some(Box::into_pin(future)), core }
    }
}

impl<T: 'static> Future for Detach<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let future = self.future.as_mut().expect("not polled after it was ready");
        let output = std::task::ready!(future.as_mut().poll(context));
        self.future = None;
        Poll::Ready(output)
    }
}

impl<T: 'static> Drop for Detach<T> {
    fn drop(&mut self) {
        if let Some(future) = self.future.take()
            && !self.core.closing.get()
        {
            tokio::task::spawn_local(async move { drop(future.await) });
        }
    }
}
