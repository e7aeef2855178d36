//! The stream between drain-coordinator and a router.

use std::time::Duration;

use drain::ledger::{RouterSummary, Summary, Wanted};
use drain::{Count, Departure, Directive, DrainId, LiveEndpoint, OverlayEntry, Phase, Stay};
use model::{BackendId, DrainOverlay, DrainPolicy, DrainStrategy, Revision, WallTime, Weight, canonical_json};

use crate::pb::drain::v1 as pb;
use crate::words::{
    Invalid, duration, duration_to_pb, endpoint_key, endpoint_key_to_pb, node, optional_digest, optional_duration,
};
use pb::attach_request::Count as PbCount;
use pb::attach_response::Directive as PbDirective;

pub fn count(count: Option<PbCount>) -> Result<Count, Invalid> {
    Ok(match count.ok_or_else(|| Invalid::missing("count"))? {
        PbCount::Hello(hello) => Count::Hello { node: node(&hello.node)?, boot: hello.boot },
        PbCount::Live(live) => Count::Live {
            revision: Revision(live.revision),
            endpoints: live.endpoints.into_iter().map(live_endpoint).collect::<Result<_, _>>()?,
        },
        PbCount::Change(change) => Count::Change {
            revision: Revision(change.revision),
            come: change.come.into_iter().map(live_endpoint).collect::<Result<_, _>>()?,
            gone: change.gone.into_iter().map(|key| endpoint_key(Some(key))).collect::<Result<_, _>>()?,
        },
        PbCount::Departure(departure) => Count::Departure(Departure {
            drain: drain_id(departure.drain)?,
            endpoint: endpoint_key(departure.endpoint)?,
            total: departure.total,
            in_flight: departure.in_flight,
            finished: departure.finished,
            evicted: departure.evicted,
            phase: phase(departure.phase)?,
            remaining: duration("departure.remaining", departure.remaining)?,
            oldest: (!departure.oldest.is_empty()).then_some(departure.oldest),
        }),
    })
}

pub fn count_to_pb(count: &Count) -> PbCount {
    match count {
        Count::Hello { node, boot } => PbCount::Hello(pb::Hello { node: node.to_string(), boot: boot.clone() }),
        Count::Live { revision, endpoints } => PbCount::Live(pb::Live {
            revision: revision.0,
            endpoints: endpoints.iter().map(live_endpoint_to_pb).collect(),
        }),
        Count::Change { revision, come, gone } => PbCount::Change(pb::Change {
            revision: revision.0,
            come: come.iter().map(live_endpoint_to_pb).collect(),
            gone: gone.iter().map(endpoint_key_to_pb).collect(),
        }),
        Count::Departure(departure) => PbCount::Departure(pb::Departure {
            drain: Some(drain_id_to_pb(&departure.drain)),
            endpoint: Some(endpoint_key_to_pb(&departure.endpoint)),
            total: departure.total,
            in_flight: departure.in_flight,
            finished: departure.finished,
            evicted: departure.evicted,
            phase: phase_to_pb(departure.phase),
            remaining: Some(duration_to_pb(departure.remaining)),
            oldest: departure.oldest.clone().unwrap_or_default(),
        }),
    }
}

fn live_endpoint_to_pb(live: &LiveEndpoint) -> pb::LiveEndpoint {
    pb::LiveEndpoint {
        endpoint: Some(endpoint_key_to_pb(&live.endpoint)),
        timeout: Some(duration_to_pb(live.policy.timeout)),
        policy: canonical_json(&live.policy),
        strained: live.strained,
        stay: live.stay.as_ref().map(|stay| pb::Stay {
            revision: stay.revision.0,
            weight_permille: stay.weight.permille().into(),
            remaining: Some(duration_to_pb(stay.remaining)),
            strained: stay.strained,
        }),
    }
}

pub fn directive(directive: Option<PbDirective>) -> Result<Directive, Invalid> {
    Ok(match directive.ok_or_else(|| Invalid::missing("directive"))? {
        PbDirective::Overlay(overlay) => {
            let entries = overlay.cordons.into_iter().chain(overlay.weights).map(overlay_entry);
            Directive::Overlay { entries: entries.collect::<Result<_, _>>()? }
        }
        PbDirective::Recorded(recorded) => {
            Directive::Recorded { drain: drain_id(recorded.drain)?, endpoint: endpoint_key(recorded.endpoint)? }
        }
    })
}

