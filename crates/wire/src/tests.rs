//! Every message survives its translation to protobuf and back.

use std::sync::Arc;
use std::time::Duration;

use model::*;
use rollout::{Content, Directive, Findings, Refusal, Report};

use crate::config::{Said, Undecodable};
use crate::{config, drain, health, pb, words};

fn content(servers: &[(&str, &str)]) -> Content {
    let backend = |(id, command): &(&str, &str)| {
        let backend = Backend {
            id: BackendId::new(id).unwrap(),
            variants: vec![Variant {
                id: VariantId::only(),
                weight: 100,
                endpoints: vec![EndpointSpec {
                    transport: Transport::Stdio {
                        command: (*command).into(),
                        args: vec![],
                        env: Default::default(),
                        cwd: None,
                    },
                    isolation: Isolation::Shared,
                }],
            }],
            tools: None,
            policy: BackendPolicy::default(),
        };
        Arc::new(backend.into())
    };
    Content::new(Arc::new(Snapshot {
        policy: Policy { allow_empty: true, ..Policy::default() },
        backends: servers.iter().map(backend).collect(),
    }))
}

const ATTEMPT: AttemptId = AttemptId { epoch: 3, sequence: 9 };

fn key() -> EndpointKey {
    EndpointKey { backend: BackendId::new("b").unwrap(), variant: VariantId::only(), digest: Digest::of_bytes(b"x") }
}

#[test]
fn directives_survive() {
    let whole = content(&[("a", "x"), ("b", "y")]);
    for directive in [
        Directive::Prepare { attempt: ATTEMPT, content: whole.clone(), lease: Duration::from_millis(1500) },
        Directive::Renew { attempt: ATTEMPT, lease: Duration::from_secs(2) },
        Directive::Abort { attempt: ATTEMPT },
        Directive::Commit { attempt: ATTEMPT, revision: Revision(7), digest: whole.digest },
        Directive::Offer { revision: Revision(7), content: whole },
    ] {
        let spelled = config::directive_to_pb(&directive, None);
        assert_eq!(config::directive(Some(spelled), |_| None), Ok(directive));
    }
}

#[test]
fn a_difference_carries_only_what_differs() {
    let base = content(&[("a", "x"), ("b", "y"), ("c", "z")]);
    let next = content(&[("c", "z"), ("b", "changed"), ("d", "new")]);
    let offer = Directive::Offer { revision: Revision(2), content: next };
    let spelled = config::directive_to_pb(&offer, Some(&base));
    let pb::config::v1::follow_response::Directive::Offer(pb) = &spelled else { panic!("an offer") };
    let carried: Vec<_> = pb.content.as_ref().unwrap().backends.iter().map(|b| b.id.as_str()).collect();
    assert_eq!(carried, ["b", "d"]);
    let held = |digest: &Digest| (*digest == base.digest).then(|| Arc::clone(&base.snapshot));
    assert_eq!(config::directive(Some(spelled.clone()), held), Ok(offer));
    assert_eq!(config::directive(Some(spelled), |_| None), Err(Undecodable::BaseNotHeld(base.digest)));
}

#[test]
fn what_a_router_does_not_understand_it_refuses_by_name() {
    let check = |change: fn(&mut pb::config::v1::Content), expected: Refusal| {
        let offer = Directive::Offer { revision: Revision(2), content: content(&[("a", "x")]) };
        let mut spelled = config::directive_to_pb(&offer, None);
        let pb::config::v1::follow_response::Directive::Offer(pb) = &mut spelled else { panic!("an offer") };
        change(pb.content.as_mut().unwrap());
        let refused = Report::Nack { revision: Revision(2), refusal: expected };
        assert_eq!(config::directive(Some(spelled), |_| None), Err(Undecodable::Answer(refused)));
    };
    check(|content| content.features.push("time-travel".into()), Refusal::Feature("time-travel".into()));
    check(|content| content.order.clear(), Refusal::Damaged);
    check(|content| content.order.push("ghost".into()), Refusal::Damaged);
    check(
        |content| content.policy = br#"{"later":1}"#.to_vec(),
        Refusal::Feature(
            "a configuration key (unknown field `later`, expected one of `naming`, `instructions`, `dead`, `allow_empty`, \
             `source`, `validation`, `drain`, `health`, `ejection`, `history`, `limits` at line 1 column 8)"
                .into(),
        ),
    );
}

