//! The life of attempts and revisions over routers: both ends of the configuration stream, and the sources that
//! feed it, as values.
//!
//! No clock, no socket, no file. Each end is one value with one entrance, one exit and one deadline:
//! `handle(now, event)`, `poll_effect()`, `next_deadline()`. The shell hands in every event, carries out every
//! effect in the order they come, and calls `handle(now, Event::Woke)` when the deadline has come.

#![forbid(unsafe_code)]

pub mod cursor;
pub mod desk;
mod difference;
mod exclusions;
pub mod follower;
mod judge;
mod message;
mod proposal;
pub mod reconciler;

#[cfg(test)]
mod script;

pub use cursor::SourceCore;
pub use desk::Desk;
pub use difference::{Difference, NotArrived};
pub use exclusions::Exclusions;
pub use follower::Follower;
pub use judge::judge;
pub use message::{Content, Directive, Findings, Refusal, Report, Sender, ServerState};
pub use proposal::{Applied, Kind, Outcome, Proposal, ProposalId, Reason, Record, Rejection, Source, Stages, Votes};
pub use reconciler::Rollout;
