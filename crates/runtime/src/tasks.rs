//! The tasks of a process: each has a name, all are joined, and none dies unnoticed.
//!
//! A task that panics, or a component that ends with an error, leaves the process half alive, which is worse than dead:
//! it triggers the shutdown and is reported by [`Tasks::join`].

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{
    runtime::Handle,
    task::{AbortHandle, LocalSet},
    time::timeout,
};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::{
    fault, panics,
    shutdown::{Phase, Shutdown},
};

/// A group of named tasks, shared by cloning.
#[derive(Clone, Debug)]
pub struct Tasks {
    group: Arc<Group>,
}

#[derive(Debug)]
struct Group {
    tracker: TaskTracker,
    shutdown: Shutdown,
    next: AtomicU64,
    live: Mutex<BTreeMap<u64, Live>>,
    failures: Mutex<Vec<Failure>>,
}

#[derive(Debug)]
struct Live {
    name: &'static str,
    /// Absent for the instant between registration and the spawn.
    abort: Option<AbortHandle>,
}

/// A task that ended as it must not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("task {task} {cause}")]
pub struct Failure {
    pub task: &'static str,
    pub cause: Cause,
}

/// How a task failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// With the panic's message.
    Panicked(String),
    /// With the error and its sources.
    Failed(String),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(message) => write!(f, "panicked: {message}"),
            Self::Failed(chain) => write!(f, "failed: {chain}"),
        }
    }
}

/// The running tasks of all groups of the process.
static LIVE: AtomicUsize = AtomicUsize::new(0);

/// How many tasks of all groups run now.
pub fn live() -> usize {
    LIVE.load(Ordering::Relaxed)
}

/// What [`Tasks::join`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Joined {
    /// In the order in which they happened.
    pub failures: Vec<Failure>,
    /// Names of the tasks that had to be aborted.
    pub aborted: Vec<&'static str>,
}

impl Joined {
    pub fn is_clean(&self) -> bool {
        self.failures.is_empty() && self.aborted.is_empty()
    }
}

impl Tasks {
    pub fn new(shutdown: Shutdown) -> Self {
        let group = Group {
            tracker: TaskTracker::new(),
            shutdown,
            next: AtomicU64::new(0),
            live: Mutex::default(),
            failures: Mutex::default(),
        };
        Self { group: Arc::new(group) }
    }

    pub fn shutdown(&self) -> &Shutdown {
        &self.group.shutdown
    }

