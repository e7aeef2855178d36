//! How the rest of the router reaches the data cores: the queues of each core, and what each shows to the others.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use runtime::telemetry::{Sparing, sampled};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::in_flight::{Abandoned, Longest, Presence};
use super::seats::{Dealt, Seats};
use crate::control::Exchanges;
use crate::session::SessionId;

/// Cancellations and evictions waiting for one core.
const COMMANDS: usize = 4096;
/// Connections on their way from one core to another. If the queue is full, a core serves the connections that it
/// accepted.
const DEALT: usize = 1024;
/// A log line that clients can cause in a loop.
static BEHIND: Sparing = Sparing::new("core_behind", 10, Duration::from_secs(10));

/// A message to a core.
#[derive(Debug, Clone)]
pub(crate) enum Command {
    Cancel {
        session: SessionId,
        request: Bytes,
    },
    Evict {
        endpoint: u64,
    },
    /// A call at the endpoint whose client is gone makes way for another call.
    GiveUp {
        endpoint: u64,
    },
}

/// The queues of all cores, for a caller that does not know which core has an exchange.
#[derive(Debug, Clone)]
pub(crate) struct Everywhere {
    remotes: Arc<[Remote]>,
    pub(crate) seats: Seats,
    cut_off: Arc<Mutex<BTreeMap<Option<u64>, usize>>>,
}

/// One core as others reach it: its queues, and what it shows.
#[derive(Debug)]
struct Remote {
    commands: mpsc::Sender<Command>,
    dealt: mpsc::Sender<Dealt>,
    /// For each endpoint the exchange that has been there longest, as of the core's last sweep.
    longest: ArcSwap<Vec<Longest>>,
    connections: AtomicUsize,
    exchanges: AtomicUsize,
    /// For each endpoint the least wanted of the exchanges whose clients are gone, as of the core's last sweep.
    abandoned: ArcSwap<Vec<Abandoned>>,
}

/// The load of all cores, as of their last sweeps.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Busy {
    pub(crate) connections: usize,
    pub(crate) exchanges: usize,
}

/// The receiving ends of [`Everywhere`], for the threads of the cores.
#[derive(Debug)]
pub(crate) struct Mailboxes(pub(crate) Vec<Mailbox>);

/// The receiving ends of one core's queues.
#[derive(Debug)]
pub(crate) struct Mailbox {
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) dealt: mpsc::Receiver<Dealt>,
}

impl Everywhere {
    pub(crate) fn new(cores: usize) -> (Self, Mailboxes) {
        let cores = cores.max(1);
        let (remotes, mailboxes): (Vec<_>, Vec<_>) = (0..cores)
            .map(|_| {
                let (commands, told) = mpsc::channel(COMMANDS);
                let (dealt, coming) = mpsc::channel(DEALT);
                sampled::queue("router_core_commands", &commands);
                sampled::queue("router_core_connections", &dealt);
                let [connections, exchanges] = <[AtomicUsize; 2]>::default();
                let (longest, abandoned) = (ArcSwap::default(), ArcSwap::default());
                let remote = Remote { commands, dealt, longest, connections, exchanges, abandoned };
                (remote, Mailbox { commands: told, dealt: coming })
            })
            .unzip();
        let seats = Seats::new(cores);
        (Self { remotes: remotes.into(), seats, cut_off: Arc::default() }, Mailboxes(mailboxes))
    }

    /// Cancels the request `request` (its id as raw JSON) of the client `session`.
    pub(crate) fn cancel(&self, session: SessionId, request: &str) {
        self.tell(&Command::Cancel { session, request: Bytes::copy_from_slice(request.as_bytes()) });
    }

    /// The core, other than `but`, with the least wanted call at an endpoint, among calls whose clients are gone.
    pub(crate) fn least_wanted(&self, endpoint: u64, but: usize) -> Option<(Presence, usize)> {
        let remotes = self.remotes.iter().enumerate().filter(|(core, _)| *core != but);
        let there = remotes.filter_map(|(core, remote)| {
            let abandoned = remote.abandoned.load();
            Some((abandoned.iter().find(|one| one.endpoint == endpoint)?.presence, core))
        });
        there.min()
    }

