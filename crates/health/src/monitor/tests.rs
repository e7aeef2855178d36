//! A monitor and routers that answer as they are told to.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastrand::Rng;
use model::{BackendId, Digest, EndpointKey, HealthPolicy, NodeId, Time, VariantId, Verdict};

use super::{Effect, Event, Monitor};
use crate::{Observation, Outcome, Request};

fn key(name: &str) -> EndpointKey {
    let digest = Digest::of_bytes(name.as_bytes());
    EndpointKey { backend: BackendId::new(name).unwrap(), variant: VariantId::only(), digest }
}

fn policy() -> HealthPolicy {
    HealthPolicy { interval: Duration::from_secs(10), timeout: Duration::from_secs(5), ..HealthPolicy::default() }
}

struct World {
    now: Time,
    core: Monitor,
    /// What routers answer to probes; silence for what is not here.
    answers: BTreeMap<EndpointKey, Outcome>,
    probes: Vec<(Time, EndpointKey)>,
    /// When the probe after the last one is due.
    next: Option<Time>,
    told: Vec<(u64, Verdict)>,
    changed: Vec<Verdict>,
}

impl World {
    fn new() -> Self {
        Self {
            now: Time::ZERO,
            core: Monitor::new(7),
            answers: BTreeMap::new(),
            probes: vec![],
            next: None,
            told: vec![],
            changed: vec![],
        }
    }

    fn say(&mut self, event: Event) {
        self.core.handle(self.now, event);
        while let Some(effect) = self.core.poll_effect() {
            match effect {
                Effect::Tell { connection, request: Request::Probe { endpoint, probe, timeout, next } } => {
                    assert_eq!(timeout, policy().timeout);
                    self.next = Some(self.now + next.expect("it is said"));
                    self.probes.push((self.now, endpoint.clone()));
                    if let Some(outcome) = self.answers.get(&endpoint).cloned() {
                        let observation = Observation::Probed { endpoint, probe, outcome };
                        self.core.handle(self.now, Event::Said { connection, observation });
                    }
                }
                Effect::Tell { connection, request: Request::Verdict { verdict, .. } } => {
                    self.told.push((connection, verdict));
                }
                Effect::Disconnect { connection } => self.told.push((connection, Verdict::Unknown)),
                Effect::Changed(opinion) => self.changed.push(opinion.verdict),
            }
        }
    }

    fn hear(&mut self, connection: u64, observation: Observation) {
        self.say(Event::Said { connection, observation });
    }

    fn attach(&mut self, connection: u64, node: &str, boot: &str, endpoints: &[&str]) {
        let node = NodeId::new(node).unwrap();
        self.hear(connection, Observation::Hello { node, boot: boot.into() });
        let endpoints = endpoints.iter().map(|name| key(name)).collect();
        self.hear(connection, Observation::Endpoints { endpoints, policy: policy() });
    }

    fn pass(&mut self, by: Duration) {
        let until = self.now + by;
        while let Some(at) = self.core.next_deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.say(Event::Tick);
        }
        self.now = until;
    }

    fn verdict(&self) -> Verdict {
        self.core.opinions(self.now)[0].verdict
    }
}

fn ok() -> Outcome {
    Outcome::Ok { latency: Duration::ZERO }
}

fn failed() -> Outcome {
    Outcome::Failed { reason: "no answer in 5 s".into() }
}

