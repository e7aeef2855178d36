//! One reachable instance of a server: its admission word, the verdict on its health, and the connection to it.
//!
//! Endpoints outlive generations: whatever changes around them (names, weights, limits, other servers), sockets, child
//! process and upstream session stay. `control::endpoints` owns them; the fleet knows each by a [`fleet::Serial`].
//! Calls enter the admission word, count, and take ids here. Bringing up, listing and shutting down are tasks on the
//! control thread.

mod bring_up;
mod check;
mod dead;
mod error;
mod lease;
mod recent;
mod renewals;
mod signals;
mod state;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use drain::Admission;
use health::Judge;
use health::shares::Ejection;
use model::{EndpointKey, EndpointSpec, Limits, Standing, Time, Transport, Verdict, Weight};
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::budget::Unfinished;
use crate::call::{Detail, Noted};
use crate::secrets::{Echo, READ_LIMIT, Said, Secrets};
use crate::upstream::{Link, StderrTail, Together, endpoint_ended, next_number};

pub use crate::upstream::Upstreams;
use renewals::Renewals;

pub(crate) use dead::{Absence, Waits};
pub use error::{AskError, BringUpError, BringUpFailure, ListError, PingError};
use lease::Trial;
pub use lease::{Lease, Stats};
use recent::Rings;
pub(crate) use recent::{Ended, Recent, Summary};
pub use signals::Signals;
pub use state::{EndpointEvent, EndpointPhase, EndpointState};

/// What may be the missing answer to a call that times out.
const HALF_LINE: &str = "the beginning of a line, without a line break at its end";

/// Shared by every generation that includes it.
pub struct Endpoint {
    pub key: EndpointKey,
    /// Unique in this process and never used again: the index of what a core keeps per endpoint.
    pub number: u64,
    /// For spans, of which there may be two per call.
    pub(crate) shown: Shown,
    pub admission: Admission,
    pub stats: Stats,
    /// What became of the latest calls.
    pub(crate) recent: Rings,
    verdict: AtomicU8,
    /// What the overlay leaves of its share of the calls, in thousandths.
    weight: AtomicU16,
    /// What its own calls leave of its share.
    standing: AtomicU16,
    trial: Trial,
    /// While it is ejected or on trial.
    ejection: Mutex<Option<Ejection>>,
    /// 0, or one more than the number of sessions that may move away from it now: its share falls.
    left: AtomicU32,
    /// An operator has switched its server off: why it takes no calls.
    disabled: AtomicBool,
    limits: ArcSwap<Limits>,
    /// Of the limits, those that every call reads: an atomic is cheaper to read than the pointer to all of them.
    in_flight_max: AtomicU32,
    response_max: AtomicU64,
    pub(crate) spec: EndpointSpec,
    pub(crate) upstreams: Arc<Upstreams>,
    /// Present while calls can go out.
    link: ArcSwapOption<Link>,
    state: watch::Sender<EndpointState>,
    pub(crate) stderr: Arc<StderrTail>,
    /// Lines of the child's stdout that are no MCP.
    pub(crate) stray: Arc<StderrTail>,
    noted: Noted,
    pub(crate) echo: Arc<Echo>,
    /// The unsolicited messages of an HTTP server.
    pub(crate) together: Together,
    /// What an HTTP server has begun to say.
    pub(crate) unfinished: Unfinished,
    /// What the server last said that may have been meant for any of several calls, and when.
    unmatched: Mutex<Option<(Arc<str>, Time)>>,
    /// Of the calls that failed since health last looked, why the first one did.
    failure: Mutex<Option<Arc<str>>>,
    /// For displays.
    checks: Mutex<Checks>,
    /// A line of the child's stdout has begun and lacks its end.
    half_line: AtomicBool,
    /// Ids of ours toward the server, for requests and progress alike; never reused, whatever the connection.
    next_id: AtomicU64,
    /// Connections are numbered upward, so that a loss has an effect only where that connection is still meant.
    next_link: AtomicU64,
    /// When connecting first failed, in nanoseconds of the router's clock; 0 while calls can connect.
    unreachable_since: AtomicU64,
    /// Rings when it can be reached again.
    back: Notify,
    /// Before that time, no call that is held tries it, in nanoseconds of the router's clock.
    next_try: AtomicU64,
    renewals: Renewals,
    /// A call of a stdio server was given up: it may not have been written yet.
    pub(crate) abandoned: Arc<Notify>,
    /// Held by the one process of a stdio server, from before it is started until nothing of it is left.
    process: Arc<Semaphore>,
    /// Cancelled at the end: sockets close, tasks return.
    pub(crate) ended: CancellationToken,
}

