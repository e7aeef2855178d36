//! Turns: when what routers serve is made anew.

use super::{Effect, Roster};

impl Roster {
    /// Asks for one turn, which covers everything that happens before it is made.
    pub(crate) fn publish(&mut self) {
        let settling = self.settling;
        let waiting = self.effects.iter_mut().find_map(|effect| match effect {
            Effect::Publish { by_file, .. } => Some(by_file),
            Effect::Act(_) | Effect::Prepared { .. } => None,
        });
        match waiting {
            Some(by_file) => *by_file |= settling,
            None => self.effects.push_back(Effect::Publish { swap: false, by_file: settling }),
        }
    }
}
