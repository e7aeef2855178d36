//! What each command prints on terminals of 80 and of 120 columns, word for word, and that it fits there.
//!
//! After a change that is meant, `INSTA_UPDATE=always cargo test -p only1mcp` writes the new texts.

mod errors;
mod servers;
mod status;

use std::collections::BTreeSet;

use clap::CommandFactory;
use model::Mask;
use unicode_width::UnicodeWidthStr;

use super::super::{Lines, events, import, show, tools};
use super::*;
use crate::{args::CommandLine, mcp_client::Answer};

/// An answer, by the name of its command and what is special about it.
pub(in crate::cli) type Golden = (String, Output);

/// Their stdout is for programs, or others wrote it: it is the same at any width.
const VERBATIM: [&str; 4] = ["call", "export", "logs", "show"];

/// They run until they are stopped, or print what is generated.
const WITHOUT_ANSWER: [&str; 7] = ["up", "healthcheck", "demo-server", "completions", "man", "schema", "connect"];

fn command(name: &str) -> &str {
    name.split('_').next().unwrap_or(name)
}

/// A line may only be wider than the terminal if it is a single word, such as a path.
pub(super) fn assert_fits(name: &str, lines: &Lines, columns: usize) {
    let shown = lines.within(Some(columns));
    let wide = shown.lines().find(|line| line.width() > columns && line.trim_start().contains(' '));
    assert_eq!(wide, None, "{name} at {columns} columns");
}

#[test]
fn each_answer_is_as_it_was_and_fits_terminals_of_80_and_of_120_columns() {
    let all = all();
    let names: BTreeSet<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.len() == all.len() && all.len() >= 60, "{} of {}", names.len(), all.len());
    for (name, output) in &all {
        assert_eq!(VERBATIM.contains(&command(name)), is_verbatim(&output.text), "{name}");
        for columns in [40, 80, 120] {
            if !is_verbatim(&output.text) {
                assert_fits(name, &output.text, columns);
            }
            assert_fits(name, &output.on_stderr(), columns);
        }
    }
    for (name, output) in all {
        let at = |columns| {
            let [out, err] = [&output.text, &output.on_stderr()].map(|lines| lines.within(Some(columns)));
            format!("--- stdout, {columns} columns\n{out}--- stderr, {columns} columns\n{err}")
        };
        insta::assert_snapshot!(name, format!("exit {}\n{}", output.code, [80, 120].map(at).concat()));
    }
}

/// Whether there is something, and no terminal is narrow enough to change it.
fn is_verbatim(lines: &Lines) -> bool {
    !lines.is_empty() && lines.within(Some(1)) == lines.as_str()
}

#[test]
fn no_command_that_answers_is_left_out() {
    let all = all();
    let known: BTreeSet<&str> = all.iter().map(|(name, _)| command(name)).collect();
    let line = CommandLine::command();
    for name in line.get_subcommands().map(clap::Command::get_name) {
        assert_ne!(known.contains(name), WITHOUT_ANSWER.contains(&name), "{name}");
    }
}

fn all() -> Vec<Golden> {
    let all = [
        status::states(),
        status::situations(),
        errors::all(),
        servers::drains(),
        servers::switches(),
        servers::restarts(),
        proposals(),
        past(),
        files(),
        trials(),
        as_clients_see_it(),
        logs(),
        diff::tests::golden(),
        events::tests::golden(),
        import::tests::golden(),
    ];
    all.into_iter().flatten().collect()
}

fn golden<const N: usize>(all: [(&str, Output); N]) -> Vec<Golden> {
    all.map(|(name, output)| (name.to_owned(), output)).into()
}

