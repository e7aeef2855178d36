//! No process is left behind. Alone in its program, because it takes the status of every child.

use e2e::{Size, main_job::hygiene};
use testkit::{Fault, scratch};

#[test]
fn no_process_is_left_behind() -> Result<(), Fault> {
    let (result, kept) = scratch::judged(|| hygiene::run(Size::Short)?.into_result(), Result::is_ok);
    result.map(|_| ()).map_err(|error| error.during(format!("logs and state are in {kept:?}")))
}
