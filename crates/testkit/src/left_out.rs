//! What a test leaves out on a machine that lacks a program.

use std::{
    env,
    io::{self, Write},
};

use crate::fault::{Fault, fault};

/// Says so on stderr, where the capture of the test's output does not reach.
///
/// # Errors
/// In CI, that is if `CI` is set: a test that did not run must not look as if it passed.
pub fn left_out(what: &str) -> Result<(), Fault> {
    if env::var_os("CI").is_some_and(|set| !set.is_empty()) {
        return Err(fault(format!("in CI nothing is left out: {what}")));
    }
    Ok(writeln!(io::stderr(), "left out: {what}")?)
}