fn proposals() -> Vec<Golden> {
    let ended = |result: outcome::Result| Outcome { result: result.into(), revision: 41, ..Outcome::default() };
    let show = |outcome| changes::show(Some(outcome), &changes::Behind::default());
    let stages = ["parse", "prepare", "append", "swap"].map(|name| Stage { name: name.into(), duration: duration(12) });
    let warnings = vec!["server search is not up yet on router local: connection refused by 127.0.0.1:9000".into()];
    let applied = Outcome { stages: stages.into(), warnings, ..ended(outcome::Result::Applied) };
    let refused = Outcome { violations: vec![violation()], ..ended(outcome::Result::Refused) };
    let reason = "later did not come up: connection refused (0 of 1 changed servers came up, at least 50% must)";
    let noes = vec![NodeRefusal { node: "router-1".into(), reason: reason.into() }];
    let heals = Outcome { refusals: noes, next_try: duration(8000), ..ended(outcome::Result::Refused) };
    let routers = vec![("router-1".to_owned(), "${env:KEY} is not set".to_owned())];
    let behind = changes::Behind { routers, all: true };
    golden([
        ("reload", show(applied.clone())),
        ("reload_refused", show(refused)),
        ("reload_refused_by_a_router", show(heals)),
        ("reload_nothing_to_do", show(ended(outcome::Result::NoChange))),
        ("reload_undecided", show(ended(outcome::Result::Pending))),
        ("reload_no_router_can_hold_it", changes::show(Some(applied.clone()), &behind)),
        ("apply", show(applied)),
    ])
}

