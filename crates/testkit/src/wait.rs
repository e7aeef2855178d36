//! Waiting for what can only be looked at: another process's state, a file, `/proc`.

use std::{thread, time::Duration};

use tokio::time::Instant;

use crate::fault::{Fault, fault};

/// How often a state is looked at. Short against everything measured with it.
const INTERVAL: Duration = Duration::from_millis(2);

/// Looks until `probe` finds something.
///
/// # Errors
/// After `limit`, naming `what` was waited for.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Result<T, Fault> {
    let deadline = Instant::now() + limit;
    loop {
        // The clock is read first, so that the last look is after the deadline.
        let late = Instant::now() >= deadline;
        if let Some(found) = probe() {
            return Ok(found);
        }
        if late {
            return Err(fault(format!("waited {limit:?} in vain for {what}")));
        }
        thread::sleep(INTERVAL);
    }
}

/// Looks until `holds`.
///
/// # Errors
/// As [`until`].
pub fn until_true(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) -> Result<(), Fault> {
    until(what, limit, || holds().then_some(()))
}
