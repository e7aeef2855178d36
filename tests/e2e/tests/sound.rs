//! The acceptance lines of a sound gateway in their short forms.

use e2e::{short, sound};
use testkit::Fault;

#[test]
fn calls_are_executed_and_answered_once() -> Result<(), Fault> {
    short(sound::once::run)
}

#[test]
fn documents_and_requests_made_to_hurt_are_refused_in_time() -> Result<(), Fault> {
    short(sound::bombs::run)
}

#[test]
fn clients_that_stop_reading_delay_nothing() -> Result<(), Fault> {
    short(sound::time_is_ours::run)
}

#[test]
fn cases_from_the_field_and_their_kinds_hold() -> Result<(), Fault> {
    short(sound::cases::run)
}

#[test]
fn what_is_planted_is_found_where_it_belongs_alone() -> Result<(), Fault> {
    short(sound::secrets::run)
}

#[test]
fn sessions_live_and_die_by_the_rule() -> Result<(), Fault> {
    short(sound::sessions::run)
}