#[test]
fn reports_survive() {
    let outcomes = vec![
        CandidateOutcome {
            endpoint: key(),
            result: CandidateResult::Ready { tools: 4, took: Duration::from_millis(1200) },
        },
        CandidateOutcome { endpoint: key(), result: CandidateResult::Failed { reason: "exit 1".into() } },
        CandidateOutcome { endpoint: key(), result: CandidateResult::Unprobed },
    ];
    let refusals = [
        Refusal::TooFewReady { ready: 1, changed: 3, minimum_permille: 500, reasons: "x".into() },
        Refusal::Critical { backend: "b".into(), reason: "r".into() },
        Refusal::Secret("${env:X}".into()),
        Refusal::Names("n".into()),
        Refusal::Feature("f".into()),
        Refusal::NotHeld,
        Refusal::Silent,
        Refusal::Damaged,
    ];
    let mut reports = vec![
        Report::Hello {
            node: NodeId::new("r1").unwrap(),
            boot: "b".into(),
            applied: Revision(4),
            digest: Some(Digest::of_bytes(b"y")),
            features: vec!["endpoint_changes".into()],
        },
        Report::Vote { attempt: ATTEMPT, verdict: Ok(()), found: Findings { outcomes, advice: vec!["look".into()] } },
        Report::Ack { revision: Revision(4), digest: Digest::of_bytes(b"y") },
    ];
    for refusal in refusals {
        reports.push(Report::Vote { attempt: ATTEMPT, verdict: Err(refusal.clone()), found: Findings::default() });
        reports.push(Report::Nack { revision: Revision(4), refusal });
    }
    for report in reports {
        let request = pb::config::v1::FollowRequest {
            envelope: Some(crate::envelope(None, "", 1)),
            report: Some(config::report_to_pb(&report)),
        };
        assert_eq!(config::report(request), Ok(Said::Report(report)));
    }
}

#[test]
fn health_survives() {
    use ::health::{Observation, Outcome, Request};
    let outcomes = [
        Outcome::Ok { latency: Duration::from_micros(3) },
        Outcome::Failed { reason: "f".into() },
        Outcome::Starting { reason: "s".into(), failing: false },
        Outcome::Starting { reason: "s".into(), failing: true },
    ];
    let policy = HealthPolicy { jitter_permille: 0, ..HealthPolicy::default() };
    let mut observations = vec![
        Observation::Hello { node: NodeId::new("r").unwrap(), boot: "b".into() },
        Observation::Endpoints { endpoints: vec![key()], policy },
        Observation::Change { come: vec![key()], gone: vec![key(), key()], policy: HealthPolicy::default() },
    ];
    for outcome in outcomes {
        observations.push(Observation::Probed { endpoint: key(), probe: 8, outcome: outcome.clone() });
        observations.push(Observation::Seen { endpoint: key(), outcome });
    }
    for observation in observations {
        assert_eq!(health::observation(Some(health::observation_to_pb(&observation))), Ok(observation));
    }
    let timeout = Duration::from_secs(5);
    let nexts = [None, Some(Duration::from_millis(9700))];
    let mut requests = nexts.map(|next| Request::Probe { endpoint: key(), probe: 8, timeout, next }).to_vec();
    requests.extend(Verdict::ALL.map(|verdict| Request::Verdict { endpoint: key(), verdict }));
    for request in requests {
        assert_eq!(health::request(Some(health::request_to_pb(&request))), Ok(request));
    }
}

