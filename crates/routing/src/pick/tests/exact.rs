//! The shares of all endpoints, exactly: all that chance may do is played, each course with its probability.

use std::collections::BTreeMap;
use std::ops::{Add, Mul};

use super::*;

/// An exact number that is not negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    of: u128,
    whole: u128,
}

impl Part {
    const NONE: Self = Self { of: 0, whole: 1 };
    const ALL: Self = Self { of: 1, whole: 1 };

    fn new(of: impl Into<u128>, whole: impl Into<u128>) -> Self {
        let (of, whole) = (of.into(), whole.into());
        let by = common(of, whole);
        Self { of: of / by, whole: whole / by }
    }

    /// What is missing to the whole.
    fn rest(self) -> Self {
        Self::new(self.whole - self.of, self.whole)
    }

    fn is_at_most(self, other: Self) -> bool {
        let by = common(self.whole, other.whole);
        self.of * (other.whole / by) <= other.of * (self.whole / by)
    }
}

impl Add for Part {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let by = common(self.whole, other.whole);
        Self::new(self.of * (other.whole / by) + other.of * (self.whole / by), self.whole / by * other.whole)
    }
}

impl Mul for Part {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        let (one, two) = (Self::new(self.of, other.whole), Self::new(other.of, self.whole));
        Self::new(one.of * two.of, one.whole * two.whole)
    }
}

/// The greatest common divisor.
fn common(one: u128, other: u128) -> u128 {
    if other == 0 { one } else { common(other, one % other) }
}

/// One course of what may happen: it follows the one before up to the last event that may still be otherwise.
#[derive(Default)]
struct Course {
    /// What happened, and how probable that was.
    events: Vec<(bool, Part)>,
    at: usize,
}

impl Chance for Course {
    fn happens(&mut self, times: u64, of: u64) -> bool {
        if self.at == self.events.len() {
            // Where it must happen, the probability of anything else is none.
            self.events.push((true, Part::new(times.min(of), of)));
        }
        self.at += 1;
        self.events[self.at - 1].0
    }
}

impl Course {
    fn probability(&self) -> Part {
        self.events.iter().fold(Part::ALL, |all, (_, each)| all * *each)
    }

    /// Goes on to the next one, if there is one.
    fn turns(&mut self) -> bool {
        while let Some((happened, probability)) = self.events.pop() {
            if happened && probability != Part::ALL {
                self.events.push((false, probability.rest()));
                self.at = 0;
                return true;
            }
        }
        false
    }
}

/// An endpoint, by its variant and its position there.
type At = (usize, usize);
/// The weight of a variant, and those of its endpoints in thousandths.
type Variant = (u32, Vec<u16>);

/// The share of each endpoint. Of each variant, so many of the last ones leave. Nothing is in flight.
fn played(variants: &[Variant], stays: usize) -> BTreeMap<At, Part> {
    let routes = variants.iter().enumerate().map(|(at, (weight, endpoints))| {
        let mut all: Vec<(At, u16)> = endpoints.iter().enumerate().map(|(of, weight)| ((at, of), *weight)).collect();
        let staying = all.split_off(all.len() - stays.min(all.len()));
        let staying = staying.into_iter().map(|one| (variants.len(), one)).collect();
        VariantRoutes { id: VariantId::only(), weight: *weight, endpoints: all.into(), staying }
    });
    let backend =
        BackendRoutes { id: BackendId::new("b").unwrap(), variants: routes.collect(), having: ByKind::default() };
    let look = |(_, weight): &(At, u16)| Load {
        weight: Weight::of(*weight).unwrap(),
        ..load(0, Verdict::Healthy, *weight == 0)
    };
    let mut shares = BTreeMap::new();
    let mut course = Course::default();
    loop {
        if let Some((one, _)) = backend.pick_by_chance(&mut course, Variants::ALL, |_| false, look) {
            let share = shares.entry(*one).or_insert(Part::NONE);
            *share = *share + course.probability();
        }
        if !course.turns() {
            return shares;
        }
    }
}

/// Of those with these weights (as parts of the whole), the share of each: any set of them may take part, and those that do
/// share by `among`.
fn of_sets(weights: &[Part], among: impl Fn(&[usize], usize) -> Part) -> Vec<Part> {
    let mut shares = vec![Part::NONE; weights.len()];
    for set in 0_u32..1 << weights.len() {
        let (inside, outside): (Vec<usize>, Vec<usize>) = (0..weights.len()).partition(|one| set >> one & 1 == 1);
        let probable = inside.iter().fold(Part::ALL, |all, one| all * weights[*one]);
        let probable = outside.iter().fold(probable, |all, one| all * weights[*one].rest());
        for one in &inside {
            shares[*one] = shares[*one] + probable * among(&inside, *one);
        }
    }
    shares
}

