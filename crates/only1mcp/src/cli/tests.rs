//! What the answers of the services look like to people and to programs.

use std::collections::BTreeMap;

use wire::pb::{
    config::v1::{
        BackendChange, CandidateOutcome, ConfiguredServer, GetStatusResponse, KeyChange, Label as ConfiguredLabel,
        Layer, NodeRefusal, Outcome, Revision, RouterStatus, RouterTrial, ServerState, Source, Stage, Trial,
        candidate_outcome::Result as Found, outcome,
    },
    drain::v1::Drain,
    process::v1::GetLogResponse,
    router::v1::{Endpoint, InspectResponse, OldestCall, RecentCalls, RestartResponse, Restarted},
    words::v1::{EndpointKey, Verdict, Violation},
};

use super::{Output, changes, diff, drains, history, log, render, restart, status, validate};

pub(super) mod golden;

pub(super) fn shown(output: &Output) -> String {
    let Output { text, json, code, .. } = output;
    let complaints = &output.on_stderr();
    for lines in [text, complaints] {
        [40, 80, 120].into_iter().for_each(|columns| golden::assert_fits("an answer", lines, columns));
    }
    let on_a_pipe = text.as_str();
    // On terminals, where that is not the same.
    let narrow: String = [120, 80, 40]
        .into_iter()
        .map(|columns| (columns, text.within(Some(columns))))
        .filter(|(_, shown)| shown != on_a_pipe)
        .map(|(columns, shown)| format!("--- stdout, {columns} columns\n{shown}"))
        .collect();
    let complaints = complaints.as_str();
    format!("exit {code}\n--- stdout\n{on_a_pipe}{narrow}--- stderr\n{complaints}--- json\n{json:#}\n")
}

fn key(backend: &str) -> Option<EndpointKey> {
    Some(EndpointKey { backend: backend.into(), variant: "default".into(), digest: vec![0xab; 32] })
}

fn violation() -> Violation {
    Violation {
        file: "only1mcp.yaml".into(),
        line: 2,
        column: 9,
        path: "naming".into(),
        message: "expected `prefix` or `none`, found `prefx`".into(),
        suggestion: "prefix".into(),
    }
}

fn duration<T>(millis: u64) -> Option<T>
where
    std::time::Duration: TryInto<T>,
{
    std::time::Duration::from_millis(millis).try_into().ok()
}

/// A router with a server in each state.
fn inspected() -> InspectResponse {
    InspectResponse {
        node: "a".into(),
        listen: "127.0.0.1:8080".into(),
        endpoints: [well(), unwell()].concat(),
        exchanges_in_flight: 2,
        ..InspectResponse::default()
    }
}

fn well() -> Vec<Endpoint> {
    vec![
        Endpoint {
            key: key("files"),
            verdict: Verdict::Healthy.into(),
            transport: "stdio".into(),
            pid: 7,
            tools: 3,
            in_flight: 2,
            upstream_session: "s1".into(),
            admission: "cordoned".into(),
            stderr: vec!["warning: slow disk".into()],
            state: "draining".into(),
            state_for: duration(12_000),
            tools_shown: 2,
            recent: Some(RecentCalls {
                window: duration(290_000),
                answered: 117,
                failed: 1,
                timed_out: 2,
                tool_errors: 5,
                p95: duration(1250),
            }),
            oldest: Some(OldestCall { tool: "find".into(), request: "\"7\"".into(), age: duration(45_000) }),
            ..Endpoint::default()
        },
        Endpoint {
            key: key("clock"),
            verdict: Verdict::Healthy.into(),
            transport: "stdio".into(),
            pid: 8,
            tools: 1,
            tools_shown: 1,
            admission: "open".into(),
            weight_permille: 500,
            state: "healthy".into(),
            state_for: duration(180_000),
            restarts: 1,
            last_error: "its process exited with status 3".into(),
            last_error_ago: duration(181_000),
            ..Endpoint::default()
        },
    ]
}

