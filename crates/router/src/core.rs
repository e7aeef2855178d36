//! The state of one data core, and what all cores share.
//!
//! What cores share is read through one pointer ([`Live`]), or is a concurrent table ([`Sessions`]), the books of the
//! budget, or atomics of the endpoints.

pub(crate) mod clients;
mod everywhere;
pub(crate) mod in_flight;
pub(crate) mod meter;
pub(crate) mod seats;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mcp::http_rules::AccessRules;
use model::Time;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::budget::Budget;
use crate::generation::Live;
use crate::session::{Bounds, Keys, Sessions};
use clients::{Clients, Needed, Patience};
pub(crate) use everywhere::{Busy, Command, Everywhere, Mailbox, Mailboxes};
use in_flight::InFlight;
use meter::Meters;

/// What all cores share, fixed at start.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) live: Arc<Live>,
    pub(crate) keys: Keys,
    pub(crate) sessions: Sessions,
    pub(crate) access: AccessRules,
    /// Where MCP is served.
    pub(crate) path: String,
    pub(crate) clock: runtime::Clock,
    pub(crate) tracer: runtime::Tracer,
    /// The memory held for clients.
    pub(crate) budget: Budget,
    /// How many client connections the process has descriptors for.
    pub(crate) descriptors: usize,
}

impl Shared {
    /// What the live revision says about sessions.
    pub(crate) fn bounds(&self) -> Bounds {
        Bounds::from(&self.live.load().snapshot.policy.limits)
    }
}

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) shared: Arc<Shared>,
    pub(crate) in_flight: Rc<InFlight>,
    pub(crate) meters: Meters,
    pub(crate) index: usize,
    pub(crate) everywhere: Everywhere,
    /// Set when the core takes no new connections; the present ones end after their next answer.
    pub(crate) draining: CancellationToken,
    /// As `draining`, for those who look often.
    drains: Cell<bool>,
    /// When a sweep first saw that the core drains.
    drains_since: Cell<Option<Time>>,
    pub(crate) connections: TaskTracker,
    /// Connections that found no place, until their clients have read that.
    pub(crate) turned_away: TaskTracker,
    pub(crate) clients: Clients,
    /// Set when the core's tasks are being dropped: nothing may be spawned any more.
    pub(crate) closing: Cell<bool>,
    streams: Cell<u64>,
    expired: Cell<Time>,
}

/// How often unused state is forgotten.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);

impl Core {
    /// `index` counts cores from 0.
    pub(crate) fn new(shared: Arc<Shared>, everywhere: Everywhere, index: usize) -> Self {
        Self {
            shared,
            in_flight: Rc::default(),
            meters: Meters::default(),
            everywhere,
            draining: CancellationToken::new(),
            drains: Cell::new(false),
            drains_since: Cell::new(None),
            connections: TaskTracker::new(),
            turned_away: TaskTracker::new(),
            clients: Clients::default(),
            index,
            closing: Cell::new(false),
            expired: Cell::new(Time::ZERO),
            // Distinct over cores, and never 0.
            streams: Cell::new(((index as u64) << 48) + 1),
        }
    }

    /// From now on the core takes no new connections.
    pub(crate) fn drain(&self) {
        self.drains.set(true);
        self.draining.cancel();
        self.connections.close();
    }

    pub(crate) fn drains(&self) -> bool {
        self.drains.get()
    }

    pub(crate) fn now(&self) -> Time {
        Time::from_nanos(self.shared.clock.now_nanos())
    }

    /// How many clients may be connected to this core: cores share evenly.
    pub(crate) fn places(&self) -> usize {
        let configured = self.shared.live.load().snapshot.policy.limits.connections;
        let all = usize::try_from(configured).unwrap_or(usize::MAX).min(self.shared.descriptors);
        all.div_ceil(self.everywhere.cores())
    }

    /// How many bytes may be held for clients, as of now.
    pub(crate) fn buffered_bytes(&self) -> u64 {
        self.shared.live.load().snapshot.policy.limits.buffered_bytes
    }

    /// Gives up connections whose clients have taken too long. Gives up a client that does not read, if others need
    /// what is held for it.
    pub(crate) fn sweep_clients(&self, now: Time) {
        let (write, buffered) = {
            let limits = &self.shared.live.load().snapshot.policy.limits;
            (limits.write, limits.buffered_bytes)
        };
        if self.drains() && self.drains_since.get().is_none() {
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
            places: self.drains(),
        });
    }

    /// Forgets endpoints that are gone, and sessions that were not used for too long.
    pub(crate) fn forget(&self, now: Time) {
        if self.index == 0 {
            self.shared.sessions.tend(|| self.shared.bounds());
        }
        if now.since(self.expired.get()) < EXPIRE_EVERY {
            return;
        }
        self.expired.set(now);
        self.meters.sweep();
    }

    pub(crate) fn next_stream(&self) -> u64 {
        let stream = self.streams.get();
        self.streams.set(stream + 1);
        stream
    }
}
