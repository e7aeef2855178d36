//! What is proved of drains without processes: every interleaving of the admission word, a million steps of the
//! properties, and crashes of routers and coordinators in simulation.

use std::process::Command;

use testkit::{Fault, binaries, fault};

use crate::{Figures, Size, commands, main_job::simulated::number};

/// A case of a property has up to 199 steps, and 99.5 on average. Fewer are reckoned here, so that a run of many cases
/// has more than it must.
const STEPS_EACH: u64 = 90;
const STEPS: u64 = 1_000_000;
/// The properties of `crates/drain/tests/fleet.rs`.
const PROPERTIES: u64 = 2;

pub(super) fn run(size: Size) -> Result<Figures, Fault> {
    if size == Size::Short {
        return Err(fault("this line has no short form: what it runs are tests already"));
    }
    let mut figures = Figures::default();
    let mut loom = commands::cargo(None, &["test", "--release", "-p", "drain", "--test", "loom"]);
    loom.args(["--target-dir", "target/loom"]).env("RUSTFLAGS", "--cfg loom");
    let models = passed("leaving-loom", &mut loom)?;
    figures.demand("models_of_loom_passed", models, "some", models > 0);
    let cases = STEPS.div_ceil(STEPS_EACH * PROPERTIES);
    let mut properties = commands::cargo(None, &["test", "--release", "-p", "drain", "--test", "fleet", "--", "sums_"]);
    let held = passed("leaving-properties", properties.env("PROPTEST_CASES", cases.to_string()))?;
    figures.demand("properties_passed", held, &PROPERTIES.to_string(), held == PROPERTIES);
    figures.note("cases_each", cases);
    figures.note("steps_at_least_about", cases * PROPERTIES * STEPS_EACH);
    let mut fleets = commands::cargo(None, &["test", "--release", "--workspace", "--test", "fleet"]);
    let others = passed("leaving-fleets", &mut fleets)?;
    figures.demand("tests_of_fleets_passed", others, "more than the properties", others > PROPERTIES);
    let mut simulate = Command::new(binaries::path("simulate")?);
    let ran = commands::run("leaving-simulation", simulate.args(["--seeds", "10000"]))?;
    let failed = number(&ran.output, "10000 seeds, ", " failed")?;
    figures.demand("seeds_failed", failed, "0", failed == 0);
    for kind in ["RouterCrashed", "CoordinatorCrashed", "RemovedStepByStep", "DrainedStepByStep"] {
        let count = ran.output.split(&format!("{kind} ")).nth(1).and_then(|rest| rest.split([',', '\n']).next());
        let count: u64 =
            count.and_then(|count| count.trim().parse().ok()).ok_or_else(|| fault(format!("no {kind}")))?;
        figures.demand(kind, count, "some", count > 0);
    }
    Ok(figures)
}

/// How many tests passed; none may fail.
fn passed(log: &str, tests: &mut Command) -> Result<u64, Fault> {
    let ran = commands::run(log, tests)?;
    let counts =
        ran.output.split("test result: ok. ").skip(1).filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok());
    Ok(counts.sum())
}
