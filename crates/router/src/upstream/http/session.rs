//! Whether a session with an HTTP server still stands, once a status puts it in doubt.
//!
//! 404 is how a server says that it has lost the session (some say 400), and how a careless one says that a tool
//! failed. Only asking on that same session tells one from the other. A call is repeated and a session replaced only
//! after that, or a tool that ran and then failed would run twice.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mcp::message::method;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::HttpLink;
use crate::call::{Call, CallError, Cause};
use crate::endpoint::{AskError, Endpoint};
use crate::upstream::{Link, ask};

/// What a status puts in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doubt {
    Session,
    Credentials,
}

impl Doubt {
    pub(crate) fn of(status: u16) -> Option<Self> {
        match status {
            400 | 404 => Some(Self::Session),
            401 | 403 => Some(Self::Credentials),
            _ => None,
        }
    }
}

/// How long a refusal waits for a renewal that it has shown to be due.
const SOON: Duration = Duration::from_secs(2);

/// What checks have found out about one session. A result counts only for calls that were in doubt when the check
/// began: a session that was refused once may be known again, and what the server refuses then is another call.
pub(crate) struct Standing {
    checks: AtomicU64,
    /// One permit, for the caller that makes the check: many callers share one check.
    turn: Semaphore,
    /// The last check that has ended.
    last: Mutex<Check>,
}

#[derive(Clone, Copy, Default)]
struct Check {
    number: u64,
    confirmed: Option<Doubt>,
}

impl Standing {
    pub(crate) fn new() -> Self {
        Self { checks: AtomicU64::new(0), turn: Semaphore::new(1), last: Mutex::default() }
    }

    /// Whether a check that begins after this was called confirms `doubt`. `check` says what it confirms.
    async fn confirms(&self, doubt: Doubt, check: impl AsyncFnOnce() -> Option<Doubt>) -> bool {
        let begun = self.checks.load(Ordering::Acquire);
        let _turn = self.turn.acquire().await;
        let last = || self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last().number <= begun {
            let number = self.checks.fetch_add(1, Ordering::AcqRel) + 1;
            let confirmed = check().await;
            *last() = Check { number, confirmed };
        }
        last().confirmed == Some(doubt)
    }
}

impl HttpLink {
    /// What `error` puts in doubt.
    pub(crate) fn doubt(&self, error: &CallError) -> Option<Doubt> {
        let Cause::Status(status) = error.cause else { return None };
        Doubt::of(status).filter(|doubt| match doubt {
            Doubt::Session => self.session.is_some(),
            Doubt::Credentials => true,
        })
    }

    /// Whether the server refuses a ping on this session for the same reason. Credentials only count if others are
    /// configured by now. Some servers refuse every ping, so the server must refuse its list as well.
    pub(crate) async fn has_fallen(&self, endpoint: &Arc<Endpoint>, link: &Arc<Link>, doubt: Doubt) -> bool {
        if doubt == Doubt::Session {
            return self.is_refused(endpoint, link, doubt).await;
        }
        if !self.is_outdated(endpoint).await {
            return false;
        }
        let fallen = self.is_refused(endpoint, link, doubt).await;
        if !fallen {
            // The refused call may have been executed, but later calls get the new credentials. A renewal that takes
            // long goes on by itself.
            drop(timeout(SOON, endpoint.renew(self.number)).await);
        }
        fallen
    }

    async fn is_refused(&self, endpoint: &Arc<Endpoint>, link: &Arc<Link>, doubt: Doubt) -> bool {
        self.life.standing.confirms(doubt, async || self.refuses(endpoint, link).await).await
    }

    /// The doubt for which the server refuses both a ping and a list on this same session.
    async fn refuses(&self, endpoint: &Arc<Endpoint>, link: &Arc<Link>) -> Option<Doubt> {
        let refused =
            async |method| match ask(endpoint, link, &Call::own(method, None), endpoint.limits().connect).await {
                Err(AskError::Call(CallError { cause: Cause::Status(status), .. })) => Doubt::of(status),
                _ => None,
            };
        let doubt = refused(method::PING).await?;
        refused(link.greeting().lists().list()).await.filter(|again| *again == doubt)
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
        let check = async |confirmed| {
            standing
                .confirms(Doubt::Session, async || {
                    checks.set(checks.get() + 1);
                    tokio::task::yield_now().await;
                    confirmed
                })
                .await
        };
        assert_eq!(join_all((0..9).map(|_| check(None))).await, [false; 9]);
        assert_eq!(checks.get(), 2, "one was under way when the others began to doubt");
        assert_eq!(join_all((0..9).map(|_| check(Some(Doubt::Session)))).await, [true; 9]);
        assert_eq!(checks.get(), 4);
        assert!(!check(None).await, "what was found before says nothing of now");
        assert!(!check(Some(Doubt::Credentials)).await, "that is another doubt");
        assert_eq!(checks.get(), 6);
    }
}
