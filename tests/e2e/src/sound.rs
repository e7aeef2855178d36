//! The acceptance lines of a sound gateway: no client and no server of it can harm the others.

pub mod bare_machine;
pub mod bombs;
pub mod bounded;
pub mod cases;
pub mod cost;
pub mod once;
pub mod secrets;
pub mod sessions;
pub mod time_is_ours;
pub mod zero_drop;

use crate::Line;

/// In the order in which they are numbered.
pub const LINES: &[Line] = &[
    Line { number: 0, title: "the README's commands on a bare machine", run: bare_machine::run },
    Line { number: 1, title: "executed and answered once", run: once::run },
    Line { number: 2, title: "hostile peers beside clients that behave", run: bounded::run },
    Line { number: 3, title: "clients that stop reading delay nothing", run: time_is_ours::run },
    Line { number: 4, title: "sessions live and die by the rule", run: sessions::run },
    Line { number: 5, title: "secrets that were planted", run: secrets::run },
    Line { number: 6, title: "documents and requests made to hurt", run: bombs::run },
    Line { number: 7, title: "no call is lost to a change, beside hostile peers", run: zero_drop::run },
    Line { number: 8, title: "cases from the field", run: cases::run },
    Line { number: 9, title: "what a call costs", run: cost::run },
];
