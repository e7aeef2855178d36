//! All endpoints of one router as values: who is a member, who is on the way to being up, what is started, kept, listed
//! again and let go from one snapshot to the next, and under which names clients see what they offer.
//!
//! No clock, no socket, no process. [`Roster`] has one entrance, one exit and one deadline: `handle(now, event)`,
//! `poll_effect()`, `next_deadline()`. The shell carries out every effect in the order they come, and says what became of
//! it.

#![forbid(unsafe_code)]

mod names;
mod offered;
mod plan;
mod reason;
mod roster;

pub use names::{merge, new_collisions};
pub use offered::{LeftOut, Offered};
pub use plan::{BackendLayout, Layout, VariantLayout};
pub use reason::{LogReference, Reason};
pub use roster::{Effect, Event, Member, Roster, Serial, State};
