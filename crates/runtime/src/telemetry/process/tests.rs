//! What the operating system says, as values.

use super::values;

#[test]
fn a_running_process_has_all_of_them() {
    let [cpu, resident, mapped, threads, open, max, start] = values().unwrap().map(Option::unwrap);
    assert!(cpu >= 0.0);
    assert!(resident > 100_000.0 && resident < mapped, "{resident} of {mapped}");
    assert!(threads >= 1.0);
    assert!((3.0..=max).contains(&open), "{open} of {max}");
    // Between 2020 and 2100.
    assert!((1.5e9..4.2e9).contains(&start), "{start}");
}
