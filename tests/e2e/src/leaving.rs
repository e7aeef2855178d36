//! The acceptance lines of leaving gracefully: whatever leaves, is upgraded, falls ill or is killed, clients notice
//! nothing.

mod backend;
mod crowd;
pub mod drains;
mod health;
mod killed;
mod noon;
mod proved;
mod relay;
mod rolling;
mod sigterm;
pub mod steady;
pub mod storm;
mod upgrade;

use crate::Line;

/// By their numbers.
pub const LINES: &[Line] = &[
    Line { number: 1, title: "calls on what leaves, by every strategy", run: drains::run },
    Line { number: 2, title: "every interleaving, properties, and crashes in simulation", run: proved::run },
    Line { number: 3, title: "three routers behind a balancer, restarted in turn", run: rolling::run },
    Line { number: 4, title: "upgrades in place under load", run: upgrade::run },
    Line { number: 5, title: "what is unwell is found, avoided and taken back", run: health::run },
    Line {
        number: 6,
        title: "drains and cancels while the configuration changes five times a second",
        run: storm::run,
    },
    Line { number: 7, title: "control services away under load, by the table of the design", run: killed::run },
    Line { number: 8, title: "a stop with a server that never answers", run: sigterm::run },
    Line { number: 9, title: "what is left of 1,000 reloads and 1,000 drains", run: steady::run },
    Line { number: 10, title: "a drain at noon, as a person sees it", run: noon::run },
];
