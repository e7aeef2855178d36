//! Both ends of drains together, in random order: routers with real admission words and exchanges, streams that lag
//! and break, routers that are killed and go on from their copies, a coordinator that is killed and goes on from what
//! it had made durable, or that has lost it.

#![cfg(not(loom))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "fleet/router.rs"]
mod router;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use drain::departures::{Departures, Effect as RouterEffect, Event as RouterEvent, Seen};
use drain::ledger::{Effect, Event, Image, Ledger, Limits, Started, State, Wanted};
use drain::{Admission, Count, Directive, DrainId};
use model::{
    BackendId, Digest, DrainOverlay, DrainPolicy, DrainStrategy, EndpointKey, NodeId, Revision, Time, VariantId,
    WallTime, Weight,
};
use proptest::prelude::*;
use router::Router;

const TIMEOUT: Duration = Duration::from_secs(5);
const LOST_AFTER: Duration = Duration::from_secs(60);
const ROUTERS: usize = 3;
const ENDPOINTS: usize = 4;

/// What an operator drains: a server, or one endpoint of it.
type Target = (BackendId, Option<Digest>);

/// How each endpoint leaves when a revision removes it.
const STRATEGIES: [DrainStrategy; ENDPOINTS] =
    [DrainStrategy::Graceful, DrainStrategy::Progressive, DrainStrategy::Graceful, DrainStrategy::Immediate];

fn policy(endpoint: &EndpointKey) -> DrainPolicy {
    let index = (0..ENDPOINTS).find(|index| key(*index) == *endpoint).unwrap();
    DrainPolicy { timeout: TIMEOUT, strategy: STRATEGIES[index], ..DrainPolicy::default() }
}

/// Two endpoints each of two servers.
fn key(index: usize) -> EndpointKey {
    let index = index % ENDPOINTS;
    let backend = BackendId::new(if index < 2 { "a" } else { "b" }).unwrap();
    EndpointKey { backend, variant: VariantId::only(), digest: Digest::of_bytes(&[u8::try_from(index).unwrap()]) }
}

struct World {
    now: Time,
    routers: Vec<Router>,
    ledger: Ledger,
    disk: Image,
    /// The latest revision, which routers reach one by one.
    target: (u64, BTreeSet<EndpointKey>),
    next_connection: u64,
    /// No stream ever broke and nothing was killed.
    calm: bool,
    history: usize,
    /// What operators want to leave, as far as the coordinator's record tells, with its drain.
    wanted: BTreeMap<Target, (DrainId, Option<DrainStrategy>)>,
    /// The ids of all operators' drains so far.
    ids: BTreeSet<DrainId>,
    /// When operators first allowed evictions of a server.
    allowed: BTreeMap<BackendId, Time>,
    /// How far the wall clock was set ahead, in milliseconds.
    ahead: u64,
}

impl World {
    fn new(history: usize) -> Self {
        let target = (1, (0..ENDPOINTS).map(key).collect());
        let limits = Limits { lost_after: LOST_AFTER, history };
        let router = |index: usize| Router {
            node: NodeId::new(&format!("r{index}")).unwrap(),
            boot: 0,
            core: Departures::new(),
            fleet: BTreeMap::new(),
            live: BTreeSet::new(),
            revision: 0,
            connection: None,
            up: VecDeque::new(),
            down: VecDeque::new(),
            leaves: BTreeMap::new(),
            evictions: Vec::new(),
        };
        let mut world = Self {
            now: Time::ZERO,
            routers: (0..ROUTERS).map(router).collect(),
            ledger: Ledger::new(Time::ZERO, WallTime(0), Image::default(), limits),
            disk: Image::default(),
            target,
            next_connection: 1,
            calm: true,
            history,
            wanted: BTreeMap::new(),
            ids: BTreeSet::new(),
            allowed: BTreeMap::new(),
            ahead: 0,
        };
        for index in 0..ROUTERS {
            world.apply(index);
            world.attach(index);
        }
        world.deliver_all();
        world
    }

    fn tell(&mut self, event: Event) {
        self.ledger.handle(self.now, event);
        self.carry_out();
    }

    /// `least`: the time that the calls have in any case.
    fn start(&mut self, target: Target, policy: DrainOverlay, least: Duration) {
        let (backend, digest) = target.clone();
        let endpoint = digest.map(|digest| digest.short());
        let (weight, actor) = (Weight::NONE, "x".into());
        let wanted = Wanted { backend: backend.clone(), endpoint, weight, disable: false, policy, actor };
        let held = self.wanted.get(&target).cloned();
        let started = self.ledger.start(self.now, wanted);
        assert!(held.is_none() || started.is_ok(), "what holds can be joined");
        if let Ok(Started { drain, joined }) = started {
            let deadline = self.now + least;
            let allowed = self.allowed.entry(backend).or_insert(deadline);
            *allowed = deadline.min(*allowed);
            if !drain.id.is_removal() {
                if let Some((id, strategy)) = held {
                    assert!(joined && drain.id == id, "it is the same drain");
                    assert!(drain.strategy >= strategy, "it is only made stronger");
                }
                assert!(self.ids.insert(drain.id.clone()) != joined, "each has an id of its own");
                self.wanted.insert(target, (drain.id, drain.strategy));
            }
        }
        self.carry_out();
    }

