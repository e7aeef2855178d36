//! Restarts that operators ask for: which endpoints are meant, and what becomes of each.

use std::sync::Arc;

use fleet::Event;
use model::{BackendId, EndpointKey};
use tokio::sync::{mpsc, oneshot};

use super::{Command, Task};
use crate::endpoint::Endpoint;

/// One wish to have a server restarted.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) backend: BackendId,
    /// Only processes with these pids, 0 for an endpoint that has no process now; empty: all that run.
    pub(crate) pids: Vec<u32>,
    pub(crate) actor: String,
    pub(crate) answer: oneshot::Sender<Result<Vec<Begun>, Refused>>,
}

/// One endpoint of a server that is restarted.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) endpoint: Arc<Endpoint>,
    /// The process that is ended.
    pub(crate) pid: Option<u32>,
    /// The outcome to wait for; `None` if the process that was meant has ended before.
    pub(crate) done: Option<oneshot::Receiver<Result<(), String>>>,
    /// Another restart or attempt had begun before.
    pub(crate) joined: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Unknown,
    /// The server is reached over HTTP.
    NoProcess,
}

/// Sends the wishes of operators to the fleet.
#[derive(Debug, Clone)]
pub(crate) struct Operators {
    commands: mpsc::Sender<Command>,
}

impl Operators {
    pub(super) fn new(commands: mpsc::Sender<Command>) -> Self {
        Self { commands }
    }

    pub(crate) async fn predecessor_ended(&self) {
        // Fails only when the fleet has ended.
        drop(self.commands.send(Command::PredecessorEnded).await);
    }

    /// `None` when the fleet has ended.
    pub(crate) async fn restart(
        &self,
        backend: BackendId,
        pids: Vec<u32>,
        actor: String,
    ) -> Option<Result<Vec<Begun>, Refused>> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(Command::Restart(Wanted { backend, pids, actor, answer })).await.ok()?;
        answered.await.ok()
    }
}

impl Task {
    pub(super) fn restart(&mut self, wanted: Wanted) {
        let Wanted { backend, pids, actor, answer } = wanted;
        let keys: Vec<EndpointKey> = {
            let live = self.fleet.roster().layout().into_iter().flat_map(|layout| layout.keys());
            live.filter(|key| key.backend == backend).cloned().collect()
        };
        let roster = self.fleet.roster();
        let mut endpoints = keys.iter().filter_map(|key| self.endpoints.by_key(key, roster));
        let programs = endpoints.all(|one| one.spec.transport.kind() == "stdio");
        let outcome = match (keys.is_empty(), programs) {
            (true, _) => Err(Refused::Unknown),
            (false, false) => Err(Refused::NoProcess),
            (false, true) => {
                tracing::info!(server = %backend, actor, "an operator restarts a server");
                Ok(keys.iter().filter_map(|key| self.begin(key, &pids)).collect())
            }
        };
        // The operator's request may be gone.
        drop(answer.send(outcome));
    }

    fn begin(&mut self, key: &EndpointKey, pids: &[u32]) -> Option<Begun> {
        let member = self.fleet.roster().members().get(key)?;
        let endpoint = Arc::clone(self.endpoints.get(member.serial)?);
        let (serial, joined) = (member.serial, member.state.is_busy() || member.restarting());
        let pid = endpoint.state().pid;
        let meant = pids.is_empty() || pids.contains(&pid.unwrap_or(0)) || joined;
        if !meant {
            return Some(Begun { endpoint, pid, done: None, joined: true });
        }
        let done = self.endpoints.outcome(serial);
        self.tell(Event::Restart { serial });
        self.publisher.look_anew();
        Some(Begun { endpoint, pid, done: Some(done), joined })
    }
}
