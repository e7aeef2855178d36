//! From outcomes to verdicts.
//!
//! [`Judge`] turns a row of outcomes into a verdict. [`Monitor`] is health-monitor's end of the stream to routers:
//! schedule, answers, verdicts. [`Alone`] is a router's end: the verdicts to act on, also without a monitor. [`Shares`]
//! decides there which of several endpoints calls pass over.

#![forbid(unsafe_code)]

pub mod alone;
mod judge;
mod message;
pub mod monitor;
mod schedule;
pub mod shares;

pub use alone::Alone;
pub use judge::Judge;
pub use message::{Observation, Outcome, Request};
pub use monitor::Monitor;
pub use shares::Shares;
