//! The acceptance lines of the main job in their short forms.

use e2e::{main_job::*, short};
use testkit::Fault;

#[test]
fn no_call_is_lost_to_a_change() -> Result<(), Fault> {
    short(zero_drop::run)
}

#[test]
fn four_processes_with_two_routers_survive_kills() -> Result<(), Fault> {
    short(four_processes::run)
}

#[test]
fn one_vote_against_changes_nothing() -> Result<(), Fault> {
    short(votes::run)
}

#[test]
fn a_reload_is_quick() -> Result<(), Fault> {
    short(reload_time::run)
}

#[test]
fn bad_input_changes_nothing() -> Result<(), Fault> {
    short(bad_input::run)
}

#[test]
fn a_drain_lets_calls_end_until_its_deadline() -> Result<(), Fault> {
    short(drains::run)
}

#[test]
fn what_was_rolled_back_stays_so() -> Result<(), Fault> {
    short(rollback::run)
}

#[test]
fn the_simulation_finds_nothing() -> Result<(), Fault> {
    short(simulated::run)
}
