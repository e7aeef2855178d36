//! The acceptance lines of the first hour in their short forms.

use e2e::{first_hour, short};
use testkit::Fault;

#[test]
fn two_commands_lead_to_the_cause_of_an_incident() -> Result<(), Fault> {
    short(first_hour::incidents::run)
}

#[test]
fn status_is_never_well_while_anything_is_dead() -> Result<(), Fault> {
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
