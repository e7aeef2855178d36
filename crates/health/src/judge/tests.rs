//! Rows of outcomes: `+` well, `-` failed, `s` starting; and what is thought after each.

use std::time::Duration;

use model::{HealthPolicy, Time, Verdict};

use super::{Judge, stale_after};
use crate::Outcome;

fn policy() -> HealthPolicy {
    HealthPolicy { unhealthy_threshold: 3, healthy_threshold: 2, ..HealthPolicy::default() }
}

fn outcome(letter: char) -> Outcome {
    match letter {
        '+' => Outcome::Ok { latency: Duration::from_millis(1) },
        '-' => Outcome::Failed { reason: "refused".into() },
        's' => Outcome::Starting { reason: "connecting".into(), failing: false },
        'x' => Outcome::Starting { reason: "exit 1".into(), failing: true },
        other => panic!("no outcome is called {other}"),
    }
}

#[test]
fn verdicts_follow_rows_not_single_outcomes() {
    let check = |outcomes: &str, verdicts: &str| {
        let mut judge = Judge::default();
        let said: String = outcomes
            .chars()
            .map(|letter| match judge.take(Time::ZERO, &policy(), &outcome(letter)) {
                Verdict::Healthy => 'H',
                Verdict::Degraded => 'D',
                Verdict::Unhealthy => 'U',
                Verdict::Unknown => '?',
                Verdict::Starting => 'S',
                Verdict::Failing => 'F',
            })
            .collect();
        assert_eq!(said, verdicts, "after {outcomes}");
    };
    check("+--+--+", "HHHHHDD");
    check("+---+-++", "HHHUUUUH");
    check("--+", "??H");
    check("---s+", "??USH");
    check("s---", "SSSU");
    check("ssxxs+", "SSFFSH");
    check("-+-+-+-+++++++++++++++++", "?HHHHHDDDDDDDDDDDDDDHHHH");
    check("---++--", "??UUHHH");
    // What flaps must do better each time; a long row of answers makes up for it.
    check("---++---++++---++++++++", "??UUHHHUUUUHHHUUUUUUUUH");
    check("---++---++++++++++++++++++++---++", "??UUHHHUUUUHHHHHHHHHHHHHHHHHHHUUH");
    // Calls that fail while pings are answered, between failed pings of another time as well.
    check("+-++-++-++-+", "HHHHHHHHHHDD");
    check("+--+-+--+-+--", "HHHHHHDDDDDDD");
}

#[test]
fn what_is_old_is_forgotten_and_becomes_routable() {
    let mut judge = Judge::default();
    for _ in 0..3 {
        judge.take(Time::ZERO, &policy(), &outcome('-'));
    }
    let at = judge.stale_at(&policy()).unwrap();
    assert_eq!(at, Time::ZERO + stale_after(&policy()));
    assert_eq!(judge.age(Time::from_nanos(at.as_nanos() - 1), &policy()), Verdict::Unhealthy);
    assert_eq!(judge.age(at, &policy()), Verdict::Unknown);
    assert!(judge.verdict().is_routable());
    assert_eq!(judge.reason(), Some("refused"), "still shown");
    assert_eq!(judge.stale_at(&policy()), None);
}

#[test]
fn the_reason_lasts_as_long_as_the_trouble() {
    let mut judge = Judge::default();
    let mut after = |row: &str| {
        row.chars().for_each(|one| {
            judge.take(Time::ZERO, &policy(), &outcome(one));
        });
        judge.reason().map(str::to_owned)
    };
    assert_eq!(after("+-").as_deref(), Some("refused"));
    assert_eq!(after("+"), None, "healthy");
    assert_eq!(after("---+").as_deref(), Some("refused"), "one answer is not enough");
    assert_eq!(after("+"), None);
    assert_eq!(after("-+-+-+-+").as_deref(), Some("refused"), "degraded");
}

#[test]
fn the_last_answer_and_the_last_failure_outlast_verdicts_and_lives() {
    let mut judge = Judge::default();
    let at = |seconds| Time::ZERO + Duration::from_secs(seconds);
    assert_eq!((judge.last_ok(), judge.last_failure(), judge.failures_in_a_row()), (None, None, 0));
    for (second, one) in (1..).zip("+--".chars()) {
        judge.take(at(second), &policy(), &outcome(one));
    }
    assert_eq!((judge.last_ok(), judge.failures_in_a_row()), (Some(at(1)), 2));
    for (second, one) in (4..).zip("s+".chars()) {
        judge.take(at(second), &policy(), &outcome(one));
    }
    assert_eq!((judge.last_ok(), judge.last_failure()), (Some(at(5)), Some((at(3), "refused"))));
    assert_eq!((judge.reason(), judge.failures_in_a_row()), (None, 0));
    judge.age(at(1000), &policy());
    assert_eq!((judge.last_ok(), judge.last_failure().map(|(at, _)| at)), (Some(at(5)), Some(at(3))));
}

#[test]
fn thresholds_of_zero_mean_one() {
    let policy = HealthPolicy { unhealthy_threshold: 0, healthy_threshold: 0, ..HealthPolicy::default() };
    let mut judge = Judge::default();
    assert_eq!(judge.take(Time::ZERO, &policy, &outcome('-')), Verdict::Unhealthy);
    assert_eq!(judge.take(Time::ZERO, &policy, &outcome('+')), Verdict::Healthy);
}