fn unwell() -> Vec<Endpoint> {
    vec![
        Endpoint {
            key: key("search"),
            verdict: Verdict::Unhealthy.into(),
            transport: "http".into(),
            admission: "open".into(),
            error: "ping: no answer within 5s".into(),
            state: "unhealthy".into(),
            state_for: duration(65_000),
            ..Endpoint::default()
        },
        Endpoint {
            key: key("notes"),
            verdict: Verdict::Failing.into(),
            transport: "stdio".into(),
            admission: "open".into(),
            error: "initialize: its process exited with status 1; its stdout has lines that are no MCP: usage".into(),
            stray_output: vec!["usage".into()],
            state: "failing".into(),
            state_for: duration(200_000),
            failures: 7,
            restarts: 15,
            next_attempt: duration(19_000),
            ..Endpoint::default()
        },
        Endpoint {
            key: key("web"),
            verdict: Verdict::Starting.into(),
            transport: "http".into(),
            admission: "cordoned".into(),
            state: "starting".into(),
            state_for: duration(900),
            failures: 1,
            error: "initialize: connection refused".into(),
            ..Endpoint::default()
        },
        // A candidate is tried, and may never become a server.
        Endpoint { key: key("candidate"), role: "candidate".into(), ..Endpoint::default() },
    ]
}

#[test]
fn a_status_with_all_that_can_be_wrong() {
    let mail = ServerState {
        endpoint: key("mail"),
        verdict: Verdict::Starting.into(),
        transport: "http".into(),
        ..ServerState::default()
    };
    let router = |node: &str, revision, state: &str, reason: &str, servers| RouterStatus {
        node: node.into(),
        revision,
        digest: "12".repeat(32),
        state: state.into(),
        reason: reason.into(),
        servers,
    };
    let answer = GetStatusResponse {
        revision: 7,
        digest: "12".repeat(32),
        log_id: "log".into(),
        epoch: 2,
        source: Some(Source {
            path: "only1mcp.yaml".into(),
            state: "refused".into(),
            cursor: "34".repeat(32),
            violations: vec![violation()],
            refusals: vec![NodeRefusal { node: "b".into(), reason: "${env:KEY} is not set".into() }],
            method: "notify".into(),
            next_try: duration(8000),
        }),
        routers: vec![
            router("a", 7, "live", "", vec![]),
            router("b", 6, "behind", "${env:KEY} is not set", vec![mail]),
        ],
        attempt: String::new(),
        pending: Vec::new(),
        log_fault: String::new(),
        layers: vec![
            Layer { owner: "api:ops".into(), name: "ops".into(), since_revision: 4 },
            Layer { owner: "file".into(), name: "/etc/only1mcp.yaml".into(), since_revision: 0 },
        ],
        rolled_back_to: 5,
        servers: vec![
            ConfiguredServer { id: "old".into(), disabled: true, ..ConfiguredServer::default() },
            ConfiguredServer {
                id: "search".into(),
                description: "the wiki".into(),
                labels: vec![ConfiguredLabel { name: "team".into(), value: "docs".into() }],
                ..ConfiguredServer::default()
            },
        ],
    };
    let mut output = status::show(answer, BTreeMap::from([("a".to_owned(), inspected())]));
    let off = Drain {
        server: "files".into(),
        cause: "admin".into(),
        actor: "uid:0".into(),
        disabled: true,
        ..Drain::default()
    };
    drains::add_held(&[off], &mut output);
    insta::assert_snapshot!(shown(&output));
}

#[test]
fn trials() {
    let outcome = |backend: &str, result, took| CandidateOutcome { endpoint: key(backend), result: Some(result), took };
    let router = RouterTrial {
        node: "a".into(),
        outcomes: vec![
            outcome("files", Found::ReadyTools(14), duration(1200)),
            outcome("notes", Found::ReadyTools(1), None),
            outcome("search", Found::Failed("initialize: server `search` answered with status 401".into()), None),
            outcome("mail", Found::Unprobed(true), None),
        ],
        advice: vec!["server `files`: `tools` of its configuration names `red`, which it does not offer".into()],
    };
    let valid = || Output::done(render::Lines::of("only1mcp.yaml: valid"), serde_json::json!({ "valid": true }));
    let accepted = Trial { accepted: true, routers: vec![router], ..Trial::default() };
    let none = Trial { accepted: true, ..Trial::default() };
    let refusals = vec![NodeRefusal { node: "a".into(), reason: "tool names collide: read".into() }];
    let refused = Trial { refusals, ..Trial::default() };
    let all = [accepted, none, refused].map(|trial| shown(&validate::trial::show(&trial, None, valid())));
    insta::assert_snapshot!("trials", all.join("\n"));
}

