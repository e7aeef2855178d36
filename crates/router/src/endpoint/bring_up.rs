//! From nothing to live and back: what the fleet does with an endpoint, on the control thread.
//!
//! There is one attempt at a time: the phase, in a `watch`, is both the claim and what other tasks wait on.

use std::sync::Arc;
use std::time::Duration;

use fleet::{Offered, Reason};
use mcp::message::method;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout, timeout_at};

use super::error::CONNECT;
use super::{
    AskError, BringUpError, BringUpFailure, Endpoint, EndpointEvent, EndpointPhase, EndpointState, ListError, PingError,
};
use crate::call::{Call, CallError};
use crate::secrets::Secrets;
use crate::upstream::{self, Link, SEEN_OUT, ask, list_all};

/// Which task may make the next attempt.
enum Claim<'a> {
    Mine(Attempt<'a>),
    Others,
    Up(Arc<Link>),
    Ended,
}

/// The attempt under way. If it is dropped unfinished (given up, timed out), the endpoint is down.
struct Attempt<'a> {
    endpoint: &'a Arc<Endpoint>,
    was_up: bool,
    finished: bool,
}

/// What has become of a connection that an attempt made.
enum Published {
    Live,
    /// The endpoint was shut down meanwhile: the connection is to be closed.
    TooLate(Arc<Link>),
}

/// For a ping on a session that could not be replaced.
const SECOND_THOUGHTS: Duration = Duration::from_secs(2);

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.endpoint.state.send_if_modified(|state| {
                let mine = state.phase == EndpointPhase::Connecting;
                if mine {
                    state.phase = EndpointPhase::Down;
                }
                mine
            });
            self.endpoint.link.store(None);
        }
    }
}

impl Endpoint {
    /// Connects, initialises, lists what the server offers of each kind. If it is up already it is only listed again,
    /// on the same connection (and with a new session, if the server has forgotten the old one). Call it on the control
    /// thread.
    ///
    /// # Errors
    /// [`BringUpError`] names the step; for a child it has the last lines of stderr.
    pub async fn bring_up(self: &Arc<Self>, deadline: Instant) -> Result<Offered, BringUpError> {
        let limit = deadline.saturating_duration_since(Instant::now());
        // An attempt has less time than connecting may otherwise take if its vote is due earlier.
        let connect = self.limits().connect;
        let (limit, key) = if limit + Duration::from_millis(100) < connect {
            (limit, "hot_reload.validation.timeout_seconds")
        } else {
            // What has passed since the deadline was set is no part of the limit.
            (if limit < connect { connect } else { limit }, CONNECT)
        };
        let outcome = tokio::select! {
            outcome = timeout_at(deadline, Box::pin(self.up_and_listed(deadline))) => {
                outcome.unwrap_or_else(|_| Err(BringUpFailure::timed_out(limit, key, &self.spec.transport)))
            }
            () = self.ended.cancelled() => Err(BringUpFailure::Ended),
        };
        outcome.map_err(|failure| {
            let error = BringUpError::new(failure, || upstream::wrote(&self.stderr, &self.stray));
            self.note_error(error.reason());
            error
        })
    }

    async fn up_and_listed(self: &Arc<Self>, deadline: Instant) -> Result<Offered, BringUpFailure> {
        loop {
            match self.claim() {
                Claim::Mine(attempt) => {
                    let patience = deadline.saturating_duration_since(Instant::now()) / 2;
                    let link = upstream::establish(self, patience).await?;
                    match list_all(self, &link, self.limits().connect).await {
                        Ok(offered) => {
                            return match attempt.publish(link) {
                                Published::Live => Ok(offered),
                                Published::TooLate(link) => {
                                    link.close(self).await;
                                    Err(BringUpFailure::Ended)
                                }
                            };
                        }
                        Err(error) => {
                            link.close(self).await;
                            return Err(BringUpFailure::List(error));
                        }
                    }
                }
                Claim::Up(link) => return self.list_over(link).await.map_err(BringUpFailure::List),
                Claim::Others => {
                    let state = self.attempt_over().await;
                    if state.phase == EndpointPhase::Down {
                        let reason = state.last_error.unwrap_or_else(|| Reason::own("the attempt was given up"));
                        return Err(BringUpFailure::Elsewhere { reason });
                    }
                }
                Claim::Ended => return Err(BringUpFailure::Ended),
            }
        }
    }

