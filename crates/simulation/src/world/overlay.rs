//! What operators have laid over the servers, as it must show in every router: a cordon, a weight, and a stay of what
//! is removed.

use std::collections::BTreeSet;

use drain::OverlayEntry;
use fleet::Serial;
use model::{EndpointKey, Time, Weight};

use crate::content::drain_timeout;
use crate::fault::Fault;
use crate::world::World;
use crate::world::router::{Endpoint, Process};

impl World {
    /// Checks every endpoint of a router against the overlay that the router has heard last.
    pub(crate) fn check_overlay(&mut self, router: usize) {
        let now = self.now;
        let Some(process) = &mut self.routers[router].process else { return };
        let Some(layout) = process.fleet.roster().layout().cloned() else { return };
        let (served, staying) = process.served();
        let mut stayed = 0;
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
            let may_stay = succeeded && keeps(&process.overlay, &endpoint.key);
            stayed += endpoint.stays(now, may_stay);
            match (endpoint.removed, staying.contains(serial)) {
                (Some((_, true)), true) => wrong.extend(endpoint.is_not(weight.unwrap_or(Weight::NONE))),
                (Some((_, true)), false) => wrong.push(format!("{} has left the table with {weight:?}", endpoint.key)),
                (Some((deadline, false)), true) if deadline > now => {
                    wrong.push(format!("{} stays in the table with {weight:?}", endpoint.key));
                }
                (_, _) => {}
            }
        }
        for _ in 0..stayed {
            self.faults.count(Fault::RemovedWithWeight);
        }
        for why in wrong {
            self.fail(format!("r{router}: {why}"));
        }
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

    /// Notes that it is removed. What has ceased to stay never does again. Returns 1 for the beginning of a stay.
    fn stays(&mut self, now: Time, may_stay: bool) -> usize {
        if self.born.is_none() {
            return 0;
        }
        match &mut self.removed {
            Some((deadline, stays)) => {
                *stays &= may_stay && *deadline > now;
                0
            }
            removed @ None => {
                *removed = Some((now + drain_timeout(self.server.id), may_stay));
                usize::from(may_stay)
            }
        }
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

/// Whether something lies on that very endpoint, and all that lies on it leaves it some of its share.
fn keeps(overlay: &[OverlayEntry], key: &EndpointKey) -> bool {
    let own = |entry: &OverlayEntry| !entry.drain.is_removal() && entry.backend == key.backend;
    let own = overlay.iter().any(|entry| own(entry) && entry.endpoint == Some(key.digest));
    own && weight_of(overlay, key).is_some_and(|weight| !weight.is_none())
}

/// The weight that lies on an endpoint, worked out anew.
fn weight_of(overlay: &[OverlayEntry], key: &EndpointKey) -> Option<Weight> {
    let lying = overlay.iter().filter(|entry| !entry.drain.is_removal() && entry.backend == key.backend);
    let lying = lying.filter(|entry| entry.endpoint.is_none_or(|digest| digest == key.digest));
    lying.map(|entry| entry.weight).reduce(Weight::and)
}
