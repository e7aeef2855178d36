//! Large messages are read on threads of their own: 30 MiB of dense JSON take a tenth of a second, and everybody who is
//! served by the same thread would wait that long.

use bytes::Bytes;
use mcp::{Envelope, ScanError};

/// Bytes of a message from which on it is read there: less than a millisecond's work.
pub(crate) const LONG: usize = 256 << 10;

/// Does what takes long on a thread that serves nobody else meanwhile.
pub(crate) async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends, and this task with it.
            Err(_) => std::future::pending().await,
        },
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

/// As [`mcp::scan`].
pub(crate) async fn scan(body: Bytes) -> Scanned {
    beside(|| Scanned::new(body, |body| mcp::scan(body))).await
}
