//! The acceptance lines of running anywhere in their short forms.

use e2e::{Figures, Size, run_anywhere::*};
use testkit::{Fault, scratch};

fn short(run: fn(Size) -> Result<Figures, Fault>) -> Result<(), Fault> {
    let (result, kept) = scratch::judged(|| run(Size::Short)?.into_result(), Result::is_ok);
    result.map(|_| ()).map_err(|error| error.during(format!("logs and state are in {kept:?}")))
}

#[test]
fn metrics_rules_and_dashboards_say_the_same() -> Result<(), Fault> {
    short(metrics::run)
}

/// Says on stderr when there is no receiver here: it is not installed for this.
#[test]
fn a_reload_is_one_trace_over_all_services() -> Result<(), Fault> {
    short(traces::run)
}
