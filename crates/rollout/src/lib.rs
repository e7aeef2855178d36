//! The life of attempts and revisions over routers: both ends of the configuration stream, as values.
//!
//! No clock, no socket, no file. Each end is one value with one entrance, one exit and one deadline:
//! `handle(now, event)`, `poll_effect()`, `next_deadline()`.

#![forbid(unsafe_code)]

mod message;

pub use message::{Content, Directive, Refusal, Report, Sender};
