//! What becomes of the content of a file when a rollback goes over it.

use super::*;

#[test]
fn a_rollback_moves_the_cursor() {
    says(
        "0 read 1 a
         0 asked
         > read
         1 read 1 b
         > propose 1 b
         1 applied 1
         2 rolled-back b
         3 moved 2
         > read
         4 read 2 b
         5 asked
         > read
         6 read 2 b
         > answer: nothing to do
         7 asked force
         > read
         8 read 2 b
         > propose 2 b
         # the rollback went first, and what it undid is not proposed again
         9 rolled-back b
         10 overtaken 2
         500 tick
         510 moved 3
         > read
         511 read 3 c
         > propose 3 c
         # it was proposed before the file said c
         512 rolled-back b
         > read
         513 read 3 c
         > propose 4 c",
    );
}

#[test]
fn a_forced_reload_from_before_a_rollback_brings_nothing_back() {
    says(
        "0 read 1 a
         1 moved 2
         > read
         2 read 2 b
         > propose 1 b
         3 applied 1
         4 asked force
         > read
         5 asked force
         6 rolled-back b
         7 read 2 b
         > answer: nothing to do
         > read
         8 read 2 b
         > answer: nothing to do
         9 asked force
         > read
         10 read 2 b
         > propose 2 b",
    );
}

#[test]
fn what_a_rollback_did_not_roll_over_is_judged_only_as_it_is_when_it_is_whole() {
    says(
        "0 read 1 a
         100 moved 2
         > read
         101 read 2 b
         > propose 1 b
         102 applied 1
         # asked for now; the file changes until it is on record
         200 moved 3
         > read
         201 read 3 c
         > propose 2 c
         # and the next writer has it open
         202 writes 1
         > settling
         203 rolled-back b
         > read
         204 read 1 half
         205 closed 4
         705 tick
         > 705 look
         706 looks 4
         > read
         707 read 4 c
         > propose 3 c",
    );
}

#[test]
fn what_was_not_read_when_it_was_rolled_over_is_not_proposed_by_the_read_after_it() {
    says(
        "0 read 1 a
         1000 writes 2
         > settling
         1001 rolled-back b
         > read
         1002 read 2 b
         1003 closed 2
         1503 tick
         > 1503 look
         1504 looks 2
         > read
         1505 read 2 b",
    );
}

#[test]
fn what_was_refused_before_a_rollback_stays_refused_and_is_judged_for_a_caller_alone() {
    says(
        "0 read 1 a
         1 moved 2
         > read
         2 read 2 b
         > propose 1 b
         3 refused 1
         > keep b
         > refused
         4 rolled-back b refused
         > keep b
         5 asked
         > read
         6 read 2 b
         > propose 2 b again
         7 refused 2 heals
         > refused, will try again
         # a restart would make it live, which the rollback may have undone with what went before it
         8 rolled-back b refused
         > refused
         100000 tick
         100001 asked
         > read
         100002 read 2 b
         > propose 3 b again
         100003 applied 3",
    );
}
