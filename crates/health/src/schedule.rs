//! When something is due at which endpoint (or server), so that one event costs no look at all of them.

use std::collections::{BTreeMap, BTreeSet};

use model::{EndpointKey, Time};

#[derive(Debug)]
pub(crate) struct Schedule<K = EndpointKey>(BTreeSet<(Time, K)>);

impl<K> Default for Schedule<K> {
    fn default() -> Self {
        Self(BTreeSet::new())
    }
}

impl<K: Ord + Clone> Schedule<K> {
    /// Something is due at the endpoint at `due`, or nothing. `noted` is what was said of it before.
    pub(crate) fn note(&mut self, endpoint: &K, noted: &mut Option<Time>, due: Option<Time>) {
        if *noted == due {
            return;
        }
        if let Some(before) = std::mem::replace(noted, due) {
            self.0.remove(&(before, endpoint.clone()));
        }
        self.0.extend(due.map(|due| (due, endpoint.clone())));
    }

    pub(crate) fn first(&self) -> Option<Time> {
        self.0.first().map(|(due, _)| *due)
    }

    /// An endpoint at which something is due now. It stays so until [`Self::note`] says otherwise.
    pub(crate) fn due(&self, now: Time) -> Option<K> {
        self.0.first().filter(|(due, _)| *due <= now).map(|(_, endpoint)| endpoint.clone())
    }
}

/// Takes `gone` out of `held`. Returns them, and which of `come` are not held yet.
pub(crate) fn change<V>(
    held: &mut BTreeMap<EndpointKey, V>,
    come: Vec<EndpointKey>,
    gone: Vec<EndpointKey>,
) -> (Vec<(EndpointKey, V)>, Vec<EndpointKey>) {
    let gone = gone.into_iter().filter_map(|endpoint| held.remove_entry(&endpoint)).collect();
    // Each once, whatever the peer says: what is scheduled twice would be due for ever.
    let come: BTreeSet<_> = come.into_iter().filter(|endpoint| !held.contains_key(endpoint)).collect();
    (gone, come.into_iter().collect())
}

/// Takes out of `held` all endpoints but `wanted`. Returns them, and which ones are not held yet.
pub(crate) fn refit<V>(
    held: &mut BTreeMap<EndpointKey, V>,
    wanted: BTreeSet<EndpointKey>,
) -> (Vec<(EndpointKey, V)>, Vec<EndpointKey>) {
    let (mut wanted, mut new) = (wanted.into_iter().peekable(), Vec::new());
    let gone = |endpoint: &EndpointKey, _: &mut V| {
        new.extend(std::iter::from_fn(|| wanted.next_if(|wanted| wanted < endpoint)));
        wanted.next_if_eq(endpoint).is_none()
    };
    let gone = held.extract_if(.., gone).collect();
    new.extend(wanted);
    (gone, new)
}

#[cfg(test)]
mod tests {
    use model::{BackendId, Digest, VariantId};

    use super::*;

    /// Some of five endpoints.
    fn endpoints(bits: u32) -> BTreeSet<EndpointKey> {
        let key = |number| EndpointKey {
            backend: BackendId::new(&format!("s{number}")).unwrap(),
            variant: VariantId::only(),
            digest: Digest::of_bytes(b""),
        };
        (0..5).filter(|number| bits >> number & 1 == 1).map(key).collect()
    }

    #[test]
    fn what_is_held_is_what_is_wanted() {
        for (before, after) in (0..32).flat_map(|before| (0..32).map(move |after| (before, after))) {
            let mut held: BTreeMap<_, _> = endpoints(before).into_iter().map(|endpoint| (endpoint, ())).collect();
            let (gone, new) = refit(&mut held, endpoints(after));
            assert!(held.into_keys().eq(endpoints(before & after)), "{before} {after}");
            assert!(gone.into_iter().map(|(endpoint, ())| endpoint).eq(endpoints(before & !after)), "{before} {after}");
            assert_eq!(new.into_iter().collect::<BTreeSet<_>>(), endpoints(after & !before), "{before} {after}");
        }
    }
}
