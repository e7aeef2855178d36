//! Servers with several endpoints, whose calls end as the test says.

use model::{Digest, VariantId};
use proptest::prelude::*;

use super::*;

fn key(server: &str, endpoint: usize) -> EndpointKey {
    let digest = Digest::of_bytes(&[u8::try_from(endpoint).unwrap()]);
    EndpointKey { backend: BackendId::new(server).unwrap(), variant: VariantId::only(), digest }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// One server.
struct Pool {
    now: Time,
    core: Shares,
    policy: EjectionPolicy,
    /// As it was told.
    stands: BTreeMap<EndpointKey, Standing>,
}

impl Pool {
    fn new(endpoints: usize, policy: EjectionPolicy) -> Self {
        let mut pool = Self { now: Time::ZERO, core: Shares::default(), policy, stands: BTreeMap::new() };
        let come = (0..endpoints).map(|endpoint| key("a", endpoint)).collect();
        pool.handle(Event::Change { come, gone: vec![], policy: pool.policy.clone() });
        (0..endpoints).for_each(|endpoint| pool.judged(endpoint, Verdict::Healthy));
        pool
    }

    fn handle(&mut self, event: Event) {
        if let Event::Change { gone, .. } = &event {
            self.stands.retain(|endpoint, _| !gone.contains(endpoint));
        }
        self.core.handle(self.now, event);
        while let Some(Stands { endpoint, standing, ejection }) = self.core.poll_effect() {
            assert_eq!(ejection.is_some(), matches!(standing, Standing::Ejected | Standing::OnTrial));
            assert_ne!(self.stands.insert(endpoint, standing), Some(standing), "said twice");
        }
        for (endpoint, standing) in &self.stands {
            assert_eq!(self.core.standing(endpoint), *standing);
        }
        assert!(self.core.next_deadline().is_none_or(|due| due > self.now));
    }

    fn judged(&mut self, endpoint: usize, verdict: Verdict) {
        self.handle(Event::Seen(vec![Seen { endpoint: key("a", endpoint), verdict, answered: 0, failed: 0 }]));
    }

    fn calls(&mut self, endpoint: usize, answered: u64, failed: u64) {
        let verdict = Verdict::Healthy;
        self.handle(Event::Seen(vec![Seen { endpoint: key("a", endpoint), verdict, answered, failed }]));
    }

    fn pass(&mut self, by: Duration) {
        let until = self.now + by;
        while let Some(due) = self.core.next_deadline().filter(|due| *due <= until) {
            self.now = due;
            self.handle(Event::Tick);
        }
        self.now = until;
    }

    /// A letter for each endpoint.
    fn all(&self) -> String {
        let letter = |standing: &Standing| match standing {
            Standing::Full => '+',
            Standing::Growing(_) => '/',
            Standing::OnTrial => '?',
            Standing::Ejected => '-',
        };
        let keys = (0..9).map(|endpoint| key("a", endpoint)).filter(|key| self.core.endpoints().any(|one| one == key));
        keys.map(|key| letter(self.stands.get(&key).unwrap_or(&Standing::Full))).collect()
    }
}

#[test]
fn what_fails_is_ejected_for_longer_each_time_and_comes_back_little_by_little() {
    let mut pool = Pool::new(2, EjectionPolicy::default());
    pool.calls(1, 20, 0);
    pool.calls(0, 0, 4);
    assert_eq!(pool.all(), "++");
    pool.calls(0, 0, 1);
    assert_eq!(pool.all(), "-+");
    pool.calls(0, 1, 0);
    pool.pass(secs(9));
    assert_eq!(pool.all(), "-+", "an answer to an earlier call changes nothing");
    pool.pass(secs(1));
    assert_eq!(pool.all(), "?+");
    pool.calls(0, 0, 1);
    pool.pass(secs(19));
    assert_eq!(pool.all(), "-+", "twice as long");
    pool.pass(secs(1));
    pool.calls(0, 2, 0);
    assert_eq!(pool.all(), "?+");
    pool.calls(0, 1, 0);
    assert_eq!(pool.all(), "/+");
    assert_eq!(pool.core.standing(&key("a", 0)), Standing::Growing(Weight::TENTH));
    let mut weights = vec![];
    for _ in 0..9 {
        pool.pass(secs(1));
        weights.push(pool.core.standing(&key("a", 0)).weight());
    }
    assert!(weights.is_sorted() && weights[8] < Weight::FULL && weights[0] > Weight::TENTH, "{weights:?}");
    pool.pass(secs(1));
    assert_eq!((pool.all().as_str(), pool.core.next_deadline()), ("++", None));
}

#[test]
fn one_that_did_well_for_long_is_a_first_offender() {
    let mut pool = Pool::new(2, EjectionPolicy::default());
    let lasted = |pool: &mut Pool| {
        pool.calls(0, 0, 5);
        let lasted = pool.core.next_deadline().unwrap() - pool.now;
        pool.pass(lasted);
        pool.calls(0, TRIAL, 0);
        lasted
    };
    assert_eq!([(); 7].map(|()| lasted(&mut pool).as_secs()), [10, 20, 40, 80, 160, 300, 300]);
    pool.pass(secs(601));
    assert_eq!(lasted(&mut pool), secs(10));
}

#[test]
fn only_the_worse_one_is_ejected_and_never_too_many() {
    let mut pool = Pool::new(2, EjectionPolicy::default());
    pool.calls(0, 0, 4);
    pool.calls(1, 0, 5);
    assert_eq!(pool.all(), "++", "they fail alike");

    let mut pool = Pool::new(4, EjectionPolicy::default());
    (0..4).for_each(|endpoint| pool.calls(endpoint, 0, 50 * (endpoint as u64 % 2)));
    assert_eq!(pool.all(), "+-+-");
    pool.calls(0, 0, 500);
    assert_eq!(pool.all(), "+-+-", "half of them at most");

    let mut pool = Pool::new(1, EjectionPolicy::default());
    pool.calls(0, 0, 50);
    assert_eq!((pool.core.standing(&key("a", 0)), pool.core.endpoints().count()), (Standing::Full, 0));

    let mut pool = Pool::new(2, EjectionPolicy { share_max_permille: 0, ..EjectionPolicy::default() });
    pool.calls(0, 0, 50);
    assert_eq!(pool.all(), "++", "switched off");
}

#[test]
fn each_is_judged_beside_what_is_seen_of_the_others_at_the_same_time() {
    let mut pool = Pool::new(2, EjectionPolicy::default());
    let seen = |endpoint| Seen { endpoint: key("a", endpoint), verdict: Verdict::Healthy, answered: 0, failed: 9 };
    pool.handle(Event::Seen(vec![seen(0), seen(1)]));
    assert_eq!(pool.all(), "++", "they fail alike");
}

#[test]
fn a_part_of_the_calls_is_enough_if_it_is_half() {
    let mut pool = Pool::new(2, EjectionPolicy::default());
    pool.calls(1, 100, 10);
    for _ in 0..9 {
        pool.calls(0, 3, 2);
    }
    assert_eq!(pool.all(), "++", "two of five");
    pool.pass(secs(20));
    pool.calls(1, 100, 10);
    for _ in 0..4 {
        pool.calls(0, 1, 1);
    }
    assert_eq!(pool.all(), "++", "too few");
    pool.calls(0, 1, 1);
    assert_eq!(pool.all(), "-+");
}

#[test]
fn ejections_are_lifted_while_too_few_are_left() {
    let mut pool = Pool::new(3, EjectionPolicy { panic_permille: 400, ..EjectionPolicy::default() });
    pool.calls(0, 0, 5);
    assert_eq!(pool.all(), "-++");
    pool.judged(1, Verdict::Unhealthy);
    assert_eq!(pool.all(), "+++", "one of three is less than 40%");
    pool.judged(1, Verdict::Healthy);
    assert_eq!(pool.all(), "-/+");
    let gone = vec![key("a", 1), key("a", 2)];
    pool.handle(Event::Change { come: vec![], gone, policy: pool.policy.clone() });
    assert_eq!(pool.core.standing(&key("a", 0)), Standing::Full, "it is alone now");

    let mut pool = Pool::new(2, EjectionPolicy::default());
    pool.calls(0, 0, 5);
    pool.judged(1, Verdict::Starting);
    assert_eq!(pool.all(), "++", "the other one is not up");
    pool.judged(1, Verdict::Healthy);
    assert_eq!(pool.all(), "-/");
}

#[test]
fn what_comes_back_grows_and_what_is_new_does_not() {
    let mut pool = Pool::new(2, EjectionPolicy::default());
    assert_eq!(pool.all(), "++");
    pool.judged(0, Verdict::Unhealthy);
    pool.judged(0, Verdict::Healthy);
    assert_eq!(pool.all(), "/+");
    pool.pass(secs(10));
    pool.calls(0, 0, 5);
    pool.judged(0, Verdict::Starting);
    assert_eq!(pool.all(), "++", "another process: nothing is held against it");
    pool.judged(0, Verdict::Healthy);
    assert_eq!(pool.all(), "/+");

    let mut pool = Pool::new(2, EjectionPolicy { slow_start: Duration::ZERO, ..EjectionPolicy::default() });
    pool.judged(0, Verdict::Unhealthy);
    pool.judged(0, Verdict::Healthy);
    assert_eq!(pool.all(), "++");
}

#[derive(Debug, Clone)]
enum Step {
    Calls(usize, u64, u64),
    Judged(usize, Verdict),
    Pass(Duration),
    Gone(usize),
    Come(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let verdict = prop::sample::select(Verdict::ALL.to_vec());
    prop_oneof![
        4 => (0..5_usize, 0..4_u64, 0..8_u64).prop_map(|(endpoint, answered, failed)| Step::Calls(endpoint, answered, failed)),
        2 => (0..5_usize, verdict).prop_map(|(endpoint, verdict)| Step::Judged(endpoint, verdict)),
        2 => (0..60_000_u64).prop_map(|millis| Step::Pass(Duration::from_millis(millis))),
        1 => (0..5_usize).prop_map(Step::Gone),
        1 => (0..5_usize).prop_map(Step::Come),
    ]
}

fn policy() -> impl Strategy<Value = EjectionPolicy> {
    (1..8_u32, 0..=1000_u32, 0..=1000_u32, 0..20_u64).prop_map(|(failures, share, panic, slow)| EjectionPolicy {
        failures,
        share_max_permille: share,
        panic_permille: panic,
        slow_start: secs(slow),
        ..EjectionPolicy::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Whatever happens: as long as one endpoint is routable, one routable endpoint is neither ejected nor on trial; no
    /// ejection exceeds the cap; and when all calls are answered, every endpoint has its whole share in the end.
    #[test]
    fn a_pool_is_never_emptied_and_everything_ends(policy in policy(), steps in prop::collection::vec(step(), 1..80)) {
        let mut pool = Pool::new(4, policy);
        let mut verdicts: BTreeMap<usize, Verdict> = (0..4).map(|endpoint| (endpoint, Verdict::Healthy)).collect();
        let out = |pool: &Pool, verdicts: &BTreeMap<usize, Verdict>| {
            let standing = verdicts.keys().map(|endpoint| pool.core.standing(&key("a", *endpoint)));
            standing.filter(|one| matches!(one, Standing::Ejected | Standing::OnTrial)).count()
        };
        let mut shrunk = false;
        for step in steps {
            match step {
                Step::Calls(endpoint, answered, failed) => {
                    let verdict = verdicts.get(&endpoint).copied().unwrap_or_default();
                    let seen = Seen { endpoint: key("a", endpoint), verdict, answered, failed };
                    pool.handle(Event::Seen(vec![seen]));
                    let cap = (verdicts.len() * pool.policy.share_max_permille as usize / 1000).max(1);
                    prop_assert!(shrunk || out(&pool, &verdicts) <= cap);
                }
                Step::Judged(endpoint, verdict) => {
                    verdicts.entry(endpoint).and_modify(|one| *one = verdict);
                    pool.judged(endpoint, verdict);
                }
                Step::Pass(by) => pool.pass(by),
                Step::Gone(endpoint) => {
                    shrunk |= verdicts.remove(&endpoint).is_some();
                    let gone = vec![key("a", endpoint)];
                    pool.handle(Event::Change { come: vec![], gone, policy: pool.policy.clone() });
                }
                Step::Come(endpoint) => {
                    verdicts.entry(endpoint).or_default();
                    let come = vec![key("a", endpoint)];
                    pool.handle(Event::Change { come, gone: vec![], policy: pool.policy.clone() });
                }
            }
            let routable = verdicts.iter().filter(|(_, verdict)| verdict.is_routable());
            let mut stand = routable.map(|(endpoint, _)| pool.core.standing(&key("a", *endpoint))).peekable();
            prop_assert!(stand.peek().is_none() || stand.any(|one| matches!(one, Standing::Full | Standing::Growing(_))));
        }
        for _ in 0..3 {
            pool.pass(secs(301));
            verdicts.keys().for_each(|endpoint| pool.calls(*endpoint, TRIAL, 0));
        }
        pool.pass(secs(20));
        let whole = verdicts.keys().all(|endpoint| pool.core.standing(&key("a", *endpoint)) == Standing::Full);
        prop_assert!(whole && pool.core.next_deadline().is_none(), "{}", pool.all());
    }
}
