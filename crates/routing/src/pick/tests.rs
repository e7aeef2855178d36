//! Which endpoints are chosen, how often, and which never.

mod exact;

use fastrand::Rng;
use mcp::ByKind;
use model::{BackendId, Standing, VariantId, Weight};
use proptest::prelude::*;

use super::*;

fn backend(variants: &[(u32, &[Load])]) -> BackendRoutes<Load> {
    let variants = variants.iter().enumerate().map(|(i, (weight, endpoints))| VariantRoutes {
        id: VariantId::new(&format!("v{i}")).unwrap(),
        weight: *weight,
        endpoints: (*endpoints).into(),
        staying: Box::default(),
    });
    BackendRoutes { id: BackendId::new("b").unwrap(), variants: variants.collect(), having: ByKind::default() }
}

fn only<E>(endpoints: impl Into<Box<[E]>>) -> VariantRoutes<E> {
    VariantRoutes { id: VariantId::only(), weight: 1, endpoints: endpoints.into(), staying: Box::default() }
}

const fn load(in_flight: u32, verdict: Verdict, cordoned: bool) -> Load {
    Load { in_flight, verdict, weight: Weight::FULL, standing: Standing::Full, cordoned }
}

/// How often each endpoint is chosen, by its number of exchanges in flight.
fn shares(backend: &BackendRoutes<Load>, picks: u64) -> Vec<(u32, f64)> {
    let mut counts = std::collections::BTreeMap::new();
    let mut random = Rng::with_seed(1);
    for _ in 0..picks {
        let one = backend.pick(random.u64(..), Variants::ALL, |_| false, |load| *load).expect("one is open");
        *counts.entry(one.in_flight).or_insert(0_u32) += 1;
    }
    let picks = f64::from(u32::try_from(picks).unwrap());
    counts.into_iter().map(|(key, count)| (key, f64::from(count) / picks)).collect()
}

#[test]
fn variants_get_their_weight() {
    let well = |n| [load(n, Verdict::Healthy, false)];
    let shares = shares(&backend(&[(90, &well(0)), (0, &well(1)), (10, &well(2))]), 100_000);
    assert_eq!(shares.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [0, 2]);
    assert!((shares[0].1 - 0.9).abs() < 0.01, "{shares:?}");
}

#[test]
fn a_variant_without_weight_gets_nothing_from_one_whose_endpoint_leaves() {
    let leaving = [Load { weight: Weight::of(500).unwrap(), ..load(1, Verdict::Healthy, false) }];
    let well = [load(0, Verdict::Healthy, false)];
    assert_eq!(shares(&backend(&[(0, &well), (9, &leaving)]), 1_000), [(1, 1.0)]);
    let none = backend(&[(0, &well), (0, &leaving)]);
    assert!(none.pick(7, Variants::ALL, |_| false, |load| *load).is_none());
}

#[test]
fn a_variant_that_cannot_serve_leaves_its_share_to_the_others() {
    let shares = shares(
        &backend(&[(99, &[load(0, Verdict::Unhealthy, false)]), (1, &[load(7, Verdict::Degraded, false)])]),
        1_000,
    );
    assert_eq!(shares, [(7, 1.0)]);
}

#[test]
fn only_variants_that_have_it_get_a_request_for_it() {
    let well = |n| [load(n, Verdict::Healthy, false)];
    let backend = backend(&[(90, &well(0)), (9, &well(1)), (1, &well(2)), (0, &well(3))]);
    let pick = |random, positions: &[usize]| {
        let variants = positions.iter().copied().collect();
        backend.pick(random, variants, |load| load.in_flight == 0, |load| *load).map(|load| load.in_flight)
    };
    for random in 0..1000 {
        assert!(matches!(pick(random, &[1, 2]), Some(1 | 2)), "neither by weight nor because it is at home");
        assert_eq!((pick(random, &[2]), pick(random, &[3]), pick(random, &[])), (Some(2), None, None));
    }
    assert!(Variants::from_iter([70]).has(99) && !Variants::from_iter([70]).has(62));
}

