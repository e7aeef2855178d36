//! Differences in the words of the file, and what clients notice of them.

use config_file::{Format, Source, parse};
use model::{Owner, Violation};
use wire::pb::{
    config::v1::{LayerMark, Outcome, outcome},
    router::v1::{Endpoint, InspectResponse, ToolNames},
};

use super::{Lists, Side, show};
use crate::cli::{
    changes,
    tests::{golden::Golden, shown},
    validate,
};

fn side(name: &str, text: &str, layers: &[(&str, &str)]) -> Side {
    let source = Source { owner: Owner::file(), name: name.into(), format: Format::Yaml, text: text.to_owned() };
    let snapshot = parse(&[source]).expect("it is a configuration");
    let keys = snapshot.backends.iter().flat_map(|backend| backend.endpoints().map(|(key, ..)| key));
    let keys = keys.map(|key| wire::endpoint_key_to_pb(&key)).collect();
    let layer = |(owner, mark): &(&str, &str)| LayerMark { owner: (*owner).into(), mark: (*mark).into() };
    let layers = layers.iter().map(layer).collect();
    Side::of_file(name.to_owned(), snapshot.digest().to_string(), snapshot, keys, layers)
}

/// What a router has listed of the servers of that side.
fn listed(lists: &mut Lists, side: &Side, servers: &[(&str, &[&str])]) {
    let offered = |server: &str| {
        let (_, tools) = servers.iter().find(|(id, _)| *id == server)?;
        Some(ToolNames { names: tools.iter().map(|tool| (*tool).to_owned()).collect() })
    };
    let endpoint = |key: &super::EndpointKey| Endpoint {
        key: Some(key.clone()),
        offered: offered(&key.backend),
        ..Endpoint::default()
    };
    lists.add(InspectResponse {
        endpoints: side.endpoints.iter().map(endpoint).collect(),
        ..InspectResponse::default()
    });
}

/// Before and after a change of all kinds, and what routers know of the servers.
fn sides() -> (Side, Side, Lists) {
    let old = side(
        "old.yaml",
        "naming: none
servers:
- { id: files, transport: { type: stdio, command: npx, args: [-y], env: { A: '1', B: '2' } } }
- { id: mail, transport: { type: http, url: 'http://mail/mcp' } }
- { id: crm, transport: { type: http, url: 'http://crm/mcp' } }
- { id: search, transport: { type: http, url: 'http://s/mcp', headers: { K: '${env:K}' } }, tools: [find] }
",
        &[("file", "1"), ("api:ops", "1")],
    );
    let new = side(
        "new.yaml",
        "drain: { graceful: { timeout_seconds: 60 } }
servers:
- { id: search, transport: { type: http, urls: ['http://s/mcp', 'http://t/mcp'] }, tools: [find] }
- { id: files, transport: { type: stdio, command: npx, args: [-y], env: { A: '1', C: '3' } }, critical: true }
- { id: crm, transport: { type: http, url: 'http://crm/mcp' }, tools: [add, echo, none] }
- { id: wiki, transport: { type: http, url: 'http://wiki/mcp' } }
- { id: plans, transport: { type: http, url: 'http://plans/mcp' }, tools: [plan] }
",
        &[("file", "2"), ("api:team", "1")],
    );
    let mut lists = Lists::default();
    let tools = ["add", "delete", "echo", "export", "import", "list", "merge", "search", "update"];
    listed(&mut lists, &old, &[("files", &["read"]), ("mail", &["send"]), ("crm", &tools)]);
    listed(&mut lists, &new, &[("wiki", &["find"])]);
    (old, new, lists)
}

pub(in crate::cli) fn golden() -> Vec<Golden> {
    let (old, new, lists) = sides();
    let live = outcome::Result::Applied.into();
    let outcome = Outcome { result: live, revision: 43, ..Outcome::default() };
    let mut undone = changes::show(Some(outcome), &changes::Behind::default());
    changes::undone(&mut undone, &new, &old, &[42], &lists);
    let outcome = Outcome { result: live, revision: 43, ..Outcome::default() };
    let mut forth = changes::show(Some(outcome), &changes::Behind::default());
    changes::undone(&mut forth, &old, &new, &[], &lists);
    let violation = Violation::new(None, "servers[0].id", "is taken by another server");
    let all = [
        ("diff", show(&old, &new, &lists)),
        ("diff_back", show(&new, &old, &lists)),
        ("diff_unknown", show(&old, &new, &Lists::default())),
        ("diff_unasked", show(&old, &new, &Lists { unasked: true, ..Lists::default() })),
        ("diff_none", show(&new, &new, &lists)),
        ("diff_with_no_configuration", validate::invalid("new.yaml", std::slice::from_ref(&violation))),
        ("apply_dry_run", show(&old, &new, &lists)),
        ("apply_dry_run_refused", validate::invalid("team.yaml", &[violation])),
        ("rollback", undone),
        ("rollback_to_what_was_undone", forth),
    ];
    all.map(|(name, output)| (name.to_owned(), output)).into()
}

#[test]
fn differences_in_the_words_of_the_file() {
    let (old, new, lists) = sides();
    let all = [shown(&show(&old, &new, &lists)), shown(&show(&new, &old, &lists)), shown(&show(&new, &new, &lists))];
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn what_no_router_has_listed_is_said_to_be_unknown() {
    let text =
        |tools: &str| format!("servers:\n- {{ id: crm, transport: {{ type: http, url: 'http://crm/mcp' }}{tools} }}\n");
    let (all, some) = (side("all.yaml", &text(""), &[]), side("some.yaml", &text(", tools: [add]"), &[]));
    let none = side("none.yaml", "allow_empty: true\nservers: []\n", &[]);
    let said =
        |old: &Side, new: &Side| show(old, new, &Lists::default()).json["servers"][0]["clients"]["unknown"].clone();
    assert_eq!(said(&all, &some), "no router has a list of what it offers");
    assert_eq!(said(&all, &none), "no router has a list of what it offered");
    assert_eq!(said(&none, &all), "what it offers is known once it is up");
    let unasked = Lists { unasked: true, ..Lists::default() };
    let clients = &show(&all, &some, &unasked).json["servers"][0]["clients"];
    assert_eq!(clients["unknown"], "routers were not asked; add --admin URL with the address of one");
    let critical = side("critical.yaml", &text(", critical: true"), &[]);
    assert!(said(&all, &critical).is_null(), "it shows what it showed before");

    let off = side("off.yaml", &text(", enabled: false"), &[]);
    let mut lists = Lists::default();
    listed(&mut lists, &all, &[("crm", &["add"])]);
    let clients = |old: &Side, new: &Side| show(old, new, &lists).json["servers"][0]["clients"].clone();
    assert_eq!(clients(&all, &off)["lost"], serde_json::json!(["add"]), "it is switched off");
    assert_eq!(clients(&off, &all)["gained"], serde_json::json!(["add"]));
}