    /// Runs `future` on the current runtime. A panic triggers the shutdown.
    pub fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.spawn_on(&Handle::current(), name, future)
    }

    /// As [`Tasks::spawn`], on another runtime.
    pub fn spawn_on(
        &self,
        runtime: &Handle,
        name: &'static str,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> AbortHandle {
        let (id, task) = self.guard(name, future);
        self.listed(id, self.group.tracker.spawn_on(task, runtime).abort_handle())
    }

    /// As [`Tasks::spawn`], for futures that stay on this thread. Must be called within a `LocalSet`.
    pub fn spawn_local(&self, name: &'static str, future: impl Future<Output = ()> + 'static) -> AbortHandle {
        let (id, task) = self.guard(name, future);
        self.listed(id, self.group.tracker.spawn_local(task).abort_handle())
    }

    /// As [`Tasks::spawn_local`], into a `LocalSet` that may not run yet.
    pub fn spawn_local_on(
        &self,
        local: &LocalSet,
        name: &'static str,
        future: impl Future<Output = ()> + 'static,
    ) -> AbortHandle {
        let (id, task) = self.guard(name, future);
        self.listed(id, self.group.tracker.spawn_local_on(task, local).abort_handle())
    }

    /// Runs a component the process cannot be without: an error triggers the shutdown as a panic does.
    pub fn spawn_component<E>(
        &self,
        name: &'static str,
        future: impl Future<Output = Result<(), E>> + Send + 'static,
    ) -> AbortHandle
    where
        E: std::error::Error + Send + 'static,
    {
        let group = Arc::clone(&self.group);
        self.spawn(name, async move {
            if let Err(error) = future.await {
                group.fail(name, Cause::Failed(fault::chain(&error)));
            }
        })
    }

    /// Names of the tasks that run now, sorted, one per task.
    pub fn running(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = lock(&self.group.live).values().map(|live| live.name).collect();
        names.sort_unstable();
        names
    }

    /// Advances to `Closing`, waits until every task has ended, and aborts those left after `grace`; then `Stopped`.
    ///
    /// Call [`Shutdown::wind_down`] first if work in flight should end by itself. A task whose future never yields
    /// cannot be ended even by an abort; it is reported as aborted and not waited for.
    pub async fn join(&self, grace: Duration) -> Joined {
        self.group.shutdown.advance(Phase::Closing);
        self.group.tracker.close();
        let mut joined = Joined::default();
        let (soon, late) = (grace.min(SOON), grace.saturating_sub(SOON));
        let all_ended = || self.group.tracker.wait();
        if timeout(soon, all_ended()).await.is_err() {
            tracing::info!(tasks = ?counted(&self.running()), "tasks have not ended yet; they are waited for");
        }
        if timeout(late, all_ended()).await.is_err() {
            let left = lock(&self.group.live).values().map(|live| (live.name, live.abort.clone())).collect::<Vec<_>>();
            for (name, abort) in left {
                joined.aborted.push(name);
                if let Some(abort) = abort {
                    abort.abort();
                }
            }
            tracing::warn!(tasks = ?counted(&joined.aborted), "tasks did not end in time and were aborted");
            // Aborting takes effect at the next yield; a task that runs longer is stuck and must not block the exit.
            if timeout(ABORT_WAIT, self.group.tracker.wait()).await.is_err() {
                tracing::error!(tasks = ?counted(&self.running()), "tasks cannot be aborted");
            }
        }
        joined.failures.clone_from(&lock(&self.group.failures));
        self.group.shutdown.advance(Phase::Stopped);
        joined
    }

    /// Wraps a task's future: lists it while it lives, and catches and reports its panic.
    fn guard<F: Future<Output = ()>>(&self, name: &'static str, future: F) -> (u64, impl Future<Output = ()> + use<F>) {
        let id = self.group.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.group.live).insert(id, Live { name, abort: None });
        let entry = Entry { group: Arc::clone(&self.group), id };
        LIVE.fetch_add(1, Ordering::Relaxed);
        // No async block: it would keep room for the future twice, as what it captures and as what it awaits.
        let guarded = AssertUnwindSafe(future).catch_unwind().map(move |ended| {
            if let Err(payload) = ended {
                entry.group.fail(name, Cause::Panicked(panics::message(payload.as_ref())));
            }
        });
        // At debug level, since a span costs time at every poll, and some tasks are polled for each call.
        (id, guarded.instrument(tracing::debug_span!("task", name)))
    }

    fn listed(&self, id: u64, abort: AbortHandle) -> AbortHandle {
        if let Some(live) = lock(&self.group.live).get_mut(&id) {
            live.abort = Some(abort.clone());
        }
        abort
    }
}

/// How many there are of each name: hundreds may have the same.
fn counted(names: &[&'static str]) -> BTreeMap<&'static str, usize> {
    names.iter().fold(BTreeMap::new(), |mut counts, name| {
        *counts.entry(*name).or_default() += 1;
        counts
    })
}

/// After this long, the log says which tasks have not ended.
const SOON: Duration = Duration::from_millis(250);
/// After an abort, tasks get this long to reach their next yield.
const ABORT_WAIT: Duration = Duration::from_secs(1);

impl Group {
    fn fail(&self, task: &'static str, cause: Cause) {
        let failure = Failure { task, cause };
        tracing::error!(%failure, "a task failed; the process stops");
        lock(&self.failures).push(failure);
        self.shutdown.trigger();
    }
}

/// Takes a task off the list however its future ends: returned, panicked, aborted, or dropped with its runtime.
struct Entry {
    group: Arc<Group>,
    id: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        lock(&self.group.live).remove(&self.id);
        LIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A poisoned lock is taken over: each change of a list is a single call, so that a panic leaves both lists valid.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
