//! Work that takes memory and time, to answer questions: a few at a time; some wait, and more are refused. Its threads
//! make way for the threads that serve calls, since one process may have both.

use std::sync::{Arc, LazyLock};

use runtime::grpc::refusal;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tonic::{Code, Status};

/// More threads than all pools together ever use at once.
const THREADS: usize = 16;

static THREADS_OF_OURS: LazyLock<Runtime> =
    LazyLock::new(|| runtime::priority::threads_that_make_way("work pool", THREADS));

#[derive(Debug)]
pub(crate) struct WorkPool {
    /// The reason given in refusals, and the name of the questions of which there are too many.
    reason: &'static str,
    subject: &'static str,
    most: usize,
    /// For the questions that are being answered and those that wait.
    places: Arc<Semaphore>,
    at_once: Arc<Semaphore>,
}

impl WorkPool {
    pub(crate) fn new(reason: &'static str, subject: &'static str, at_once: usize, most: usize) -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self { reason, subject, most, places: semaphore(most), at_once: semaphore(at_once) }
    }

    /// A pool in which any number of questions may wait.
    pub(crate) fn without_refusals(subject: &'static str, at_once: usize) -> Self {
        Self::new("", subject, at_once, Semaphore::MAX_PERMITS)
    }

    /// The result of `work`, which may block. The work keeps its place until it ends, even if no caller waits any more.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let busy = format!("{} {} are answered or wait already; try again", self.most, self.subject);
            refusal::exhausted(self.reason, self.subject, busy)
        })?;
        let panicked = |error| refusal::other(Code::Internal, "PANIC", format!("the answer panicked: {error}"));
        let turn = Arc::clone(&self.at_once).acquire_owned().await;
        let work = move || {
            let (_place, _turn) = (place, turn);
            work()
        };
        THREADS_OF_OURS.spawn_blocking(work).await.map_err(panicked)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn one_is_answered_some_wait_and_more_are_refused() {
        let pool = Arc::new(WorkPool::new("DOCUMENTS", "documents", 1, 3));
        let (begun, begins) = mpsc::channel();
        let held: Vec<_> = (0..3)
            .map(|i| {
                let (release, released) = mpsc::channel::<()>();
                let (pool, begun) = (Arc::clone(&pool), begun.clone());
                let work = move || {
                    begun.send(i).unwrap();
                    released.recv().unwrap();
                };
                let mut run = Box::pin(async move { pool.run(work).await });
                // As far as the first wait: in the order in which they came.
                assert!(run.as_mut().now_or_never().is_none());
                (run, release)
            })
            .collect();
        let refused = pool.run(|| ()).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.message().contains("3 documents"), "{refused:?}");
        for (i, (mut run, release)) in held.into_iter().enumerate() {
            assert!(run.as_mut().now_or_never().is_none());
            assert_eq!(begins.recv(), Ok(i));
            assert!(begins.try_recv().is_err(), "one at a time");
            release.send(()).unwrap();
            run.await.unwrap();
        }
        // The caller may go: the work has its place until it ends.
        let (release, released) = mpsc::channel::<()>();
        let mut left = Box::pin(pool.run(move || released.recv().unwrap()));
        assert!(left.as_mut().now_or_never().is_none());
        drop(left);
        assert_eq!(pool.places.available_permits(), 2);
        release.send(()).unwrap();
        pool.run(|| ()).await.unwrap();
    }
}