#[test]
fn the_less_loaded_of_two_is_chosen() {
    // Of three, the most loaded one is never the better of two, and the least loaded one is in two pairs of three.
    let endpoints = [1, 2, 3].map(|n| load(n, Verdict::Healthy, false));
    let shares = shares(&backend(&[(1, &endpoints)]), 100_000);
    assert_eq!(shares.len(), 2, "{shares:?}");
    assert!((shares[0].1 - 2.0 / 3.0).abs() < 0.01, "{shares:?}");
}

#[test]
fn equally_loaded_ones_share_alike() {
    let mut counts = [0_u32; 4];
    let endpoints: BackendRoutes<usize> = BackendRoutes {
        id: BackendId::new("b").unwrap(),
        variants: [only([0, 1, 2, 3])].into(),
        having: ByKind::default(),
    };
    let mut random = Rng::with_seed(1);
    for _ in 0..40_000 {
        counts[*endpoints
            .pick(random.u64(..), Variants::ALL, |_| false, |_| load(0, Verdict::Unknown, false))
            .unwrap()] += 1;
    }
    assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
}

fn any_load() -> impl Strategy<Value = Load> {
    let verdict = prop::sample::select(vec![
        Verdict::Healthy,
        Verdict::Degraded,
        Verdict::Unhealthy,
        Verdict::Unknown,
        Verdict::Starting,
    ]);
    let standing = prop::sample::select(vec![
        Standing::Full,
        Standing::Growing(Weight::TENTH),
        Standing::OnTrial,
        Standing::Ejected,
    ]);
    (0..5_u32, verdict, standing, any::<bool>())
        .prop_map(|(in_flight, verdict, standing, cordoned)| Load { standing, ..load(in_flight, verdict, cordoned) })
}

proptest! {
    #[test]
    fn the_best_there_is_and_never_a_cordoned_one(
        variants in prop::collection::vec((0..3_u32, prop::collection::vec(any_load(), 0..5)), 0..4),
        random in any::<u64>(),
    ) {
        let borrowed: Vec<_> = variants.iter().map(|(weight, loads)| (*weight, loads.as_slice())).collect();
        let backend = backend(&borrowed);
        let open: Vec<_> = variants
            .iter()
            .filter(|(weight, _)| *weight > 0)
            .flat_map(|(_, loads)| loads)
            .filter(|load| !load.cordoned)
            .collect();
        let routable = open.iter().any(|load| load.may_be_chosen());
        match backend.pick(random, Variants::ALL, |_| false, |load| *load) {
            None => prop_assert!(open.is_empty()),
            Some(chosen) => {
                prop_assert!(!chosen.cordoned);
                prop_assert!(chosen.may_be_chosen() || !routable);
            }
        }
    }
}

#[test]
fn a_light_endpoint_gets_no_more_than_its_share_by_being_empty() {
    let (heavy, light) = (load(8, Verdict::Healthy, false), load(0, Verdict::Healthy, false));
    let light = Load { weight: Weight::of(100).unwrap(), ..light };
    let of_light = |heavy: Load| shares(&backend(&[(1, &[heavy, light])]), 100_000)[0].1;
    // It takes part in one choice of ten, and with eight exchanges there, one here is more than its share.
    assert!((of_light(heavy) - 0.05).abs() < 0.005, "{}", of_light(heavy));
    let overfull = Load { in_flight: 19, ..heavy };
    assert!((of_light(overfull) - 0.1).abs() < 0.005, "however full the other one is: {}", of_light(overfull));
}

