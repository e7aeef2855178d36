//! The stream between health-monitor and a router.

use health::monitor::Opinion;
use health::{Observation, Outcome, Request};
use model::{EndpointKey, HealthPolicy};

use crate::pb::health::v1 as pb;
use crate::pb::words::v1 as words;
use crate::words::{
    Invalid, duration, duration_to_pb, endpoint_key, endpoint_key_to_pb, node, optional_duration, verdict,
    verdict_to_pb,
};
use pb::attach_request::Observation as PbObservation;
use pb::attach_response::Request as PbRequest;

pub fn observation(observation: Option<PbObservation>) -> Result<Observation, Invalid> {
    Ok(match observation.ok_or_else(|| Invalid::missing("observation"))? {
        PbObservation::Hello(hello) => Observation::Hello { node: node(&hello.node)?, boot: hello.boot },
        PbObservation::Endpoints(all) => {
            Observation::Endpoints { endpoints: endpoint_keys(all.endpoints)?, policy: policy(all.policy)? }
        }
        PbObservation::Change(change) => Observation::Change {
            come: endpoint_keys(change.come)?,
            gone: endpoint_keys(change.gone)?,
            policy: policy(change.policy)?,
        },
        PbObservation::Probed(probed) => Observation::Probed {
            endpoint: endpoint_key(probed.endpoint)?,
            probe: probed.probe,
            outcome: outcome(probed.outcome)?,
        },
        PbObservation::Seen(seen) => {
            Observation::Seen { endpoint: endpoint_key(seen.endpoint)?, outcome: outcome(seen.outcome)? }
        }
    })
}

pub fn observation_to_pb(observation: &Observation) -> PbObservation {
    match observation {
        Observation::Hello { node, boot } => {
            PbObservation::Hello(pb::Hello { node: node.to_string(), boot: boot.clone() })
        }
        Observation::Endpoints { endpoints, policy } => PbObservation::Endpoints(pb::Endpoints {
            endpoints: endpoints.iter().map(endpoint_key_to_pb).collect(),
            policy: Some(policy_to_pb(policy)),
        }),
        Observation::Change { come, gone, policy } => PbObservation::Change(pb::Change {
            come: come.iter().map(endpoint_key_to_pb).collect(),
            gone: gone.iter().map(endpoint_key_to_pb).collect(),
            policy: Some(policy_to_pb(policy)),
        }),
        Observation::Probed { endpoint, probe, outcome } => PbObservation::Probed(pb::Probed {
            endpoint: Some(endpoint_key_to_pb(endpoint)),
            probe: *probe,
            outcome: Some(outcome_to_pb(outcome)),
        }),
        Observation::Seen { endpoint, outcome } => PbObservation::Seen(pb::Seen {
            endpoint: Some(endpoint_key_to_pb(endpoint)),
            outcome: Some(outcome_to_pb(outcome)),
        }),
    }
}

fn endpoint_keys(keys: Vec<words::EndpointKey>) -> Result<Vec<EndpointKey>, Invalid> {
    keys.into_iter().map(|key| endpoint_key(Some(key))).collect()
}

fn policy(policy: Option<pb::Policy>) -> Result<HealthPolicy, Invalid> {
    let policy = policy.ok_or_else(|| Invalid::missing("policy"))?;
    Ok(HealthPolicy {
        interval: duration("policy.interval", policy.interval)?,
        jitter_permille: policy.jitter_permille,
        timeout: duration("policy.timeout", policy.timeout)?,
        unhealthy_threshold: policy.unhealthy_threshold,
        healthy_threshold: policy.healthy_threshold,
    })
}

fn policy_to_pb(policy: &HealthPolicy) -> pb::Policy {
    pb::Policy {
        interval: Some(duration_to_pb(policy.interval)),
        jitter_permille: policy.jitter_permille,
        timeout: Some(duration_to_pb(policy.timeout)),
        unhealthy_threshold: policy.unhealthy_threshold,
        healthy_threshold: policy.healthy_threshold,
    }
}

pub fn request(request: Option<PbRequest>) -> Result<Request, Invalid> {
    Ok(match request.ok_or_else(|| Invalid::missing("request"))? {
        PbRequest::Probe(probe) => Request::Probe {
            endpoint: endpoint_key(probe.endpoint)?,
            probe: probe.probe,
            timeout: duration("probe.timeout", probe.timeout)?,
            next: optional_duration("probe.next", probe.next)?,
        },
        PbRequest::Verdict(change) => {
            Request::Verdict { endpoint: endpoint_key(change.endpoint)?, verdict: verdict(change.verdict) }
        }
    })
}

pub fn request_to_pb(request: &Request) -> PbRequest {
    match request {
        Request::Probe { endpoint, probe, timeout, next } => PbRequest::Probe(pb::Probe {
            endpoint: Some(endpoint_key_to_pb(endpoint)),
            probe: *probe,
            timeout: Some(duration_to_pb(*timeout)),
            next: next.map(duration_to_pb),
        }),
        Request::Verdict { endpoint, verdict } => PbRequest::Verdict(pb::VerdictChange {
            endpoint: Some(endpoint_key_to_pb(endpoint)),
            verdict: verdict_to_pb(*verdict),
        }),
    }
}

pub fn opinion_to_pb(opinion: &Opinion) -> pb::EndpointVerdict {
    pb::EndpointVerdict {
        node: opinion.node.to_string(),
        endpoint: Some(endpoint_key_to_pb(&opinion.endpoint)),
        verdict: verdict_to_pb(opinion.verdict),
        reason: opinion.reason.clone().unwrap_or_default(),
        last_seen: opinion.last_seen.map(duration_to_pb),
        streak: opinion.streak,
        last_ok: opinion.last_ok.map(duration_to_pb),
        last_failure: opinion.last_failure.as_ref().map(|(_, why)| why.clone()).unwrap_or_default(),
        last_failure_ago: opinion.last_failure.as_ref().map(|(ago, _)| duration_to_pb(*ago)),
        next_probe: opinion.next_probe.map(duration_to_pb),
        previous: opinion.previous.map_or(0, |(verdict, _)| verdict_to_pb(verdict)),
        previous_lasted: opinion.previous.map(|(_, lasted)| duration_to_pb(lasted)),
    }
}

fn outcome(outcome: Option<pb::Outcome>) -> Result<Outcome, Invalid> {
    use pb::outcome::Outcome as Pb;
    let failing = outcome.as_ref().is_some_and(|outcome| outcome.failing);
    Ok(match outcome.and_then(|outcome| outcome.outcome).ok_or_else(|| Invalid::missing("outcome"))? {
        Pb::Ok(latency) => Outcome::Ok { latency: duration("outcome.ok", Some(latency))? },
        Pb::Failed(reason) => Outcome::Failed { reason },
        Pb::Starting(reason) => Outcome::Starting { reason, failing },
    })
}

fn outcome_to_pb(outcome: &Outcome) -> pb::Outcome {
    use pb::outcome::Outcome as Pb;
    let failing = matches!(outcome, Outcome::Starting { failing: true, .. });
    let outcome = match outcome {
        Outcome::Ok { latency } => Pb::Ok(duration_to_pb(*latency)),
        Outcome::Failed { reason } => Pb::Failed(reason.clone()),
        Outcome::Starting { reason, .. } => Pb::Starting(reason.clone()),
    };
    pb::Outcome { outcome: Some(outcome), failing }
}
