//! drain-coordinator's shell: durable where the core says so, and mortal.

use std::collections::BTreeMap;

use drain::ledger::{Effect, Event, Image, Limits, State, Wanted};
use drain::{Count, DrainId, Ledger, OverlayEntry};
use model::{DrainOverlay, DrainStrategy, Time, Weight};

use crate::content::{SERVERS, backend_id};
use crate::fault::Fault;
use crate::world::wire::{Message, Way, WireId};
use crate::world::{Happening, Life, World};

#[derive(Debug, Default)]
pub(crate) struct Coordinator {
    process: Option<(Life, Ledger)>,
    image: Image,
    /// The stream that speaks for each router.
    streams: BTreeMap<usize, WireId>,
}

impl Coordinator {
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.process.as_ref().and_then(|(_, ledger)| ledger.next_deadline())
    }

    /// The overlay that is on record.
    pub(crate) fn overlay(&self) -> Vec<OverlayEntry> {
        let holds = self.image.drains.iter().filter(|drain| !drain.id.is_removal() && drain.cancelled.is_none());
        let entry = |drain: &drain::ledger::Entry| OverlayEntry {
            drain: drain.id.clone(),
            backend: drain.backend.clone(),
            endpoint: drain.endpoint,
            weight: drain.weight,
            remaining: std::time::Duration::ZERO,
            disabled: drain.disabled,
            rate: 0,
        };
        holds.map(entry).collect()
    }

    pub(crate) fn life(&self) -> Option<Life> {
        self.process.as_ref().map(|(life, _)| *life)
    }
}

impl World {
    pub(crate) fn start_coordinator(&mut self) {
        if self.coordinator.process.is_none() {
            let life = self.life();
            let ledger = Ledger::new(self.now, self.wall(), self.coordinator.image.clone(), Limits::default());
            self.coordinator.process = Some((life, ledger));
        }
    }

    pub(crate) fn kill_coordinator(&mut self) {
        if let Some((life, _)) = self.coordinator.process.take() {
            self.note(|| "drain-coordinator dies".into());
            self.coordinator.streams.clear();
            self.checker.coordinator_died();
            self.faults.count(Fault::CoordinatorCrashed);
            self.break_wires_of(life);
            if self.random.permille(300) {
                let ahead = self.random.millis(0, 7_200_000);
                self.note(|| format!("the clock is set ahead by {ahead:?}"));
                self.faults.count(Fault::ClockSet);
                self.clock_ahead += ahead;
            }
            self.after_millis(100, 5000, Happening::StartCoordinator);
        }
    }

    pub(crate) fn ledger_decides(&mut self, event: Event) {
        if let Some((_, ledger)) = &mut self.coordinator.process {
            ledger.handle(self.now, event);
        }
        self.coordinator_carries_out();
    }

    fn coordinator_carries_out(&mut self) {
        while let Some((_, ledger)) = &mut self.coordinator.process {
            let Some(effect) = ledger.poll_effect() else { return };
            match effect {
                Effect::Persist => {
                    if self.chaos && self.random.permille(5) {
                        self.kill_coordinator();
                    } else {
                        self.coordinator.image = ledger.image();
                        let why = self.checker.recorded(&self.coordinator.image);
                        self.broken(why);
                    }
                }
                Effect::Tell { connection, directive } => {
                    self.send(WireId(connection), Way::Down, Message::Drain(directive));
                }
                Effect::Disconnect { connection, reason } => {
                    if reason.contains("add up") {
                        self.fail(format!("a router was cut off: {reason}"));
                    }
                    self.break_wire(WireId(connection));
                }
                Effect::Changed { drain: summary, .. } => {
                    if summary.state == State::Draining && !summary.weight.is_none() {
                        self.faults.count(Fault::DrainedStepByStep);
                    }
                    let over = summary.state == State::Done;
                    if let Some(why) = over.then(|| self.checker.drain_over(&summary.id)).flatten() {
                        self.fail(why);
                    }
                }
            }
        }
    }

