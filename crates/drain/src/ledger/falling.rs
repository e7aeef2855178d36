//! Drains by `progressive`: the weight of an endpoint falls step by step, and each step is on record before it is told.

use std::time::Duration;

use model::{BackendId, Digest, DrainPolicy, DrainStrategy, EndpointKey, ProgressivePolicy, Time, WallTime, Weight};
use serde::{Deserialize, Serialize};

use super::entry::Terms;
use super::{Entry, Ledger};
use crate::strategy::{fall, fallen, interval, steps, term};

/// How the weight of a drain falls. A process that takes up the record goes on from the weight that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Falling {
    pub pace: ProgressivePolicy,
    /// When the present weight was reached.
    pub since: WallTime,
    /// From where it falls.
    pub from: Weight,
    /// When it is nothing, whatever becomes of what takes over.
    pub until: WallTime,
    /// Too few of the endpoints that take over are well in some router: it is as from the beginning until they are.
    #[serde(skip)]
    pub strained: bool,
}

impl Falling {
    /// As a new process takes it up. Routers say anew whether enough takes over.
    pub(super) fn begun_anew(self, wall: WallTime, term: Duration) -> Self {
        let until = wall.after(self.lasts(self.from)).after(term);
        Self { since: wall, until, strained: false, ..self }
    }

    /// How long the weight takes to fall to nothing.
    pub(super) fn lasts(&self, weight: Weight) -> Duration {
        fall(&self.pace, weight)
    }
}

impl Entry {
    /// How a drain begins that an operator asks for. `falls`: by that policy, since another endpoint takes over.
    pub(super) fn begin(&mut self, wall: WallTime, policy: &DrainPolicy, falls: Option<&DrainPolicy>) {
        if !self.weight.is_none() {
            return;
        }
        // Where nothing takes over there is nothing to pace.
        self.strategy = Some(policy.strategy.max(DrainStrategy::Graceful));
        if let Some(policy) = falls {
            self.weight = Weight::FULL;
            self.fall(wall, policy);
        }
    }

    /// An operator asks for a drain that there is already, with a strategy if one is `asked` for. Returns whether anything
    /// changed: it only ever goes quicker.
    pub(super) fn join(
        &mut self,
        wall: WallTime,
        asked: Option<DrainStrategy>,
        policy: Option<&DrainPolicy>,
        falls: Option<&DrainPolicy>,
    ) -> bool {
        let Some(policy) = policy else { return false };
        if self.falling.is_some() && asked.is_none_or(|asked| asked == DrainStrategy::Progressive) {
            // It is what it was, whatever strategy the configuration has.
            return self.fall_shorter(policy.timeout);
        }
        let term = term(policy);
        if !self.weight.is_none() {
            match falls {
                Some(policy) if self.falling.is_none() => self.fall(wall, policy),
                Some(_) | None => {
                    self.cordon(wall, term);
                    self.strategy = Some(policy.strategy.max(DrainStrategy::Graceful));
                }
            }
            return true;
        }
        let hurries = wall.after(term) < self.deadline;
        if hurries {
            self.hurry(wall, term);
            self.strategy = self.strategy.map(|strategy| strategy.max(policy.strategy));
        }
        hurries
    }

    /// Lets the weight fall from now on.
    fn fall(&mut self, wall: WallTime, policy: &DrainPolicy) {
        let (pace, term) = (policy.progressive.clone(), term(policy));
        let until = wall.after(fall(&pace, self.weight)).after(term);
        self.falling = Some(Falling { pace, since: wall, from: self.weight, until, strained: false });
        (self.terms, self.strategy) = (Some(Terms { first: term, last: term }), Some(DrainStrategy::Progressive));
        self.expect_end();
    }

    /// The deadline is a term after the end of the fall.
    fn expect_end(&mut self) {
        let (Some(falling), Some(terms)) = (&self.falling, &self.terms) else { return };
        let fallen = falling.since.after(falling.lasts(self.weight)).min(falling.until);
        let fallen = if falling.strained { falling.until } else { fallen };
        self.deadline = fallen.after(terms.last);
        self.awaited = self.deadline;
    }

    /// What takes over is too unwell for the weight to fall, or well enough again: then it falls from the beginning.
    fn strain(&mut self, wall: WallTime, strained: bool) {
        let Some(falling) = &mut self.falling else { return };
        (falling.strained, falling.since, self.weight) = (strained, wall, falling.from);
        self.expect_end();
    }

    /// Gives the exchanges that run at the end of the fall less time than was decided. Returns whether it is less.
    fn fall_shorter(&mut self, term: Duration) -> bool {
        let Some(terms) = self.terms.as_mut().filter(|terms| term < terms.last) else { return false };
        *terms = Terms { first: term, last: term };
        self.expect_end();
        true
    }

    pub(super) fn next_step(&self) -> Option<WallTime> {
        let falling = self.falling.as_ref()?;
        let step = falling.since.after(interval(&falling.pace)).min(falling.until);
        Some(if falling.strained { falling.until } else { step })
    }

    /// Takes the steps that are due; the last one is the cordon.
    fn step(&mut self, wall: WallTime) {
        let Some(falling) = &mut self.falling else { return };
        let elapsed = wall.since(falling.since);
        let passed = interval(&falling.pace).saturating_mul(steps(&falling.pace, elapsed));
        self.weight = fallen(&falling.pace, self.weight, elapsed);
        falling.since = falling.since.after(passed);
        if self.weight.is_none() || wall >= falling.until {
            let term = self.terms.map_or(Duration::ZERO, |terms| terms.last);
            self.cordon(wall, term);
        }
    }
}

impl Ledger {
    /// Takes the steps that are due in all drains, where enough takes over.
    pub(super) fn step(&mut self, now: Time) {
        let wall = self.wall(now);
        let falling = self.drains.values().filter_map(|entry| {
            let (falling, strained) = (entry.falling.as_ref()?, self.strained(entry));
            let due = entry.next_step().is_some_and(|at| at <= wall);
            (due || strained != falling.strained).then(|| (entry.id.clone(), strained))
        });
        for (id, strained) in falling.collect::<Vec<_>>() {
            let before = self.summary(now, &self.drains[&id]);
            let Some(entry) = self.drains.get_mut(&id) else { continue };
            if entry.falling.as_ref().is_some_and(|falling| falling.strained != strained) {
                entry.strain(wall, strained);
            }
            if entry.next_step().is_some_and(|at| at <= wall) {
                entry.step(wall);
            }
            self.decided(now, &id, Some(before));
        }
    }

    /// Whether a router says that too few of the endpoints are well that take over.
    fn strained(&self, entry: &Entry) -> bool {
        let mut strained = self.routers.values().flat_map(|router| &router.strained);
        strained.any(|endpoint| entry.means(endpoint))
    }

    /// Whether a router that has the endpoint has another one of the server, which is not about to leave.
    pub(super) fn takes_over(&self, backend: &BackendId, from: Digest) -> bool {
        let leaves = |endpoint: &EndpointKey| {
            let mut drains = self.drains.values().filter(|entry| entry.holds() && entry.means(endpoint));
            drains.any(|entry| entry.weight.is_none() || entry.falling.is_some())
        };
        self.routers.values().any(|router| {
            let mut of_it = router.live().filter(|endpoint| endpoint.backend == *backend);
            let has = router.live().any(|endpoint| endpoint.backend == *backend && endpoint.digest == from);
            has && of_it.any(|endpoint| endpoint.digest != from && !leaves(endpoint))
        })
    }
}
