//! The deciding parts of both ends in virtual time, over thousands of seeds; and proof that the checker can fail.

use std::process::Command;

use testkit::{Fault, binaries, fault};

use crate::{Figures, Size, commands};

/// The seeds run in less than this.
const SECONDS_MAX: f64 = 180.0;
const EVENTS_MIN: u64 = 500;
const REVISIONS_MIN: u64 = 5;
const MUTANTS: u64 = 19;

pub fn run(size: Size) -> Result<Figures, Fault> {
    let mut figures = Figures::default();
    let seeds = size.pick("10000", "300");
    let mut simulate = Command::new(binaries::path("simulate")?);
    let ran = commands::run("simulation", simulate.args(["--seeds", seeds]))?;
    let seconds = ran.took.as_secs_f64();
    figures.note("seeds", seeds);
    figures.demand("seconds", format!("{seconds:.0}"), "below 180", seconds < SECONDS_MAX);
    let count = |before: &str, after: &str| number(&ran.output, before, after);
    let failed = count("seeds, ", " failed")?;
    figures.demand("failed", failed, "0", failed == 0);
    let events = count("events (at least ", " each")?;
    figures.demand("events_each", events, "500 at least", events >= EVENTS_MIN);
    let revisions = count("revisions (at least ", " each")?;
    figures.demand("revisions_each", revisions, "5 at least", revisions >= REVISIONS_MIN);
    let faults = ran.output.lines().find_map(|line| line.strip_prefix("faults: "));
    let faults: Vec<&str> = faults.ok_or_else(|| fault("the simulation names no faults"))?.split(", ").collect();
    figures.note("fault_kinds", faults.len());
    figures.none("kinds_that_never_happened", faults.iter().filter(|kind| kind.ends_with(" 0")));
    if size == Size::Full {
        let ran = commands::run("mutants", &mut Command::new(binaries::checkout().join("scripts/mutants")))?;
        let caught = ran.output.lines().filter(|line| line.starts_with("caught")).count() as u64;
        figures.demand(
            "mutants_caught",
            caught,
            &MUTANTS.to_string(),
            caught >= MUTANTS && !ran.output.contains("SURVIVED"),
        );
    }
    Ok(figures)
}

/// The number between two texts.
pub fn number(output: &str, before: &str, after: &str) -> Result<u64, Fault> {
    let rest = output.split(before).nth(1).and_then(|rest| rest.split(after).next());
    rest.and_then(|number| number.parse().ok()).ok_or_else(|| fault(format!("no number after `{before}` in {output}")))
}
