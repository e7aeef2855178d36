//! From outcomes to verdicts.

#![forbid(unsafe_code)]

mod message;

pub use message::{Observation, Outcome, Request};
