//! The acceptance lines of the first hour, in their short forms. `scripts/acceptance first-hour` plays the newcomer (line 1),
//! which needs root and makes a root file system.

use e2e::{first_hour, short};
use testkit::Fault;

#[test]
fn the_cause_and_the_cure_are_found_by_the_command_line() -> Result<(), Fault> {
    short(first_hour::incidents::run)
}

#[test]
fn status_and_watch_tell_each_incident() -> Result<(), Fault> {
    short(first_hour::incidents::during)
}

#[test]
fn files_of_clients_make_the_round_trip() -> Result<(), Fault> {
    short(first_hour::clients::run)
}

#[test]
fn what_readme_and_docs_say_can_be_typed() -> Result<(), Fault> {
    short(first_hour::documents::run)
}
