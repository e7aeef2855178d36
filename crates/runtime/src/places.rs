//! The places that a listener has for connections. When all are taken, the next connection displaces the oldest one
//! that has shown the least, so that idle connections cannot block the listener.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::telemetry::sampled::{self, Fill};

/// A connection younger than this is not displaced: it gets time for its first request, however many others arrive.
const SETTLED: Duration = Duration::from_millis(250);

/// What a connection has shown, in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Standing {
    /// It has sent nothing that tells it from a connection that never will.
    Silent,
    /// It speaks the protocol.
    Stranger,
    /// One of its calls was admitted. It is not displaced.
    Known,
}

/// The shared record of what a connection has shown.
#[derive(Clone, Debug)]
pub(crate) struct Shown(Arc<AtomicU8>);

impl Shown {
    fn new(standing: Standing) -> Self {
        Self(Arc::new(AtomicU8::new(standing as u8)))
    }

    pub(crate) fn reaches(&self, standing: Standing) {
        self.0.fetch_max(standing as u8, Ordering::Relaxed);
    }

    pub(crate) fn is_less_than(&self, standing: Standing) -> bool {
        self.0.load(Ordering::Relaxed) < standing as u8
    }
}

/// All places of a listener.
#[derive(Clone, Debug)]
pub(crate) struct Places(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    name: &'static str,
    table: Mutex<Table>,
    /// A place became free.
    freed: Notify,
}

/// Which connection has which place. Its decisions depend on times alone.
#[derive(Debug)]
struct Table {
    max: usize,
    next: u64,
    /// By order of arrival.
    taken: BTreeMap<u64, Taken>,
}

#[derive(Debug)]
struct Taken {
    since: Instant,
    shown: Shown,
    displaced: CancellationToken,
}

/// How the next connection gets a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Free,
    /// It takes the place of the connection with this number.
    Displace(u64),
    /// No connection may be displaced before this time.
    At(Instant),
    /// All connections are known: a place becomes free only when one of them ends.
    Full,
}

impl Table {
    fn turn(&self, now: Instant) -> Turn {
        if self.taken.len() < self.max {
            return Turn::Free;
        }
        let settled = |taken: &Taken| now >= taken.since + SETTLED;
        let oldest = |standing| {
            let mut below = self.taken.iter().filter(move |(_, taken)| taken.shown.is_less_than(standing));
            below.next()
        };
        for standing in [Standing::Stranger, Standing::Known] {
            if let Some((number, taken)) = oldest(standing)
                && settled(taken)
            {
                return Turn::Displace(*number);
            }
        }
        oldest(Standing::Known).map_or(Turn::Full, |(_, taken)| Turn::At(taken.since + SETTLED))
    }

    fn enter(&mut self, now: Instant, shown: Shown, displaced: CancellationToken) -> u64 {
        let number = self.next;
        self.next += 1;
        self.taken.insert(number, Taken { since: now, shown, displaced });
        number
    }
}

impl Places {
    /// Shows its use as the limit `name` in the metrics.
    pub(crate) fn new(name: &'static str, max: usize) -> Self {
        let table = Mutex::new(Table { max, next: 0, taken: BTreeMap::new() });
        let shared = Arc::new(Shared { name, table, freed: Notify::new() });
        let looked_at = Arc::downgrade(&shared);
        sampled::limit(name, move || Some(Fill { used: looked_at.upgrade()?.lock().taken.len(), max }));
        Self(shared)
    }

    /// Waits while no connection may be displaced. To be called by one task, the one that accepts.
    pub(crate) async fn take(&self, standing: Standing) -> Place {
        loop {
            let turn = self.0.lock().turn(Instant::now());
            match turn {
                Turn::Free => return self.enter(standing),
                Turn::Displace(number) => {
                    let displaced = self.0.lock().taken.remove(&number);
                    if let Some(taken) = displaced {
                        taken.displaced.cancel();
                        metrics::counter!("only1mcp_connections_displaced_total", "limit" => self.0.name).increment(1);
                    }
                    return self.enter(standing);
                }
                Turn::At(time) => tokio::select! {
                    () = sleep_until(time) => {}
                    () = self.0.freed.notified() => {}
                },
                Turn::Full => self.0.freed.notified().await,
            }
        }
    }

    fn enter(&self, standing: Standing) -> Place {
        let (shown, displaced) = (Shown::new(standing), CancellationToken::new());
        let number = self.0.lock().enter(Instant::now(), shown.clone(), displaced.clone());
        Place { number, shown, displaced, shared: Arc::clone(&self.0) }
    }
}

impl Shared {
    /// A poisoned lock is taken over: each change is a single call, so that a panic leaves the table consistent.
    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one connection, free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    number: u64,
    shown: Shown,
    displaced: CancellationToken,
    shared: Arc<Shared>,
}

impl Place {
    pub(crate) fn shown(&self) -> Shown {
        self.shown.clone()
    }

    /// Resolves when another connection has taken the place, and this one must end.
    pub(crate) fn displaced(&self) -> WaitForCancellationFutureOwned {
        self.displaced.clone().cancelled_owned()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.shared.lock().taken.remove(&self.number).is_some() {
            self.shared.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
