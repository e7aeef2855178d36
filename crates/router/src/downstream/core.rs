//! The state of one data core.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use model::Time;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Shared;
use super::clients::{Clients, Needed, Patience};
use super::cores::Everywhere;
use super::meter::Meters;
use crate::in_flight::InFlight;

#[derive(Debug)]
pub(super) struct Core {
    pub(super) shared: Arc<Shared>,
    pub(super) in_flight: Rc<InFlight>,
    pub(super) meters: Meters,
    pub(super) index: usize,
    pub(super) everywhere: Everywhere,
    /// Set when the core takes no new connections; the present ones end after their next answer.
    pub(super) draining: CancellationToken,
    /// When a sweep first saw that the core drains.
    drains_since: Cell<Option<Time>>,
    pub(super) connections: TaskTracker,
    pub(super) clients: Clients,
    /// Set when the core's tasks are being dropped: nothing may be spawned any more.
    pub(super) closing: Cell<bool>,
    random: Cell<u64>,
    streams: Cell<u64>,
    expired: Cell<Time>,
}

/// How often unused state is forgotten.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);

impl Core {
    /// `index` counts cores from 0.
    pub(super) fn new(shared: Arc<Shared>, everywhere: Everywhere, index: usize) -> Self {
        Self {
            shared,
            in_flight: Rc::default(),
            meters: Meters::default(),
            everywhere,
            draining: CancellationToken::new(),
            drains_since: Cell::new(None),
            connections: TaskTracker::new(),
            clients: Clients::default(),
            index,
            closing: Cell::new(false),
            random: Cell::new(rand::random::<u64>() | 1),
            // Distinct over cores, and never 0.
            expired: Cell::new(Time::ZERO),
            streams: Cell::new(((index as u64) << 48) + 1),
        }
    }

    pub(super) fn now(&self) -> Time {
        Time::from_nanos(self.shared.clock.now_nanos())
    }

    /// How many clients may be connected to this core: cores share evenly.
    pub(super) fn places(&self) -> usize {
        let configured = self.shared.live.load().policy.limits.connections;
        let all = usize::try_from(configured).unwrap_or(usize::MAX).min(self.shared.descriptors);
        all.div_ceil(self.everywhere.cores())
    }

    /// How many bytes may be held for clients, as of now.
    pub(super) fn buffered_bytes(&self) -> u64 {
        self.shared.live.load().policy.limits.buffered_bytes
    }

    /// Gives up connections whose clients have taken too long. Gives up a client that does not read, if others need
    /// what is held for it.
    pub(super) fn sweep_clients(&self, now: Time) {
        let (write, buffered) = {
            let limits = &self.shared.live.load().policy.limits;
            (limits.write, limits.buffered_bytes)
        };
        if self.draining.is_cancelled() && self.drains_since.get().is_none() {
            self.drains_since.set(Some(now));
        }
        let patience = match self.drains_since.get() {
            Some(since) => Patience::draining(write, since),
            None => Patience::serving(write),
        };
        self.clients.sweep(now, &patience);
        let budget = &self.shared.budget;
        self.clients.give_up_unread(Needed {
            pressure: budget.pressure(buffered),
            room: budget.room().is_wanted(),
            places: self.draining.is_cancelled(),
        });
    }

    /// Forgets endpoints that are gone, and sessions that were not used for too long.
    pub(super) fn forget(&self, now: Time) {
        if self.index == 0 {
            self.shared.sessions.tend(|| self.shared.bounds());
        }
        if now.since(self.expired.get()) < EXPIRE_EVERY {
            return;
        }
        self.expired.set(now);
        self.meters.sweep();
    }

    /// xorshift64: enough to spread load, and cheap.
    pub(super) fn random(&self) -> u64 {
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.set(x);
        x.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(super) fn next_stream(&self) -> u64 {
        let stream = self.streams.get();
        self.streams.set(stream + 1);
        stream
    }
}
