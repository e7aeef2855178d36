//! The life of a leaving endpoint: which exchanges it still admits, until when, and how they are counted.

#![forbid(unsafe_code)]

mod admission;
pub mod departures;
pub mod ledger;
mod message;
mod strategy;
mod sync;

pub use admission::{Admission, Cordoned, State};
pub use departures::Departures;
pub use ledger::Ledger;
pub use message::{Count, Departure, Directive, DrainId, LiveEndpoint, OverlayEntry, Phase, Stay};