    pub(crate) fn coordinator_hears(&mut self, life: Life, router: usize, wire: WireId, count: Count) {
        if self.coordinator.life() != Some(life) {
            return;
        }
        let speaks = self.wires.get(&wire).map(|wire| wire.router_life);
        let alive = self.routers[router].process.as_ref().map(|process| process.life);
        match &count {
            Count::Hello { .. } => {
                self.coordinator.streams.insert(router, wire);
                // A dead process is heard last, so the living one is taken for dead, until it has dialled again.
                if let Some(alive) = alive.filter(|alive| speaks != Some(*alive)) {
                    self.checker.taken_for_dead(alive);
                }
            }
            // What arrives late on an older stream is not heard.
            Count::Departure(departure) if self.coordinator.streams.get(&router) == Some(&wire) => {
                if let Some(alive) = alive.filter(|alive| speaks == Some(*alive)) {
                    self.checker.counted(alive, departure);
                }
            }
            Count::Departure(_) | Count::Live { .. } | Count::Change { .. } => {}
        }
        self.ledger_decides(Event::Said { connection: wire.0, count });
    }

    pub(crate) fn coordinator_loses(&mut self, life: Life, wire: WireId) {
        if self.coordinator.life() == Some(life) {
            self.ledger_decides(Event::Detached { connection: wire.0 });
        }
    }

    /// An operator drains a server or an endpoint, gives it a weight, or cancels that.
    pub(crate) fn operate_drains(&mut self) {
        let backend = backend_id(u8::try_from(self.random.below(u64::from(SERVERS))).unwrap_or(0));
        let actor = "somebody".to_owned();
        let timeout = self.random.permille(300).then(|| self.random.millis(0, 4000));
        let (progressive, others) = (Some(DrainStrategy::Progressive), DrainStrategy::ALL.map(Some));
        let strategies = [None, progressive, others[0], others[1]];
        let strategy = self.random.pick(&strategies).copied().flatten();
        let policy = DrainOverlay { timeout, strategy, ..DrainOverlay::default() };
        let start = self.random.permille(600);
        let weights = [0, 0, 1, 250, 500, 1000].map(Weight::of);
        let weight = self.random.pick(&weights).copied().flatten().unwrap_or(Weight::NONE);
        let routers = self.routers.iter().filter_map(|router| router.process.as_ref());
        let endpoints = routers.flat_map(|process| process.endpoints.values()).map(|endpoint| &endpoint.key);
        let endpoints: Vec<_> = endpoints.filter(|key| key.backend == backend).map(|key| key.digest).collect();
        let endpoint = self.random.pick(&endpoints).filter(|_| timeout.is_none()).map(ToString::to_string);
        self.note(|| if start { format!("{weight} for {backend} {endpoint:?}") } else { format!("undrain {backend}") });
        // An operator that asks for something impossible is told so, and nothing happens.
        if let Some((_, ledger)) = &mut self.coordinator.process {
            if start {
                drop(ledger.start(self.now, Wanted { backend, endpoint, weight, disable: false, policy, actor }));
            } else {
                drop(ledger.cancel(self.now, backend.as_str(), &actor));
            }
        }
        self.coordinator_carries_out();
    }

    /// Whether every drain is over, except drains that hold a cordon until an operator lifts it, and removals from a
    /// router that refuses what is live, and has the endpoint still.
    pub(crate) fn drains_over(&self) -> Result<(), String> {
        let Some((_, ledger)) = &self.coordinator.process else { return Err("no drain-coordinator".into()) };
        let open = ledger
            .list(self.now, true)
            .into_iter()
            .find(|drain| matches!(drain.state, State::Draining | State::Evicting) && !self.is_kept(&drain.id));
        open.map_or(Ok(()), |drain| Err(format!("{} is not over: {:?}", drain.id, drain.totals)))
    }

    fn is_kept(&self, id: &DrainId) -> bool {
        let DrainId::Removal { endpoint, revision } = id else { return false };
        self.routers.iter().filter_map(|router| router.process.as_ref()).any(|process| {
            let is_behind = process.turn.as_ref().is_some_and(|(_, turn)| turn.revision < *revision);
            let layout = process.fleet.roster().layout();
            is_behind && layout.is_some_and(|layout| layout.keys().any(|key| key == endpoint))
        })
    }
}