    fn claim(self: &Arc<Self>) -> Claim<'_> {
        let mut before = EndpointPhase::Idle;
        self.state.send_if_modified(|state| {
            before = state.phase;
            let free = matches!(before, EndpointPhase::Idle | EndpointPhase::Lost | EndpointPhase::Down);
            if free {
                state.phase = EndpointPhase::Connecting;
                state.next_attempt = None;
            }
            free
        });
        match before {
            EndpointPhase::Idle | EndpointPhase::Lost | EndpointPhase::Down => {
                Claim::Mine(Attempt { endpoint: self, was_up: self.was_up(), finished: false })
            }
            EndpointPhase::Connecting => Claim::Others,
            EndpointPhase::Up => self.link().map_or(Claim::Others, Claim::Up),
            EndpointPhase::Ended => Claim::Ended,
        }
    }

    fn was_up(&self) -> bool {
        self.state.borrow().protocol_version.is_some()
    }

    async fn attempt_over(&self) -> EndpointState {
        let mut state = self.state.subscribe();
        let over = state.wait_for(|state| state.phase != EndpointPhase::Connecting).await;
        over.map(|state| state.clone()).expect("the endpoint holds the sender")
    }

    /// Lists what the server offers again, on the live connection.
    ///
    /// # Errors
    /// [`AskError`]; nothing changes then.
    pub async fn list(self: &Arc<Self>) -> Result<Offered, AskError> {
        match self.link() {
            Some(link) => self.list_over(link).await.map_err(|ListError { error, .. }| error),
            None => Err(self.not_connected()),
        }
    }

    async fn list_over(self: &Arc<Self>, link: Arc<Link>) -> Result<Offered, ListError> {
        let limit = self.limits().connect;
        match list_all(self, &link, limit).await {
            Err(ListError { kind, error: AskError::Call(error) }) => {
                if let Some(doubt) = link.doubt(&error)
                    && link.has_fallen(self, doubt).await
                {
                    self.renew(link.number()).await.map_err(|error| ListError { kind, error: error.into() })?;
                }
                match self.link() {
                    Some(new) if new.number() != link.number() => list_all(self, &new, limit).await,
                    _ => Err(ListError { kind, error: error.into() }),
                }
            }
            other => other,
        }
    }

    /// An MCP ping on the live connection: never a new process, never a second `initialize`. An error of the server is
    /// a sign of life, too.
    ///
    /// # Errors
    /// [`PingError`]: not connected, no answer within `timeout`, or the connection broke.
    pub async fn ping(self: &Arc<Self>, timeout: Duration) -> Result<Duration, PingError> {
        let link = self.link().ok_or_else(|| self.not_connected())?;
        let begun = Instant::now();
        let answer = ask(self, &link, &Call::own(method::PING, None), timeout).await;
        let took = begun.elapsed();
        if answer.is_ok() {
            self.reached();
        }
        let doubt = if let Err(AskError::Call(error)) = &answer { link.doubt(error) } else { None };
        if doubt.is_none() && !Secrets::are_in(&self.spec.transport) {
            return answer.map(|_| took).map_err(Into::into);
        }
        // Whatever the ping found, the endpoint may need a new session rather than a verdict.
        let (endpoint, tasks) = (Arc::clone(self), &self.upstreams.tasks);
        tasks.spawn_on(&self.upstreams.control, "session renewal after a ping", async move {
            let is_stale = match doubt {
                Some(doubt) => link.has_fallen(&endpoint, doubt).await,
                None => link.is_outdated(&endpoint).await,
            };
            if is_stale {
                drop(endpoint.renew(link.number()).await);
            }
        });
        answer.map(|_| took).map_err(Into::into)
    }

    fn not_connected(&self) -> AskError {
        let reason = self.state.borrow().last_error.as_ref().map(|reason| Arc::clone(&reason.full));
        AskError::Down { reason: reason.unwrap_or_else(|| "never connected".into()) }
    }

    /// A new session in place of that of connection `stale`, unless there is one already. Many callers, one attempt.
    /// Calls go out on the old one until the new one works. False if the old session stays: no new one could be made,
    /// and the old one answers.
    pub(crate) async fn renew(self: &Arc<Self>, stale: u64) -> Result<bool, CallError> {
        let current = |endpoint: &Self| endpoint.link().is_some_and(|link| link.number() != stale);
        if current(self) {
            return Ok(true);
        }
        let claimed = self.state.send_if_modified(|state| {
            let mine = state.phase == EndpointPhase::Up && !current(self);
            if mine {
                state.phase = EndpointPhase::Connecting;
            }
            mine
        });
        if claimed {
            let endpoint = Arc::clone(self);
            self.upstreams.tasks.spawn_on(&self.upstreams.control, "session renewal", async move {
                endpoint.renewal().await;
            });
        }
        self.attempt_over().await;
        match self.link() {
            Some(link) => Ok(link.number() != stale),
            None => Err(self.down_error()),
        }
    }

    async fn renewal(self: Arc<Self>) {
        let attempt = Attempt { endpoint: &self, was_up: true, finished: false };
        let limit = self.limits().connect;
        let pause = tokio::time::sleep(self.renewals.pause(self.now()));
        // Cancelled or not: an endpoint that has ended finds out below.
        self.ended.run_until_cancelled(pause).await;
        let outcome = tokio::select! {
            outcome = timeout(limit, Box::pin(upstream::establish(&self, limit / 2))) => {
                outcome.unwrap_or_else(|_| Err(BringUpFailure::timed_out(limit, CONNECT, &self.spec.transport)))
            }
            () = self.ended.cancelled() => Err(BringUpFailure::Ended),
        };
        let result = if outcome.is_ok() { "ok" } else { "failed" };
        metrics::counter!("only1mcp_router_renewals_total", "result" => result).increment(1);
        match outcome {
            Ok(link) => match attempt.publish(link) {
                Published::Live => self.tell(EndpointEvent::Renewed),
                Published::TooLate(link) => link.close(&self).await,
            },
            Err(failure) if self.still_answers().await => {
                tracing::warn!(server = %self.key.backend, %failure, "no new session could be had, and the old one serves again");
                attempt.keep();
            }
            Err(failure) => {
                let reason = failure.reason("the server lost its session, and a new one could not be had");
                self.note_error(reason.clone());
                drop(attempt);
                self.tell(EndpointEvent::Lost { reason: reason.full });
            }
        }
    }

    /// A ping on the connection that was to be replaced is answered.
    async fn still_answers(self: &Arc<Self>) -> bool {
        let Some(link) = self.link() else { return false };
        let limit = self.limits().connect.min(SECOND_THOUGHTS);
        ask(self, &link, &Call::own(method::PING, None), limit).await.is_ok()
    }

    /// Why it is lost, if it was up until a moment ago and is to be brought up again.
    pub(crate) fn lost(&self) -> Option<Arc<str>> {
        let state = self.state.borrow();
        let lost = matches!(state.phase, EndpointPhase::Lost | EndpointPhase::Down);
        let reason = || state.last_error.as_ref().map(|reason| Arc::clone(&reason.full));
        lost.then(|| reason().unwrap_or_else(|| "the connection was lost".into()))
    }

    pub(crate) fn note_error(&self, error: Reason) {
        let now = self.now();
        self.state.send_modify(|state| (state.last_error, state.failed_at) = (Some(error), Some(now)));
    }

    /// Connection `number` is gone: no call uses it from here on. Returns whether it was the live one.
    pub(crate) fn unlink(&self, number: u64) -> bool {
        let live = |endpoint: &Self| endpoint.link().is_some_and(|link| link.number() == number);
        let was_live = self.state.send_if_modified(|state| {
            let lost = state.phase == EndpointPhase::Up && live(self);
            if lost {
                state.phase = EndpointPhase::Lost;
                state.pid = None;
            }
            lost
        });
        if was_live {
            self.link.store(None);
        }
        was_live
    }

    /// Ends the process of a stdio server so that another one can take its place: calls in flight fail at once, calls
    /// that come wait. The loss is reported, as always, when the process is gone; the fleet then brings the endpoint
    /// up.
    pub fn restart(&self, why: &str) {
        if let Some(link) = self.link() {
            link.restart(why);
        }
    }

    /// Ends what is live, and what an attempt has started.
    async fn see_out(&self) {
        if let Some(link) = self.link.swap(None) {
            link.close(self).await;
        }
        // From here on no attempt starts anything, and what one has started is let go, which ends it.
        self.end();
        drop(self.process.acquire().await);
    }

    /// The right to be the one process of a stdio server: the process before it is gone. The permit is kept by the task
    /// that waits for the process to end. An endpoint that has ended gives none.
    pub(crate) async fn only_process(&self, patience: Duration) -> Result<OwnedSemaphorePermit, BringUpFailure> {
        let free = timeout(patience, Arc::clone(&self.process).acquire_owned()).await;
        let permit = free.map_err(|_| BringUpFailure::Lingers { waited: patience })?;
        permit.map_err(|_| BringUpFailure::Ended)
    }

    /// Ends the endpoint for ever, after admission is closed: the server is told (a session is deleted, stdin is
    /// closed), a child that stays gets SIGTERM after 2 s and SIGKILL, with all its descendants, after 2 s more.
    /// Returns when it is over.
    pub async fn shut_down(&self) {
        self.state.send_modify(|state| {
            state.phase = EndpointPhase::Ended;
            state.next_attempt = None;
        });
        // A process that cannot be killed, since the system holds it, must not hold up the caller.
        if timeout(SEEN_OUT, self.see_out()).await.is_err() {
            tracing::warn!(endpoint = %self.key, "not everything of it has ended in time; it is not waited for any more");
            self.end();
        }
        self.state.send_modify(|state| state.pid = None);
    }
}

