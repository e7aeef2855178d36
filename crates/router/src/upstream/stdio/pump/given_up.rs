//! Calls that a child may still execute although their clients have given up: a message that names no request may be
//! about one of these calls.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// At most this many calls are tracked one by one.
const KEPT: usize = 1024;
/// How long a message may still be about a call that was given up. A server that obeys the protocol does not answer a
/// cancelled call, so its silence must not count for ever.
const MEANT: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct GivenUp {
    /// When each call was given up, by id.
    since: BTreeMap<u64, Instant>,
    /// When a call was last given up that did not fit in `since`.
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

    /// The call was answered all the same.
    pub(super) fn answered(&mut self, id: u64) {
        self.since.remove(&id);
    }

    /// Whether no call was given up within the last `MEANT`.
    pub(super) fn is_empty(&self, now: Instant) -> bool {
        !self.since.values().chain(&self.more).any(|since| may_be_meant(*since, now))
    }

    /// Whether a message can be about no given-up call, however late it comes: only then does a client get the server's
    /// own words.
    pub(super) fn is_certain(&self) -> bool {
        self.since.is_empty() && self.more.is_none()
    }

    /// An answer came that names no request, and no waiting call can be meant: if there is only one given-up call, it
    /// was answered.
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
