//! A few hundred seeds, for every day. `simulate` runs more.

use crate::{Fault, Faults, MIN_EVENTS, MIN_REVISIONS, run};

#[test]
fn whatever_goes_wrong_the_promises_hold() {
    let mut faults = Faults::default();
    for seed in 0..300 {
        let report = run(seed, false);
        assert_eq!(report.violation, None, "seed {seed}; replay: simulate --seed {seed} --trace");
        assert!(report.events >= MIN_EVENTS && report.revisions >= MIN_REVISIONS, "seed {seed} says too little");
        faults.add(&report.faults);
    }
    for fault in Fault::ALL {
        assert!(faults.of(fault) > 0, "{fault:?} never happened");
    }
}

#[test]
fn one_seed_is_one_run() {
    let (one, other) = (run(7, true), run(7, true));
    assert_eq!(one.trace, other.trace);
    assert!(!one.trace.is_empty());
}
