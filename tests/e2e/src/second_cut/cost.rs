//! What a call costs the gateway as it ships, in instructions and allocations.

use testkit::{Fault, binaries};

use crate::{Figures, Size, commands, run_anywhere::telemetry_cost};

const INSTRUCTIONS_MAX: f64 = 30_000.0;
/// Half of what a call took before.
const ALLOCATIONS_MAX: f64 = 9.2;

pub fn run(size: Size) -> Result<Figures, Fault> {
    if !binaries::are_elsewhere() {
        let build = ["build", "--profile", "dist", "--quiet", "-p", "only1mcp"];
        commands::run("build-dist", &mut commands::cargo(None, &build))?;
    }
    let [cost] = telemetry_cost::per_call(size, &binaries::shipped("only1mcp")?, [None])?;
    let mut figures = Figures::default();
    let mut demand = |name, value: f64, decimals, most: f64| {
        figures.demand(name, format!("{value:.decimals$}"), &format!("{most} at most"), value <= most);
    };
    demand("instructions_per_call", cost.instructions, 0, INSTRUCTIONS_MAX);
    demand("allocations_per_call", cost.allocations, 1, ALLOCATIONS_MAX);
    Ok(figures)
}
