//! The acceptance lines of the main job: change the file, and no client notices.

pub mod bad_input;
pub mod clean_clone;
pub mod data_plane;
pub mod drains;
pub mod fences;
pub mod foreign;
pub mod four_processes;
pub mod hygiene;
pub mod reload_time;
pub mod rollback;
pub mod simulated;
pub mod votes;
pub mod zero_drop;

use crate::Line;

/// In the order in which they are numbered.
pub const LINES: [Line; 13] = [
    Line { number: 1, title: "two commands on a clean clone", run: clean_clone::run },
    Line { number: 2, title: "no call is lost to a change", run: zero_drop::run },
    Line { number: 3, title: "four processes, two routers, kills", run: four_processes::run },
    Line { number: 4, title: "votes", run: votes::run },
    Line { number: 5, title: "the time of a reload, and of a route", run: reload_time::run },
    Line { number: 6, title: "the data plane beside others", run: data_plane::run },
    Line { number: 7, title: "bad input changes nothing", run: bad_input::run },
    Line { number: 8, title: "drains", run: drains::run },
    Line { number: 9, title: "rollback", run: rollback::run },
    Line { number: 10, title: "no process is left behind", run: hygiene::run },
    Line { number: 11, title: "simulation, and mutants", run: simulated::run },
    Line { number: 12, title: "programs nobody here wrote", run: foreign::run },
    Line { number: 13, title: "lints, layers, sizes", run: fences::run },
];
