//! What a router keeps on disk, and the steps that wait for it: when the share of an endpoint falls, the copy says so before
//! calls go by it. So a router that is killed starts with no larger share than it had.

use std::collections::BTreeMap;
use std::time::Duration;

use drain::{Directive, OverlayEntry, departures};
use model::{EndpointKey, Time};
use rollout::follower::Saved;

use super::Fleet;
use crate::offered::Offered;

/// How long a step waits for a disk that does not take it.
const STEP_WAITS: Duration = Duration::from_secs(1);

/// What a router keeps on disk, for a start without config-manager.
#[derive(Debug, Clone)]
pub struct DiskCopy {
    pub saved: Saved,
    /// What each endpoint offered.
    pub known: BTreeMap<EndpointKey, Offered>,
    /// What operators have laid over the endpoints.
    pub overlay: Vec<OverlayEntry>,
}

/// An overlay by which a share falls, on its way to the disk.
#[derive(Debug)]
pub(super) struct Step {
    overlay: Vec<OverlayEntry>,
    until: Time,
}

impl Fleet {
    /// The coordinator spoke. A later overlay takes the place of one that waits.
    pub(super) fn coordinator_said(&mut self, directive: Directive) {
        let now = self.now;
        if let Directive::Overlay { entries } = directive {
            let before = self.step.take();
            self.unsaved |= self.saved.is_some();
            if self.saved.is_none() || !self.departures.falls_by(&entries) {
                return self.lay(entries);
            }
            let until = before.map_or(now + STEP_WAITS, |before| before.until);
            self.step = Some(Step { overlay: entries, until });
        } else {
            self.departures.handle(now, departures::Event::Said(directive));
        }
    }

    fn lay(&mut self, entries: Vec<OverlayEntry>) {
        let now = self.now;
        self.departures.handle(now, departures::Event::Said(Directive::Overlay { entries }));
        self.switch(now);
    }

    /// A copy with that overlay is on disk.
    pub(super) fn copied(&mut self, overlay: &[OverlayEntry]) {
        if let Some(step) = self.step.take_if(|step| step.overlay == overlay) {
            self.lay(step.overlay);
        }
    }

    /// The disk may not take it for long; the drain goes on all the same.
    pub(super) fn pass_step(&mut self) {
        let now = self.now;
        if let Some(step) = self.step.take_if(|step| step.until <= now) {
            self.lay(step.overlay);
        }
    }

    pub(super) fn step_due(&self) -> Option<Time> {
        self.step.as_ref().map(|step| step.until)
    }

    /// Whether an overlay was heard that holds once it is on disk.
    #[must_use]
    pub fn waits_for_disk(&self) -> bool {
        self.step.is_some()
    }

    /// The copy to write to disk, if it differs from the one taken last.
    pub fn take_copy(&mut self, now: Time) -> Option<DiskCopy> {
        let saved = self.saved.as_ref().filter(|saved| self.unsaved && saved.revision == self.roster.revision())?;
        let saved = saved.clone();
        self.unsaved = false;
        let overlay = self.step.as_ref().map_or_else(|| self.overlay(now), |step| step.overlay.clone());
        Some(DiskCopy { saved, known: self.roster.known().clone(), overlay })
    }
}
