//! Exit codes of our programs, which scripts rely on. Turn one into a `std::process::ExitCode` with `.into()`.

use std::process::ExitCode;

/// Done as asked.
pub const DONE: u8 = 0;
/// Refused, unhealthy or diverged: the program worked and the answer is no.
pub const REFUSED: u8 = 1;
/// Nothing to do: what was asked for already holds.
pub const NOTHING_TO_DO: u8 = 2;
/// The command line was wrong.
pub const USAGE: u8 = 64;
/// The service cannot be reached.
pub const UNAVAILABLE: u8 = 69;

/// The exit code of a process that was asked to end; `clean` if all of it ended by itself and in time.
#[must_use]
pub fn of(clean: bool) -> ExitCode {
    if clean { DONE } else { REFUSED }.into()
}

/// Prints what is wrong with a command line, or the help that was asked for.
#[must_use]
pub fn usage(error: &clap::Error) -> ExitCode {
    // Nothing better can be done about a closed stderr.
    drop(error.print());
    if error.use_stderr() { USAGE } else { DONE }.into()
}
