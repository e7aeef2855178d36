//! The acceptance lines of running anywhere in their short forms.

use e2e::{run_anywhere::*, short};
use testkit::Fault;

#[test]
fn metrics_rules_and_dashboards_say_the_same() -> Result<(), Fault> {
    short(metrics::run)
}

#[test]
fn a_reload_is_one_trace_over_all_services() -> Result<(), Fault> {
    short(traces::run)
}
