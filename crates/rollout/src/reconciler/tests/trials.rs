//! Trials: routers are asked, and that is all.

use super::says;

#[test]
fn all_may_agree_and_nothing_is_appended() {
    says(
        "head 1 a
         hello r1 1 a
         hello r2 1 a
         propose 1 try ab base=1 trial
         > r1: prepare #1 ab
         > r2: prepare #1 ab
         yes r1 #1
         yes r2 #1
         > r1: abort #1
         > r2: abort #1
         > 1 was tried by {r1, r2}
         # a number was not used, and the same content is not live
         propose 2 file ab base=1
         > r1: prepare #2 ab
         > r2: prepare #2 ab
         yes r1 #2
         yes r2 #2
         > append #2 2 after 1: ab",
    );
}

#[test]
fn a_no_says_why() {
    says(
        "head 1 a
         hello r1 1 a
         hello r2 1 a
         propose 1 try ab base=1 trial
         > r1: prepare #1 ab
         > r2: prepare #1 ab
         no r2 #1 names
         > r1: abort #1
         > 1 refused (heals: false): router r2: tool names collide: read
         propose 2 try a base=1 trial
         > 2 is 1 already",
    );
}

#[test]
fn routers_are_asked_also_where_changes_need_no_votes_and_nobody_is_waited_for() {
    says(
        "propose 1 try ab trial
         > 1 was tried by {}
         head 1 a
         propose 2 try ab base=1 trial
         > 2 was tried by {}
         hello r1 1 a
         propose 3 try ab1 base=1 trial
         > r1: prepare #1 ab1
         detach r1
         > #1 dropped
         > 3 was tried by {}",
    );
}

#[test]
fn a_change_goes_first_also_where_its_voter_comes_later() {
    says(
        "head 1 a
         hello r1 1 a
         propose 1 try ab base=1 trial
         > r1: prepare #1 ab
         propose 2 file ac base=1
         > r1: abort #1
         > 1 refused (heals: true): another change went first
         > r1: prepare #2 ac
         propose 3 other-try ad base=1 trial
         no r1 #2 names
         > 2 refused (heals: false): router r1: tool names collide: read
         > r1: prepare #3 ad
         # one that waits for a voter that its caller left out
         propose 4 file ae base=1 without=r1
         hello r2 1 a
         > r1: abort #3
         > 3 refused (heals: true): another change went first
         > r2: prepare #4 ae",
    );
}

#[test]
fn one_whose_caller_has_gone_ends_at_once_wherever_it_is_and_a_decided_one_does_not() {
    says(
        "head 1 a
         hello r1 1 a
         propose 1 try ab base=1 trial
         > r1: prepare #1 ab
         propose 2 other-try ac base=1 trial
         propose 3 third-try ad base=1 trial
         withdraw 3
         > 3 refused (heals: false): its caller has gone
         withdraw 1
         > r1: abort #1
         > 1 refused (heals: false): its caller has gone
         > r1: prepare #2 ac
         withdraw 1
         yes r1 #1
         yes r1 #2
         > r1: abort #2
         > 2 was tried by {r1}
         propose 4 file ae base=1
         > r1: prepare #3 ae
         yes r1 #3
         > append #3 2 after 1: ae
         withdraw 4
         appended #3 2
         > r1: commit #3 as 2
         ack r1 2 ae
         > 4 is 2 on {r1}, not on {}",
    );
}
