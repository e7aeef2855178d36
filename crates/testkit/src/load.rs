//! Many keep-alive clients that call at a steady rate, and note every answer.
//!
//! The pace does not wait for the answers: call number `n` is due at `start + n / rate`, whichever client is free takes
//! the next one, and its latency counts from when it was due. So a gateway that stalls is charged for every call that
//! should have been made meanwhile.

mod client;
mod report;

use std::{
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use crate::{
    fault::{Fault, fault},
    wait,
};

pub use report::{Outcome, Report, Sample};

/// What to send, and to which endpoints.
pub struct Plan {
    /// Client `i` stays with endpoint `i % endpoints`.
    pub endpoints: Vec<SocketAddr>,
    pub clients: usize,
    /// Whether an endpoint is a balancer before several routers: then the revisions of a connection may go to and fro.
    pub balanced: bool,
    /// Calls a second, over all clients.
    pub rate: u32,
    /// Begins the text of every call, so that the backends' counts can be told apart.
    pub tag: String,
    /// Says what call number `n` is.
    pub choose: Box<dyn Fn(u64) -> Pick + Send>,
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan").field("clients", &self.clients).field("rate", &self.rate).finish_non_exhaustive()
    }
}

/// One call.
#[derive(Clone, Debug)]
pub struct Pick {
    /// The server, by its id in the configuration; the tool's name begins with it.
    pub server: Arc<str>,
    pub deed: Deed,
}

/// What the tool is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    Echo,
    /// Answers after so many milliseconds.
    Sleep(u16),
}

/// A load that runs on a thread of its own until it is stopped.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<Report, Fault>>>,
}

/// What the scenario may look at while the load runs.
#[derive(Debug)]
struct Shared {
    stop: watch::Sender<bool>,
    answered: AtomicU64,
    /// When all sessions were open: times of samples count from here.
    began: OnceLock<Instant>,
    /// The highest revision that answered, per endpoint.
    revisions: Vec<AtomicU64>,
}

impl Load {
    /// Opens all sessions, then begins to call.
    pub fn start(plan: Plan) -> Result<Self, Fault> {
        Self::begin(plan, None)
    }

    /// As [`Self::start`], with clients that think in place of the rate: after each answer, each of them waits for
    /// `think` at most, and for half of it at least, before its next call.
    pub fn start_thinking(plan: Plan, think: Duration) -> Result<Self, Fault> {
        Self::begin(plan, Some(think))
    }

    fn begin(plan: Plan, think: Option<Duration>) -> Result<Self, Fault> {
        let revisions = plan.endpoints.iter().map(|_| AtomicU64::new(0)).collect();
        let (stop, answered, began) = (watch::Sender::new(false), AtomicU64::new(0), OnceLock::new());
        let shared = Arc::new(Shared { stop, answered, began, revisions });
        let own = Arc::clone(&shared);
        let thread = thread::Builder::new().name("load".to_owned()).spawn(move || client::run(plan, think, own))?;
        let mut load = Self { shared, thread: Some(thread) };
        match wait::until_true("the first answer", Duration::from_secs(30), || load.answered() > 0 || load.is_over()) {
            Ok(()) if !load.is_over() => Ok(load),
            Ok(()) => Err(load.join().err().unwrap_or_else(|| fault("the load ended at once"))),
            Err(error) => Err(load.stop().err().unwrap_or(error)),
        }
    }

    /// How many calls were answered so far.
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// What the times of samples count from.
    pub fn began(&self) -> Instant {
        *self.shared.began.get_or_init(Instant::now)
    }

    /// Waits until `count` more calls were answered.
    pub fn wait_answered(&self, count: u64) -> Result<(), Fault> {
        let goal = self.answered() + count;
        self.wait_until(&format!("{count} more answers"), || self.answered() >= goal)
    }

    /// Waits until every endpoint has answered with `revision` or a later one.
    pub fn wait_revision(&self, revision: u64) -> Result<(), Fault> {
        self.wait_until(&format!("revision {revision} on every answer"), || self.revision() >= revision)
    }

    /// The revision that every endpoint has reached, as seen in answers.
    pub fn revision(&self) -> u64 {
        self.shared.revisions.iter().map(|seen| seen.load(Ordering::Relaxed)).min().unwrap_or_default()
    }

    /// Lets the calls in flight end, and returns everything noted.
    pub fn stop(&mut self) -> Result<Report, Fault> {
        self.shared.stop.send_replace(true);
        self.join()
    }

    fn wait_until(&self, what: &str, holds: impl Fn() -> bool) -> Result<(), Fault> {
        wait::until_true(what, Duration::from_secs(60), || holds() || self.is_over())?;
        if self.is_over() { Err(fault("the load ended early")) } else { Ok(()) }
    }

    /// Whether it has ended, which it does only by `stop` or by a fault of its own.
    pub fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn join(&mut self) -> Result<Report, Fault> {
        let thread = self.thread.take().ok_or_else(|| fault("the load was stopped before"))?;
        thread.join().map_err(|_| fault("the load panicked"))?
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.send_replace(true);
    }
}
