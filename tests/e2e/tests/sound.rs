//! The acceptance lines of a sound gateway in their short forms.

use e2e::{short, sound};
use testkit::Fault;

#[test]
fn calls_are_executed_and_answered_once() -> Result<(), Fault> {
    short(sound::once::run)
}
