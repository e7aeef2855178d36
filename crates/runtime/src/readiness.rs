//! Whether this process should be given work, and if not, what it waits for.
//!
//! Each part that must be there first owns a named gate; the process is ready when all are open and nobody has asked it
//! to stop.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;
use tokio::sync::watch;

use crate::shutdown::{Phase, Shutdown};

/// All gates of a process, shared by cloning.
#[derive(Clone, Debug)]
pub struct Readiness {
    gates: Arc<watch::Sender<BTreeMap<&'static str, Closed>>>,
    shutdown: Shutdown,
}

/// Why a gate is closed; `None` when it is open.
type Closed = Option<String>;

/// One precondition. Dropping it leaves the gate as it was.
#[derive(Clone, Debug)]
pub struct Gate {
    gates: Arc<watch::Sender<BTreeMap<&'static str, Closed>>>,
    name: &'static str,
}

/// What `/readyz` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    pub ready: bool,
    pub phase: Phase,
    /// By name.
    pub gates: Vec<GateReport>,
}

/// One gate of a [`Report`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GateReport {
    pub name: &'static str,
    pub open: bool,
    /// Why it is closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Readiness {
    #[must_use]
    pub fn new(shutdown: Shutdown) -> Self {
        Self { gates: Arc::new(watch::Sender::new(BTreeMap::new())), shutdown }
    }

    /// Adds a gate, closed with the reason "starting"; the gate of that name if there is one.
    #[must_use]
    pub fn gate(&self, name: &'static str) -> Gate {
        self.gates.send_if_modified(|gates| {
            let known = gates.contains_key(name);
            gates.entry(name).or_insert_with(|| Some("starting".to_owned()));
            !known
        });
        Gate { gates: Arc::clone(&self.gates), name }
    }

    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.shutdown.phase() < Phase::Unready && all_open(&self.gates.borrow())
    }

    #[must_use]
    pub fn report(&self) -> Report {
        let gates = self.gates.borrow();
        let gates =
            gates.iter().map(|(name, closed)| GateReport { name, open: closed.is_none(), reason: closed.clone() });
        Report { ready: self.is_ready(), phase: self.shutdown.phase(), gates: gates.collect() }
    }

    /// Returns once all gates are open, at once if there are none. Does not return after stopping was asked for.
    pub async fn ready(&self) {
        let mut gates = self.gates.subscribe();
        loop {
            gates.wait_for(all_open).await.map(drop).expect("self holds the sender, so it cannot be closed");
            if self.is_ready() {
                return;
            }
            if self.shutdown.is_triggered() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Returns when `is_ready()` is no longer `was`.
    pub async fn changed(&self, was: bool) {
        let (mut gates, mut phase) = (self.gates.subscribe(), self.shutdown.watch());
        while self.is_ready() == was {
            let open = tokio::select! {
                open = gates.changed() => open,
                open = phase.changed() => open,
            };
            open.expect("self holds both senders, so they cannot be closed");
        }
    }
}

impl Gate {
    pub fn open(&self) {
        self.set(None);
    }

    /// `reason` is for people: what is missing, and since which event.
    pub fn close(&self, reason: impl Into<String>) {
        self.set(Some(reason.into()));
    }

    fn set(&self, closed: Closed) {
        let changed = self.gates.send_if_modified(|gates| {
            let changed = gates.get(self.name) != Some(&closed);
            gates.insert(self.name, closed.clone());
            changed
        });
        if changed {
            tracing::info!(gate = self.name, open = closed.is_none(), reason = closed, "readiness gate moved");
        }
    }
}

fn all_open(gates: &BTreeMap<&'static str, Closed>) -> bool {
    gates.values().all(Option::is_none)
}

#[cfg(test)]
mod tests;
