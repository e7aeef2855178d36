//! How far a peer has fallen behind that holds memory which others wait for: a server with its answer, or a client with
//! what it was sent. A few bytes now and then do not count as progress.

use std::time::Duration;

/// While others wait, a peer may lose this much time …
pub(crate) const GRACE: Duration = Duration::from_secs(5);
/// … against a rate of this many bytes a second.
pub(crate) const RATE: u32 = 512 << 10;

/// The time that was lost.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Behind(Duration);

impl Behind {
    /// Whether the peer is too far behind, after a time of `lasted` in which it moved `bytes`.
    ///
    /// Time counts only while others wait, and is not given back when they stop waiting for a moment. Nor may a peer be
    /// slow because it was fast before.
    pub(crate) fn is_too_far(&mut self, bytes: u64, lasted: Duration, others_wait: bool) -> bool {
        let waited = if others_wait { lasted } else { Duration::ZERO };
        self.0 = (self.0 + waited).saturating_sub(Duration::from_secs(bytes) / RATE);
        others_wait && self.0 > GRACE
    }
}