impl Attempt<'_> {
    /// Nothing has changed.
    fn keep(mut self) {
        self.endpoint.state.send_if_modified(|state| {
            let mine = state.phase == EndpointPhase::Connecting;
            if mine {
                state.phase = EndpointPhase::Up;
            }
            mine
        });
        self.finished = true;
    }

    /// From here on calls go out on `link`, unless the endpoint was shut down meanwhile.
    fn publish(mut self, link: Arc<Link>) -> Published {
        let endpoint = self.endpoint;
        if endpoint.state.borrow().phase == EndpointPhase::Ended {
            return Published::TooLate(link);
        }
        let old = endpoint.link.swap(Some(Arc::clone(&link)));
        if let Some(Link::Http(old)) = old.as_deref() {
            old.replaced.cancel();
        }
        endpoint.state.send_modify(|state| {
            state.phase = EndpointPhase::Up;
            state.pid = link.pid();
            state.upstream_session = link.session().map(|session| endpoint.echo.said(session).as_str().into());
            state.protocol_version = Some(link.greeting().protocol_version);
            state.restarts += u32::from(self.was_up);
        });
        endpoint.reached();
        endpoint.renewals.begins(endpoint.now());
        link.attend(endpoint);
        self.finished = true;
        // A child may have ended after its last answer; at that time `unlink` found no live connection to take back.
        if link.is_over() && endpoint.unlink(link.number()) {
            endpoint.tell(EndpointEvent::Lost { reason: "the server ended right after it had started".into() });
        }
        Published::Live
    }
}
