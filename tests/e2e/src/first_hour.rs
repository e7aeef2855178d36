//! The acceptance lines of the first hour and of three in the morning: what people see is true, and is enough.

pub mod clients;
pub mod documents;
pub mod incidents;
pub mod newcomer;

use crate::Line;

/// By their numbers; the golden outputs are not measured here.
pub const LINES: &[Line] = &[
    Line {
        number: 1,
        title: "from nothing to a first call, by each package and each client's file",
        run: newcomer::run,
    },
    Line { number: 2, title: "eight incidents: commands to the cause, and to the cure", run: incidents::run },
    Line { number: 3, title: "what `status` and `watch` say during each of them", run: incidents::during },
    Line { number: 4, title: "files of clients: import, up, export, import", run: clients::run },
    Line { number: 5, title: "every command of README and docs, executed", run: documents::run },
];
