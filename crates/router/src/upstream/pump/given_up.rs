//! Calls that a child may still be at although nobody waits for them any more: what it says without naming a request may
//! be about one of those.

use std::collections::BTreeSet;

/// So many are told apart. A child with more of them has no nameless answer any more.
const KEPT: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct GivenUp {
    ids: BTreeSet<u64>,
    /// There were more than are kept.
    more: bool,
}

impl GivenUp {
    pub(super) fn add(&mut self, id: u64) {
        if self.ids.len() < KEPT {
            self.ids.insert(id);
        } else {
            self.more = true;
        }
    }

    /// It was answered all the same.
    pub(super) fn answered(&mut self, id: u64) {
        self.ids.remove(&id);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty() && !self.more
    }

    /// An answer came that names no request, and nothing else can be meant: if there is one only, it was that.
    pub(super) fn nameless(&mut self) {
        if self.ids.len() == 1 && !self.more {
            self.ids.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_up_is_outstanding_until_it_is_answered() {
        let mut given_up = GivenUp::default();
        assert!(given_up.is_empty());
        given_up.add(1);
        given_up.add(2);
        given_up.nameless();
        given_up.answered(1);
        assert!(!given_up.is_empty(), "which of two was meant cannot be known");
        given_up.nameless();
        assert!(given_up.is_empty(), "the only one that could be meant");
        (0..=KEPT as u64).for_each(|id| given_up.add(id));
        (0..=KEPT as u64).for_each(|id| given_up.answered(id));
        assert!(!given_up.is_empty(), "one was not kept, and may be meant for ever");
    }
}
