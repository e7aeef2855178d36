//! Large messages are read on threads of their own: 30 MiB of dense JSON take a tenth of a second, and every client of
//! the same data core would wait that long. These threads run at a lower priority than the data cores, because both use
//! the same processors.

use std::sync::LazyLock;

use bytes::Bytes;
use mcp::{Envelope, ScanError};
use tokio::runtime::Runtime;
use tokio::task::{spawn_local, yield_now};

/// A message of more bytes is read on one of these threads. Up to this size it is less than a millisecond's work.
pub(crate) const LONG: usize = 256 << 10;

/// Bytes of a large message that a data core reads before other tasks have their turn. Memory that is new to the
/// process costs more than the copying: a quarter of a megabyte took half a millisecond.
const PART: usize = 64 << 10;

/// The maximum number of these threads in the process. They are few enough not to compete with a data core, and enough
/// that a message just above [`LONG`] need not wait behind one that takes a second.
const THREADS: usize = 4;

/// A runtime used only for its threads. Work that waits for a thread is charged like all memory that is held.
static THREADS_OF_OURS: LazyLock<Runtime> =
    LazyLock::new(|| runtime::priority::threads_that_make_way("beside", THREADS));

/// Runs long work on a thread that serves no clients.
pub(crate) async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match THREADS_OF_OURS.spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Frees a large value on one of these threads: to unmap 30 MiB takes milliseconds.
pub(crate) fn put_away(what: impl Send + 'static) {
    drop(THREADS_OF_OURS.spawn_blocking(move || drop(what)));
}

/// Returns `begun` with room for `more` bytes, after one of these threads has written to each page of it. The first
/// write to a page waits until the system has found and cleared it: for 3 MiB that takes as long as dozens of calls.
pub(crate) async fn with_room(mut begun: Vec<u8>, more: usize) -> Vec<u8> {
    beside(move || {
        let length = begun.len();
        begun.reserve_exact(more);
        begun.resize(length + more, 0);
        begun.truncate(length);
        begun
    })
    .await
}

/// A buffer of more than [`LONG`] bytes is freed by [`put_away`].
pub(crate) fn held(bytes: Vec<u8>) -> Bytes {
    if bytes.len() > LONG { Bytes::from_owner(PutAway(bytes)) } else { bytes.into() }
}

struct PutAway(Vec<u8>);

impl AsRef<[u8]> for PutAway {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for PutAway {
    fn drop(&mut self) {
        put_away(std::mem::take(&mut self.0));
    }
}

/// How many bytes of a large message were read since other tasks had their turn.
#[derive(Debug, Default)]
pub(crate) struct Turn(usize);

impl Turn {
    fn is_over(&mut self, bytes: usize) -> bool {
        self.0 += bytes;
        let over = self.0 >= PART;
        if over {
            self.0 = 0;
        }
        over
    }

    /// Yields to other tasks after each part: a fast peer has the next piece ready as soon as one was taken, so nothing
    /// else would make its reader wait.
    pub(crate) async fn read(&mut self, bytes: usize) {
        if self.is_over(bytes) {
            yield_now().await;
        }
    }

    /// As [`Self::read`], for a request of a client: hyper polls its service up to 16 times in a row without a wake-up,
    /// which would end a yield of this task at once. It does not end the yield of another task.
    pub(crate) async fn read_of_client(&mut self, bytes: usize) {
        if self.is_over(bytes) {
            drop(spawn_local(yield_now()).await);
        }
    }
}

type Outcome<'a> = Result<Envelope<'a>, ScanError>;

self_cell::self_cell!(
    /// A message, and what was found in it.
    pub(crate) struct Scanned {
        owner: Bytes,
        #[covariant]
        dependent: Outcome,
    }
);

/// As [`mcp::scan`], on one of these threads.
pub(crate) async fn scan(body: Bytes) -> Scanned {
    beside(|| Scanned::new(body, |body| mcp::scan(body))).await
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn others_have_their_turn_after_each_part_of_a_large_message() {
        let mut reading = pin!(async {
            let mut turn = Turn::default();
            for _ in 0..80 {
                turn.read(PART / 8).await;
            }
        });
        let mut waits = 0;
        while reading.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            waits += 1;
        }
        assert_eq!(waits, 10);
    }

    #[tokio::test]
    async fn the_turn_of_others_is_not_cut_short_by_who_polls_again_and_again() {
        let reading = async {
            let mut turn = pin!(async { Turn::default().read_of_client(PART).await });
            for _ in 0..16 {
                assert!(futures_util::poll!(turn.as_mut()).is_pending());
            }
            turn.await;
        };
        tokio::task::LocalSet::new().run_until(reading).await;
    }

    #[tokio::test]
    async fn room_is_added_to_what_is_there() {
        let begun = with_room(vec![7; LONG + 1], 3 << 20).await;
        assert_eq!((begun.len(), begun.capacity() >= LONG + 1 + (3 << 20)), (LONG + 1, true));
        assert!(begun.iter().all(|byte| *byte == 7));
    }

    #[test]
    fn something_large_is_put_away_by_another_thread() {
        struct Tells(std::sync::mpsc::Sender<Option<String>>);
        impl Drop for Tells {
            fn drop(&mut self) {
                drop(self.0.send(std::thread::current().name().map(str::to_owned)));
            }
        }
        let (told, by) = std::sync::mpsc::channel();
        put_away(Tells(told));
        assert_eq!(by.recv().unwrap().as_deref(), Some("beside"));
    }
}
