//! A world in which the cores of both ends of the configuration stream and of drains live, with virtual time and a
//! network, and in which everything goes wrong; and a checker that says whether what was promised held.
//!
//! One seed is one run, the same every time.

#![forbid(unsafe_code)]

mod content;
mod fault;
mod random;
mod run;
mod world;

pub use fault::{Fault, Faults};
pub use run::{MIN_EVENTS, MIN_REVISIONS, Report, run};
pub use world::traffic::Exchanges;

#[cfg(test)]
mod tests;
