//! Which sessions were ended, for as long as their seals hold.
//!
//! Ids of sessions that a process began one after the other differ in the last byte ([`super::seal`]). So an end costs
//! about one bit, and the table has room for all ends until their seals expire.

use super::SessionId;

/// The ids that differ in the last byte alone, by the first of them.
pub(super) fn row_of(id: &SessionId) -> SessionId {
    let mut first = *id;
    first.0[11] = 0;
    first
}

/// Which of the 256 sessions of a row have ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) bits: [u64; 4],
    /// The latest stamp of these sessions: when its seal no longer holds, no seal of the row does.
    pub(super) latest: u64,
}

impl Row {
    pub(super) fn add(&mut self, id: &SessionId, issued: u64) {
        let (word, bit) = place(id);
        self.bits[word] |= bit;
        self.latest = self.latest.max(issued);
    }

    pub(super) fn has(&self, id: &SessionId) -> bool {
        let (word, bit) = place(id);
        self.bits[word] & bit != 0
    }

    pub(super) fn merge(&mut self, other: Self) {
        for (own, others) in self.bits.iter_mut().zip(other.bits) {
            *own |= others;
        }
        self.latest = self.latest.max(other.latest);
    }

    pub(super) fn count(&self) -> usize {
        self.bits.iter().map(|word| word.count_ones() as usize).sum()
    }
}

fn place(id: &SessionId) -> (usize, u64) {
    (usize::from(id.0[11] / 64), 1 << (id.0[11] % 64))
}

/// Why a session was not ended. The session lives then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EndError {
    #[error("as many ended sessions are remembered as may be (limits.sessions)")]
    Crowded,
    #[error(transparent)]
    Write(#[from] std::io::Error),
}
