//! The members, and an index of those that the roster must act on, so that an event looks only at the members it
//! changes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

use model::{EndpointKey, Time};

use super::member::{Member, State};

/// Read as a map. What is lent for a change is looked at again at the next [`Members::settle`].
#[derive(Debug, Default)]
pub(crate) struct Members {
    all: BTreeMap<EndpointKey, Member>,
    lent: BTreeSet<EndpointKey>,
    due: BTreeSet<(Time, EndpointKey)>,
    /// Those whose old copy must end first.
    waiting: BTreeSet<EndpointKey>,
}

impl Deref for Members {
    type Target = BTreeMap<EndpointKey, Member>;

    fn deref(&self) -> &Self::Target {
        &self.all
    }
}

impl Members {
    pub(super) fn get_mut(&mut self, key: &EndpointKey) -> Option<&mut Member> {
        let member = self.all.get_mut(key)?;
        if !self.lent.contains(key) {
            self.lent.insert(key.clone());
        }
        Some(member)
    }

    pub(super) fn insert(&mut self, key: EndpointKey, member: Member) {
        self.lent.insert(key.clone());
        self.all.insert(key, member);
    }

    pub(super) fn remove(&mut self, key: &EndpointKey) -> Option<Member> {
        let member = self.all.remove(key)?;
        self.unnote(key, member.noted);
        Some(member)
    }

    fn unnote(&mut self, key: &EndpointKey, noted: Option<Time>) {
        if let Some(before) = noted {
            self.due.remove(&(before, key.clone()));
        }
        self.waiting.remove(key);
    }

    /// Brings the index up to date.
    pub(super) fn settle(&mut self) {
        for key in std::mem::take(&mut self.lent) {
            let Some(member) = self.all.get_mut(&key) else { continue };
            let due = member.due();
            let (before, waits) = (std::mem::replace(&mut member.noted, due), member.state == State::Waiting);
            self.unnote(&key, before);
            self.due.extend(due.map(|due| (due, key.clone())));
            self.waiting.extend(waits.then_some(key));
        }
    }

    /// The earliest due time in the index, as of the last [`Self::settle`].
    pub(super) fn next_due(&self) -> Option<Time> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Those at which something is due by now, in order.
    pub(super) fn due(&self, now: Time) -> BTreeSet<EndpointKey> {
        self.due.iter().take_while(|(due, _)| *due <= now).map(|(_, key)| key.clone()).collect()
    }

    /// Those whose old copy must end first, in order.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (&EndpointKey, &Member)> {
        self.waiting.iter().filter_map(|key| self.all.get_key_value(key))
    }
}