#[test]
fn an_ejected_endpoint_gets_nothing_while_another_one_may_be_chosen() {
    let well = load(0, Verdict::Healthy, false);
    let ejected = Load { standing: Standing::Ejected, ..load(1, Verdict::Healthy, false) };
    let of = |endpoints: &[Load]| shares(&backend(&[(1, endpoints)]), 1000).len();
    assert_eq!(shares(&backend(&[(1, &[well, ejected])]), 1000), [(0, 1.0)]);
    assert_eq!(of(&[Load { verdict: Verdict::Unhealthy, ..well }, ejected]), 1, "by their loads");
    assert_eq!(of(&[Load { cordoned: true, ..well }, ejected]), 1, "it alone is open");
    let at_home = |endpoint: &Load| endpoint.standing == Standing::Ejected;
    let backend = backend(&[(1, &[well, ejected])]);
    let picked = backend.pick(7, Variants::ALL, at_home, |load| *load).unwrap();
    assert_eq!(picked.in_flight, 0, "those that are at home there move away");
    assert!(!ejected.may_be_chosen() && well.may_be_chosen());
}

#[test]
fn an_endpoint_on_trial_gets_a_small_share_and_one_that_grows_its_part() {
    let well = load(9, Verdict::Healthy, false);
    let trial = |in_flight| Load { standing: Standing::OnTrial, ..load(in_flight, Verdict::Healthy, false) };
    let share = |other: Load| {
        let shares = shares(&backend(&[(1, &[well, other])]), 10_000);
        shares.iter().find(|(in_flight, _)| *in_flight == other.in_flight).map_or(0.0, |(_, share)| *share)
    };
    assert!((share(trial(0)) - 0.05).abs() < 0.01, "{}", share(trial(0)));
    assert!(trial(0).may_be_chosen());
    let growing = |permille| Load { standing: Standing::Growing(Weight::of(permille).unwrap()), ..trial(0) };
    let grown = [100, 400, 700].map(|permille| share(growing(permille)));
    let line = [0.05, 0.4, 0.7];
    assert!(grown.iter().zip(line).all(|(grown, line)| (grown - line).abs() < 0.02), "by their loads, too: {grown:?}");
}

#[test]
fn a_leaving_endpoint_gets_only_what_it_has() {
    let (new, old) = (load(1, Verdict::Healthy, false), load(0, Verdict::Healthy, false));
    let variant = VariantRoutes { staying: [(1, old)].into(), ..only([new]) };
    let backend =
        BackendRoutes { id: BackendId::new("b").unwrap(), variants: [variant].into(), having: ByKind::default() };
    let pick = |random, positions: &[usize]| {
        let positions = positions.iter().copied().collect();
        backend.pick(random, positions, |_| false, |load| *load).map(|load| load.in_flight)
    };
    for random in 0..100 {
        assert_eq!((pick(random, &[0]), pick(random, &[1])), (Some(1), Some(0)));
        assert_eq!(pick(random, &[0, 1]), Some(0), "the less loaded one");
    }
}

#[test]
fn a_home_is_kept_while_it_can_be() {
    let at = |home: &'static str| move |endpoint: &(&'static str, Load)| endpoint.0 == home;
    let variants = |endpoints: &[(&'static str, Load)]| BackendRoutes {
        id: BackendId::new("b").unwrap(),
        variants: [only(endpoints)].into(),
        having: ByKind::default(),
    };
    let (well, ill, shut) =
        (load(0, Verdict::Healthy, false), load(0, Verdict::Unhealthy, false), load(0, Verdict::Healthy, true));
    let busy = load(900, Verdict::Healthy, false);
    for random in 0..100 {
        let pick = |endpoints: &[(&'static str, Load)], home| {
            variants(endpoints).pick(random, Variants::ALL, at(home), |endpoint| endpoint.1).map(|endpoint| endpoint.0)
        };
        assert_eq!(pick(&[("a", well), ("b", busy), ("c", well)], "b"), Some("b"), "whatever the load");
        assert_eq!(pick(&[("a", well), ("b", ill)], "b"), Some("a"));
        assert_eq!(pick(&[("a", well), ("b", shut)], "b"), Some("a"));
        assert_eq!(pick(&[("a", ill), ("b", ill)], "b"), Some("b"), "no other one is better");
        assert_eq!(pick(&[("a", ill)], "b"), Some("a"));
        assert_eq!(pick(&[("a", shut)], "a"), None);
    }
}
