//! The acceptance lines of the second cut: the same gateway in less code, at less cost.

pub mod cost;
pub mod earlier;
pub mod reload;
pub mod sources;

use crate::{Line, main_job::simulated};

/// By their numbers; 3 and 7 are not measured here.
pub const LINES: [Line; 5] = [
    Line { number: 1, title: "what held before", run: earlier::run },
    Line { number: 2, title: "simulation, and mutants", run: simulated::run },
    Line { number: 4, title: "lines of Rust, by crate, file and function", run: sources::run },
    Line { number: 5, title: "what a call costs, in instructions and allocations", run: cost::run },
    Line { number: 6, title: "a change before 1, 200 and 2,000 servers", run: reload::run },
];
