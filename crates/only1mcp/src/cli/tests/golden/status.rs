//! `status` and `top`: a server in each state, and what can be so around the servers.

use model::Condition;
use wire::pb::{config::v1::Pending, router::v1::Renamed};

use super::*;
use crate::cli::top;

fn router(state: &str, revision: u64, reason: &str) -> RouterStatus {
    RouterStatus {
        node: "local".into(),
        revision,
        digest: "12".repeat(32),
        state: state.into(),
        reason: reason.into(),
        servers: Vec::new(),
    }
}

/// A gateway with which nothing is wrong.
fn well() -> GetStatusResponse {
    GetStatusResponse {
        revision: 41,
        digest: "12".repeat(32),
        source: Some(Source {
            path: "/srv/somebody/only1mcp.yaml".into(),
            state: "following".into(),
            method: "notify".into(),
            ..Source::default()
        }),
        routers: vec![router("live", 41, "")],
        ..GetStatusResponse::default()
    }
}

fn inspected(endpoints: Vec<Endpoint>) -> InspectResponse {
    InspectResponse { node: "local".into(), listen: "127.0.0.1:8080".into(), endpoints, ..InspectResponse::default() }
}

fn show(answer: GetStatusResponse, detail: InspectResponse) -> Output {
    crate::cli::status::show(answer, BTreeMap::from([("local".to_owned(), detail)]))
}

fn crm(state: &str, verdict: Verdict, error: &str) -> Endpoint {
    let open = !["draining", "cordoned"].contains(&state);
    Endpoint {
        key: key("crm"),
        verdict: verdict.into(),
        transport: "stdio".into(),
        pid: 4711,
        tools: 14,
        tools_shown: 14,
        admission: if open { "open" } else { "cordoned" }.into(),
        error: error.into(),
        state: state.into(),
        state_for: duration(7_509_030),
        ..Endpoint::default()
    }
}

/// The server in each state that it can have while it is not switched off.
fn in_each_state() -> [Endpoint; Condition::ALL.len() - 1] {
    let recent = RecentCalls {
        window: duration(290_000),
        answered: 0,
        failed: 9,
        timed_out: 2,
        tool_errors: 0,
        p95: duration(537),
    };
    let oldest = OldestCall { tool: "export_everything".into(), request: "\"7\"".into(), age: duration(3_725_000) };
    let crashes = "its process exited with status 127; it said on stderr: sh: 1: npxx: not found";
    [
        Endpoint { in_flight: 2, oldest: Some(oldest), ..crm("draining", Verdict::Healthy, "") },
        crm("cordoned", Verdict::Healthy, ""),
        Endpoint {
            restarts: 1,
            last_error: "its process exited with status 3".into(),
            last_error_ago: duration(181_000),
            ..crm("healthy", Verdict::Healthy, "")
        },
        Endpoint {
            recent: Some(recent),
            ..crm("degraded", Verdict::Degraded, "2 calls without an answer, 0 with one")
        },
        crm("unknown", Verdict::Unknown, ""),
        Endpoint { pid: 0, tools: 0, tools_shown: 0, state_for: duration(9), ..crm("starting", Verdict::Starting, "") },
        Endpoint { stderr: vec!["slow".into()], ..crm("unhealthy", Verdict::Unhealthy, "ping: no answer within 5 s") },
        Endpoint {
            pid: 0,
            failures: 7,
            restarts: 15,
            next_attempt: duration(19_000),
            stray_output: vec!["usage".into()],
            ..crm("failing", Verdict::Failing, crashes)
        },
    ]
}

pub(super) fn states() -> Vec<Golden> {
    let state = |one: Endpoint| {
        let name = format!("status_{}", one.state);
        (name, show(well(), inspected(vec![one])))
    };
    let mut all: Vec<Golden> = in_each_state().map(state).into();
    let configured = ConfiguredServer { id: "crm".into(), disabled: true, ..ConfiguredServer::default() };
    let answer = GetStatusResponse { servers: vec![configured], ..well() };
    let off = show(answer, inspected(Vec::new()));
    assert_eq!(off.json["servers"][0]["state"], "disabled");
    all.push(("status_disabled".to_owned(), off));
    let names: BTreeSet<_> = all.iter().map(|(name, _)| &name["status_".len()..]).collect();
    assert_eq!(names, BTreeSet::from(Condition::NAMES));
    let up = || crm("cordoned", Verdict::Healthy, "");
    let down = Endpoint { pid: 0, ..crm("cordoned", Verdict::Failing, "its process exited with status 3") };
    for (how, disabled, one) in
        [("disabled", true, up()), ("disabled_while_down", true, down), ("drained", false, up())]
    {
        let mut output = show(well(), inspected(vec![one]));
        let (server, cause, actor) = ("crm".into(), "admin".into(), "uid:1000".into());
        drains::add_held(&[Drain { server, cause, actor, disabled, ..Drain::default() }], &mut output);
        all.push((format!("status_{how}_by_an_operator"), output));
    }
    let seen = show(well(), inspected(in_each_state().into()));
    let picture = top::picture(&reading(), std::time::Duration::from_secs(1), &seen);
    all.push(("top".to_owned(), Output::done(picture, serde_json::Value::Null)));
    all
}

