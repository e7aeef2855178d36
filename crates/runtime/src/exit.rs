//! Exit codes of our programs, which scripts rely on. Turn one into a `std::process::ExitCode` with `.into()`.

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
