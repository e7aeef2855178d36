//! The acceptance lines of leaving gracefully in their short forms.

use e2e::{leaving, short};
use testkit::{Fault, fault};

fn line(number: u8) -> Result<(), Fault> {
    let line = leaving::LINES.iter().find(|line| line.number == number);
    short(line.ok_or_else(|| fault(format!("there is no line {number}")))?.run)
}

#[test]
fn calls_on_what_leaves_end_as_its_strategy_says() -> Result<(), Fault> {
    short(leaving::drains::calls)
}

#[test]
fn a_share_falls_along_its_curve_and_sessions_move_at_their_rate() -> Result<(), Fault> {
    short(leaving::drains::falling::run)
}

#[test]
fn drains_hold_in_a_storm_of_changes_until_they_are_cancelled() -> Result<(), Fault> {
    short(leaving::storm::run)
}

#[test]
fn reloads_and_drains_leave_nothing_behind() -> Result<(), Fault> {
    short(leaving::steady::run)
}

#[test]
fn routers_behind_a_balancer_restart_in_turn() -> Result<(), Fault> {
    line(3)
}

#[test]
fn processes_are_upgraded_under_load() -> Result<(), Fault> {
    line(4)
}

#[test]
fn what_is_unwell_is_found_and_avoided() -> Result<(), Fault> {
    line(5)
}

#[test]
fn control_services_are_away_and_no_call_fails() -> Result<(), Fault> {
    line(7)
}

#[test]
fn a_stop_ends_at_its_deadline_and_says_what_it_cut_off() -> Result<(), Fault> {
    line(8)
}
