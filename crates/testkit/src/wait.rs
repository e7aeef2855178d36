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
pub fn until_true(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) -> Result<(), Fault> {
    until(what, limit, || holds().then_some(()))
}

/// Looks again and again for the whole of `time`, because that nothing happens can only be seen by watching.
///
/// # Errors
/// At the first look that does not hold, naming `what` should have.
pub fn holds_for(what: &str, time: Duration, mut holds: impl FnMut() -> Result<bool, Fault>) -> Result<(), Fault> {
    let start = Instant::now();
    while start.elapsed() < time {
        if !holds()? {
            return Err(fault(format!("after {:?}, no longer: {what}", start.elapsed())));
        }
        thread::sleep(INTERVAL * 10);
    }
    Ok(())
}
