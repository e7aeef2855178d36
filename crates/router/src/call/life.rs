//! Signs of life from servers, as the bytes come: a call is idle only while nothing comes at all.
//!
//! A long answer, a comment that keeps an event stream open, an event with only an id: none of them is a complete
//! message, so the task that drives the call does not see them. But they arrive while the call is polled, on the thread
//! that polls it. So the transport sets a flag when it receives something, and the polling code reads the flag right
//! afterwards. This costs the path of a call only that flag; a handle in each call would have to pass through every
//! layer.

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
    /// The gateway itself waits before it reads on, so the server's silence means nothing.
    Deaf,
}

thread_local! {
    static SIGN: Cell<Sign> = const { Cell::new(Sign::Nothing) };
}

/// Notes that something came from a server, for the call that is being polled on this thread.
pub(crate) fn heard() {
    SIGN.set(Sign::Life);
}

/// Notes that the gateway reads nothing for the call being polled on this thread until `outcome` is ready. The call's
/// idle time begins anew then.
pub(crate) fn deaf_until<T>(outcome: Poll<T>) -> Poll<T> {
    SIGN.set(if outcome.is_pending() { Sign::Deaf } else { Sign::Life });
    outcome
}

/// As [`deaf_until`], for a future.
pub(crate) async fn deaf<F: Future>(wait: F) -> F::Output {
    let mut wait = pin!(wait);
    poll_fn(|context| deaf_until(wait.as_mut().poll(context))).await
}

/// Returns the result of `poll`, and what came from a server meanwhile.
pub(crate) fn listen<T>(poll: impl FnOnce() -> T) -> (T, Sign) {
    SIGN.set(Sign::Nothing);
    let outcome = poll();
    (outcome, SIGN.get())
}
