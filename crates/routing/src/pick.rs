//! The choice among the endpoints of a backend: variants by weight, then the less loaded of two drawn at random
//! ("power of two choices"), which spreads load nearly as well as comparing all of them and causes no herding. A
//! client stays with its earlier endpoint: what servers keep for a session they keep in one place.
//!
//! Health may never empty a pool: endpoints that are unhealthy or starting are avoided only while another one is
//! routable; when none is, anything that is not cordoned will do. A cordon is a decision and holds always.

use model::Verdict;

use crate::table::{BackendRoutes, VariantRoutes, Variants};

/// The present state of an endpoint. It may change between two reads; a choice made of mixed reads is still one of the
/// endpoints that were right once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    pub in_flight: u32,
    pub verdict: Verdict,
    /// Gets no new exchanges.
    pub cordoned: bool,
}

impl Load {
    /// Whether the endpoint is as good as any other.
    pub fn may_be_chosen(self) -> bool {
        Standard::Routable.accepts(self)
    }
}

/// How good an endpoint must be for this choice.
#[derive(Clone, Copy)]
enum Standard {
    Routable,
    /// No endpoint is routable: any that is not cordoned will do.
    Open,
}

impl Standard {
    fn accepts(self, load: Load) -> bool {
        !load.cordoned && (matches!(self, Self::Open) || load.verdict.is_routable())
    }
}

impl<E> BackendRoutes<E> {
    /// The only endpoint, if there is nothing to choose.
    pub fn only(&self) -> Option<&E> {
        let [VariantRoutes { endpoints, weight: 1.., .. }] = &*self.variants else { return None };
        let [only] = &**endpoints else { return None };
        Some(only)
    }

    /// The endpoint for one exchange, by one random number, among `variants`; none when all are cordoned or have no
    /// weight. The home endpoint of the exchange comes first, unless another one is better than it.
    pub fn pick(
        &self,
        random: u64,
        variants: Variants,
        at_home: impl Fn(&E) -> bool,
        look: impl Fn(&E) -> Load,
    ) -> Option<&E> {
        if let Some(only) = self.only() {
            return Some(only).filter(|only| Standard::Open.accepts(look(only)));
        }
        [Standard::Routable, Standard::Open].into_iter().find_map(|standard| {
            let home = self.home(standard, variants, &at_home, &look);
            home.or_else(|| self.pick_by(standard, random, variants, &look))
        })
    }

    /// The variants that may get an exchange, in order.
    pub fn among(&self, variants: Variants) -> impl Iterator<Item = &VariantRoutes<E>> {
        let all = self.variants.iter().enumerate();
        all.filter(move |(at, variant)| variant.weight > 0 && variants.has(*at)).map(|(_, variant)| variant)
    }

    fn home(
        &self,
        standard: Standard,
        variants: Variants,
        at_home: impl Fn(&E) -> bool,
        look: impl Fn(&E) -> Load,
    ) -> Option<&E> {
        let mut endpoints = self.among(variants).flat_map(|variant| &variant.endpoints);
        endpoints.find(|endpoint| at_home(endpoint) && standard.accepts(look(endpoint)))
    }

    fn pick_by(&self, standard: Standard, random: u64, variants: Variants, look: &impl Fn(&E) -> Load) -> Option<&E> {
        let able =
            |variant: &&VariantRoutes<E>| variant.endpoints.iter().any(|endpoint| standard.accepts(look(endpoint)));
        let total: u64 = self.among(variants).filter(able).map(|variant| u64::from(variant.weight)).sum();
        let mut left = below(random, total);
        let mut last = None;
        for variant in self.among(variants).filter(able) {
            last = Some(variant);
            match left.checked_sub(u64::from(variant.weight)) {
                None => break,
                Some(rest) => left = rest,
            }
        }
        last?.pick(standard, mix(random), look)
    }
}

impl<E> VariantRoutes<E> {
    fn pick(&self, standard: Standard, mut random: u64, look: &impl Fn(&E) -> Load) -> Option<&E> {
        // Two of an unknown number, each pair equally likely, in one pass: the n-th replaces one of the two with
        // probability 2/n.
        let mut two: [Option<(&E, u32)>; 2] = [None, None];
        let mut seen = 0_u64;
        for endpoint in &self.endpoints {
            let load = look(endpoint);
            if !standard.accepts(load) {
                continue;
            }
            let place = if seen < 2 {
                seen
            } else {
                random = mix(random);
                below(random, seen + 1)
            };
            match place {
                0 => two[0] = Some((endpoint, load.in_flight)),
                1 => two[1] = Some((endpoint, load.in_flight)),
                _ => {}
            }
            seen += 1;
        }
        let [first, second] = two;
        let ((first, of_first), Some((second, of_second))) = (first?, second) else { return first.map(|(one, _)| one) };
        // Equally loaded: by chance, or the first of the file would get everything at low load.
        let by_chance = mix(random) >> 63 == 0;
        Some(if of_first < of_second || (of_first == of_second && by_chance) { first } else { second })
    }
}

/// Uniform in `0..bound`; 0 for 0.
fn below(random: u64, bound: u64) -> u64 {
    let scaled = (u128::from(random) * u128::from(bound)) >> 64;
    u64::try_from(scaled).expect("less than a u64 `bound`")
}

/// The next random number of a sequence (splitmix64).
fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
