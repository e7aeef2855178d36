//! What others need of what is held for clients, and how long a client that does not read may keep it.

use std::time::Duration;

use super::Takes;
use crate::budget::Pressure;

/// A client that has read nothing for this long is given up where much is held for clients; the second limit holds
/// where little room is left.
const HESITATION: Duration = Duration::from_secs(2);
const HESITATION_MIN: Duration = Duration::from_secs(1);

/// Which resources held by clients are needed by others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Needed {
    pub(crate) pressure: Pressure,
    /// The room of large answers.
    pub(crate) room: bool,
    /// The places of connections: the core drains, or new clients find no place.
    pub(crate) places: bool,
}

impl Needed {
    /// How long a client may read nothing, and whether others wait for what it holds.
    pub(super) fn of(self, takes: Takes) -> (Option<Duration>, bool) {
        let room = self.room && takes == Takes::Large;
        let hesitation = match self.pressure {
            Pressure::None => room.then_some(HESITATION),
            Pressure::Some => Some(HESITATION),
            Pressure::High => Some(HESITATION_MIN),
        };
        (hesitation, room || self.places || self.pressure == Pressure::High)
    }
}
