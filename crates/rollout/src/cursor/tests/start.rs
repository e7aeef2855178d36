//! What is found at a start, by what was judged before it.

use super::*;

#[test]
fn a_change_found_at_the_start_may_be_half_of_one() {
    says(
        "0 read 1 half
         > settling
         500 tick
         > 500 look
         501 looks 2
         1001 tick
         > 1001 look
         1002 looks 2
         > read
         1003 read 2 b
         > propose 1 b",
    );
}

#[test]
fn what_is_there_at_the_very_start_serves_at_once_and_nothing_that_comes_later_unless_it_is_whole() {
    let mut bench = Bench::judged_before(None);
    let script = "0 read 1 a
         > propose 1 a
         100 moved 2
         > read
         101 read 2 b
         > propose 2 b
         200 overtaken 2
         250 written 3
         > settling
         301 tick
         > 300 read
         302 read 3 half
         900 tick
         > 802 look";
    check(script, |line| bench.step(line));
}

#[test]
fn what_was_refused_before_the_start_is_judged_again_and_something_else_has_to_be_whole() {
    let refused = || Bench::judged_before(Some(Judged::Refused));
    let mut bench = refused();
    let same = "0 read 1 a
         > propose 1 a
         1 refused 1
         > keep a
         > refused
         2 moved 1
         > read
         3 read 1 a";
    check(same, |line| bench.step(line));
    let mut bench = refused();
    let other = "0 read 1 half
         > settling
         1 written 2
         501 tick
         > 501 look
         502 looks 2
         > read
         503 read 2 b
         > propose 1 b";
    check(other, |line| bench.step(line));
}

#[test]
fn what_was_refused_before_the_start_is_judged_again_at_the_first_request_where_only_requests_count() {
    let off = SourcePolicy { enabled: false, ..SourcePolicy::default() };
    let refused = Cursor { digest: digest("a"), judged: Judged::Refused };
    let mut bench = Bench { core: SourceCore::new(Time::ZERO, off.clone(), Some(refused)) };
    assert!(bench.drain().is_empty());
    // Another change went live meanwhile.
    bench.core.handle(Time::ZERO, Event::Policy(off));
    let script = "1 asked
         > read
         2 read 1 a
         > propose 1 a
         3 refused 1
         > keep a
         > refused
         4 asked
         > read
         5 read 1 a
         > propose 2 a again";
    check(script, |line| bench.step(line));
}

#[test]
fn what_becomes_readable_after_the_start_has_to_be_whole() {
    let mut bench = Bench::judged_before(None);
    // It is read at each poll, since permissions change without a change of size or time.
    let script = "0 read 1 unreadable
         3600001 tick
         > 3600000 read
         3600002 read 2 half
         3600503 tick
         > 3600502 look
         3600504 looks 3
         3601005 tick
         > 3601004 look
         3601006 looks 3
         > read
         3601007 read 3 a
         > propose 1 a";
    check(script, |line| bench.step(line));
}