/// What the shares are to be: those of variants by their weights, those of endpoints alike.
fn documented(variants: &[Variant]) -> BTreeMap<At, Part> {
    let heaviest: Vec<u16> =
        variants.iter().map(|(_, endpoints)| endpoints.iter().copied().max().unwrap_or_default()).collect();
    let whole = heaviest.iter().copied().max().filter(|most| *most > 0).unwrap_or(1);
    let parts: Vec<Part> = heaviest.iter().map(|weight| Part::new(*weight, whole)).collect();
    let by_weight = |inside: &[usize], one: usize| {
        let all: u32 = inside.iter().map(|at| variants[*at].0).sum();
        Part::new(variants[one].0, all)
    };
    let mut shares = BTreeMap::new();
    for (at, of_variant) in of_sets(&parts, by_weight).into_iter().enumerate() {
        let within = variants[at].1.iter().map(|weight| Part::new(*weight, heaviest[at].max(1)));
        let alike = |inside: &[usize], _: usize| Part::new(1_u8, inside.len() as u128);
        for (of, share) in of_sets(&within.collect::<Vec<_>>(), alike).into_iter().enumerate() {
            let share = of_variant * share;
            if share != Part::NONE {
                shares.insert((at, of), share);
            }
        }
    }
    shares
}

fn share(shares: &BTreeMap<At, Part>, at: At) -> Part {
    shares.get(&at).copied().unwrap_or(Part::NONE)
}

#[test]
fn of_two_endpoints_one_with_half_its_weight_gets_a_quarter() {
    let of = |weight: u16| share(&played(&[(1, vec![1000, weight])], 0), (0, 1));
    for (weight, expected) in [(1000, 2_u128), (500, 4), (100, 20), (1, 2000)] {
        assert_eq!(of(weight), Part::new(1_u8, expected), "{weight}");
    }
    assert_eq!(of(0), Part::NONE);
    let leaves = played(&[(1, vec![1000, 500])], 1);
    assert_eq!(share(&leaves, (0, 1)), Part::new(1_u8, 4_u8), "one that the configuration lacks is no exception");
    let variants = played(&[(9, vec![500]), (1, vec![1000])], 0);
    assert_eq!(share(&variants, (0, 0)), Part::new(45_u8, 100_u8), "half of the nine tenths of its variant");
    assert_eq!(share(&played(&[(1, vec![500, 500])], 0), (0, 0)), Part::new(1_u8, 2_u8), "beside one as light");
}

fn weight() -> impl Strategy<Value = u16> {
    prop::sample::select(vec![0_u16, 1, 10, 100, 250, 500, 900, 1000])
}

fn some_variants() -> impl Strategy<Value = Vec<Variant>> {
    prop::collection::vec((1..5_u32, prop::collection::vec(weight(), 1..4)), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn shares_are_as_documented_and_together_the_whole(variants in some_variants(), stays in 0..3_usize) {
        let shares = played(&variants, stays);
        prop_assert_eq!(&shares, &documented(&variants));
        let sum = shares.values().fold(Part::NONE, |all, each| all + *each);
        let any = variants.iter().flat_map(|(_, endpoints)| endpoints).any(|weight| *weight > 0);
        prop_assert_eq!(sum, if any { Part::ALL } else { Part::NONE });
    }

    /// One endpoint falls, whatever the others have, as long as one of them has all of its weight.
    #[test]
    fn a_share_falls_in_a_straight_line_and_no_other_one_falls(
        others in prop::collection::vec(weight(), 0..4),
        reduction in prop::sample::select(vec![50_u16, 100, 300]),
    ) {
        let all = |weight: u16| [(1, [&[weight, 1000][..], &others].concat())];
        let whole = played(&all(1000), 0);
        let mut before = whole.clone();
        for step in 0..=1000_u16.div_ceil(reduction) {
            let weight = 1000_u16.saturating_sub(step * reduction);
            let shares = played(&all(weight), 0);
            prop_assert_eq!(share(&shares, (0, 0)), share(&whole, (0, 0)) * Part::new(weight, 1000_u16));
            for other in 1..others.len() + 2 {
                prop_assert!(share(&before, (0, other)).is_at_most(share(&shares, (0, other))), "{weight} {other}");
            }
            before = shares;
        }
    }
}

#[test]
fn a_share_keeps_to_its_line_however_much_is_in_flight() {
    // No exchange ends, so that the loads are what was chosen so far.
    for (others, weight) in [(1_u32, 900_u16), (1, 500), (1, 100), (3, 500), (3, 200)] {
        let mut in_flight = vec![0_u32; others as usize + 1];
        let routes: BackendRoutes<usize> = BackendRoutes {
            id: BackendId::new("b").unwrap(),
            variants: [only((0..in_flight.len()).collect::<Vec<_>>())].into(),
            having: ByKind::default(),
        };
        let mut random = Rng::with_seed(1);
        for _ in 0..20_000 {
            let look = |at: &usize| Load {
                weight: Weight::of(if *at == 0 { weight } else { 1000 }).unwrap(),
                ..load(in_flight[*at], Verdict::Healthy, false)
            };
            let picked = *routes.pick(random.u64(..), Variants::ALL, |_| false, look).unwrap();
            in_flight[picked] += 1;
        }
        let line = f64::from(weight) / 1000.0 / f64::from(others + 1);
        let seen = f64::from(in_flight[0]) / 20_000.0;
        assert!((seen - line).abs() < 0.01, "{weight} beside {others}: {seen} instead of {line}");
    }
}