    fn cancel(&mut self, backend: &BackendId) {
        if self.ledger.cancel(self.now, backend.as_str(), "x").is_ok() {
            self.wanted.retain(|(held, _), _| held != backend);
        }
        self.carry_out();
    }

    fn carry_out(&mut self) {
        while let Some(effect) = self.ledger.poll_effect() {
            match effect {
                Effect::Persist => {
                    let before = std::mem::replace(&mut self.disk, self.ledger.image());
                    for entry in self.disk.drains.iter().filter(|entry| entry.falling.is_some()) {
                        let before = before.drains.iter().find(|before| before.id == entry.id);
                        let begins = entry.falling.as_ref().is_some_and(|falling| falling.from == entry.weight);
                        let falls = before.is_none_or(|before| entry.weight <= before.weight);
                        assert!(falls || begins, "a share only falls, or is as in the beginning");
                    }
                }
                Effect::Tell { connection, directive } => {
                    let router = self.routers.iter_mut().find(|router| router.connection == Some(connection));
                    if let Some(router) = router {
                        router.down.push_back(directive);
                    }
                }
                Effect::Disconnect { reason, .. } => panic!("a stream was ended: {reason}"),
                Effect::Changed { drain: summary, .. } => assert_eq!(
                    summary.totals.finished + summary.totals.evicted + summary.totals.lost + summary.totals.in_flight,
                    summary.totals.total
                ),
            }
        }
    }

    fn apply(&mut self, index: usize) {
        let (revision, live) = self.target.clone();
        let router = &mut self.routers[index];
        if router.revision < revision {
            router.swap(self.now, revision, &live);
        }
    }

    fn attach(&mut self, index: usize) {
        let router = &mut self.routers[index];
        if router.connection.is_none() {
            router.connection = Some(self.next_connection);
            self.next_connection += 1;
            router.up.push_back(Count::Hello { node: router.node.clone(), boot: router.boot.to_string() });
            router.say(self.now, RouterEvent::Attached);
            // One is beside a coordinator of an older release.
            if index > 0 {
                router.say(self.now, RouterEvent::TakesChanges);
            }
        }
    }

    fn cut(&mut self, index: usize) {
        self.calm = false;
        let router = &mut self.routers[index];
        router.up.clear();
        router.down.clear();
        router.say(self.now, RouterEvent::Detached);
        if let Some(connection) = router.connection.take() {
            self.tell(Event::Detached { connection });
        }
    }

    fn kill(&mut self, index: usize) {
        self.cut(index);
        let router = &mut self.routers[index];
        router.boot += 1;
        let entries = router.core.overlay(self.now);
        router.core = Departures::new();
        router.fleet.clear();
        router.live.clear();
        router.revision = 0;
        router.say(self.now, RouterEvent::Said(Directive::Overlay { entries }));
        self.apply(index);
    }

    /// `kill -9` of the coordinator: it goes on from its durable image.
    fn restart(&mut self) {
        for index in 0..ROUTERS {
            self.cut(index);
        }
        let limits = Limits { lost_after: LOST_AFTER, history: self.history };
        let wall = WallTime(self.now.as_nanos() / 1_000_000 + self.ahead);
        self.ledger = Ledger::new(self.now, wall, self.disk.clone(), limits);
    }

    /// A restart without the file: the operators' drains are forgotten, whatever routers still hold.
    fn lose(&mut self) {
        self.pass(Duration::from_millis(1));
        self.disk = Image::default();
        self.wanted.clear();
        self.restart();
    }

    fn deliver(&mut self, index: usize) {
        let router = &mut self.routers[index];
        if let Some(directive) = router.down.pop_front() {
            router.say(self.now, RouterEvent::Said(directive));
        }
        let router = &mut self.routers[index];
        if let (Some(connection), Some(count)) = (router.connection, router.up.pop_front()) {
            self.tell(Event::Said { connection, count });
        }
    }

    fn deliver_all(&mut self) {
        while self.routers.iter().any(|router| !router.up.is_empty() || !router.down.is_empty()) {
            for index in 0..ROUTERS {
                self.deliver(index);
            }
        }
    }

