//! How far one has fallen behind that holds what others wait for: a server with its answer, or a client with what it has
//! been sent. Some bytes now and then are no progress then.

use std::time::Duration;

/// While others wait, so much time may be lost …
pub(crate) const GRACE: Duration = Duration::from_secs(5);
/// … against so many bytes a second.
pub(crate) const RATE: u32 = 512 << 10;

/// The time that was lost.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Behind(Duration);

impl Behind {
    /// Whether it is too far behind after a time in which so many bytes have moved.
    ///
    /// Time costs only while others wait, and is not given back because they cease to for a moment. Nor may one be slow
    /// because it was fast before.
    pub(crate) fn is_too_far(&mut self, bytes: u64, lasted: Duration, others_wait: bool) -> bool {
        let waited = if others_wait { lasted } else { Duration::ZERO };
        self.0 = (self.0 + waited).saturating_sub(Duration::from_secs(bytes) / RATE);
        others_wait && self.0 > GRACE
    }
}
