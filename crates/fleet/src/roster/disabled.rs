//! Servers that operators have switched off: what is up stays up, what is down is not tried again.

use std::collections::BTreeSet;

use model::{BackendId, Time};

use super::Roster;
use super::member::{Member, State};

impl Roster {
    /// All backends that are switched off from now on. One that is switched on again is tried at once.
    pub(super) fn switch(&mut self, now: Time, disabled: BTreeSet<BackendId>) {
        let before = std::mem::replace(&mut self.disabled, disabled);
        let switched: BTreeSet<_> = before.symmetric_difference(&self.disabled).collect();
        let keys = self.members.keys().filter(|key| switched.contains(&key.backend));
        for key in keys.cloned().collect::<Vec<_>>() {
            let disabled = self.disabled.contains(&key.backend);
            if let Some(member) = self.members.get_mut(&key) {
                member.switch(now, disabled);
            }
        }
    }
}

impl Member {
    fn switch(&mut self, now: Time, disabled: bool) {
        self.disabled = disabled;
        if let State::Down { retry_at, .. } = &mut self.state {
            *retry_at = now.min(*retry_at);
        }
    }

    /// Whether it is brought up again by itself when its time has come.
    pub(super) fn may_retry(&self) -> bool {
        self.live && !self.disabled
    }
}
