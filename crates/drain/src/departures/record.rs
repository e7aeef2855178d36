//! The counts of one departure: the exchanges in flight at the start, and in which of two ways each ended.

/// Finished + evicted + in flight = total, from the first observation to the last, whatever order the counters of the
/// endpoint were read in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    total: u64,
    in_flight: u64,
    evicted: u64,
    /// What the endpoint had evicted before this departure began.
    evicted_before: u64,
}

impl Record {
    pub(super) fn begin(in_flight: u64, evicted_ever: u64) -> Self {
        Self { total: in_flight, in_flight, evicted: 0, evicted_before: evicted_ever }
    }

    /// The exchanges that are in flight still, for another departure of the same endpoint.
    pub(super) fn rest(&self) -> Self {
        Self::begin(self.in_flight, self.evicted_before + self.evicted)
    }

    /// Takes the present counters. Neither way out ever shrinks: an exchange that is counted as evicted and has not
    /// left yet is still in flight here, and does not push out one that had finished.
    pub(super) fn observe(&mut self, in_flight: u64, evicted_ever: u64) {
        let finished = self.finished();
        self.in_flight = in_flight.min(self.in_flight);
        let evicted = evicted_ever.saturating_sub(self.evicted_before);
        self.evicted = evicted.min(self.total - self.in_flight - finished).max(self.evicted);
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    pub(super) fn finished(&self) -> u64 {
        self.total - self.in_flight - self.evicted
    }
}
