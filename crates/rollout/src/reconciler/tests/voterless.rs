//! Changes without a voter, or on which some routers may not vote.

use super::says;

#[test]
fn without_voters_a_change_waits() {
    says(
        "head 1 a
         propose 1 file ab base=1
         > 1 waits for a voter
         # a router that has something older is brought up to the head first
         hello r1 0
         > r1: offer 1 a
         ack r1 1 a
         > r1: prepare #1 ab
         detach r1
         > #1 dropped
         hello r2 1 a
         > r2: prepare #2 ab
         propose 3 file b base=1 without=r2
         > r2: abort #2
         > 1 refused (heals: false): a newer proposal of the same source took its place
         > 3 waits for a voter",
    );
}

#[test]
fn a_router_that_the_only_caller_leaves_out_never_votes() {
    says(
        "head 1 a
         hello r1 1 a
         hello r2 1 a
         propose 1 file ab base=1 without=r1
         > r2: prepare #1 ab
         detach r2
         > #1 dropped
         > 1 waits for a voter
         wait 60s
         # another caller who leaves out the same router does not let it in
         join 1 without=r1,r3
         hello r2 1 a
         > r2: prepare #2 ab
         yes r2 #2
         > append #2 2 after 1: ab without r1",
    );
}

#[test]
fn a_change_without_voter_asks_the_router_that_another_caller_does_not_leave_out() {
    says(
        "head 1 a
         hello r1 1 a
         hello r2 1 a
         propose 1 file ab base=1 without=r1,r3
         > r2: prepare #1 ab
         detach r2
         > #1 dropped
         > 1 waits for a voter
         join 1 without=r3
         > r1: prepare #2 ab
         yes r1 #2
         > append #2 2 after 1: ab without r3",
    );
}

#[test]
fn a_caller_who_came_while_the_round_went_well_is_not_stuck_when_its_voter_is_gone() {
    says(
        "head 1 a
         hello r1 1 a
         hello r2 1 a
         propose 1 file ab base=1 without=r1
         > r2: prepare #1 ab
         # as long as another router can vote, it is not asked
         join 1 without=
         detach r2
         > #1 dropped
         > r1: prepare #2 ab
         detach r1
         > #2 dropped
         > 1 waits for a voter
         # and what is left out stays so where it can
         hello r2 1 a
         > r2: prepare #3 ab
         hello r1 1 a
         yes r2 #3
         > append #3 2 after 1: ab without r1",
    );
}
