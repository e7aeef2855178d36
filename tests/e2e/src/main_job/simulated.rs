//! The deciding parts of both ends in virtual time, over thousands of seeds; and proof that the checker can fail.

use std::process::Command;

use testkit::{Fault, binaries, fault};

use crate::{Figures, Size, commands};

/// The seeds run in less than this.
const SECONDS_MAX: f64 = 180.0;

/// # Errors
/// When a program cannot be run, or finds a fault.
pub fn run(size: Size) -> Result<Figures, Fault> {
    let mut figures = Figures::default();
    let seeds = size.pick("10000", "300");
    let mut simulate = Command::new(binaries::path("simulation")?);
    let ran = commands::run("simulation", simulate.current_dir(binaries::checkout()).args(["--seeds", seeds]))?;
    let seconds = ran.took.as_secs_f64();
    figures.note("seeds", seeds);
    figures.demand("seconds", format!("{seconds:.0}"), "below 180", seconds < SECONDS_MAX);
    for line in ran.output.lines().filter_map(|line| line.strip_prefix("figure ")) {
        let (name, value) = line.split_once(' ').ok_or_else(|| fault(format!("odd figure: {line}")))?;
        figures.demand(known(name), value, "more than 0", value.trim().parse::<f64>().is_ok_and(|value| value > 0.0));
    }
    if size == Size::Full {
        let ran = commands::run("mutants", &mut Command::new(binaries::checkout().join("scripts/mutants")))?;
        let caught = ran.output.lines().filter(|line| line.contains("caught")).count();
        figures.demand("mutants_caught", caught, "8", caught == 8);
    }
    Ok(figures)
}

/// Figures have names for the life of the program; there are a few dozen of these.
fn known(name: &str) -> &'static str {
    name.to_owned().leak()
}
