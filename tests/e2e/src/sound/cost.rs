//! What a call costs the gateway, in instructions.

use testkit::{Fault, binaries};

use crate::{Figures, Size, run_anywhere::telemetry_cost};

/// As it was before any of the bounds.
const INSTRUCTIONS_MAX: f64 = 51_300.0;

pub fn run(size: Size) -> Result<Figures, Fault> {
    let [cost] = telemetry_cost::per_call(size, &binaries::path("only1mcp")?, [None])?;
    let cost = cost.instructions;
    let mut figures = Figures::default();
    let wanted = format!("{INSTRUCTIONS_MAX} at most");
    figures.demand("instructions_per_call", format!("{cost:.0}"), &wanted, cost <= INSTRUCTIONS_MAX);
    Ok(figures)
}
