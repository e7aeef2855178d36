//! What all clients may see: the status as a value, and events as they happen.

use std::sync::Arc;

use model::{AttemptId, BackendId, EventKind, NodeId, Time};
use rollout::ProposalId;
use rollout::desk::{Candidate, Want};
use rollout::reconciler::{AttemptStatus, RouterStatus};
use runtime::TraceContext;

use super::candidate::source_of;
use super::{Engine, Papers};
use crate::status::{Happened, Pending, PendingStage, RouterView, Status};

impl Engine {
    /// A watcher that is too slow loses the oldest events, and is told so.
    pub(super) fn event(
        &self,
        kind: EventKind,
        attempt: Option<AttemptId>,
        node: Option<&NodeId>,
        message: &str,
        trace: Option<TraceContext>,
    ) {
        self.event_about(kind, attempt, node, message, trace, Arc::default());
    }

    /// The same with the servers that it is about.
    pub(super) fn event_about(
        &self,
        kind: EventKind,
        attempt: Option<AttemptId>,
        node: Option<&NodeId>,
        message: &str,
        trace: Option<TraceContext>,
        servers: Arc<[BackendId]>,
    ) {
        let revision = self.head_revision();
        let (node, message) = (node.cloned(), message.to_owned());
        let event = Happened { time: self.wall(), kind, attempt, revision, node, message, trace, servers };
        // Without a watcher, no client receives the event.
        drop(self.events.send(event));
    }

    pub(super) fn publish(&self) {
        let status = self.current_status();
        self.status.send_if_modified(|shown| {
            let changed = **shown != status;
            if changed {
                *shown = Arc::new(status);
            }
            changed
        });
    }

    pub(super) fn current_status(&self) -> Status {
        let reconciler = self.desk.reconciler().status();
        let now = Time::from_nanos(self.clock.now_nanos());
        let view = |router: RouterStatus| {
            let attached = self.attached.get(&router.node);
            let servers = attached.map(|attached| Arc::clone(&attached.servers)).unwrap_or_default();
            RouterView { rival: attached.is_some_and(|attached| attached.has_rival(now)), servers, router }
        };
        Status {
            revision: self.head_revision(),
            digest: reconciler.target.map(|(_, digest)| digest),
            snapshot: self.desk.reconciler().head().map(|head| head.content.snapshot.clone()),
            layers: self.layers.clone(),
            provenance: self.provenance.clone(),
            log: self.log.id().clone(),
            epoch: self.log.epoch(),
            log_fault: self.log.fault().map(|fault| fault.to_string()).or_else(|| self.log_fault.clone()),
            source: self.source_status(),
            routers: reconciler.routers.into_iter().map(view).collect(),
            pending: self.pending(&reconciler.waiting, reconciler.attempt.as_ref()),
            attempt: reconciler.attempt.map(|attempt| attempt.attempt),
        }
    }

    fn pending(&self, waiting: &[(ProposalId, bool)], running: Option<&AttemptStatus>) -> Vec<Pending> {
        let stage = |id: ProposalId, candidate: &Candidate<Papers>| {
            let waits = waiting.iter().find(|(waiting, _)| *waiting == id);
            match (waits, running) {
                (Some((_, true)), _) => PendingStage::WithoutVoter,
                (Some((_, false)), _) => PendingStage::Waiting,
                (None, Some(running)) if candidate.attempt == Some(running.attempt) => {
                    PendingStage::Attempt(running.stage)
                }
                (None, _) => PendingStage::Merging,
            }
        };
        let actor = |id| self.open.get(&id).map(|open| open.actor.clone()).unwrap_or_default();
        let pending = self.desk.candidates().map(|(id, candidate)| Pending {
            source: source_of(&candidate.want),
            actor: actor(id),
            digest: candidate.digest(),
            stage: stage(id, candidate),
            left_out: candidate.left_out(),
            outdated: matches!(candidate.want, Want::File { turn, .. } if !self.desk.is_present(turn)),
        });
        pending.collect()
    }
}
