//! The acceptance lines of the second cut: the same gateway in less code, at less cost.

pub mod cost;
pub mod earlier;
pub mod reload;
pub mod storm;

use crate::{Line, main_job::simulated, sources};

/// By their numbers; 3, 7 and 8 are not measured here; 9 is a part of 6 with a stage of its own.
pub const LINES: [Line; 6] = [
    Line { number: 1, title: "what held before", run: earlier::run },
    Line { number: 2, title: "simulation, and mutants", run: simulated::run },
    Line { number: 4, title: "lines of Rust, by crate, file and function", run: sources::run },
    Line { number: 5, title: "what a call costs, in instructions and allocations", run: cost::run },
    Line { number: 6, title: "a change before 1, 200 and 2,000 servers", run: reload::run },
    Line { number: 9, title: "calls while 2,000 servers change five times a second", run: storm::run },
];