#[test]
fn probes_come_once_an_interval_and_not_in_step() {
    let mut world = World::new();
    let names: Vec<_> = (0..50).map(|index| format!("s{index}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    world.answers = names.iter().map(|name| (key(name), ok())).collect();
    world.attach(1, "r1", "x", &names);
    world.pass(Duration::from_secs(101));
    for name in names {
        let at: Vec<_> =
            world.probes.iter().filter(|(_, endpoint)| *endpoint == key(name)).map(|(at, _)| *at).collect();
        assert!(at[0] <= Time::ZERO + Duration::from_secs(1), "the first look is soon");
        let gaps = at.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(gaps.clone().all(|gap| (9.0..=11.0).contains(&gap.as_secs_f64())), "{:?}", gaps.collect::<Vec<_>>());
    }
    let mut moments: Vec<_> = world.probes.iter().map(|(at, _)| *at).collect();
    moments.dedup();
    assert!(moments.len() > world.probes.len() * 9 / 10, "spread out");
    assert_eq!(world.changed, [Verdict::Healthy; 50]);
}

#[test]
fn probes_are_as_far_from_their_times_as_the_policy_lets_them() {
    for (jitter_permille, expected) in [(0, 10.0..=10.0), (500, 5.0..=15.0), (1000, 0.01..=20.0)] {
        let mut world = World::new();
        world.answers.insert(key("a"), ok());
        world.attach(1, "r1", "x", &["a"]);
        let policy = HealthPolicy { jitter_permille, ..policy() };
        world.hear(1, Observation::Change { come: vec![], gone: vec![], policy });
        world.pass(Duration::from_secs(1000));
        let gaps: Vec<_> = world.probes.windows(2).map(|pair| (pair[1].0 - pair[0].0).as_secs_f64()).collect();
        assert!(gaps.iter().all(|gap| expected.contains(gap)), "{gaps:?}");
        let spread = gaps.iter().copied().fold(0.0, f64::max) - gaps.iter().copied().fold(f64::MAX, f64::min);
        assert!(spread >= f64::from(jitter_permille) / 100.0, "{spread} with {jitter_permille}");
    }
}

#[test]
fn failing_and_coming_back_take_a_row_of_probes() {
    let mut world = World::new();
    world.answers.insert(key("a"), failed());
    world.attach(1, "r1", "x", &["a"]);
    world.pass(Duration::from_secs(13));
    assert_eq!(world.told, [], "two failures");
    world.pass(Duration::from_secs(10));
    assert_eq!(world.told, [(1, Verdict::Unhealthy)]);
    world.answers.insert(key("a"), ok());
    world.pass(Duration::from_secs(22));
    assert_eq!(world.told, [(1, Verdict::Unhealthy), (1, Verdict::Healthy)]);
    assert_eq!(world.changed, [Verdict::Unhealthy, Verdict::Healthy]);
}

#[test]
fn a_verdict_says_what_it_follows_from_and_when_it_is_looked_at_again() {
    let mut world = World::new();
    world.answers.insert(key("a"), ok());
    world.attach(1, "r1", "x", &["a"]);
    world.pass(Duration::from_secs(2));
    let answered = world.probes[0].0;
    world.answers.insert(key("a"), failed());
    world.pass(Duration::from_secs(33));
    let [opinion] = &world.core.opinions(world.now)[..] else { panic!("one endpoint") };
    assert_eq!(opinion.last_ok, Some(world.now - answered));
    let (ago, why) = opinion.last_failure.clone().unwrap();
    let last = world.probes.last().unwrap().0;
    assert_eq!((ago, why.as_str(), opinion.streak), (world.now - last, "no answer in 5 s", 3));
    assert_eq!(opinion.next_probe, world.next.map(|next| next - world.now));
    world.say(Event::Detached { connection: 1 });
    assert_eq!(world.core.opinions(world.now)[0].next_probe, None, "no router is there to probe it");
}

#[test]
fn a_silent_router_makes_nobody_unhealthy() {
    let mut world = World::new();
    world.answers.insert(key("a"), ok());
    world.attach(1, "r1", "x", &["a"]);
    world.pass(Duration::from_secs(2));
    world.answers.clear();
    world.pass(Duration::from_secs(300));
    assert_eq!(world.told, [(1, Verdict::Healthy), (1, Verdict::Unknown)]);
    assert!(world.probes.len() > 20, "it is asked again and again");
    world.answers.insert(key("a"), ok());
    world.pass(Duration::from_secs(12));
    assert_eq!(world.verdict(), Verdict::Healthy);
}

#[test]
fn what_was_known_survives_a_broken_stream_and_not_a_new_process() {
    let mut world = World::new();
    world.answers.insert(key("a"), failed());
    world.attach(1, "r1", "x", &["a"]);
    world.pass(Duration::from_secs(25));
    world.say(Event::Detached { connection: 1 });
    let probes = world.probes.len();
    world.pass(Duration::from_secs(20));
    assert_eq!((world.probes.len(), world.verdict()), (probes, Verdict::Unhealthy));
    world.attach(2, "r1", "x", &["a"]);
    assert_eq!(world.told.last(), Some(&(2, Verdict::Unhealthy)), "told again");
    world.attach(3, "r1", "y", &["a"]);
    assert_eq!(world.verdict(), Verdict::Unknown);
    assert_eq!(world.told.last(), Some(&(2, Verdict::Unknown)), "the older stream is ended");
    world.say(Event::Detached { connection: 3 });
    world.pass(Duration::from_secs(1000));
    assert!(world.core.opinions(world.now).is_empty());
    assert_eq!(world.core.next_deadline(), None, "with nobody there is nothing to do");
}

#[test]
fn real_traffic_counts_and_a_late_answer_does_not() {
    let mut world = World::new();
    world.attach(1, "r1", "x", &["a"]);
    for _ in 0..3 {
        world.hear(1, Observation::Seen { endpoint: key("a"), outcome: failed() });
    }
    assert_eq!(world.verdict(), Verdict::Unhealthy);
    world.pass(Duration::from_secs(12));
    for probe in 0..3 {
        world.hear(1, Observation::Probed { endpoint: key("a"), probe, outcome: ok() });
    }
    assert_eq!(world.verdict(), Verdict::Unhealthy, "only the probe that is awaited counts, and it counts once");
    world.hear(
        1,
        Observation::Seen {
            endpoint: key("a"),
            outcome: Outcome::Starting { reason: "exit 1".into(), failing: false },
        },
    );
    assert_eq!(world.verdict(), Verdict::Starting);
    world.hear(1, Observation::Seen { endpoint: key("ghost"), outcome: ok() });
    assert_eq!(world.core.opinions(world.now).len(), 1);
}

#[test]
fn a_router_may_say_only_what_differs() {
    let mut world = World::new();
    world.attach(1, "r", "b", &["a", "b"]);
    let (come, gone) = (vec![key("c"), key("a")], vec![key("b"), key("x")]);
    world.hear(1, Observation::Change { come, gone, policy: policy() });
    let watched: Vec<_> = world.core.opinions(world.now).into_iter().map(|opinion| opinion.endpoint).collect();
    assert_eq!(watched, [key("a"), key("c")]);
    assert_eq!(world.core.verdicts().count(), 2);
    world.attach(1, "r", "b", &["b"]);
    assert_eq!(world.core.opinions(world.now)[0].endpoint, key("b"));
}

#[test]
fn after_any_changes_it_watches_what_there_is_and_probes_each_of_it() {
    let mut random = Rng::with_seed(81);
    let mut world = World::new();
    world.attach(1, "r", "b", &[]);
    let mut there = BTreeSet::new();
    for _ in 0..500 {
        let some = |random: &mut Rng| (0..random.usize(0..4)).map(|_| key(&format!("s{}", random.u8(0..30)))).collect();
        let (come, gone): (Vec<_>, Vec<_>) = (some(&mut random), some(&mut random));
        there.retain(|endpoint| !gone.contains(endpoint));
        there.extend(come.iter().cloned());
        let observation = if random.bool() {
            Observation::Change { come, gone, policy: policy() }
        } else {
            Observation::Endpoints { endpoints: there.iter().cloned().collect(), policy: policy() }
        };
        world.hear(1, observation);
        world.pass(Duration::from_millis(random.u64(0..3000)));
        let watched: BTreeSet<_> = world.core.opinions(world.now).into_iter().map(|one| one.endpoint).collect();
        assert_eq!(watched, there);
    }
    world.probes.clear();
    world.pass(policy().interval * 11 / 10);
    assert_eq!(world.probes.iter().map(|(_, endpoint)| endpoint.clone()).collect::<BTreeSet<_>>(), there);
}
