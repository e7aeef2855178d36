//! When a file that is being written is read.

use model::Time;

use super::{Absence, BURST, Burst, Effect, MAX_SETTLE, QUIET, Settle, SourceCore, Stamp, Write};

impl SourceCore {
    pub(super) fn noticed(&mut self, now: Time, write: Write, stamp: Option<Stamp>) {
        if !self.policy.enabled {
            return;
        }
        match write {
            Write::Complete => self.written_whole(now, stamp),
            // An event proves a write even where size and time are the same as before.
            Write::Open => self.unsettled(now, stamp, Some(true)),
            Write::Closed => self.unsettled(now, stamp, Some(false)),
            Write::InPlace => self.unsettled(now, stamp, None),
            Write::Polled => self.looked(now, stamp),
        }
    }

    fn written_whole(&mut self, now: Time, stamp: Option<Stamp>) {
        self.settle = None;
        self.whole = Some(stamp);
        match &mut self.burst {
            Some(burst) => {
                burst.more = true;
                burst.quiet_at = now + QUIET;
            }
            None => {
                self.read();
                self.burst = Some(Burst { quiet_at: now + QUIET, end_at: now + BURST, more: false });
            }
        }
    }

    /// The writer may not have finished: it has to close the file, as far as `open` tells. Then size and time have to
    /// stay the same.
    fn unsettled(&mut self, now: Time, stamp: Option<Stamp>, open: Option<bool>) {
        let before = self.settle.as_ref();
        let first = before.map_or(now, |settle| settle.first);
        let open = open.unwrap_or_else(|| before.is_some_and(|settle| settle.open));
        self.settle = Some(Settle { stamp, held_since: now, first, open, ending: false });
    }

    fn looked(&mut self, now: Time, stamp: Option<Stamp>) {
        match &self.settle {
            None if self.reading || Some(stamp) == self.read_stamp => {}
            None => self.unsettled(now, stamp, None),
            Some(settle) if now < self.settled_at(settle) && stamp == settle.stamp => {}
            Some(settle) if stamp != settle.stamp && now < settle.first + MAX_SETTLE => {
                self.unsettled(now, stamp, None)
            }
            Some(_) => {
                if let Some(settle) = &mut self.settle {
                    settle.ending = true;
                }
                self.whole = Some(stamp);
                self.read();
            }
        }
    }

    pub(super) fn settled_at(&self, settle: &Settle) -> Time {
        let latest = settle.first + MAX_SETTLE;
        if settle.open { latest } else { latest.min(settle.held_since + self.policy.debounce) }
    }

    /// Whether what was read may be judged. It may not if the file changed under the read, or if it is not known to be
    /// whole (it looks different than when that was last known). It may not if a writer writes in place: the file then
    /// has its own time to settle. Content judged before, and a read that a caller asks for, need no such time.
    pub(super) fn is_whole(&mut self, now: Time, stamp: Option<Stamp>, torn: bool, sure: bool) -> bool {
        let before = self.read_stamp.replace(stamp);
        let ending = self.settle.take_if(|settle| settle.ending);
        if !self.policy.enabled || ending.as_ref().is_some_and(|ending| ending.first + MAX_SETTLE <= now) {
            return true;
        }
        let known = sure || before == Some(stamp) || self.whole == Some(stamp);
        if torn || !known {
            let first = ending.map_or(now, |ending| ending.first);
            let anew = Settle { stamp, held_since: now, first, open: false, ending: false };
            let settle = self.settle.get_or_insert(anew);
            (settle.stamp, settle.held_since, settle.ending) = (stamp, now, false);
        }
        self.settle.is_none() || (sure && !torn)
    }

    pub(super) fn expire(&mut self, now: Time) {
        if self.policy.enabled && self.poll_at <= now {
            self.poll_at = now + self.policy.poll_interval;
            if matches!(self.absence, Some((_, Absence::Unreadable(_)))) {
                // Permissions change without a change of size or time.
                self.read();
            } else {
                self.effects.push_back(Effect::Look);
            }
        }
        let settled = self.settle.as_ref().is_some_and(|settle| !settle.ending && self.settled_at(settle) <= now);
        if let Some(settle) = self.settle.as_mut().filter(|_| settled) {
            settle.ending = true;
            self.effects.push_back(Effect::Look);
        }
        let burst = self.burst.take_if(|burst| burst.quiet_at.min(burst.end_at) <= now);
        if burst.is_some_and(|burst| burst.more) {
            self.read();
            self.burst = Some(Burst { quiet_at: now + QUIET, end_at: now + BURST, more: false });
        }
        if let Some(retry) = self.retry.as_mut().filter(|retry| !retry.due && retry.at <= now) {
            retry.due = true;
            self.read();
        }
    }
}