/// A server with two URLs, one of which does not answer.
fn two_endpoints() -> Output {
    let at = |first: u8, address: &str, one: Endpoint| Endpoint {
        key: key("crm").map(|key| EndpointKey { digest: vec![first; 32], ..key }),
        transport: "http".into(),
        pid: 0,
        address: address.into(),
        ..one
    };
    let hung = crm("unhealthy", Verdict::Unhealthy, "ping: no answer within 5 s");
    let both = [at(0x3f, "10.0.0.7:9001", crm("healthy", Verdict::Healthy, "")), at(0x77, "10.0.0.8:9001", hung)];
    let output = show(well(), inspected(both.into()));
    let endpoints = &output.json["servers"][0]["endpoints"];
    assert_eq!((&endpoints[0]["address"], &endpoints[0]["digest"]), (&"10.0.0.7:9001".into(), &"3f".repeat(32).into()));
    assert!(output.text.as_str().contains("problem: server crm/77777777 is unhealthy"), "{:?}", output.text);
    output
}

/// config-manager is dead, and two routers answer.
fn without_config_manager() -> Output {
    let router = |node: &str, revision| InspectResponse {
        node: node.into(),
        revision,
        digest: "12".repeat(32),
        ..inspected(vec![crm("healthy", Verdict::Healthy, "")])
    };
    let routers = [router("router-1", 41), router("router-2", 40)];
    let away = "http://127.0.0.1:19441 cannot be reached: Connection refused (os error 111)";
    let output = crate::cli::status::show_routers(away, routers.map(|detail| (detail.node.clone(), detail)).into());
    let problems = output.json["problems"].as_array().map(Vec::as_slice).unwrap_or_default();
    assert!(problems.len() == 2 && problems[0] == format!("config-manager cannot be asked: {away}"), "{problems:?}");
    assert_eq!(output.code, runtime::exit::REFUSED);
    output
}

pub(super) fn situations() -> Vec<Golden> {
    let source = |state: &str| Source { state: state.into(), ..well().source.unwrap_or_default() };
    let refused = Source {
        violations: vec![violation()],
        refusals: vec![NodeRefusal { node: "local".into(), reason: "${env:KEY} is not set".into() }],
        next_try: duration(8000),
        ..source("refused")
    };
    let undone = "what the file says was undone by a rollback; it is not judged again until it changes, or by `only1mcp \
                  reload --force`";
    let rolled_back =
        Source { refusals: vec![NodeRefusal { node: String::new(), reason: undone.into() }], ..source("rolled_back") };
    let pending = Pending {
        source: "file".into(),
        actor: "uid:1000".into(),
        stage: "without_voter".into(),
        left_out: vec!["router-2".into(), "router-3".into()],
        ..Pending::default()
    };
    let earlier = Pending {
        source: "file".into(),
        actor: "file".into(),
        stage: "preparing".into(),
        outdated: true,
        ..Pending::default()
    };
    let edits = vec![earlier.clone(), Pending { stage: "merging".into(), outdated: false, ..earlier }];
    let layer = |owner: &str, name: &str| Layer { owner: owner.into(), name: name.into(), since_revision: 40 };
    let layers = vec![layer("api:team-search", "team-search"), layer("file", "/srv/somebody/only1mcp.yaml")];
    let renamed = |tool: &str| Renamed { server: "crm".into(), tool: tool.into(), exposed: format!("crm__{tool}") };
    let of_names = InspectResponse { renamed: vec![renamed("add"), renamed("echo")], ..inspected(Vec::new()) };
    let twenty = (0..22).map(|tool| renamed(&format!("tool{tool}"))).collect();
    let of_many = InspectResponse { renamed: twenty, ..inspected(Vec::new()) };
    let restarted = Endpoint {
        restarts: 2,
        last_error: "it was restarted: an operator asked for it; its process was ended by signal 9".into(),
        last_error_ago: duration(181_000),
        ..crm("healthy", Verdict::Healthy, "")
    };
    let behind = router("behind", 40, "cannot hold revision 41: ${env:KEY} is not set; will be tried again in 4 s");
    let none = |answer| show(answer, inspected(Vec::new()));
    golden([
        ("status_nothing_live", none(GetStatusResponse { revision: 0, routers: Vec::new(), ..well() })),
        ("status_refused", none(GetStatusResponse { source: Some(refused.clone()), ..well() })),
        ("status_rolled_back", none(GetStatusResponse { source: Some(rolled_back), rolled_back_to: 39, ..well() })),
        (
            "status_rolled_back_and_refused",
            none(GetStatusResponse { source: Some(refused), rolled_back_to: 39, ..well() }),
        ),
        ("status_file_is_gone", none(GetStatusResponse { source: Some(source("source_missing")), ..well() })),
        ("status_pending", none(GetStatusResponse { pending: vec![pending], attempt: "2-5".into(), ..well() })),
        ("status_edits_pending", none(GetStatusResponse { pending: edits, ..well() })),
        ("status_layers", none(GetStatusResponse { layers, ..well() })),
        ("status_router_behind", none(GetStatusResponse { routers: vec![behind], ..well() })),
        ("status_log_unsound", none(GetStatusResponse { log_fault: "revision 12 is not readable".into(), ..well() })),
        ("status_renamed", show(well(), of_names)),
        ("status_many_renamed", show(well(), of_many)),
        ("status_restarted", show(well(), inspected(vec![restarted]))),
        ("status_two_endpoints", two_endpoints()),
        ("status_without_config_manager", without_config_manager()),
    ])
}
