//! Two of the acceptance lines of the first hour, in their short forms. The incidents (lines 2 and 3) are played by
//! `scripts/acceptance first-hour`: what is said of some of them still depends on the moment.

use e2e::{first_hour, short};
use testkit::Fault;

#[test]
fn files_of_clients_make_the_round_trip() -> Result<(), Fault> {
    short(first_hour::clients::run)
}

#[test]
fn what_readme_and_docs_say_can_be_typed() -> Result<(), Fault> {
    short(first_hour::documents::run)
}
