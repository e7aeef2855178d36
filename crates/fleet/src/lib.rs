//! All that one router holds, as values: what is decided and prepared, which endpoints are members and how far each is
//! on its way to being up, what leaves and until when, under which names clients see what servers offer.
//!
//! No clock, no socket, no process. [`Fleet`] has one entrance, one exit and one deadline: `handle(now, event)`,
//! `poll_effect()`, `next_deadline()`. The shell carries out every effect in the order they come, and says what became
//! of it.

#![forbid(unsafe_code)]

mod fleet;
mod names;
mod offered;
mod plan;
mod reason;
mod roster;
mod turn;

pub use fleet::{DiskCopy, Effect, Event, Fleet};
pub use names::named_in_vain;
pub use offered::{LeftOut, Offer, Offered};
pub use plan::{BackendLayout, Layout, VariantLayout};
pub use reason::{LogReference, Reason};
pub use roster::{Act, Member, Roster, Serial, State};
pub use turn::{Arrival, Before, Turn};