fn past() -> Vec<Golden> {
    let change =
        |server: &str, change: &str, keys| BackendChange { server: server.into(), change: change.into(), keys };
    let key = |key: &str, old: &str, new: &str| KeyChange { key: key.into(), old: old.into(), new: new.into() };
    let record = |revision: u64, source: &str, diff| Revision {
        revision,
        parent: revision - 1,
        digest: "12".repeat(32),
        actor: "uid:1000".into(),
        source: source.into(),
        time_unix_ms: 1_764_082_800_123 - 86_400_000 * (43 - revision),
        result: "applied".into(),
        diff,
        content_kept: true,
        ..Revision::default()
    };
    let filtered = change("crm", "adjusted", vec![key("tools", "", r#"["add","echo"]"#)]);
    let revisions = [
        record(43, "file", vec![filtered]),
        Revision {
            policy_changed: true,
            policy_keys: vec![key("naming", r#""none""#, r#""prefix""#)],
            reason: "search times out since 41".into(),
            ..record(42, "rollback to 40", vec![change("search", "removed", Vec::new())])
        },
        record(41, "api:team", vec![change("search", "added", Vec::new()), change("wiki", "added", Vec::new())]),
    ];
    let tools = |count: u8| (0..count).map(|tool| format!("tool{tool}")).collect::<Vec<_>>();
    let effects = history::Effects::from([
        ((43, "crm".to_owned()), diff::Effect { lost: tools(7), ..diff::Effect::default() }),
        ((41, "search".to_owned()), diff::Effect { gained: tools(1), ..diff::Effect::default() }),
        ((41, "wiki".to_owned()), diff::Effect { unknown: Some("not up yet".into()), ..diff::Effect::default() }),
    ]);
    golden([
        ("history", history::show(&revisions, &effects, &reading())),
        ("history_empty", history::show(&[], &history::Effects::new(), &reading())),
    ])
}

fn source(text: &str) -> config_file::Source {
    let (owner, name) = (model::Owner::file(), "only1mcp.yaml".into());
    config_file::Source { owner, name, format: config_file::Format::Yaml, text: text.to_owned() }
}

fn files() -> Vec<Golden> {
    let valid = "servers:\n- { id: crm, transport: { type: http, url: 'http://crm/mcp' } }\n";
    let secret = valid.replace(" } }", ", headers: { K: s3cret } } }");
    let missing = "servers:\n- { id: crm, transport: { type: stdio, command: /no/such/program } }\n";
    let wrong = "naming: prefx
servers:
- { id: crm, transport: { type: stdio, comand: cat } }
- { id: crm, transport: { type: http, url: nowhere } }
";
    let judge = |text| validate::judge("only1mcp.yaml", &source(text));
    let content = |text| config_file::parse(&[source(text)]).expect("it is a configuration");
    golden([
        ("validate", judge(valid)),
        ("validate_advice", judge(missing)),
        ("validate_errors", judge(wrong)),
        ("show", show::show("revision 41", &content(valid))),
        ("show_masked", show::show("revision 41", &Mask::new(b"as ever").snapshot(&content(&secret)))),
    ])
}

fn trials() -> Vec<Golden> {
    let outcome = |backend: &str, result, took| CandidateOutcome { endpoint: key(backend), result: Some(result), took };
    let reason = "initialize: server `search` answered with status 401; it wants a token (headers.Authorization)";
    let router = RouterTrial {
        node: "local".into(),
        outcomes: vec![
            outcome("files", Found::ReadyTools(14), duration(1200)),
            outcome("notes", Found::ReadyTools(1), None),
            outcome("search", Found::Failed(reason.into()), None),
            outcome("mail", Found::Unprobed(true), None),
        ],
        advice: vec!["server `files`: `tools` of its configuration names `red`, which it does not offer".into()],
    };
    let refusals = vec![NodeRefusal { node: "local".into(), reason: "tool names collide: read".into() }];
    let valid = || Output::done(Lines::of("only1mcp.yaml: valid, 4 servers"), serde_json::json!({ "valid": true }));
    let show = |trial: Trial| validate::trial::show(&trial, None, valid());
    let nothing = Trial { accepted: true, ..Trial::default() };
    let reason = NodeRefusal { node: String::new(), reason: "routers have not answered in time".into() };
    let late = Trial { timed_out: true, refusals: vec![reason], ..Trial::default() };
    golden([
        ("validate_try", show(Trial { accepted: true, routers: vec![router], ..Trial::default() })),
        ("validate_try_live_already", validate::trial::show(&nothing, Some(2), valid())),
        ("validate_try_nothing_to_start", show(nothing)),
        ("validate_try_out_of_time", show(late)),
        ("validate_try_refused", show(Trial { refusals, ..Trial::default() })),
    ])
}

fn as_clients_see_it() -> Vec<Golden> {
    let about = "Finds pages of the wiki by their words, the newest first, and says where in each page the words stand";
    let tools = vec![
        serde_json::json!({ "name": "wiki__find", "description": about }),
        serde_json::json!({ "name": "calculator__add" }),
    ];
    let text = format!("{about}, {about}\nand another line");
    let content = serde_json::json!([{ "type": "text", "text": text }]);
    let image = serde_json::json!([{ "type": "image", "mimeType": "image/png" }]);
    let listed = |tools, missing: &[(&str, &str)]| {
        let missing = missing.iter().map(|(server, reason)| ((*server).to_owned(), (*reason).to_owned())).collect();
        tools::listed(tools::Listed { tools, missing })
    };
    let answer = |result| tools::show(Answer { raw: String::new(), result });
    golden([
        ("tools", listed(tools.clone(), &[])),
        ("tools_missing", listed(tools, &[("dead", "its process exited with status 1"), ("slow", "starting")])),
        ("tools_none", listed(Vec::new(), &[])),
        ("call", answer(Ok(serde_json::json!({ "content": content })))),
        ("call_image", answer(Ok(serde_json::json!({ "content": image })))),
    ])
}

fn logs() -> Vec<Golden> {
    let row = |previous: Option<&str>, filter: &str, fallback: &str, remaining| log::Row {
        target: "/srv/somebody/.local/state/only1mcp/only1mcp-1a2b3c4d5e6f/admin.sock".into(),
        previous: previous.map(str::to_owned),
        log: GetLogResponse { filter: filter.into(), fallback: fallback.into(), remaining },
    };
    let said = vec![format!("usage: npx{}", " [--option VALUE]".repeat(9))];
    let stdio = |stderr, stray_output| Endpoint {
        key: key("files"),
        transport: "stdio".into(),
        stderr,
        stray_output,
        ..Endpoint::default()
    };
    let show = |node: &str, one: Endpoint| {
        let answer = InspectResponse { node: node.into(), endpoints: vec![one], ..InspectResponse::default() };
        super::super::logs::show("files", &[answer]).expect("there is such a server")
    };
    golden([
        ("log", log::show(&[row(None, "info", "", None)])),
        ("log_set", log::show(&[row(Some("info"), "info,router=debug", "info", duration(600_000))])),
        ("logs", show("local", stdio(said, vec!["hello".into()]))),
    ])
}
