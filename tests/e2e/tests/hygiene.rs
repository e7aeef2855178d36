//! No process is left behind. Alone in its program, because it takes the status of every child.

use e2e::{Size, main_job::hygiene};
use testkit::Fault;

#[test]
fn no_process_is_left_behind() -> Result<(), Fault> {
    hygiene::run(Size::Short)?.into_result().map(|_| ())
}
