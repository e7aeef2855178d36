//! Signs of life from servers, as the bytes come: a call is idle only while nothing comes at all.
//!
//! A long answer, a comment that keeps an event stream open, an event with only an id: none of them is a message, so
//! whoever drives the call does not see them. But they arrive while the call is polled, on the thread that polls it.
//! So the transport notes that it heard something, and the one that polls asks right afterwards. This costs the path
//! of a call nothing but a flag, where a handle in each call would have to be passed through every layer.

use std::cell::Cell;

thread_local! {
    static HEARD: Cell<bool> = const { Cell::new(false) };
}

/// Something came from a server, for whatever is being polled on this thread.
pub(crate) fn heard() {
    HEARD.set(true);
}

/// What `poll` gives, and whether something came from a server meanwhile.
pub(crate) fn listen<T>(poll: impl FnOnce() -> T) -> (T, bool) {
    HEARD.set(false);
    let outcome = poll();
    (outcome, HEARD.get())
}
