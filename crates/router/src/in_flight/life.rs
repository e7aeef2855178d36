//! Signs of life from servers, as the bytes come: a call is idle only while nothing comes at all.
//!
//! A long answer, a comment that keeps an event stream open, an event with only an id: none of them is a message, so
//! whoever drives the call does not see them. But they arrive while the call is polled, on the thread that polls it.
//! So the transport notes that it heard something, and the one that polls asks right afterwards. This costs the path
//! of a call nothing but a flag, where a handle in each call would have to be passed through every layer.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

/// What the poll of a call has shown of its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    Nothing,
    /// Something came.
    Life,
    /// The gateway itself waits before it reads on, so that the server's silence means nothing.
    Deaf,
}

thread_local! {
    static SIGN: Cell<Sign> = const { Cell::new(Sign::Nothing) };
}

/// Something came from a server, for whatever is being polled on this thread.
pub(crate) fn heard() {
    SIGN.set(Sign::Life);
}

/// For whatever is being polled on this thread nothing is read until `outcome` is ready; its time begins anew then.
pub(crate) fn deaf_until<T>(outcome: Poll<T>) -> Poll<T> {
    SIGN.set(if outcome.is_pending() { Sign::Deaf } else { Sign::Life });
    outcome
}

/// As [`deaf_until`], of a future.
pub(crate) async fn deaf<F: Future>(wait: F) -> F::Output {
    let mut wait = pin!(wait);
    poll_fn(|context| deaf_until(wait.as_mut().poll(context))).await
}

/// What `poll` gives, and what came from a server meanwhile.
pub(crate) fn listen<T>(poll: impl FnOnce() -> T) -> (T, Sign) {
    SIGN.set(Sign::Nothing);
    let outcome = poll();
    (outcome, SIGN.get())
}
