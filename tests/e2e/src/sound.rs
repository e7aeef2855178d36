//! The acceptance lines of a sound gateway: nobody who talks to it can hurt anybody else who does.

pub mod cases;

use crate::Line;

/// In the order in which they are numbered.
pub const LINES: &[Line] = &[Line { number: 8, title: "cases from the field", run: cases::run }];
