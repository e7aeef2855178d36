//! What operators are told, as protobuf.

use model::{Backend, BackendPolicy, Diff, Mask, NodeId, Owner, Snapshot};
use rollout::Findings;
use wire::pb::config::v1 as pb;
use wire::pb::words::v1 as words;

use crate::log::{AuditRecord, Layer, Layers, RevisionRecord};
use crate::outcome::{Outcome, Result};
use crate::status::{Happened, NodeRefusal, Pending, RouterView, SourceStatus, Status};

impl From<Outcome> for pb::Outcome {
    fn from(outcome: Outcome) -> Self {
        let result = match outcome.result {
            Result::Applied => pb::outcome::Result::Applied,
            Result::NoChange => pb::outcome::Result::NoChange,
            Result::Refused => pb::outcome::Result::Refused,
            Result::Pending => pb::outcome::Result::Pending,
        };
        let stage =
            |(name, took): (&str, _)| pb::Stage { name: name.into(), duration: Some(wire::duration_to_pb(took)) };
        Self {
            result: result.into(),
            revision: outcome.revision.0,
            violations: outcome.violations.iter().map(wire::violation_to_pb).collect(),
            refusals: outcome.refusals.iter().map(refusal).collect(),
            warnings: outcome.warnings,
            stages: outcome.stages.into_iter().map(stage).collect(),
            attempt: shown(outcome.attempt),
            next_try: outcome.next_try.map(wire::duration_to_pb),
        }
    }
}

/// A trial that ran into its caller's timeout has no votes.
pub(super) fn trial(outcome: Outcome) -> pb::Trial {
    let router = |(node, found): (NodeId, Findings)| pb::RouterTrial {
        node: node.to_string(),
        outcomes: found.outcomes.iter().map(wire::config::outcome_to_pb).collect(),
        advice: found.advice,
    };
    let (accepted, mut refusals) = match outcome.result {
        Result::Applied | Result::NoChange => (true, Vec::new()),
        Result::Refused | Result::Pending => (false, outcome.refusals),
    };
    let itself = |reason: &str| NodeRefusal { node: None, reason: reason.to_owned() };
    match outcome.result {
        Result::Applied if outcome.votes.is_empty() => refusals.push(itself("no router is there to try it")),
        Result::Refused if refusals.is_empty() => refusals.push(itself("another change went first; try again")),
        Result::Pending => refusals.push(itself("routers have not answered in time")),
        Result::Applied | Result::NoChange | Result::Refused => {}
    }
    pb::Trial {
        accepted: accepted && refusals.is_empty(),
        refusals: refusals.iter().map(refusal).collect(),
        routers: outcome.votes.into_iter().map(router).collect(),
        timed_out: outcome.result == Result::Pending,
    }
}

impl From<Happened> for pb::WatchResponse {
    fn from(happened: Happened) -> Self {
        Self {
            time_unix_ms: happened.time.0,
            kind: happened.kind.to_string(),
            attempt: shown(happened.attempt),
            revision: happened.revision.0,
            node: shown(happened.node),
            message: happened.message,
            traceparent: shown(happened.trace),
            servers: happened.servers.iter().map(ToString::to_string).collect(),
        }
    }
}

impl From<&Status> for pb::GetStatusResponse {
    fn from(status: &Status) -> Self {
        Self {
            revision: status.revision.0,
            digest: shown(status.digest),
            log_id: status.log.to_string(),
            epoch: status.epoch,
            source: Some(source(&status.source)),
            layers: layers(status),
            rolled_back_to: status.provenance.rolled_back_to.map_or(0, |to| to.0),
            routers: status.routers.iter().map(router).collect(),
            attempt: shown(status.attempt),
            pending: status.pending.iter().map(pending).collect(),
            log_fault: status.log_fault.clone().unwrap_or_default(),
            servers: status.snapshot.iter().flat_map(|live| &live.backends).filter_map(|one| configured(one)).collect(),
        }
    }
}

fn shown(word: Option<impl ToString>) -> String {
    word.map(|word| word.to_string()).unwrap_or_default()
}