#[test]
fn restarts() {
    let one = |previous_pid, pid, joined, error: &str| Restarted {
        key: key("files"),
        previous_pid,
        pid,
        joined,
        error: error.into(),
    };
    let answer = |node: &str, endpoints: Vec<Restarted>| RestartResponse { node: node.into(), endpoints };
    let done =
        [answer("a", vec![one(7, 9, false, ""), one(0, 10, false, "")]), answer("b", vec![one(0, 11, true, "")])];
    insta::assert_snapshot!("restart", shown(&restart::show("files", &done, None)));
    let failed = [answer("a", vec![one(7, 0, false, "initialize: its process exited with status 1")])];
    let refused = ("b".to_owned(), "there is no server `files` in the live revision".to_owned());
    let next = restart::show("files", &failed, None).next;
    assert!(next.is_some_and(|next| next.contains("goes on trying") && next.contains("`only1mcp logs files`")));
    assert_eq!(restart::show("files", &done, Some(&refused)).next, None);
    insta::assert_snapshot!("restart_failed", shown(&restart::show("files", &failed, Some(&refused))));
}

#[test]
fn outcomes() {
    let ended = |result: outcome::Result| Outcome { result: result.into(), revision: 7, ..Outcome::default() };
    let stages = ["parse", "prepare", "append"].map(|name| Stage { name: name.into(), duration: duration(12) });
    let applied = Outcome {
        stages: stages.into(),
        warnings: vec!["server search is not up yet: connection refused".into()],
        attempt: "2-5".into(),
        ..ended(outcome::Result::Applied)
    };
    let refused = Outcome { violations: vec![violation()], ..ended(outcome::Result::Refused) };
    let noes = [NodeRefusal {
        node: "router-1".into(),
        reason: "later did not come up: connection refused (0 of 1 changed servers came up, at least 50% must)".into(),
    }];
    let heals = Outcome { refusals: noes.into(), next_try: duration(8000), ..ended(outcome::Result::Refused) };
    let all = [applied, refused, heals, ended(outcome::Result::NoChange), ended(outcome::Result::Pending)];
    let all: Vec<String> =
        all.into_iter().map(|outcome| shown(&changes::show(Some(outcome), &changes::Behind::default()))).collect();
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn what_no_router_can_hold_is_not_done() {
    let outcome = || Outcome { result: outcome::Result::Applied.into(), revision: 7, ..Outcome::default() };
    let routers = vec![("a".to_owned(), "${env:KEY} is not set".to_owned())];
    let all = [true, false]
        .map(|all| shown(&changes::show(Some(outcome()), &changes::Behind { routers: routers.clone(), all })));
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn a_record_of_history() {
    let key = |key: &str, old: &str, new: &str| KeyChange { key: key.into(), old: old.into(), new: new.into() };
    let change = |server: &str, change: &str| BackendChange {
        server: server.into(),
        change: change.into(),
        keys: if server == "mail" {
            vec![
                key("tools", "", r#"["add","echo"]"#),
                key("transport.args", &format!("{:?}", ["long"; 20]), "[]"),
                key("critical", "true", ""),
            ]
        } else {
            Vec::new()
        },
    };
    let revision = Revision {
        revision: 8,
        parent: 7,
        digest: "12".repeat(32),
        actor: "uid:1000".into(),
        source: "rollback to 6".into(),
        time_unix_ms: 1_764_082_800_123,
        result: "applied".into(),
        diff: vec![change("files", "added"), change("search", "removed"), change("mail", "adjusted")],
        policy_changed: true,
        content_kept: true,
        reason: "too slow".into(),
        without: vec![],
        policy_keys: vec![key("naming", r#""none""#, r#""prefix""#)],
    };
    let lost = ["add", "delete"].map(str::to_owned).into();
    let mail = diff::Effect { lost, ..diff::Effect::default() };
    let effects = history::Effects::from([((8, "mail".to_owned()), mail)]);
    insta::assert_snapshot!("history", shown(&history::show(&[revision], &effects, &reading())));
}

fn reading() -> render::Reading {
    render::Reading::at(jiff::tz::TimeZone::UTC, 1_764_083_000_000)
}

#[test]
fn drains_of_each_kind() {
    let reading = reading();
    let drain = Drain {
        id: "3".into(),
        server: "search".into(),
        cause: "removal".into(),
        state: "done".into(),
        total: 5,
        finished: 3,
        evicted: 1,
        lost: 1,
        started_unix_ms: 1_764_082_800_123,
        revision: 8,
        ..Drain::default()
    };
    insta::assert_snapshot!("drains", shown(&drains::show_all(std::slice::from_ref(&drain), true, &reading)));
    let weighted = Drain {
        id: "a4".into(),
        endpoint: "ab".repeat(32),
        weight_permille: 250,
        state: "weighted".into(),
        cause: "admin".into(),
        revision: 0,
        ..drain.clone()
    };
    let held = Drain { id: "a2".into(), cause: "admin".into(), revision: 0, ..drain.clone() };
    let cancelled = [
        drains::cancelled(&[held.clone(), weighted.clone()], &[]),
        drains::cancelled(&[held], std::slice::from_ref(&weighted)),
    ];
    insta::assert_snapshot!("drain_cancelled", cancelled.iter().map(shown).collect::<String>());
    let off = Drain {
        id: "a5".into(),
        cause: "admin".into(),
        state: "draining".into(),
        disabled: true,
        revision: 0,
        in_flight: 2,
        remaining: duration(30_000),
        ..drain.clone()
    };
    let calm = Drain { state: "done".into(), in_flight: 0, ..off.clone() };
    let switched = [drains::disabled(&off), drains::disabled(&calm), drains::show_all(&[calm], false, &reading)];
    insta::assert_snapshot!("disabled", switched.iter().map(shown).collect::<String>());
    let fresh = Drain { state: "running".into(), remaining: duration(30_000), ..drain.clone() };
    insta::assert_snapshot!("drain_not_counted", shown(&drains::show(&fresh, false, "")));
    insta::assert_snapshot!("drain", shown(&drains::show(&drain, true, "")));
    let falling = Drain {
        endpoint: "cd".repeat(32),
        strategy: "progressive".into(),
        weight_permille: 700,
        disabled: false,
        in_flight: 0,
        eta: duration(37_000),
        remaining: duration(37_000),
        ..off
    };
    let at_once = Drain { strategy: "graceful".into(), weight_permille: 0, ..falling.clone() };
    let asked = [drains::show(&falling, false, "progressive"), drains::show(&at_once, false, "progressive")];
    let listed = drains::show_all(&[falling], false, &reading);
    insta::assert_snapshot!("drain_step_by_step", asked.iter().chain([&listed]).map(shown).collect::<String>());
}

#[test]
fn what_operators_keep_from_calls_is_said_with_the_command_that_ends_it() {
    let drain = |server: &str, state: &str| Drain {
        id: "a3".into(),
        server: server.into(),
        cause: "admin".into(),
        actor: "uid:1000".into(),
        state: state.into(),
        ..Drain::default()
    };
    let endpoint = Drain { endpoint: "ab".repeat(32), ..drain("search", "done") };
    let weighted = Drain { weight_permille: 250, ..endpoint.clone() };
    let removed = Drain { cause: "removal".into(), ..drain("old", "draining") };
    let off = Drain { disabled: true, ..drain("mail", "done") };
    let held = [drain("memory", "draining"), endpoint, weighted.clone(), removed.clone(), off];
    let mut status = Output::done(render::Lines::default(), serde_json::json!({ "servers": [{ "id": "memory" }] }));
    drains::add_held(&held, &mut status);
    let notes = [
        "note: server memory is drained by an operator (uid:1000): `only1mcp enable memory` gives it calls again",
        "note: endpoint search/abababab is drained by an operator (uid:1000): `only1mcp drain --cancel a3` gives it calls again",
        "note: server mail is disabled by an operator (uid:1000): `only1mcp enable mail` gives it calls again",
    ];
    assert_eq!(status.text.as_str().lines().collect::<Vec<_>>(), notes);
    assert_eq!(status.json["servers"][0]["disabled_by_operator"], false);

    let note = |drain: &Drain| drains::show(drain, false, "").text.as_str().lines().nth(1).map(str::to_owned);
    let tells = |how: &str| Some(format!("note: `only1mcp drains` shows how it goes; {how} again"));
    assert_eq!(note(&drain("memory", "draining")), tells("`only1mcp enable memory` gives memory calls"));
    let share = "`only1mcp drain --cancel a3` gives search/abababab its share of the calls";
    assert_eq!(note(&weighted), tells(share));
    assert_eq!((note(&removed), note(&drain("memory", "cancelled"))), (None, None));
}

/// The worst text that servers, services and other callers could send.
const EVIL: &str = "a\u{1b}[2J\r\nproblem: forged\u{9b}31m\u{202e}\u{200b}";

#[test]
fn nothing_that_is_said_forges_a_line_or_speaks_to_the_terminal() {
    let endpoint = Endpoint { key: key("files"), error: EVIL.into(), transport: EVIL.into(), ..Endpoint::default() };
    let router =
        RouterStatus { node: EVIL.into(), reason: EVIL.into(), state: "behind".into(), ..RouterStatus::default() };
    let answer = GetStatusResponse { log_fault: EVIL.into(), routers: vec![router], ..GetStatusResponse::default() };
    let detail = InspectResponse { node: EVIL.into(), endpoints: vec![endpoint], ..InspectResponse::default() };
    let outcome =
        Outcome { warnings: vec![EVIL.into()], result: outcome::Result::Applied.into(), ..Outcome::default() };
    let revision = Revision { reason: EVIL.into(), actor: EVIL.into(), ..Revision::default() };
    let drain = Drain { server: EVIL.into(), state: EVIL.into(), ..Drain::default() };
    let log = GetLogResponse { filter: EVIL.into(), ..GetLogResponse::default() };
    let outputs = [
        status::show(answer, BTreeMap::from([(EVIL.to_owned(), detail)])),
        changes::show(Some(outcome), &changes::Behind { routers: vec![(EVIL.into(), EVIL.into())], all: false }),
        history::show(&[revision], &history::Effects::new(), &render::Reading::now()),
        drains::show_all(std::slice::from_ref(&drain), true, &render::Reading::now()),
        drains::cancelled(std::slice::from_ref(&drain), std::slice::from_ref(&drain)),
        drains::show(&drain, false, ""),
        log::show(&[log::Row { target: EVIL.into(), previous: Some(EVIL.into()), log }]),
    ];
    for output in outputs {
        for text in [output.text.as_str(), output.complaints.as_str()] {
            assert!(text.lines().all(|line| runtime::escape::line(line) == line), "{text:?}");
            assert!(!text.contains("\nproblem: forged"), "{text:?}");
        }
        assert!(output.text.as_str().contains("forged") || output.complaints.as_str().contains("forged"));
    }
}

#[test]
fn logs_of_several_services() {
    let row = |target: &str, previous: Option<&str>, filter: &str, fallback: &str, remaining| log::Row {
        target: target.into(),
        previous: previous.map(str::to_owned),
        log: GetLogResponse { filter: filter.into(), fallback: fallback.into(), remaining },
    };
    let rows = [
        row("http://10.0.0.7:9441", None, "info", "", None),
        row("http://10.0.0.8:9442", Some("info"), "info,router=debug", "info", duration(600_000)),
    ];
    insta::assert_snapshot!(shown(&log::show(&rows)));
}

#[test]
fn a_table_holds_a_cell_of_any_length() {
    let long = "M".repeat(1 << 17);
    let table = render::table(
        ["SERVER", "ERROR", "NEXT"],
        &[["small".to_owned(), long.clone(), "-".to_owned()], ["other".to_owned(), "none".to_owned(), "-".to_owned()]],
    );
    let lines: Vec<_> = table.as_str().lines().collect();
    assert!(lines[1].contains(&long), "all of it");
    assert!(lines[0].len() < 500 && lines[2].len() < 500, "the others are not as wide");
}
