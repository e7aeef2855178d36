//! What a call costs the gateway, in instructions and allocations.

use testkit::Fault;

use crate::{Figures, Size, run_anywhere::telemetry_cost};

const INSTRUCTIONS_MAX: f64 = 30_000.0;
/// Half of what a call took before.
const ALLOCATIONS_MAX: f64 = 9.2;

pub fn run(size: Size) -> Result<Figures, Fault> {
    let [cost] = telemetry_cost::per_call(size, [None])?;
    let mut figures = Figures::default();
    let mut demand = |name, value: f64, decimals, most: f64| {
        figures.demand(name, format!("{value:.decimals$}"), &format!("{most} at most"), value <= most);
    };
    demand("instructions_per_call", cost.instructions, 0, INSTRUCTIONS_MAX);
    demand("allocations_per_call", cost.allocations, 1, ALLOCATIONS_MAX);
    Ok(figures)
}
