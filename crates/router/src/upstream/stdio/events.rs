//! The messages of one stdio call whose client wants progress: progress as it comes, then the answer.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use mcp::Span;
use tokio::sync::{mpsc, oneshot};

use super::{Cancel, ended};
use crate::beside::{LONG, beside};
use crate::call::CallError;
use crate::upstream::inbound::Restore;

pub(super) struct StdioEvents {
    /// Closed by the pump before it gives the answer, so that no progress is overtaken.
    progress: mpsc::Receiver<(Bytes, Span)>,
    answer: Option<oneshot::Receiver<Result<(Bytes, Span), CallError>>>,
    /// A large answer that is being written beside the core.
    writing: Option<Pin<Box<dyn Future<Output = Bytes> + Send>>>,
    restore: Restore,
    cancel: Cancel,
}

impl StdioEvents {
    pub(super) fn new(
        progress: mpsc::Receiver<(Bytes, Span)>,
        answer: oneshot::Receiver<Result<(Bytes, Span), CallError>>,
        restore: Restore,
        cancel: Cancel,
    ) -> Self {
        Self { progress, answer: Some(answer), writing: None, restore, cancel }
    }
}

impl Stream for StdioEvents {
    type Item = Result<Bytes, CallError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        while let Some((message, span)) = ready!(this.progress.poll_recv(context)) {
            if let Some(message) = this.restore.progress(&message, span) {
                return Poll::Ready(Some(Ok(message)));
            }
        }
        if let Some(writing) = &mut this.writing {
            let answer = ready!(writing.as_mut().poll(context));
            this.writing = None;
            return Poll::Ready(Some(Ok(answer)));
        }
        let Some(answer) = &mut this.answer else { return Poll::Ready(None) };
        let outcome = ready!(Pin::new(answer).poll(context));
        this.answer = None;
        this.cancel.over();
        let outcome = outcome.unwrap_or_else(|_| Err(ended(this.cancel.server())));
        match outcome {
            Ok((message, span)) if message.len() > LONG => {
                let restore = this.restore.clone();
                this.writing = Some(Box::pin(beside(move || restore.answer(&message, span))));
                self.poll_next(context)
            }
            outcome => Poll::Ready(Some(outcome.map(|(message, span)| this.restore.answer(&message, span)))),
        }
    }
}