#[test]
fn drains_survive() {
    use ::drain::{Count, Departure, Directive, DrainId, LiveEndpoint, OverlayEntry, Phase, Stay};
    let policy = DrainPolicy { timeout: Duration::from_secs(10), ..DrainPolicy::default() };
    let (weight, remaining) = (Weight::of(250).unwrap(), Duration::from_secs(4));
    let stay = Stay { revision: Revision(2), weight, remaining, strained: true };
    let endpoints = vec![LiveEndpoint { endpoint: key(), policy, strained: true, stay: Some(stay) }];
    let live = Count::Live { revision: Revision(3), endpoints: endpoints.clone() };
    let spelled = drain::count_to_pb(&live);
    assert_eq!(drain::count(Some(spelled.clone())), Ok(live.clone()));
    // Another release says less of the policy, or more.
    for policy in [&b""[..], br#"{"later":1}"#] {
        let mut other = spelled.clone();
        let pb::drain::v1::attach_request::Count::Live(pb) = &mut other else { panic!("what is live") };
        pb.endpoints[0].policy = policy.to_vec();
        assert_eq!(drain::count(Some(other)), Ok(live.clone()));
    }
    let change = Count::Change { revision: Revision(3), come: endpoints, gone: vec![key(), key()] };
    assert_eq!(drain::count(Some(drain::count_to_pb(&change))), Ok(change));
    let ids = [
        DrainId::Removal { endpoint: key(), revision: Revision(3) },
        DrainId::Admin { number: 5, started: WallTime(7) },
    ];
    let phases = [Phase::Cordoned, Phase::Evicting, Phase::Closed, Phase::Reopened];
    for (drain, phase) in ids.iter().flat_map(|id| phases.map(|phase| (id.clone(), phase))) {
        let count = Count::Departure(Departure {
            drain: drain.clone(),
            endpoint: key(),
            total: 4,
            in_flight: 1,
            finished: 2,
            evicted: 1,
            phase,
            remaining: Duration::from_millis(250),
            oldest: Some("7".into()),
        });
        assert_eq!(drain::count(Some(drain::count_to_pb(&count))), Ok(count));
        let entry = OverlayEntry {
            drain: drain.clone(),
            backend: BackendId::new("b").unwrap(),
            endpoint: Some(Digest::of_bytes(b"z")),
            weight: Weight::of(250).unwrap(),
            remaining: Duration::from_secs(3),
            disabled: true,
            rate: 50,
        };
        for directive in [Directive::Overlay { entries: vec![entry] }, Directive::Recorded { drain, endpoint: key() }] {
            assert_eq!(drain::directive(Some(drain::directive_to_pb(&directive))), Ok(directive));
        }
    }
}

#[test]
fn a_drain_is_asked_for_by_a_strategy_and_its_numbers_and_nonsense_is_refused() {
    use pb::drain::v1::StartRequest;
    let plain = StartRequest { server: "files".into(), ..StartRequest::default() };
    let asked = |request: StartRequest| drain::wanted(request, "x".into());
    assert_eq!(asked(plain.clone()).unwrap().policy, DrainOverlay::default(), "as the configuration says");
    let slowly = StartRequest {
        strategy: "progressive".into(),
        rate: 20,
        weight_reduction: 5,
        interval: Some(words::duration_to_pb(Duration::from_secs(3))),
        ..plain.clone()
    };
    let policy = asked(slowly).unwrap().policy;
    assert_eq!((policy.strategy, policy.rate), (Some(DrainStrategy::Progressive), Some(20)));
    assert_eq!((policy.weight_reduction, policy.interval), (Some(5), Some(Duration::from_secs(3))));
    let zero = || Some(words::duration_to_pb(Duration::ZERO));
    for (wrong, field) in [
        (StartRequest { strategy: "slowly".into(), ..plain.clone() }, "strategy"),
        (StartRequest { strategy: "graceful".into(), weight_permille: 5, ..plain.clone() }, "strategy"),
        (StartRequest { strategy: "immediate".into(), timeout: zero(), ..plain.clone() }, "timeout"),
        (StartRequest { rate: 1_000_001, ..plain.clone() }, "rate"),
        (StartRequest { weight_reduction: 101, ..plain.clone() }, "weight_reduction"),
        (StartRequest { rate: 1, weight_permille: 5, ..plain.clone() }, "strategy"),
        (StartRequest { strategy: "immediate".into(), rate: 5, ..plain.clone() }, "which has no steps"),
        (StartRequest { strategy: "graceful".into(), weight_reduction: 5, ..plain.clone() }, "which has no steps"),
        (StartRequest { interval: zero(), ..plain }, "interval"),
    ] {
        let refused = asked(wrong).unwrap_err().to_string();
        assert!(refused.contains(field), "{field}: {refused}");
    }
}
