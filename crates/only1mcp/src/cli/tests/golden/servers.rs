//! What operators do with single servers: drains, switches, restarts.

use super::*;

fn drain(id: &str, state: &str) -> Drain {
    Drain {
        id: id.into(),
        server: "search".into(),
        cause: "admin".into(),
        actor: "uid:1000".into(),
        state: state.into(),
        total: 5,
        started_unix_ms: 1_764_082_800_123,
        remaining: duration(28_000),
        ..Drain::default()
    }
}

fn runs() -> Drain {
    let routers = vec![wire::pb::drain::v1::RouterShare::default()];
    Drain { in_flight: 3, finished: 2, routers, ..drain("a1", "draining") }
}

fn over() -> Drain {
    let ended = Drain { ended_unix_ms: 1_764_082_830_623, ..drain("41-search", "done") };
    Drain { finished: 3, evicted: 1, lost: 1, revision: 41, cause: "removal".into(), ..ended }
}

fn weighted() -> Drain {
    Drain { endpoint: "ab".repeat(32), weight_permille: 250, ..drain("a2", "weighted") }
}

/// A weight for a server with these endpoints, or for the one of them that it names.
fn weighted_of(endpoint: &str, digests: &[u8]) -> Output {
    use crate::cli::drains::{show, tell_alone};
    let endpoints = digests.iter().map(|digest| Endpoint {
        key: key("search").map(|key| EndpointKey { digest: vec![*digest; 32], ..key }),
        role: "live".into(),
        ..Endpoint::default()
    });
    let router = InspectResponse { endpoints: endpoints.collect(), ..InspectResponse::default() };
    let drain = Drain { endpoint: endpoint.into(), ..weighted() };
    let mut output = show(&drain, false, "");
    tell_alone(&drain, &[router, InspectResponse::default()], &mut output);
    output
}

pub(super) fn drains() -> Vec<Golden> {
    use crate::cli::{
        drains::{cancelled, show, show_all},
        stats,
    };
    let others = weighted_of(&"ab".repeat(32), &[0xab, 0x3f]);
    assert_eq!(
        others.text.as_str(),
        show(&weighted(), false, "").text.as_str(),
        "the other one takes what it is not given"
    );
    golden([
        ("drains", show_all(&[runs(), weighted(), over()], true, &reading())),
        ("drains_none", show_all(&[], true, &reading())),
        ("drains_none_runs", show_all(&[], false, &reading())),
        ("drain", show(&runs(), false, "")),
        ("drain_joined", show(&runs(), true, "")),
        ("drain_not_counted", show(&drain("a1", "draining"), false, "")),
        ("drain_weighted", show(&weighted(), false, "")),
        ("drain_weighted_alone", weighted_of("", &[0xab])),
        ("drain_weighted_alike", weighted_of("", &[0xab, 0x3f])),
        ("drain_over", show(&over(), false, "")),
        ("stats", stats::show(&[over(), runs()])),
        ("stats_none", stats::show(&[])),
        ("drain_cancelled", cancelled(&[runs()], &[])),
        ("drain_cancelled_in_part", cancelled(&[runs()], &[weighted()])),
    ])
}

pub(super) fn switches() -> Vec<Golden> {
    use crate::cli::drains::{cancelled, configured_off, disabled, enabled_already};
    let off = |in_flight| Drain { disabled: true, in_flight, ..runs() };
    golden([
        ("disable", disabled(&off(2))),
        ("disable_idle", disabled(&off(0))),
        ("disable_not_counted", disabled(&drain("a1", "draining"))),
        ("enable", cancelled(&[off(0)], &[])),
        ("enable_nothing_to_do", enabled_already("search")),
        ("enable_off_in_the_configuration", configured_off("search", None)),
    ])
}

pub(super) fn restarts() -> Vec<Golden> {
    let one = |previous_pid, pid, error: &str| Restarted {
        key: key("files"),
        previous_pid,
        pid,
        joined: false,
        error: error.into(),
    };
    let answer = |one| vec![RestartResponse { node: "local".into(), endpoints: vec![one] }];
    let reason = "initialize: its process exited with status 3; its stdout has lines that are no MCP: not today";
    let other = ("router-2".to_owned(), "there is no server `files` in the live revision".to_owned());
    golden([
        ("restart", restart::show("files", &answer(one(4711, 4712, "")), None)),
        ("restart_of_none", restart::show("files", &answer(one(0, 4712, "")), None)),
        ("restart_failed", restart::show("files", &answer(one(4711, 0, reason)), None)),
        ("restart_in_part", restart::show("files", &answer(one(4711, 4712, "")), Some(&other))),
    ])
}
