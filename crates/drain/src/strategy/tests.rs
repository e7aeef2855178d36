//! The line of `progressive`, and what the strategies leave.

use proptest::prelude::*;

use super::*;

fn policy() -> impl Strategy<Value = ProgressivePolicy> {
    let key = (1..=200_u32, 1..=100_u32, 1..5_000_u64);
    key.prop_map(|(rate, weight_reduction, millis)| {
        let interval = Duration::from_millis(millis);
        ProgressivePolicy { rate, weight_reduction, interval, ..ProgressivePolicy::default() }
    })
}

fn weight(permille: u16) -> Weight {
    Weight::of(permille).unwrap()
}

#[test]
fn by_the_defaults_a_tenth_of_the_whole_is_lost_each_second() {
    let pace = ProgressivePolicy::default();
    let at = |millis| fallen(&pace, Weight::FULL, Duration::from_millis(millis)).permille();
    let series: Vec<_> = (0..=11).map(|second| at(second * 1000)).collect();
    assert_eq!(series, [1000, 900, 800, 700, 600, 500, 400, 300, 200, 100, 0, 0]);
    assert_eq!((at(999), at(1999)), (1000, 900), "in steps");
    assert_eq!(fall(&pace, Weight::FULL), Duration::from_secs(10));
    assert_eq!(fall(&pace, weight(250)), Duration::from_secs(3), "250, 150, 50, 0");
}

#[test]
fn what_a_message_may_say_and_no_configuration_still_comes_to_an_end() {
    let pace = ProgressivePolicy { weight_reduction: 0, interval: Duration::ZERO, ..ProgressivePolicy::default() };
    assert_eq!(fall(&pace, Weight::FULL), Duration::from_millis(100));
    assert!(fallen(&pace, Weight::FULL, Duration::from_millis(100)).is_none());
    let pace = ProgressivePolicy { weight_reduction: u32::MAX, ..pace };
    assert!(fallen(&pace, Weight::FULL, Duration::from_millis(1)).is_none());
}

#[test]
fn so_many_sessions_a_second_may_move_and_none_in_advance() {
    for rate in [1, 3, 50, 100_000] {
        let mut now = Time::ZERO + Duration::from_secs(7);
        let mut pace = Pace::new(rate, now);
        let (begun, mut granted, mut wakes) = (now, 0, 0);
        while now < begun + Duration::from_secs(10) {
            assert!(pace.next() > now);
            now = pace.next();
            let more = u64::from(pace.grant(now));
            assert!(more > 0, "each wake-up lets a session move");
            (granted, wakes) = (granted + more, wakes + 1);
            let due = now.since(begun).as_nanos() * u128::from(rate) / NANOS;
            assert_eq!(u128::from(granted), due, "{rate} a second");
        }
        assert!(wakes <= 200, "{wakes} times in 10 s");
    }
}

#[test]
fn strategies_differ_in_what_they_leave_and_for_how_long() {
    let begun = Time::ZERO + Duration::from_secs(7);
    let course = |strategy| Course::new(DrainPolicy { strategy, ..DrainPolicy::default() }, begun);
    let (immediate, graceful) = (course(DrainStrategy::Immediate), course(DrainStrategy::Graceful));
    assert!([true, false].into_iter().all(|held| immediate.share(begun, held).is_none()));
    assert_eq!((term(&immediate.policy), immediate.next_change(begun)), (Duration::ZERO, None));
    let timeout = graceful.policy.timeout;
    assert!(graceful.share(begun, false).is_none() && graceful.share(begun, true) == Weight::FULL);
    assert!(graceful.share(begun + timeout, true).is_none());
    assert_eq!(graceful.next_change(begun), Some(begun + timeout));
    let progressive = course(DrainStrategy::Progressive);
    assert_eq!((term(&progressive.policy), progressive.share(begun, false)), (timeout, Weight::FULL));
    assert_eq!(progressive.next_change(begun), Some(begun + Duration::from_secs(1)));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_share_only_falls_and_is_nothing_at_its_end_and_not_before(pace in policy(), from in 1..=1000_u16) {
        let (from, end) = (weight(from), fall(&pace, weight(from)));
        let mut before = from;
        for part in 0..=100_u32 {
            let share = fallen(&pace, from, end * part / 100);
            prop_assert!(share <= before, "at {part} of 100");
            before = share;
        }
        prop_assert!(fallen(&pace, from, end).is_none());
        prop_assert!(!fallen(&pace, from, end.saturating_sub(Duration::from_nanos(1))).is_none());
        prop_assert!(fallen(&pace, from, Duration::MAX).is_none());
    }

    /// A coordinator that is killed goes on from the step that is on record.
    #[test]
    fn a_fall_that_is_taken_up_at_any_step_is_the_same_line(pace in policy(), taken_up in 0..20_u32, later in 0..20_u32) {
        let after = |steps| pace.interval * steps;
        let whole = fallen(&pace, Weight::FULL, after(taken_up + later));
        let first = fallen(&pace, Weight::FULL, after(taken_up));
        prop_assert_eq!(fallen(&pace, first, after(later)), whole);
    }

    /// A shell that wakes whenever it is told to misses no step.
    #[test]
    fn each_step_is_due_when_it_was_said_to_be(pace in policy(), millis in 0..100_000_u64) {
        let progressive = DrainPolicy { strategy: DrainStrategy::Progressive, progressive: pace, ..DrainPolicy::default() };
        let course = Course::new(progressive, Time::ZERO + Duration::from_secs(3));
        let mut now = course.begun + Duration::from_millis(millis);
        let mut wakes = 0;
        while !course.share(now, false).is_none() {
            let next = course.next_change(now).unwrap();
            let shortly_before = Time::from_nanos(next.as_nanos() - 1);
            prop_assert_eq!(course.share(shortly_before, false), course.share(now, false));
            prop_assert!(course.share(next, false) < course.share(now, false));
            now = next;
            wakes += 1;
        }
        prop_assert!(wakes <= 100);
        prop_assert!(now <= course.begun + fall(&course.policy.progressive, Weight::FULL).max(Duration::from_millis(millis)));
    }

    /// However often what takes over falls ill, the drain ends, and no later than was said.
    #[test]
    fn strain_delays_the_end_by_the_timeout_at_most(pace in policy(), waits in prop::collection::vec(1..20_000_u64, 0..50)) {
        let begun = Time::ZERO + Duration::from_secs(3);
        let progressive = DrainPolicy { strategy: DrainStrategy::Progressive, progressive: pace, ..DrainPolicy::default() };
        let last = begun + fall(&progressive.progressive, Weight::FULL) + progressive.timeout;
        let mut course = Course::new(progressive, begun);
        let (mut now, mut strained) = (begun, false);
        for wait in waits {
            let until = now + Duration::from_millis(wait);
            while let Some(at) = course.next_change(now).filter(|at| *at <= until && !course.share(now, false).is_none()) {
                prop_assert!(course.share(at, false) < course.share(now, false), "it falls when it was said to");
                now = at;
            }
            if course.share(now, false).is_none() {
                break;
            }
            now = until;
            strained = !strained;
            course.strain(now, strained);
            prop_assert_eq!(course.share(now, false), Weight::FULL);
            prop_assert_eq!(course.rate().is_none(), strained);
        }
        prop_assert!(course.next_change(now).is_none_or(|at| at <= last));
        prop_assert!(course.share(last, false).is_none());
    }
}
