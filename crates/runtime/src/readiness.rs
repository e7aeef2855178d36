//! Whether this process should be given work, and if not, what it waits for.
//!
//! Each part that the process needs owns a named gate. The process is ready when all gates are open and no stop was
//! requested. A part that the process can do without for a while is a dependency: its gate is shown, but not awaited.

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::shutdown::{Phase, Shutdown};

/// All gates of a process, shared by cloning.
#[derive(Clone, Debug)]
pub struct Readiness {
    gates: Arc<watch::Sender<Gates>>,
    shutdown: Shutdown,
    /// Whether the process needs the gates made through this value in order to be ready.
    needed: bool,
}

type Gates = BTreeMap<&'static str, State>;

#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    /// Why it is closed; `None` when it is open.
    closed: Option<String>,
    /// A note about what is behind the gate, while it is open.
    note: Option<String>,
    /// Whether the process needs it in order to be ready.
    needed: bool,
}

/// One precondition. Dropping it leaves the gate as it was.
#[derive(Clone, Debug)]
pub struct Gate {
    gates: Arc<watch::Sender<Gates>>,
    name: &'static str,
    needed: bool,
}

/// Tells when a gate or the phase of a [`Readiness`] has changed.
#[derive(Debug)]
pub struct Moves {
    gates: watch::Receiver<Gates>,
    phase: watch::Receiver<Phase>,
}

/// The answer of `/readyz`; displayed as one line for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub ready: bool,
    pub phase: Phase,
    /// By name.
    pub gates: Vec<GateReport>,
    /// What the process can do without for a while, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<GateReport>,
}

/// One gate of a [`Report`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateReport {
    pub name: Cow<'static, str>,
    pub open: bool,
    /// Why it is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What is behind it while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Readiness {
    pub fn new(shutdown: Shutdown) -> Self {
        Self { gates: Arc::new(watch::Sender::new(BTreeMap::new())), shutdown, needed: true }
    }

    /// The same process, for a part whose trouble must not make the process unready: all its gates are dependencies.
    pub fn only_shown(&self) -> Self {
        Self { needed: false, ..self.clone() }
    }

    /// Adds a gate, closed with the reason "starting"; returns the gate of that name if there is one.
    #[must_use]
    pub fn gate(&self, name: &'static str) -> Gate {
        self.add(name, self.needed)
    }

    /// As [`Readiness::gate`], for a part that the process is ready without.
    #[must_use]
    pub fn dependency(&self, name: &'static str) -> Gate {
        self.add(name, false)
    }

    fn add(&self, name: &'static str, needed: bool) -> Gate {
        self.gates.send_if_modified(|gates| {
            let known = gates.contains_key(name);
            gates.entry(name).or_insert_with(|| State { closed: Some("starting".to_owned()), note: None, needed });
            !known
        });
        Gate { gates: Arc::clone(&self.gates), name, needed }
    }

    pub(crate) fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    pub fn is_ready(&self) -> bool {
        self.shutdown.phase() < Phase::Unready && all_open(&self.gates.borrow())
    }

    pub fn report(&self) -> Report {
        let gates = self.gates.borrow();
        let those = |needed: bool| {
            let those = gates.iter().filter(|(_, state)| state.needed == needed);
            let those = those.map(|(name, State { closed, note, .. })| GateReport {
                name: Cow::Borrowed(name),
                open: closed.is_none(),
                reason: closed.clone(),
                note: note.clone(),
            });
            those.collect()
        };
        let ready = self.shutdown.phase() < Phase::Unready && all_open(&gates);
        Report { ready, phase: self.shutdown.phase(), gates: those(true), dependencies: those(false) }
    }

    /// Reports changes from now on.
    pub fn moves(&self) -> Moves {
        Moves { gates: self.gates.subscribe(), phase: self.shutdown.watch() }
    }

    /// Returns once all gates are open, at once if there are none. Does not return after a stop was requested.
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
}

impl Moves {
    /// Returns when a gate, a dependency or the phase has moved; never again once all of them are gone.
    pub async fn next(&mut self) {
        let moved = tokio::select! {
            moved = self.gates.changed() => moved,
            moved = self.phase.changed() => moved,
        };
        if moved.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Gate {
    pub const fn name(&self) -> &'static str {
        self.name
    }

    pub fn open(&self) {
        self.set(None, None);
    }

    /// `note` is for people: what is behind it.
    pub fn open_to(&self, note: impl Into<String>) {
        self.set(None, Some(note.into()));
    }

    /// `reason` is for people: what is missing, and since which event.
    pub fn close(&self, reason: impl Into<String>) {
        self.set(Some(reason.into()), None);
    }

    fn set(&self, closed: Option<String>, note: Option<String>) {
        let mut moved = false;
        self.gates.send_if_modified(|gates| {
            let Some(state) = gates.get_mut(self.name) else { return false };
            moved = state.closed != closed;
            let changed = moved || state.note != note;
            (state.closed, state.note) = (closed.clone(), note);
            changed
        });
        // The owner of a dependency logs its changes itself, with more detail.
        if moved && self.needed {
            tracing::info!(gate = self.name, open = closed.is_none(), reason = closed, "readiness gate moved");
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let closed = |gates: &[GateReport]| -> Vec<String> {
            let gates = gates.iter().filter(|gate| !gate.open);
            gates.map(|gate| format!("{}: {}", gate.name, gate.reason.as_deref().unwrap_or("closed"))).collect()
        };
        let (missing, without) = (closed(&self.gates), closed(&self.dependencies));
        let said = match (self.ready, missing.as_slice()) {
            (true, _) => {
                let notes: Vec<_> = self.gates.iter().filter_map(|gate| gate.note.as_deref()).collect();
                if notes.is_empty() { "ready".to_owned() } else { format!("ready: {}", notes.join(", ")) }
            }
            (false, []) => format!("not ready: it is {}", self.phase.as_str()),
            (false, missing) => format!("not ready: {}", missing.join("; ")),
        };
        f.write_str(&said)?;
        if without.is_empty() { Ok(()) } else { write!(f, "; but {}", without.join("; ")) }
    }
}

fn all_open(gates: &Gates) -> bool {
    gates.values().all(|state| state.closed.is_none() || !state.needed)
}

#[cfg(test)]
mod tests;
