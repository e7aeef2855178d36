//! Which core serves a new connection. The system spreads connections by a hash of their addresses, so three busy
//! clients may meet on one core while another core idles. Each connection goes to the core with the fewest connections
//! instead.

use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many connections each core has. Shared by all of them.
#[derive(Debug, Clone)]
pub(crate) struct Seats(Arc<Mutex<Box<[usize]>>>);

/// One connection counted for a core, until this is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Seats,
    core: usize,
}

/// A connection, and the core that is to serve it.
#[derive(Debug)]
pub(crate) struct Dealt {
    pub(crate) stream: TcpStream,
    pub(crate) seat: Seat,
}

impl Seats {
    pub(crate) fn new(cores: usize) -> Self {
        Self(Arc::new(Mutex::new(vec![0; cores].into())))
    }

    /// A seat on the core with the fewest connections, on `own` if no other core has fewer: to pass a connection on
    /// costs more than to keep it.
    pub(crate) fn deal(&self, own: usize) -> Seat {
        let mut taken = self.lock();
        let fewest = taken.iter().enumerate().min_by_key(|(core, taken)| (**taken, *core != own));
        let core = fewest.map_or(own, |(core, _)| core);
        taken[core] += 1;
        drop(taken);
        Seat { seats: self.clone(), core }
    }

    /// A seat on that core.
    pub(crate) fn take(&self, core: usize) -> Seat {
        self.lock()[core] += 1;
        Seat { seats: self.clone(), core }
    }

    /// The value is valid even after a panic while the lock was held: each change is a single step.
    fn lock(&self) -> MutexGuard<'_, Box<[usize]>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    pub(crate) fn core(&self) -> usize {
        self.core
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.lock()[self.core] -= 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spread(seats: &Seats) -> usize {
        let taken = seats.lock();
        taken.iter().max().unwrap() - taken.iter().min().unwrap()
    }

    proptest! {
        #[test]
        fn a_connection_that_comes_never_widens_the_difference_between_cores_beyond_one(
            cores in 1..9_usize,
            steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..200),
        ) {
            let (seats, mut taken) = (Seats::new(cores), Vec::new());
            for (comes, which) in steps {
                let before = spread(&seats);
                if comes || taken.is_empty() {
                    let seat = seats.deal(which.index(cores));
                    prop_assert!(spread(&seats) <= before.max(1));
                    taken.push(seat);
                } else {
                    taken.swap_remove(which.index(taken.len()));
                }
                prop_assert_eq!(seats.lock().iter().sum::<usize>(), taken.len());
            }
        }

        #[test]
        fn of_cores_with_as_few_connections_the_one_where_it_came_in_keeps_it(cores in 1..9_usize, own in 0..8_usize) {
            prop_assume!(own < cores);
            let seats = Seats::new(cores);
            let seat = seats.deal(own);
            prop_assert_eq!(seat.core(), own);
            let others: Vec<Seat> = (1..cores).map(|_| seats.deal(own)).collect();
            prop_assert!(others.iter().all(|other| other.core() != own));
            prop_assert_eq!(seats.deal(own).core(), own);
        }
    }
}
