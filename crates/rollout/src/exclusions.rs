//! Which routers a proposal does not ask, when several callers want it and each leaves out others.
//!
//! The exclusions of one caller must not leave another caller without a voter. Each caller was told that its own
//! exclusions leave a voter, not that the exclusions of all callers do.

use std::collections::BTreeSet;

use model::NodeId;

/// The exclusions of a proposal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exclusions {
    /// Routers that one of the callers leaves out: not asked, as long as another router can vote.
    named: BTreeSet<NodeId>,
    /// Routers that each of the callers leaves out: not asked at all.
    barred: BTreeSet<NodeId>,
}

impl Exclusions {
    pub fn of(without: BTreeSet<NodeId>) -> Self {
        Self { barred: without.clone(), named: without }
    }

    /// For callers that ask at once: the exclusions of the first caller, or of another one that leaves out the same and
    /// more. The exclusions of two callers are never added up: neither caller asked for that.
    pub fn of_all<'a>(callers: impl IntoIterator<Item = &'a BTreeSet<NodeId>>) -> Self {
        let mut callers = callers.into_iter();
        let mut exclusions = callers.next().cloned().map(Self::of).unwrap_or_default();
        for without in callers {
            if exclusions.named.is_subset(without) {
                exclusions.named.clone_from(without);
            }
            exclusions.hear(without);
        }
        exclusions
    }

    /// One more caller waits for the result of the proposal: a router that it does not leave out may vote if no other
    /// router can.
    pub fn hear(&mut self, without: &BTreeSet<NodeId>) {
        self.barred.retain(|node| without.contains(node));
    }

    pub fn named(&self) -> &BTreeSet<NodeId> {
        &self.named
    }

    pub fn barred(&self) -> &BTreeSet<NodeId> {
        &self.barred
    }

    /// Routers that are named and do not vote after all: the record lists them as left out.
    pub fn left_out(&self, voters: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
        self.named.difference(voters).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &str) -> BTreeSet<NodeId> {
        names.split_whitespace().map(|name| NodeId::new(name).unwrap()).collect()
    }

    fn all(callers: &[&str]) -> Exclusions {
        let callers: Vec<_> = callers.iter().map(|names| set(names)).collect();
        Exclusions::of_all(&callers)
    }

    #[test]
    fn one_caller_leaves_out_what_it_names() {
        assert_eq!(all(&["r1 r2"]), Exclusions { named: set("r1 r2"), barred: set("r1 r2") });
        assert_eq!(all(&[]), Exclusions::default());
        assert_eq!(all(&["r1"]), Exclusions::of(set("r1")));
    }

    #[test]
    fn exclusions_of_two_callers_are_never_added_up() {
        assert_eq!(all(&["r1", "r2"]), Exclusions { named: set("r1"), barred: set("") });
        assert_eq!(all(&["r1 r2", "r2 r3", "r2"]), Exclusions { named: set("r1 r2"), barred: set("r2") });
    }

    #[test]
    fn who_leaves_out_less_goes_along_with_who_leaves_out_more() {
        assert_eq!(all(&["", "r1", "r1 r2", ""]), Exclusions { named: set("r1 r2"), barred: set("") });
        assert_eq!(all(&["r1 r2", "r1"]), Exclusions { named: set("r1 r2"), barred: set("r1") });
    }

    #[test]
    fn a_later_caller_takes_the_bar_off_what_it_does_not_leave_out_and_adds_none() {
        let mut exclusions = all(&["r1 r2"]);
        exclusions.hear(&set("r2 r3"));
        assert_eq!(exclusions, Exclusions { named: set("r1 r2"), barred: set("r2") });
        exclusions.hear(all(&["r4"]).barred());
        assert_eq!(exclusions, Exclusions { named: set("r1 r2"), barred: set("") });
    }

    #[test]
    fn who_is_named_and_votes_was_not_left_out() {
        assert_eq!(all(&["r1 r2", "r2"]).left_out(&set("r1 r3")), set("r2"));
    }
}