    fn pass(&mut self, by: Duration) {
        self.now = self.now + by;
        for index in 0..ROUTERS {
            let router = &mut self.routers[index];
            if router.core.next_deadline().is_some_and(|at| at <= self.now) {
                router.say(self.now, RouterEvent::Tick);
            }
        }
        if self.ledger.next_deadline().is_some_and(|at| at <= self.now) {
            self.tell(Event::Tick);
        }
    }

    fn act(&mut self, op: &Op) {
        match op {
            Op::Enter(router, endpoint) => self.routers[*router].enter(&key(*endpoint)),
            Op::Leave(router, endpoint) => self.routers[*router].leave(self.now, &key(*endpoint)),
            Op::Change(mask) => {
                let live = (0..ENDPOINTS).filter(|index| mask & (1 << index) != 0).map(key).collect();
                self.target = (self.target.0 + 1, live);
            }
            Op::Apply(router) => self.apply(*router),
            Op::Deliver(router) => self.deliver(*router),
            Op::Pass(millis) => self.pass(Duration::from_millis(*millis)),
            Op::Start(backend, seconds) => {
                let backend = BackendId::new(if *backend { "a" } else { "b" }).unwrap();
                let timeout = Duration::from_secs(*seconds);
                let policy = DrainOverlay { timeout: Some(timeout), ..DrainOverlay::default() };
                self.start((backend, None), policy, timeout);
            }
            Op::Drain(endpoint, strategy) => {
                let EndpointKey { backend, digest, .. } = key(*endpoint);
                let policy = DrainOverlay {
                    strategy: Some(*strategy),
                    weight_reduction: Some(40),
                    interval: Some(Duration::from_millis(700)),
                    ..DrainOverlay::default()
                };
                let least = if *strategy == DrainStrategy::Immediate { Duration::ZERO } else { TIMEOUT };
                self.start((backend, Some(digest)), policy, least);
            }
            Op::Strain(router, endpoint, strained) => {
                let (endpoint, strained) = (key(*endpoint), *strained);
                self.routers[*router].say(self.now, RouterEvent::Strained { endpoint, strained });
            }
            Op::Cancel(backend) => {
                self.cancel(&BackendId::new(if *backend { "a" } else { "b" }).unwrap());
            }
            Op::Break(router) => self.cut(*router),
            Op::Attach(router) => self.attach(*router),
            Op::Kill(router) => self.kill(*router),
            Op::Restart(ahead) => {
                self.ahead += ahead;
                self.restart();
            }
            Op::Lose => self.lose(),
        }
    }

    /// No exchange is evicted before the time that its operator or its configuration gave it, whatever the clock says.
    fn check_evictions(&mut self) {
        for router in &mut self.routers {
            for (at, endpoint) in router.evictions.drain(..) {
                let allowed = [self.allowed.get(&endpoint.backend), router.leaves.get(&endpoint)];
                assert!(allowed.into_iter().flatten().any(|allowed| *allowed <= at), "{endpoint} evicted early");
            }
        }
    }

    /// While nothing breaks, "done" is true at every moment, not only in the end.
    fn check(&mut self) {
        self.check_evictions();
        for summary in self.ledger.list(self.now, true) {
            let DrainId::Removal { endpoint, revision } = &summary.id else { continue };
            // Routers that have not begun are waited for as long as exchanges have.
            let at_once = policy(endpoint).strategy == DrainStrategy::Immediate;
            let waited = if at_once { Duration::ZERO } else { TIMEOUT };
            let before_deadline = self.now < Time::ZERO + Duration::from_millis(summary.started.0) + waited;
            if self.calm && summary.state == State::Done && before_deadline {
                for router in &self.routers {
                    assert!(
                        router.revision >= revision.0 || !router.live.contains(endpoint),
                        "done, and {} still admits",
                        router.node
                    );
                    let own = router.core.departures(self.now).into_iter().find(|it| it.drain == summary.id);
                    assert_eq!(own.map_or(0, |it| it.in_flight), 0, "done, and {} still has some", router.node);
                }
            }
        }
    }

    /// All processes come back, every exchange ends or is evicted, every message arrives.
    fn settle(&mut self) {
        for index in 0..ROUTERS {
            self.attach(index);
            self.apply(index);
        }
        for _ in 0..40 {
            self.deliver_all();
            for index in 0..ROUTERS {
                for endpoint in (0..ENDPOINTS).map(key) {
                    if self.routers[index].fleet.get(&endpoint).is_some_and(|it| it.dying > 0) {
                        self.routers[index].leave(self.now, &endpoint);
                    }
                }
            }
            self.pass(Duration::from_secs(2));
        }
        self.deliver_all();
    }
}

#[derive(Debug, Clone)]
enum Op {
    Enter(usize, usize),
    Leave(usize, usize),
    Change(u8),
    Apply(usize),
    Deliver(usize),
    Pass(u64),
    Start(bool, u64),
    Drain(usize, DrainStrategy),
    /// Whether too few of the endpoints are well that take over from that one.
    Strain(usize, usize, bool),
    Cancel(bool),
    Break(usize),
    Attach(usize),
    Kill(usize),
    /// With the clock set ahead by so many milliseconds.
    Restart(u64),
    Lose,
}

