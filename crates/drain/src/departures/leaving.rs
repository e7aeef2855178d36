//! One cordoned endpoint, its causes, and what each has counted.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{EndpointKey, Time};

use super::Seen;
use super::record::Record;
use crate::{Departure, DrainId, Phase};

/// One cordoned endpoint. Its exchanges are those of the cause that cordoned it: each is counted once. If that cause is
/// lifted, another one counts the rest of them. The endpoint opens when the last cause is lifted; its exchanges are
/// evicted at the earliest deadline of any cause.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    pub(super) in_flight: u64,
    pub(super) oldest: Option<String>,
    pub(super) causes: BTreeMap<DrainId, Cause>,
    pub(super) closing: bool,
}

#[derive(Debug)]
pub(super) struct Cause {
    pub(super) deadline: Time,
    /// Absent until the counters were read for the first time.
    pub(super) record: Option<Record>,
    pub(super) phase: Phase,
    pub(super) recorded: bool,
}

impl Leaving {
    /// Takes the present counters. A cause that came to an endpoint that was cordoned already has no exchanges. Of what
    /// is evicted, the oldest is remembered.
    pub(super) fn observe(&mut self, Seen { in_flight, evicted, oldest }: Seen) {
        let kept = self.oldest.take().filter(|_| in_flight == 0 || self.is_evicting());
        (self.in_flight, self.oldest, self.closing) = (in_flight, kept.or(oldest), false);
        let mut free = self.causes.values().all(|cause| cause.record.is_none());
        for cause in self.causes.values_mut() {
            let own = if std::mem::take(&mut free) { in_flight } else { 0 };
            cause.record.get_or_insert_with(|| Record::begin(own, evicted)).observe(in_flight, evicted);
        }
    }

    /// A cause was lifted: the exchanges that it leaves in flight are those of the next one.
    pub(super) fn inherit(&mut self, lifted: Option<Cause>) {
        let record = lifted.and_then(|cause| cause.record).filter(|record| record.in_flight() > 0);
        if let (Some(record), Some(next)) = (record, self.causes.values_mut().next()) {
            next.record = Some(record.rest());
        }
    }

    /// When the exchanges are evicted; none once they are being evicted, when none is left, and before the first count.
    pub(super) fn deadline(&self) -> Option<Time> {
        let deadlines = self.causes.values().filter(|cause| cause.phase == Phase::Cordoned).map(|cause| cause.deadline);
        deadlines.min().filter(|_| !self.is_evicting() && self.in_flight > 0)
    }

    pub(super) fn is_evicting(&self) -> bool {
        self.causes.values().any(|cause| cause.phase == Phase::Evicting)
    }

    /// Whether something is in flight, as far as is known.
    pub(super) fn is_busy(&self) -> bool {
        self.in_flight > 0 || self.causes.values().any(|cause| cause.record.is_none())
    }

    /// Absent before the first count.
    pub(super) fn departure(&self, drain: &DrainId, endpoint: &EndpointKey, now: Time) -> Option<Departure> {
        let cause = self.causes.get(drain)?;
        let record = cause.record.as_ref()?;
        let remaining = if cause.phase.is_ended() { Duration::ZERO } else { cause.deadline.since(now) };
        Some(Departure {
            drain: drain.clone(),
            endpoint: endpoint.clone(),
            total: record.total(),
            in_flight: record.in_flight(),
            finished: record.finished(),
            evicted: record.evicted(),
            phase: cause.phase,
            remaining,
            oldest: self.oldest.clone().filter(|_| record.in_flight() > 0 || record.evicted() > 0),
        })
    }
}
