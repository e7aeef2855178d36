//! Whether a session with an HTTP server still stands, once a status puts it in doubt.
//!
//! 404 is how a server says that it has lost the session (some say 400), and how a careless one says that a tool failed.
//! Only asking on that same session tells one from the other. A call is repeated and a session replaced only after
//! that, or a tool that ran and then failed would run twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use mcp::message::method;
use tokio::sync::Semaphore;

use super::http::HttpLink;
use super::{Link, ask};
use crate::call::{Call, CallError, Cause};
use crate::endpoint::{AskError, Endpoint};

/// What a status puts in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doubt {
    Session,
    Credentials,
}

impl Doubt {
    pub(super) fn of(status: u16) -> Option<Self> {
        match status {
            400 | 404 => Some(Self::Session),
            401 | 403 => Some(Self::Credentials),
            _ => None,
        }
    }
}

/// What has been found out about one session.
pub(super) struct Standing {
    checks: AtomicU64,
    fallen: AtomicBool,
    /// The number of the last check after which it still stood.
    stood: AtomicU64,
    /// One place, for whoever makes a check: many callers, one check.
    turn: Semaphore,
}

impl Standing {
    pub(super) fn new() -> Self {
        let none = || AtomicU64::new(0);
        Self { checks: none(), fallen: AtomicBool::new(false), stood: none(), turn: Semaphore::new(1) }
    }

    /// Whether the session has fallen, by a check that begins after this was called. `check` says whether it has.
    async fn fallen(&self, check: impl AsyncFnOnce() -> bool) -> bool {
        let begun = self.checks.load(Ordering::Acquire);
        let _turn = self.turn.acquire().await;
        if self.fallen.load(Ordering::Acquire) {
            return true;
        }
        if self.stood.load(Ordering::Acquire) > begun {
            return false;
        }
        let number = self.checks.fetch_add(1, Ordering::AcqRel) + 1;
        let fallen = check().await;
        if fallen {
            self.fallen.store(true, Ordering::Release);
        } else {
            self.stood.store(number, Ordering::Release);
        }
        fallen
    }
}

impl HttpLink {
    /// What `error` puts in doubt.
    pub(super) fn doubt(&self, error: &CallError) -> Option<Doubt> {
        let Cause::Status(status) = error.cause else { return None };
        Doubt::of(status).filter(|doubt| match doubt {
            Doubt::Session => self.session.is_some(),
            Doubt::Credentials => true,
        })
    }

    /// The server refuses a ping on this session for the same reason. Credentials only count if others are configured by
    /// now. Some servers refuse every ping, so it must refuse its list as well.
    pub(super) async fn has_fallen(&self, endpoint: &Arc<Endpoint>, link: &Arc<Link>, doubt: Doubt) -> bool {
        if doubt == Doubt::Credentials && !self.is_outdated(endpoint).await {
            return false;
        }
        let refused = async || {
            for method in [method::PING, method::TOOLS_LIST] {
                let limit = endpoint.limits().connect;
                match ask(endpoint, link, &Call::own(method, None), limit).await {
                    Err(AskError::Call(CallError { cause: Cause::Status(status), .. }))
                        if Doubt::of(status) == Some(doubt) => {}
                    _ => return false,
                }
            }
            true
        };
        self.life.standing.fallen(refused).await
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn many_who_doubt_make_one_check_each_that_began_after_their_doubt() {
        let (standing, checks) = (Standing::new(), Cell::new(0));
        let check = async |fallen| {
            standing
                .fallen(async || {
                    checks.set(checks.get() + 1);
                    tokio::task::yield_now().await;
                    fallen
                })
                .await
        };
        assert_eq!(join_all((0..9).map(|_| check(false))).await, [false; 9]);
        assert_eq!(checks.get(), 2, "one was under way when the others began to doubt");
        assert!(!check(false).await);
        assert_eq!(checks.get(), 3, "what was found before says nothing of now");
        assert_eq!(join_all((0..9).map(|_| check(true))).await, [true; 9]);
        assert!(check(false).await, "what has fallen stays so");
        assert_eq!(checks.get(), 4);
    }
}