    /// On that core, a call at the endpoint whose client is gone makes way.
    pub(crate) fn give_up(&self, core: usize, endpoint: u64) {
        self.remotes[core].tell(Command::GiveUp { endpoint });
    }

    /// Passes a connection to the core of its seat. Returns the connection if that core has ended or does not keep up.
    pub(crate) fn pass(&self, dealt: Dealt) -> Option<Dealt> {
        let remote = &self.remotes[dealt.seat.core()];
        remote.dealt.try_send(dealt).err().map(TrySendError::into_inner)
    }

    fn tell(&self, command: &Command) {
        for remote in &*self.remotes {
            remote.tell(command.clone());
        }
    }

    /// The exchange that has been at the endpoint longest, as of the last sweeps.
    pub(crate) fn longest(&self, endpoint: u64) -> Option<Longest> {
        let longest = |remote: &Remote| remote.longest.load().iter().find(|one| one.endpoint == endpoint).cloned();
        self.remotes.iter().filter_map(longest).min_by_key(|one| one.started)
    }

    /// Notes the exchanges that a core cuts off at the end.
    pub(crate) fn note_cut_off(&self, exchanges: BTreeMap<Option<u64>, usize>) {
        let mut all = self.cut_off.lock().unwrap_or_else(PoisonError::into_inner);
        for (endpoint, count) in exchanges {
            *all.entry(endpoint).or_default() += count;
        }
    }

    /// How many exchanges were cut off at the end, by endpoint; under none, those that no endpoint had yet.
    pub(crate) fn cut_off(&self) -> BTreeMap<Option<u64>, usize> {
        self.cut_off.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn cores(&self) -> usize {
        self.remotes.len()
    }

    pub(crate) fn busy(&self) -> Busy {
        self.remotes.iter().fold(Busy::default(), |busy, remote| Busy {
            connections: busy.connections + remote.connections.load(Ordering::Relaxed),
            exchanges: busy.exchanges + remote.exchanges.load(Ordering::Relaxed),
        })
    }

    pub(crate) fn show(&self, core: usize, busy: Busy, longest: Vec<Longest>, abandoned: Vec<Abandoned>) {
        let remote = &self.remotes[core];
        remote.connections.store(busy.connections, Ordering::Relaxed);
        remote.exchanges.store(busy.exchanges, Ordering::Relaxed);
        publish(&remote.longest, longest);
        publish(&remote.abandoned, abandoned);
    }
}

fn publish<T>(shown: &ArcSwap<Vec<T>>, now: Vec<T>) {
    if !(now.is_empty() && shown.load().is_empty()) {
        shown.store(Arc::new(now));
    }
}

impl Remote {
    fn tell(&self, command: Command) {
        // Clients may cancel as often as they like; that must not take an eviction's place in the queue.
        let by_clients = matches!(command, Command::Cancel { .. } | Command::GiveUp { .. });
        let reserved = if by_clients { COMMANDS / 2 } else { 0 };
        let lost = command.lost();
        if self.commands.capacity() <= reserved || self.commands.try_send(command).is_err() {
            behind(lost);
        }
    }
}

impl Command {
    /// What is lost if the command is.
    fn lost(&self) -> &'static str {
        match self {
            Self::Cancel { .. } => "a cancellation",
            Self::Evict { .. } => "an eviction",
            Self::GiveUp { .. } => "a request for a place",
        }
    }
}

impl Exchanges for Everywhere {
    fn evict(&self, endpoint: u64) {
        self.tell(&Command::Evict { endpoint });
    }

    fn oldest(&self, endpoint: u64) -> Option<String> {
        let longest = self.longest(endpoint)?;
        let tool = longest.item.map_or_else(String::new, |item| format!("`{}`, ", item.name()));
        Some(format!("{tool}request {}", String::from_utf8_lossy(&longest.request)))
    }
}

fn behind(lost: &'static str) {
    if let Some(left_out) = BEHIND.line() {
        tracing::warn!(lost, left_out, "a core does not keep up, or has ended");
    }
}
