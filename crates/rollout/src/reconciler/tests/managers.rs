//! What one manager owes to those before and after it.

use super::*;

#[test]
fn numbers_go_on_above_what_any_router_has() {
    says(
        "head 2 a
         hello r1 2 a
         hello r2 40 z
         > r2 has 40
         > append #1 41 after 2: a
         appended #1 41
         > r1: offer 41 a
         > r2: offer 41 a
         ack r1 41 a
         ack r2 41 a
         # the same number for something else is no better
         hello r3 41 b
         > r3 has 41
         > append #2 42 after 41: a
         append-failed #2
         wait 1s
         > 1.0: r3 has 41
         > 1.0: append #3 42 after 41: a",
    );
}

#[test]
fn a_younger_manager_deposes_one_that_was_obeyed() {
    says(
        "head 1 a
         hello r1 1 a
         ack r1 1 a
         propose 1 file ab base=1
         > r1: prepare #1 ab
         no r1 #1 stale
         > deposed by 9
         > 1 refused (heals: true): router r1: a config-manager of epoch 9 was seen on this log; the one that spoke is older",
    );
}

#[test]
fn a_manager_that_is_gone_is_numbered_above() {
    says(
        "head 1 a
         hello r1 1 a
         hello r2 0
         > r2: offer 1 a
         propose 1 file ab base=1
         > r1: prepare #1 ab
         nack r2 1 stale
         > an epoch of 9 was there
         > raise above 9
         > r2 behind for 1s: a config-manager of epoch 9 was seen on this log; the one that spoke is older
         no r1 #1 stale
         > an epoch of 9 was there
         > #1 dropped
         # nothing is begun under an epoch that is not obeyed
         propose 2 apply ac
         epoch failed
         > r1: prepare #2 ab
         no r1 #2 stale
         > deposed by 9
         > 1 refused (heals: true): router r1: a config-manager of epoch 9 was seen on this log; the one that spoke is older
         > r1: prepare #3 ac
         wait 1s
         > 1.0: r2: offer 1 a
         nack r2 1 stale
         > an epoch of 9 was there
         > raise above 9
         > r2 behind for 2s: a config-manager of epoch 9 was seen on this log; the one that spoke is older
         epoch 10
         > r2: offer 1 a
         # said to the epoch before
         nack r2 1 stale
         > r2: offer 1 a
         ack r2 1 a
         > r2 caught up with 1",
    );
}

#[test]
fn the_end_of_an_old_stream_is_not_the_end_of_the_new_one() {
    let mut bench = Bench::new();
    bench.step("head 1 a");
    bench.step("hello r1 1 a");
    let old = bench.links[&node("r1")];
    bench.step("hello r1 1 a");
    bench.core.handle(bench.now, Event::RouterDetached { node: node("r1"), link: old });
    assert_eq!(bench.step("propose 1 file ab base=1"), ["r1: prepare #1 ab"]);
}