fn calm() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..ROUTERS, 0..ENDPOINTS).prop_map(|(r, e)| Op::Enter(r, e)),
        4 => (0..ROUTERS, 0..ENDPOINTS).prop_map(|(r, e)| Op::Leave(r, e)),
        2 => (0..16_u8).prop_map(Op::Change),
        4 => (0..ROUTERS).prop_map(Op::Apply),
        12 => (0..ROUTERS).prop_map(Op::Deliver),
        4 => (0..1500_u64).prop_map(Op::Pass),
        1 => (any::<bool>(), 0..8_u64).prop_map(|(b, s)| Op::Start(b, s)),
        2 => (0..ENDPOINTS, prop::sample::select(DrainStrategy::ALL.to_vec())).prop_map(|(e, s)| Op::Drain(e, s)),
        1 => (0..ROUTERS, 0..ENDPOINTS, any::<bool>()).prop_map(|(r, e, s)| Op::Strain(r, e, s)),
        1 => any::<bool>().prop_map(Op::Cancel),
    ]
}

fn stormy() -> impl Strategy<Value = Op> {
    prop_oneof![
        20 => calm(),
        1 => (0..ROUTERS).prop_map(Op::Break),
        4 => (0..ROUTERS).prop_map(Op::Attach),
        1 => (0..ROUTERS).prop_map(Op::Kill),
        1 => prop::sample::select(vec![0, 3_000, 3_600_000]).prop_map(Op::Restart),
        1 => Just(Op::Lose),
    ]
}

fn run(ops: &[Op], history: usize) {
    let mut world = World::new(history);
    for op in ops {
        world.act(op);
        world.check();
    }
    world.settle();
    for summary in world.ledger.list(world.now, true) {
        assert!(summary.state >= State::Done, "{summary:?}");
        assert_eq!(summary.totals.in_flight, 0, "{summary:?}");
        assert!(!world.calm || summary.totals.lost == 0, "{summary:?}");
    }
    for router in &world.routers {
        let known: BTreeSet<_> = router.fleet.keys().cloned().collect();
        assert_eq!(known, router.live, "what left is closed, and nothing else");
        for (endpoint, it) in &router.fleet {
            let cordoned = it.word.state() == drain::State::Cordoned;
            let wanted =
                |endpoint: &EndpointKey| [None, Some(endpoint.digest)].map(|digest| (endpoint.backend.clone(), digest));
            let wanted = wanted(endpoint).iter().any(|target| world.wanted.contains_key(target));
            assert_eq!(cordoned, wanted, "{endpoint} on {}", router.node);
            assert!(!it.left, "sessions still leave {endpoint} on {}", router.node);
            assert!(cordoned || it.weight == Weight::FULL, "{endpoint} on {} has {}", router.node, it.weight);
        }
    }
    let held = world.ledger.list(world.now, false).into_iter().map(|drain| (drain.backend, drain.endpoint));
    let wanted: BTreeSet<_> = world.wanted.keys().cloned().collect();
    assert_eq!(held.collect::<BTreeSet<_>>(), wanted, "what holds is what was asked for, and is shown");
}

/// `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    let usual = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { usual.cases } else { 150 };
    ProptestConfig { cases, failure_persistence: None, ..usual }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn sums_hold_and_done_is_never_said_early(ops in prop::collection::vec(calm(), 0..200)) {
        run(&ops, 1000);
    }

    #[test]
    fn sums_and_cordons_hold_through_breaks_kills_and_losses(
        ops in prop::collection::vec(stormy(), 0..200),
        history in prop::sample::select(vec![0, 1, 1000]),
    ) {
        run(&ops, history);
    }
}

#[test]
fn a_clock_set_ahead_at_a_restart_evicts_nobody_early() {
    for heard in [true, false] {
        let mut world = World::new(1000);
        for router in 0..ROUTERS {
            world.act(&Op::Enter(router, 0));
        }
        world.act(&Op::Start(true, 30));
        if heard {
            world.deliver_all();
        }
        world.act(&Op::Restart(3_600_000));
        for router in 0..ROUTERS {
            world.act(&Op::Attach(router));
        }
        world.deliver_all();
        let evicted = |world: &World| world.routers.iter().map(|router| router.evictions.len()).sum::<usize>();
        world.pass(Duration::from_secs(29));
        assert_eq!(evicted(&world), 0, "heard of before: {heard}");
        world.pass(Duration::from_secs(2));
        assert!(evicted(&world) >= ROUTERS, "the deadline of a router's own clock holds");
    }
}
