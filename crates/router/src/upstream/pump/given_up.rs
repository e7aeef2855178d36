//! Calls that a child may still be at although their clients have given up: what it says without naming a request may be
//! about one of those.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// So many are told apart.
const KEPT: usize = 1024;
/// For so long a call may still be meant. A server that obeys the protocol does not answer what was cancelled, so that its
/// silence must not count for ever.
const MEANT: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct GivenUp {
    /// By id, since when.
    since: BTreeMap<u64, Instant>,
    /// When there last were more than are kept.
    more: Option<Instant>,
}

impl GivenUp {
    pub(super) fn add(&mut self, id: u64, now: Instant) {
        if self.since.len() == KEPT {
            self.since.retain(|_, since| may_be_meant(*since, now));
        }
        if self.since.len() < KEPT {
            self.since.insert(id, now);
        } else {
            self.more = Some(now);
        }
    }

    /// It was answered all the same.
    pub(super) fn answered(&mut self, id: u64) {
        self.since.remove(&id);
    }

    /// Whether none may be meant.
    pub(super) fn is_empty(&self, now: Instant) -> bool {
        !self.since.values().chain(&self.more).any(|since| may_be_meant(*since, now))
    }

    /// Whether none can be meant, however late: what the server says in its own words reaches a client only then.
    pub(super) fn is_certain(&self) -> bool {
        self.since.is_empty() && self.more.is_none()
    }

    /// An answer came that names no request, and nothing else can be meant: if there is one only, it was that.
    pub(super) fn nameless(&mut self) {
        if self.since.len() == 1 && self.more.is_none() {
            self.since.clear();
        }
    }
}

fn may_be_meant(since: Instant, now: Instant) -> bool {
    now < since + MEANT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_up_is_outstanding_until_it_is_answered() {
        let (mut given_up, now) = (GivenUp::default(), Instant::now());
        assert!(given_up.is_empty(now) && given_up.is_certain());
        given_up.add(1, now);
        given_up.add(2, now);
        given_up.nameless();
        given_up.answered(1);
        assert!(!given_up.is_empty(now), "which of two was meant cannot be known");
        given_up.nameless();
        assert!(given_up.is_empty(now), "it can only have been that");
    }

    #[test]
    fn what_is_never_answered_is_not_meant_for_ever() {
        let (mut given_up, now) = (GivenUp::default(), Instant::now());
        let later = now + MEANT;
        (0..=KEPT as u64).for_each(|id| given_up.add(id, now));
        assert_eq!(given_up.since.len(), KEPT);
        assert!(!given_up.is_empty(later - Duration::from_millis(1)));
        assert!(given_up.is_empty(later) && !given_up.is_certain(), "it may still come, late");
        given_up.add(5_000, later);
        assert_eq!((given_up.since.len(), given_up.is_empty(later)), (1, false), "those before made room");
    }
}
