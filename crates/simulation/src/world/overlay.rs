//! What operators have laid over the servers, as it must show in every router: a cordon, a weight, and a stay of what
//! is removed.

use std::collections::BTreeSet;

use drain::OverlayEntry;
use fleet::Serial;
use model::{DrainStrategy, EndpointKey, Time, Weight};

use crate::content::{STEP, drain_strategy, drain_timeout};
use crate::fault::Fault;
use crate::world::World;
use crate::world::router::{Endpoint, Process, Router};

impl World {
    /// Checks every endpoint of a router against the overlay that the router has heard last.
    pub(crate) fn check_overlay(&mut self, router: usize) {
        let now = self.now;
        let Router { process, disk_overlay, .. } = &mut self.routers[router];
        let Some(process) = process else { return };
        let waited = std::mem::replace(&mut process.waits, process.fleet.waits_for_disk());
        if !process.waits {
            process.waited_in_vain |= waited && process.heard != *disk_overlay;
            process.overlay.clone_from(&process.heard);
        }
        let Some(layout) = process.fleet.roster().layout().cloned() else { return };
        let (served, staying) = process.served();
        let mut stayed = Vec::new();
        let mut wrong = Vec::new();
        for (serial, endpoint) in &mut process.endpoints {
            let weight = weight_of(&process.overlay, &endpoint.key);
            if layout.has(&endpoint.key) {
                endpoint.removed = None;
                if served.contains(serial) {
                    wrong.extend(endpoint.is_not(weight.unwrap_or(Weight::FULL)));
                }
                continue;
            }
            let succeeded = layout.keys().any(|key| key.backend == endpoint.key.backend);
            let may_stay = succeeded && endpoint.keeps(&process.overlay);
            stayed.extend(endpoint.stays(now, may_stay));
            let Some((begun, stays)) = endpoint.removed else { continue };
            match (stays, staying.contains(serial)) {
                (true, true) => {
                    wrong.extend(endpoint.is_not(weight.unwrap_or(Weight::FULL).and(endpoint.left(begun, now))))
                }
                (true, false) => wrong.push(format!("{} has left the table with {weight:?}", endpoint.key)),
                (false, true) if endpoint.stays_until(begun) > now => {
                    wrong.push(format!("{} stays in the table with {weight:?}", endpoint.key));
                }
                (false, _) => {}
            }
        }
        for fault in stayed {
            self.faults.count(fault);
        }
        for why in wrong {
            self.fail(format!("r{router}: {why}"));
        }
    }

    /// A router that dies now would start with a larger share of an endpoint than it had, though that share only falls.
    pub(crate) fn larger_share_on_disk(&self, router: usize, dies: &Process) -> Option<String> {
        let falling = self.routers[router].disk_overlay.iter().filter(|entry| entry.rate > 0);
        let had = |entry: &OverlayEntry| dies.overlay.iter().find(|one| one.drain == entry.drain);
        let mut larger = falling.filter(|entry| had(entry).is_some_and(|had| had.weight < entry.weight));
        let larger = larger.next().filter(|_| !dies.waited_in_vain)?;
        Some(format!("{} has {} again by the copy on disk", larger.backend, larger.weight))
    }

    /// Whether every router has heard the overlay that is on record.
    pub(crate) fn overlay_is_told(&self) -> Result<(), String> {
        let wanted = self.coordinator.overlay();
        for (index, router) in self.routers.iter().enumerate() {
            let Some(process) = &router.process else { continue };
            for endpoint in process.endpoints.values() {
                let (wanted, heard) = (weight_of(&wanted, &endpoint.key), weight_of(&process.overlay, &endpoint.key));
                if wanted != heard {
                    return Err(format!("{} has {heard:?} in r{index}, not {wanted:?}", endpoint.key));
                }
            }
        }
        Ok(())
    }
}

impl Endpoint {
    /// What is wrong with it, if that is not its weight.
    fn is_not(&self, weight: Weight) -> Option<String> {
        let right = if weight.is_none() { self.cordoned } else { !self.cordoned && self.weight == weight };
        (!right).then(|| format!("{} has {}, cordoned: {}, not {weight}", self.key, self.weight, self.cordoned))
    }

    /// Notes that it is removed. What has ceased to stay never does again. Returns what the beginning of a stay counts as.
    fn stays(&mut self, now: Time, may_stay: bool) -> Option<Fault> {
        self.born?;
        let (begun, stayed) = self.removed.unwrap_or((now, true));
        let begins = self.removed.is_none() && may_stay;
        self.removed = Some((begun, stayed && may_stay && self.stays_until(begun) > now));
        let by_steps = drain_strategy(self.server.id) == DrainStrategy::Progressive;
        begins.then_some(if by_steps { Fault::RemovedStepByStep } else { Fault::RemovedWithWeight })
    }

    fn stays_until(&self, begun: Time) -> Time {
        begun
            + match drain_strategy(self.server.id) {
                DrainStrategy::Immediate => std::time::Duration::ZERO,
                DrainStrategy::Graceful => drain_timeout(self.server.id),
                DrainStrategy::Progressive => STEP.1 * 100_u32.div_ceil(STEP.0),
            }
    }

    /// What its strategy leaves of its share.
    fn left(&self, begun: Time, now: Time) -> Weight {
        let steps = now.since(begun).as_nanos() / STEP.1.as_nanos();
        let lost = match drain_strategy(self.server.id) {
            DrainStrategy::Progressive => steps * u128::from(STEP.0) * 10,
            DrainStrategy::Immediate | DrainStrategy::Graceful => 0,
        };
        u16::try_from(1000_u128.saturating_sub(lost)).ok().and_then(Weight::of).unwrap_or(Weight::NONE)
    }

    /// Whether it keeps a share when it is replaced: by its strategy, or since a weight lies on that very endpoint.
    fn keeps(&self, overlay: &[OverlayEntry]) -> bool {
        let own = |entry: &OverlayEntry| !entry.drain.is_removal() && entry.backend == self.key.backend;
        let own = || overlay.iter().any(|entry| own(entry) && entry.endpoint == Some(self.key.digest));
        let keeps = match drain_strategy(self.server.id) {
            DrainStrategy::Immediate => false,
            DrainStrategy::Graceful => own(),
            DrainStrategy::Progressive => true,
        };
        keeps && weight_of(overlay, &self.key).is_none_or(|weight| !weight.is_none())
    }
}

impl Process {
    /// The endpoints in the table: those that the snapshot has, and those that it lacks.
    fn served(&self) -> (BTreeSet<Serial>, BTreeSet<Serial>) {
        let variants = || self.turn.iter().flat_map(|(_, turn)| turn.table.backends()).flat_map(|one| &one.variants);
        let staying = variants().flat_map(|variant| &variant.staying).map(|(_, serial)| *serial);
        (variants().flat_map(|variant| &variant.endpoints).copied().collect(), staying.collect())
    }
}

/// The weight that lies on an endpoint, worked out anew.
fn weight_of(overlay: &[OverlayEntry], key: &EndpointKey) -> Option<Weight> {
    let lying = overlay.iter().filter(|entry| !entry.drain.is_removal() && entry.backend == key.backend);
    let lying = lying.filter(|entry| entry.endpoint.is_none_or(|digest| digest == key.digest));
    lying.map(|entry| entry.weight).reduce(Weight::and)
}