pub fn directive_to_pb(directive: &Directive) -> PbDirective {
    match directive {
        Directive::Overlay { entries } => {
            let (cordons, weights) = entries.iter().map(overlay_entry_to_pb).partition(|one| one.weight_permille == 0);
            PbDirective::Overlay(pb::Overlay { cordons, weights })
        }
        Directive::Recorded { drain, endpoint } => PbDirective::Recorded(pb::Recorded {
            drain: Some(drain_id_to_pb(drain)),
            endpoint: Some(endpoint_key_to_pb(endpoint)),
        }),
    }
}

fn live_endpoint(live: pb::LiveEndpoint) -> Result<LiveEndpoint, Invalid> {
    let timeout = duration("live.timeout", live.timeout)?;
    // A router of another release may say nothing else of its policy, or more than is known here.
    let policy =
        serde_json::from_slice(&live.policy).unwrap_or_else(|_| DrainPolicy { timeout, ..DrainPolicy::default() });
    let stay = live.stay.map(stay).transpose()?;
    Ok(LiveEndpoint { endpoint: endpoint_key(live.endpoint)?, policy, strained: live.strained, stay })
}

fn stay(stay: pb::Stay) -> Result<Stay, Invalid> {
    Ok(Stay {
        revision: Revision(stay.revision),
        weight: weight(stay.weight_permille)?,
        remaining: duration("stay.remaining", stay.remaining)?,
        strained: stay.strained,
    })
}

fn overlay_entry(entry: pb::OverlayEntry) -> Result<OverlayEntry, Invalid> {
    Ok(OverlayEntry {
        drain: drain_id(entry.drain)?,
        backend: BackendId::new(&entry.backend).map_err(|error| Invalid::new("entry.backend", error))?,
        endpoint: optional_digest("entry.endpoint_digest", &entry.endpoint_digest)?,
        weight: weight(entry.weight_permille)?,
        remaining: duration("entry.remaining", entry.remaining)?,
        disabled: entry.disabled,
        rate: entry.sessions_per_second,
    })
}

fn overlay_entry_to_pb(entry: &OverlayEntry) -> pb::OverlayEntry {
    pb::OverlayEntry {
        drain: Some(drain_id_to_pb(&entry.drain)),
        backend: entry.backend.to_string(),
        endpoint_digest: entry.endpoint.map(|digest| digest.as_bytes().to_vec()).unwrap_or_default(),
        remaining: Some(duration_to_pb(entry.remaining)),
        weight_permille: entry.weight.permille().into(),
        disabled: entry.disabled,
        sessions_per_second: entry.rate,
    }
}

fn weight(permille: u32) -> Result<Weight, Invalid> {
    let weight = u16::try_from(permille).ok().and_then(Weight::of);
    weight.ok_or_else(|| Invalid::new("weight_permille", format!("is at most 1000, not {permille}")))
}

/// What the operator `actor` asks for.
pub fn wanted(request: pb::StartRequest, actor: String) -> Result<Wanted, Invalid> {
    Ok(Wanted {
        backend: BackendId::new(&request.server).map_err(|error| Invalid::new("server", error))?,
        endpoint: (!request.endpoint.is_empty()).then(|| request.endpoint.clone()),
        weight: weight(request.weight_permille)?,
        disable: disable(&request)?,
        policy: policy(&request)?,
        actor,
    })
}

/// Each step is made durable, and told to all routers.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_secs(3600);

fn policy(request: &pb::StartRequest) -> Result<DrainOverlay, Invalid> {
    let named = DrainStrategy::ALL.into_iter().find(|strategy| strategy.as_str() == request.strategy);
    if named.is_none() && !request.strategy.is_empty() {
        let names = DrainStrategy::ALL.map(DrainStrategy::as_str).join("`, `");
        return Err(Invalid::new("strategy", format!("is one of `{names}`, not {:?}", request.strategy)));
    }
    let paced = request.rate != 0 || request.weight_reduction != 0 || request.interval.is_some();
    if (named.is_some() || paced) && request.weight_permille != 0 {
        return Err(Invalid::new("strategy", "is for what leaves, without a weight"));
    }
    if named == Some(DrainStrategy::Immediate) && request.timeout.is_some() {
        return Err(Invalid::new("timeout", "is not for `immediate`, which leaves calls no time"));
    }
    if let Some(strategy) = named.filter(|strategy| paced && *strategy != DrainStrategy::Progressive) {
        let steps = "which has no steps: `rate`, `weight_reduction` and `interval` are of `progressive`";
        let text = format!("is `{}`, {steps}", strategy.as_str());
        return Err(Invalid::new("strategy", text));
    }
    let some = |number: u32| (number != 0).then_some(number);
    let most = |field, number: Option<u32>, most: u32| match number {
        Some(number) if number > most => Err(Invalid::new(field, format!("is at most {most}, not {number}"))),
        number => Ok(number),
    };
    let interval = optional_duration("interval", request.interval)?;
    if interval.is_some_and(|interval| !(INTERVAL_MIN..=INTERVAL_MAX).contains(&interval)) {
        return Err(Invalid::new("interval", "is from 100 ms to 1 h"));
    }
    Ok(DrainOverlay {
        timeout: optional_duration("timeout", request.timeout)?,
        strategy: named,
        rate: most("rate", some(request.rate), 1_000_000)?,
        weight_reduction: most("weight_reduction", some(request.weight_reduction), 100)?,
        interval,
        ..DrainOverlay::default()
    })
}

