//! Where a client's session is at home among the endpoints of a server that has several.
//!
//! A server's session holds state, and each endpoint has its own session. So the calls of one client session go to one
//! endpoint for as long as it may be chosen, and after that to the endpoint that the session moved to. Servers with one
//! endpoint, which are nearly all, need none of this.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

/// Beyond this number of servers a session forgets its oldest home.
const MAX: usize = 64;

/// The serials of the home endpoints, the newest last; at most one for each server.
#[derive(Debug, Default)]
pub(crate) struct Homes(ArcSwapOption<Vec<u64>>);

impl Homes {
    pub(crate) fn has(&self, number: u64) -> bool {
        self.0.load().as_ref().is_some_and(|homes| homes.contains(&number))
    }

    /// Makes `number` the session's home from now on. `beside` says of another endpoint whether it belongs to the same
    /// server, and whether it may still be chosen. If it may, another call of the session was quicker, and the home
    /// stays there.
    pub(crate) fn move_to(&self, number: u64, beside: impl Fn(u64) -> Option<bool>) {
        self.0.rcu(|homes| {
            let homes = homes.as_ref();
            if homes.is_some_and(|homes| homes.iter().any(|home| beside(*home) == Some(true))) {
                return homes.map(Arc::clone);
            }
            let others = homes.into_iter().flat_map(|homes| homes.iter().copied());
            let mut next: Vec<u64> = others.filter(|home| beside(*home).is_none()).collect();
            next.push(number);
            next.drain(..next.len().saturating_sub(MAX));
            Some(Arc::new(next))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_has_one_home_with_each_server_and_moves_only_when_it_must() {
        let homes = Homes::default();
        let of_one_server = |routable: bool| move |number: u64| (number < 10).then_some(routable);
        homes.move_to(1, of_one_server(true));
        homes.move_to(11, |number| (number >= 10).then_some(true));
        homes.move_to(2, of_one_server(true));
        assert!(homes.has(1) && !homes.has(2) && homes.has(11), "who was quicker decides");
        homes.move_to(2, of_one_server(false));
        assert!(!homes.has(1) && homes.has(2) && homes.has(11), "it could not be chosen any more");
        for number in 100..1000 {
            homes.move_to(number, |_| None);
        }
        assert!(!homes.has(2) && homes.has(999), "there is a bound");
    }
}
