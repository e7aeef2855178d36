//! The choice among the endpoints of a backend: variants by weight, then endpoints by weight, of which two are drawn
//! and the less loaded one is taken ("power of two choices"), which spreads load nearly as well as comparing all of
//! them and causes no herding. A client stays with its earlier endpoint: what servers keep for a session they keep in
//! one place.
//!
//! Weights are read from the endpoints at each choice, so that a step of weight needs no other table. An endpoint whose
//! weight falls leaves its share to the others of its variant; if it is the only one, the weight of the variant falls.
//!
//! Health may never empty a pool: endpoints that are unhealthy, starting or ejected are avoided only while another one
//! is routable; when none is, anything that is not cordoned will do. A cordon is a decision and holds always.

use fastrand::Rng;
use model::{Standing, Verdict, Weight};

use crate::table::{BackendRoutes, VariantRoutes, Variants};

/// The present state of an endpoint. It may change between two reads; a choice made of mixed reads is still one of the
/// endpoints that were right once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    pub in_flight: u32,
    pub verdict: Verdict,
    /// What the overlay leaves of its share.
    pub weight: Weight,
    /// What its own calls leave of its share. One on trial that has its one call is as one that is ejected.
    pub standing: Standing,
    /// Gets no new exchanges.
    pub cordoned: bool,
}

impl Load {
    /// Whether the endpoint is as good as any other.
    pub fn may_be_chosen(self) -> bool {
        Standard::Routable.accepts(self)
    }

    fn weight(self) -> u64 {
        u64::from(self.weight.and(self.standing.weight()).permille())
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
        let is_well = || load.verdict.is_routable() && load.standing != Standing::Ejected;
        !load.cordoned && (matches!(self, Self::Open) || is_well())
    }
}

impl<E> BackendRoutes<E> {
    /// The only endpoint, if there is nothing to choose.
    pub fn only(&self) -> Option<&E> {
        let [VariantRoutes { endpoints, staying, weight: 1.., .. }] = &*self.variants else { return None };
        let ([only], []) = (&**endpoints, &**staying) else { return None };
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
        let mut random = Rng::with_seed(random);
        [Standard::Routable, Standard::Open].into_iter().find_map(|standard| {
            let home = self.among(variants).find(|endpoint| at_home(endpoint) && standard.accepts(look(endpoint)));
            home.or_else(|| self.pick_by(standard, &mut random, variants, &look))
        })
    }

    /// The endpoints that may get an exchange, in order.
    pub fn among(&self, variants: Variants) -> impl Iterator<Item = &E> {
        self.variants.iter().enumerate().flat_map(move |(at, variant)| variant.among(at, variants))
    }

    fn pick_by(
        &self,
        standard: Standard,
        random: &mut Rng,
        variants: Variants,
        look: &impl Fn(&E) -> Load,
    ) -> Option<&E> {
        let accepted = |at: usize| {
            let endpoints = self.variants[at].among(at, variants).map(|endpoint| (endpoint, look(endpoint)));
            endpoints.filter(move |(_, load)| standard.accepts(*load))
        };
        // The weight of a variant is that of its heaviest endpoint: an endpoint that leaves takes nothing from it.
        let weighed = self.variants.iter().enumerate().map(|(at, variant)| {
            let heaviest = accepted(at).map(|(_, load)| load.weight()).max().unwrap_or_default();
            (at, u64::from(variant.weight) * heaviest)
        });
        let (_, at) = draw(random, weighed)?;
        let by_weight = || accepted(at).map(|(endpoint, load)| ((endpoint, load), load.weight()));
        let (first, (one, of_one)) = draw(random, by_weight())?;
        let others = by_weight().enumerate().filter(|(position, _)| *position != first).map(|(_, weighed)| weighed);
        let Some((_, (other, of_other))) = draw(random, others) else { return Some(one) };
        // Loads are compared by weight, with the exchange that is to come. Equally loaded: the first that was drawn.
        let after = (u64::from(of_other.in_flight) + 1) * of_one.weight();
        Some(if after <= u64::from(of_one.in_flight) * of_other.weight() { other } else { one })
    }
}

impl<E> VariantRoutes<E> {
    /// Its endpoints that may get an exchange for what those of `variants` have. `at` is its own position.
    fn among(&self, at: usize, variants: Variants) -> impl Iterator<Item = &E> {
        let any = self.weight > 0;
        let own = self.endpoints.iter().filter(move |_| any && variants.has(at));
        own.chain(self.staying.iter().filter(move |(at, _)| any && variants.has(*at)).map(|(_, endpoint)| endpoint))
    }
}

/// One of them with its position, each with a probability by its weight, in one pass; none if nothing has weight.
fn draw<T>(random: &mut Rng, weighed: impl Iterator<Item = (T, u64)>) -> Option<(usize, T)> {
    let mut drawn = None;
    let mut total = 0;
    for (position, (one, weight)) in weighed.enumerate().filter(|(_, (_, weight))| *weight > 0) {
        total += weight;
        if drawn.is_none() || random.u64(..total) < weight {
            drawn = Some((position, one));
        }
    }
    drawn
}

#[cfg(test)]
mod tests;
