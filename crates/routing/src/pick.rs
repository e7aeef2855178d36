//! The choice among the endpoints of a backend: variants by weight, then any of the endpoints, of which two are drawn and
//! the less loaded one is taken ("power of two choices"), which spreads load nearly as well as comparing all of them and
//! causes no herding. A client stays with its earlier endpoint: what servers keep for a session they keep in one place.
//!
//! Weights are read from the endpoints at each choice, so that a step of weight needs no other table. A weight is the
//! part of the choices that an endpoint takes part in: the share of one whose weight falls is a straight line from its
//! share as one of all to nothing, and the others have the rest, alike. Of two endpoints, one with half its weight gets a
//! quarter of the calls. An endpoint leaves its share to the others of its variant; if it is the only one, its variant
//! leaves it to the other variants in the same way. Where all have less than their weight, the heaviest counts as whole.
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

/// What is left to chance, one event after another, so that a test can play all that may happen.
trait Chance {
    /// Whether that happens which does so `times` times out of `of`.
    fn happens(&mut self, times: u64, of: u64) -> bool;
}

impl Chance for Rng {
    fn happens(&mut self, times: u64, of: u64) -> bool {
        times >= of || self.u64(..of) < times
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
        self.pick_by_chance(&mut Rng::with_seed(random), variants, at_home, look)
    }

    fn pick_by_chance(
        &self,
        chance: &mut impl Chance,
        variants: Variants,
        at_home: impl Fn(&E) -> bool,
        look: impl Fn(&E) -> Load,
    ) -> Option<&E> {
        [Standard::Routable, Standard::Open].into_iter().find_map(|standard| {
            let home = self.among(variants).find(|endpoint| at_home(endpoint) && standard.accepts(look(endpoint)));
            home.or_else(|| self.pick_by(standard, chance, variants, &look))
        })
    }

    /// The endpoints that may get an exchange, in order.
    pub fn among(&self, variants: Variants) -> impl Iterator<Item = &E> {
        self.variants.iter().enumerate().flat_map(move |(at, variant)| variant.among(at, variants))
    }

    fn pick_by(
        &self,
        standard: Standard,
        chance: &mut impl Chance,
        variants: Variants,
        look: &impl Fn(&E) -> Load,
    ) -> Option<&E> {
        let accepted = |at: usize| {
            let endpoints = self.variants[at].among(at, variants).map(|endpoint| (endpoint, look(endpoint)));
            endpoints.filter(move |(_, load)| standard.accepts(*load) && load.weight() > 0)
        };
        // The weight of a variant is that of its heaviest endpoint: an endpoint that leaves takes nothing from it.
        // A variant without weight gets nothing.
        let heaviest = |at: usize| {
            let weights = accepted(at).map(|(_, load)| load.weight()).filter(|_| self.variants[at].weight > 0);
            weights.max().unwrap_or_default()
        };
        let whole = (0..self.variants.len()).map(heaviest).max()?;
        let (mut drawn, mut heaviest_of_all, mut total) = (None, None, 0);
        for (at, variant) in self.variants.iter().enumerate() {
            let weight = heaviest(at);
            heaviest_of_all = heaviest_of_all.max(Some((weight, at)));
            if weight > 0 && chance.happens(weight, whole) {
                total += u64::from(variant.weight);
                drawn = if chance.happens(variant.weight.into(), total) { Some((weight, at)) } else { drawn };
            }
        }
        // The heaviest takes part, unless its weight has fallen since it was read.
        let (weight, at) = drawn.or(heaviest_of_all).filter(|(weight, _)| *weight > 0)?;
        less_loaded_of_two(chance, accepted(at), weight)
    }
}

/// One of those that take part in this choice, each of `all` as often as its weight is a part of `whole`.
fn less_loaded_of_two<'a, E>(
    chance: &mut impl Chance,
    all: impl Iterator<Item = (&'a E, Load)>,
    whole: u64,
) -> Option<&'a E> {
    let (mut one, mut other, mut heaviest) = (None, None, None::<(&E, Load)>);
    let (mut taking_part, mut total) = (0, 0);
    for each in all {
        let weight = each.1.weight();
        total += weight;
        heaviest = heaviest.filter(|(_, load)| load.weight() >= weight).or(Some(each));
        if !chance.happens(weight, whole) {
            continue;
        }
        taking_part += 1;
        // As if it were put anywhere into a row: the two at the front are drawn.
        if chance.happens(1, taking_part) {
            (one, other) = (Some(each), one);
        } else if chance.happens(1, taking_part - 1) {
            other = Some(each);
        }
    }
    // The heaviest takes part, unless its weight has fallen since it was read.
    let (one, of_one) = one.or(heaviest)?;
    let Some((other, of_other)) = other else { return Some(one) };
    // How often each is chosen, of the two: as often as it takes part, and half as often where the other one does so too;
    // that is a third with a third one beside them, and so on.
    let share = |own: u64, beside: u64| own * (2 * whole + total).saturating_sub(own + 2 * beside);
    let (one_has, other_has) = (share(of_one.weight(), of_other.weight()), share(of_other.weight(), of_one.weight()));
    // Loads are compared by these shares, with the exchange that is to come. Equally loaded: the first that was drawn.
    let after = (u64::from(of_other.in_flight) + 1) * one_has;
    Some(if after <= u64::from(of_one.in_flight) * other_has { other } else { one })
}

impl<E> VariantRoutes<E> {
    /// Its endpoints that may get an exchange for what those of `variants` have. `at` is its own position.
    fn among(&self, at: usize, variants: Variants) -> impl Iterator<Item = &E> {
        let any = self.weight > 0;
        let own = self.endpoints.iter().filter(move |_| any && variants.has(at));
        own.chain(self.staying.iter().filter(move |(at, _)| any && variants.has(*at)).map(|(_, endpoint)| endpoint))
    }
}

#[cfg(test)]
mod tests;