fn configured(backend: &Backend) -> Option<pb::ConfiguredServer> {
    let BackendPolicy { enabled, description, labels, .. } = &backend.policy;
    let plain = *enabled && description.is_none() && labels.is_empty();
    let label = |(name, value): (&String, &String)| pb::Label { name: name.clone(), value: value.clone() };
    (!plain).then(|| pb::ConfiguredServer {
        id: backend.id.to_string(),
        disabled: !enabled,
        description: description.clone().unwrap_or_default(),
        labels: labels.iter().map(label).collect(),
    })
}

fn pending(pending: &Pending) -> pb::Pending {
    pb::Pending {
        source: pending.source.clone(),
        actor: pending.actor.clone(),
        digest: shown(pending.digest),
        stage: pending.stage.as_str().into(),
        left_out: pending.left_out.iter().map(ToString::to_string).collect(),
        outdated: pending.outdated,
    }
}

fn source(source: &SourceStatus) -> pb::Source {
    pb::Source {
        path: source.name.clone(),
        state: source.state.as_str().into(),
        cursor: shown(source.cursor),
        violations: source.violations.iter().map(wire::violation_to_pb).collect(),
        refusals: source.refusals.iter().map(refusal).collect(),
        method: source.method.map(crate::source::Method::as_str).unwrap_or_default().into(),
        // It counts from the moment of the answer.
        next_try: None,
    }
}

fn layers(status: &Status) -> Vec<pb::Layer> {
    let layers = status.layers.iter().map(|(owner, layer)| pb::Layer {
        owner: owner.to_string(),
        name: layer.name.clone(),
        since_revision: status.provenance.since.get(owner).map_or(0, |since| since.0),
    });
    layers.collect()
}

fn refusal(refusal: &NodeRefusal) -> pb::NodeRefusal {
    pb::NodeRefusal { node: shown(refusal.node.as_ref()), reason: refusal.reason.clone() }
}

fn router(view: &RouterView) -> pb::RouterStatus {
    let (state, mut reason) = view.state();
    let router = &view.router;
    if view.rival {
        reason = format!("another process calls itself {}, too; give each a --node of its own", router.node);
    }
    pb::RouterStatus {
        node: router.node.to_string(),
        revision: router.applied.0,
        digest: shown(router.digest),
        state: state.into(),
        reason,
        servers: view.servers.iter().map(wire::config::server_state_to_pb).collect(),
    }
}

pub(super) fn revision(record: RevisionRecord, content_kept: bool) -> pb::Revision {
    pb::Revision {
        revision: record.revision.0,
        parent: record.parent.0,
        digest: record.digest.to_string(),
        actor: record.actor,
        source: record.source,
        time_unix_ms: record.time.0,
        result: "applied".into(),
        diff: changes(&record.diff),
        policy_changed: record.diff.policy,
        content_kept,
        reason: record.reason,
        without: record.without.iter().map(NodeId::to_string).collect(),
        policy_keys: Vec::new(),
    }
}

/// An attempt that did not become a revision; its parent is the revision that stayed live.
pub(super) fn without_revision(ended: AuditRecord) -> pb::Revision {
    pb::Revision {
        revision: 0,
        parent: ended.revision.0,
        digest: shown(ended.digest),
        actor: ended.actor,
        source: ended.source,
        time_unix_ms: ended.time.0,
        result: ended.result,
        diff: changes(&ended.diff),
        policy_changed: ended.diff.policy,
        content_kept: false,
        reason: ended.reason,
        without: ended.without.iter().map(NodeId::to_string).collect(),
        policy_keys: Vec::new(),
    }
}

/// As routers name them.
pub(super) fn endpoints(snapshot: &Snapshot) -> Vec<words::EndpointKey> {
    let keys = snapshot.backends.iter().flat_map(|backend| backend.endpoints().map(|(key, ..)| key));
    keys.map(|key| wire::endpoint_key_to_pb(&key)).collect()
}

pub(super) fn layer_marks(mask: &Mask, layers: &Layers) -> Vec<pb::LayerMark> {
    let mark =
        |(owner, layer): (&Owner, &Layer)| pb::LayerMark { owner: owner.0.clone(), mark: mask.mark(&layer.text) };
    layers.iter().map(mark).collect()
}

pub(super) fn changes(diff: &Diff) -> Vec<pb::BackendChange> {
    let change = |entry: &model::BackendChange| pb::BackendChange {
        server: entry.id.to_string(),
        change: entry.change.as_str().into(),
        keys: Vec::new(),
    };
    diff.backends.iter().map(change).collect()
}