/// What its verdict follows from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Checks {
    pub(crate) judge: Judge,
    /// When health-monitor will ask for the next ping.
    pub(crate) next_probe: Option<Time>,
}

/// An endpoint as spans show it.
pub(crate) struct Shown {
    pub(crate) name: Arc<str>,
    pub(crate) server: Arc<str>,
    /// Host and port of an HTTP server, unless they are a secret.
    pub(crate) address: Option<(Arc<str>, u16)>,
}

impl Shown {
    fn of(key: &EndpointKey, spec: &EndpointSpec) -> Self {
        let address = match &spec.transport {
            Transport::Http { url, .. } => url::Url::parse(url).ok().and_then(|url| {
                let host = url.host_str().filter(|host| !host.contains('$'))?;
                Some((host.into(), url.port_or_known_default()?))
            }),
            Transport::Stdio { .. } => None,
        };
        Self { name: key.to_string().into(), server: key.backend.as_str().into(), address }
    }
}

impl Endpoint {
    /// Nothing is started before [`Endpoint::bring_up`].
    #[must_use]
    pub fn new(key: EndpointKey, spec: EndpointSpec, limits: Arc<Limits>, upstreams: &Arc<Upstreams>) -> Arc<Self> {
        let echo = Arc::default();
        Arc::new(Self {
            shown: Shown::of(&key, &spec),
            key,
            number: next_number(),
            admission: Admission::new(),
            stats: Stats::default(),
            recent: Rings::default(),
            verdict: AtomicU8::new(Verdict::Starting as u8),
            weight: AtomicU16::new(Weight::FULL.permille()),
            standing: AtomicU16::new(Standing::Full.packed()),
            trial: Trial::default(),
            ejection: Mutex::default(),
            left: AtomicU32::new(0),
            disabled: AtomicBool::new(false),
            in_flight_max: limits.in_flight_per_endpoint.into(),
            response_max: limits.response_bytes.into(),
            limits: ArcSwap::new(limits),
            spec,
            upstreams: Arc::clone(upstreams),
            link: ArcSwapOption::empty(),
            state: watch::Sender::default(),
            stderr: StderrTail::without(&echo),
            stray: StderrTail::without(&echo),
            noted: Noted::default(),
            echo,
            together: Together::default(),
            unfinished: Unfinished::default(),
            unmatched: Mutex::default(),
            failure: Mutex::default(),
            checks: Mutex::default(),
            half_line: AtomicBool::new(false),
            next_id: AtomicU64::new(1),
            next_link: AtomicU64::new(1),
            unreachable_since: AtomicU64::new(0),
            back: Notify::new(),
            next_try: AtomicU64::new(0),
            renewals: Renewals::default(),
            abandoned: Arc::default(),
            process: Arc::new(Semaphore::new(1)),
            ended: CancellationToken::new(),
        })
    }

    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let stored = self.verdict.load(Ordering::Relaxed);
        Verdict::ALL.into_iter().find(|verdict| *verdict as u8 == stored).unwrap_or_default()
    }

    pub fn set_verdict(&self, verdict: Verdict) {
        self.verdict.store(verdict as u8, Ordering::Relaxed);
    }

    /// What the overlay leaves of its share of the calls.
    pub fn weight(&self) -> Weight {
        Weight::of(self.weight.load(Ordering::Relaxed)).unwrap_or(Weight::FULL)
    }

    pub fn set_weight(&self, weight: Weight) {
        self.weight.store(weight.permille(), Ordering::Relaxed);
    }

    /// What its own calls leave of its share.
    pub(crate) fn standing(&self) -> Standing {
        Standing::unpacked(self.standing.load(Ordering::Relaxed))
    }

    /// One on trial that has its call gets no other one.
    pub(crate) fn standing_for_a_choice(&self) -> Standing {
        let standing = self.standing();
        let is_tried = standing == Standing::OnTrial && self.trial.is_under_way();
        if is_tried { Standing::Ejected } else { standing }
    }

    /// Whether it has, or had when it was last on trial, a call that is still under way.
    pub(crate) fn is_tried(&self) -> bool {
        self.trial.is_under_way()
    }

    /// Whatever becomes of the call that it is tried with.
    pub(crate) fn may_be_tried_again(&self) {
        self.trial.end();
    }

    pub(crate) fn set_standing(&self, standing: Standing, ejection: Option<Ejection>) {
        *self.ejection.lock().unwrap_or_else(PoisonError::into_inner) = ejection;
        self.standing.store(standing.packed(), Ordering::Relaxed);
    }

    /// Why it is ejected or on trial, if it is.
    pub(crate) fn ejection(&self) -> Option<Ejection> {
        self.ejection.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// So many more sessions may move away from it; `None`: none may, from now on.
    pub fn let_go(&self, sessions: Option<u32>) {
        let more = |held: u32| Some(sessions.map_or(0, |sessions| held.max(1).saturating_add(sessions)));
        let _always = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Whether its share falls, so that sessions move away from it and none moves to it.
    pub(crate) fn is_left(&self) -> bool {
        self.left.load(Ordering::Relaxed) > 0
    }

    /// Whether a session may move away from it now.
    pub(crate) fn lets_go(&self) -> bool {
        self.left.load(Ordering::Relaxed) > 1
    }

    /// One session moves away, if it still may.
    pub(crate) fn goes(&self) -> bool {
        let fewer = |held: u32| (held > 1).then(|| held - 1);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer).is_ok()
    }

    /// Whether an operator has switched its server off.
    pub fn is_disabled(&self) -> bool {
        self.disabled.load(Ordering::Relaxed)
    }

    pub fn set_disabled(&self, disabled: bool) {
        self.disabled.store(disabled, Ordering::Relaxed);
    }

    /// It takes no new calls from now on.
    pub fn cordon(&self) -> drain::Cordoned {
        let cordoned = self.admission.cordon();
        // A second reason to be cordoned begins nothing new.
        if cordoned.first {
            // Calls that wait for it to come up are routed anew.
            self.state.send_modify(|_| {});
        }
        cordoned
    }

    /// False if it is closed for ever.
    pub fn uncordon(&self) -> bool {
        self.admission.uncordon()
    }

    /// Sets the limits from now on; calls in flight keep the limits they began with.
    pub fn set_limits(&self, limits: Arc<Limits>) {
        self.in_flight_max.store(limits.in_flight_per_endpoint, Ordering::Relaxed);
        self.response_max.store(limits.response_bytes, Ordering::Relaxed);
        self.limits.store(limits);
    }

    /// How many calls it may have at once (`limits.in_flight_per_endpoint`).
    pub(crate) fn in_flight_max(&self) -> u32 {
        self.in_flight_max.load(Ordering::Relaxed)
    }

    /// How long an answer of its may be, in bytes (`limits.response_bytes`).
    pub(crate) fn response_max(&self) -> u64 {
        self.response_max.load(Ordering::Relaxed)
    }

    /// Whether the endpoint has as many calls in flight as it may.
    pub(crate) fn is_full(&self) -> bool {
        self.admission.in_flight() >= u64::from(self.in_flight_max())
    }

    pub(crate) fn limits(&self) -> arc_swap::Guard<Arc<Limits>> {
        self.limits.load()
    }

    /// The present values of the references in the configuration; from now on they are hidden in what the server says.
    pub(crate) async fn secrets(&self) -> Secrets {
        // So that the error names the file and not only the limit.
        let limit = READ_LIMIT.min(self.limits().connect / 2);
        let mut secrets = Secrets::of(&self.spec.transport, limit).await;
        self.echo.given(&self.spec.transport, &mut secrets);
        secrets
    }

    /// What the endpoint is doing, for status displays. Calls must not base decisions on it.
    #[must_use]
    pub fn state(&self) -> EndpointState {
        EndpointState { stderr: self.stderr.lines(), stray: self.stray.lines(), ..self.state.borrow().clone() }
    }

    /// Its child process, and why it was last lost or could not be brought up.
    pub(crate) fn process_and_error(&self) -> (Option<u32>, Option<Arc<str>>) {
        let state = self.state.borrow();
        (state.pid, state.last_error.as_ref().map(|reason| Arc::clone(&reason.full)))
    }

    /// Shows when the next attempt to bring it up is due. The fleet, which decides it, says so here.
    pub fn set_next_attempt(&self, after: Option<Duration>) {
        let next = after.map(|after| self.upstreams.wall_time_in(after));
        self.state.send_modify(|state| state.next_attempt = next);
    }

    /// The live connection, if there is one.
    pub(crate) fn link(&self) -> Option<Arc<Link>> {
        self.link.load_full()
    }

    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn next_link_number(&self) -> u64 {
        self.next_link.fetch_add(1, Ordering::Relaxed)
    }

    /// A call could not connect. The first one starts the count of [`Self::unreachable_for`].
    pub(crate) fn refuses(&self) {
        let now = self.upstreams.clock.now_nanos().max(1);
        let _begun_before = self.unreachable_since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// For how long connecting has failed, counted from the first failure; none when the server was reached since.
    pub(crate) fn unreachable_for(&self) -> Option<Duration> {
        let since = Some(self.unreachable_since.load(Ordering::Relaxed)).filter(|since| *since != 0)?;
        Some(Duration::from_nanos(self.upstreams.clock.now_nanos().saturating_sub(since)))
    }

    /// Whether the last attempt of a call to connect failed, and nothing has reached the server since.
    pub(crate) fn is_unreachable(&self) -> bool {
        self.unreachable_since.load(Ordering::Relaxed) != 0
    }

    /// Whether a call can go out now, as far as is known.
    pub(crate) fn can_be_reached(&self) -> bool {
        !self.is_unreachable() && self.link().is_some_and(|link| !link.is_over())
    }

    pub(crate) fn reached(&self) {
        // Read first: a store by every call would make all cores fight for the line.
        if self.is_unreachable() {
            self.unreachable_since.store(0, Ordering::Relaxed);
            self.back.notify_waiters();
        }
    }

    /// Whether a request of ours ever had this number.
    pub(crate) fn has_used(&self, id: u64) -> bool {
        id < self.next_id.load(Ordering::Relaxed)
    }

    /// Its connections close, its tasks return.
    fn end(&self) {
        self.ended.cancel();
        endpoint_ended();
    }

    pub(crate) fn now(&self) -> Time {
        Time::from_nanos(self.upstreams.clock.now_nanos())
    }

    /// What the server said about a failed call, for [`crate::call::CallError::explained`]. It is logged here.
    pub(crate) fn note_detail(&self, said: &Said) -> Arc<Detail> {
        self.noted.note(self.key.backend.as_str(), said.to_string(), self.now())
    }

    /// Whether another line about what the server said may be written to the log now, and how many were left out.
    pub(crate) fn line(&self) -> Option<u64> {
        self.noted.line(self.now())
    }

    /// The server said something that several calls may be waiting for: a call that waits in vain should report it.
    pub(crate) fn note_unmatched(&self, what: &str) {
        let mut unmatched = self.unmatched.lock().unwrap_or_else(PoisonError::into_inner);
        *unmatched = Some((what.into(), self.now()));
    }

    /// What health has found out, as of now.
    pub(crate) fn checks(&self) -> Checks {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn note_checks(&self, note: impl FnOnce(&mut Checks)) {
        note(&mut self.checks.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// A call failed, and the server is at fault.
    pub(crate) fn note_failure(&self, why: impl FnOnce() -> String) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| why().into());
    }

    /// Why the first call failed, of those that did since this was last asked.
    pub(crate) fn take_failure(&self) -> Option<Arc<str>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The note holds for as long as the unfinished line is there, whenever the line began.
    pub(crate) fn note_half_line(&self, begun: bool) {
        self.half_line.store(begun, Ordering::Relaxed);
    }

    /// What has been noted since `time`, or an unfinished line that is still there.
    #[must_use]
    pub fn unmatched_since(&self, time: Time) -> Option<Arc<str>> {
        if self.half_line.load(Ordering::Relaxed) {
            return Some(HALF_LINE.into());
        }
        let unmatched = self.unmatched.lock().unwrap_or_else(PoisonError::into_inner);
        unmatched.as_ref().filter(|(_, at)| *at >= time).map(|(what, _)| Arc::clone(what))
    }

    pub(crate) fn tell(&self, event: EndpointEvent) {
        self.upstreams.signals.raise(self.number, event);
    }
}

impl Drop for Endpoint {
    /// Ends the tasks of an endpoint also if it was never shut down.
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("key", &self.key)
            .field("number", &self.number)
            .field("admission", &self.admission)
            .finish_non_exhaustive()
    }
}