fn disable(request: &pb::StartRequest) -> Result<bool, Invalid> {
    if request.disable && (!request.endpoint.is_empty() || request.weight_permille != 0) {
        return Err(Invalid::new("disable", "is for a whole server, without a weight"));
    }
    Ok(request.disable)
}

pub fn summary_to_pb(summary: &Summary) -> pb::Drain {
    let totals = summary.totals;
    pb::Drain {
        id: summary.id.to_string(),
        server: summary.backend.to_string(),
        cause: if summary.id.is_removal() { "removal" } else { "admin" }.into(),
        actor: summary.actor.clone().unwrap_or_default(),
        state: summary.state.as_str().into(),
        total: totals.total,
        in_flight: totals.in_flight,
        finished: totals.finished,
        evicted: totals.evicted,
        lost: totals.lost,
        started_unix_ms: summary.started.0,
        remaining: Some(duration_to_pb(summary.remaining)),
        oldest: summary.oldest.clone().unwrap_or_default(),
        routers: summary.routers.iter().map(router_share_to_pb).collect(),
        revision: summary.revision().unwrap_or_default().0,
        endpoint: summary.endpoint.map(|digest| digest.to_string()).unwrap_or_default(),
        weight_permille: summary.weight.permille().into(),
        disabled: summary.disabled,
        strategy: summary.strategy.map(DrainStrategy::as_str).unwrap_or_default().into(),
        eta: summary.eta.map(duration_to_pb),
        ended_unix_ms: summary.ended.unwrap_or_default().0,
        strained: summary.strained,
    }
}

fn router_share_to_pb(router: &RouterSummary) -> pb::RouterShare {
    let totals = router.totals;
    pb::RouterShare {
        node: router.node.to_string(),
        phase: phase_to_pb(router.phase),
        gone: router.gone,
        total: totals.total,
        in_flight: totals.in_flight,
        finished: totals.finished,
        evicted: totals.evicted,
        lost: totals.lost,
    }
}

fn drain_id(id: Option<pb::DrainId>) -> Result<DrainId, Invalid> {
    use pb::drain_id::Id;
    let id = id.ok_or_else(|| Invalid::missing("drain"))?;
    let started = WallTime(id.admin_started_unix_ms);
    Ok(match id.id.ok_or_else(|| Invalid::missing("drain"))? {
        Id::Removal(removal) => {
            DrainId::Removal { endpoint: endpoint_key(removal.endpoint)?, revision: Revision(removal.revision) }
        }
        Id::Admin(number) => DrainId::Admin { number, started },
    })
}

fn drain_id_to_pb(id: &DrainId) -> pb::DrainId {
    use pb::drain_id::{Id, Removal};
    let (id, started) = match id {
        DrainId::Removal { endpoint, revision } => {
            let endpoint = Some(endpoint_key_to_pb(endpoint));
            (Id::Removal(Removal { endpoint, revision: revision.0 }), WallTime::default())
        }
        DrainId::Admin { number, started } => (Id::Admin(*number), *started),
    };
    pb::DrainId { id: Some(id), admin_started_unix_ms: started.0 }
}

pub fn phase(value: i32) -> Result<Phase, Invalid> {
    match pb::Phase::try_from(value).unwrap_or_default() {
        pb::Phase::Cordoned => Ok(Phase::Cordoned),
        pb::Phase::Evicting => Ok(Phase::Evicting),
        pb::Phase::Closed => Ok(Phase::Closed),
        pb::Phase::Reopened => Ok(Phase::Reopened),
        pb::Phase::Unspecified => Err(Invalid::new("phase", format!("has no meaning here: {value}"))),
    }
}

pub fn phase_to_pb(phase: Phase) -> i32 {
    let phase = match phase {
        Phase::Cordoned => pb::Phase::Cordoned,
        Phase::Evicting => pb::Phase::Evicting,
        Phase::Closed => pb::Phase::Closed,
        Phase::Reopened => pb::Phase::Reopened,
    };
    phase.into()
}
