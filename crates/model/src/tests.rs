//! Properties of the words themselves.

use std::sync::Arc;

use crate::*;

fn backend(id: &str, command: &str) -> Backend {
    Backend {
        id: BackendId::new(id).unwrap(),
        variants: vec![Variant {
            id: VariantId::only(),
            weight: 100,
            endpoints: vec![EndpointSpec {
                transport: Transport::Stdio {
                    command: command.into(),
                    args: vec![],
                    env: Default::default(),
                    cwd: None,
                },
                isolation: Isolation::Shared,
            }],
        }],
        tools: None,
        policy: BackendPolicy::default(),
    }
}

fn snapshot(backends: &[(&str, &str)]) -> Snapshot {
    Snapshot {
        policy: Policy::default(),
        backends: backends.iter().map(|(id, command)| Arc::new(backend(id, command).into())).collect(),
    }
}

#[test]
fn canonical_form_reads_back_and_leaves_defaults_out() {
    let one = snapshot(&[("a", "x")]);
    let (bytes, digest) = one.canonical();
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert_eq!(
        text,
        r#"{"backends":[{"id":"a","variants":[{"endpoints":[{"transport":{"command":"x","type":"stdio"}}],"id":"default","weight":100}]}]}"#
    );
    let back: Snapshot = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(back, one);
    assert_eq!(back.digest(), digest);
    assert_eq!(Digest::try_from(digest.to_string()).unwrap(), digest);
}

#[test]
fn names_and_limits_do_not_reconnect() {
    let before = backend("a", "x");
    let mut after = before.clone();
    after.tools = Some(vec!["read".into()]);
    let keys = |b: &Backend| b.endpoints().map(|(key, ..)| key).collect::<Vec<_>>();
    assert_eq!(keys(&before), keys(&after));
    assert_ne!(before.digest(), after.digest());
}

#[test]
fn diff_tells_what_happened_to_each_server() {
    let check = |old: &[(&str, &str)], new: &[(&str, &str)], expected: &[(&str, Change)]| {
        let diff = Diff::between(&snapshot(old), &snapshot(new));
        let got: Vec<_> = diff.backends.iter().map(|entry| (entry.id.as_str(), entry.change)).collect();
        assert_eq!(got, expected);
    };
    check(&[("a", "x")], &[("a", "x")], &[]);
    check(&[("a", "x")], &[("b", "x")], &[("a", Change::Removed), ("b", Change::Added)]);
    check(
        &[("a", "x"), ("b", "x"), ("c", "x")],
        &[("b", "x"), ("c", "y")],
        &[("a", Change::Removed), ("c", Change::Reconnected)],
    );
    check(&[("a", "x"), ("b", "x")], &[("b", "x"), ("a", "x")], &[("a", Change::Moved), ("b", Change::Moved)]);
    let diff = Diff::between(&snapshot(&[("a", "x"), ("c", "x")]), &snapshot(&[("b", "x"), ("c", "y")]));
    assert_eq!(diff.summary(8), "-a +b ~c");
    assert_eq!(diff.summary(1), "-a and 2 more");
    assert_eq!(diff.counts(), Counts { added: 1, removed: 1, changed: 1 });
}

/// Every list of at most three servers, each in one of two forms.
fn lists() -> Vec<Vec<(&'static str, &'static str)>> {
    let mut lists = vec![Vec::new()];
    for at in 0.. {
        let Some(list) = lists.get(at).cloned() else { break };
        let absent = ["a", "b", "c"].into_iter().filter(|id| list.iter().all(|(have, _)| have != id));
        let longer = absent.flat_map(|id| ["x", "y"].map(|form| [&list[..], &[(id, form)]].concat()));
        lists.extend(longer.collect::<Vec<_>>());
    }
    lists
}

#[test]
fn a_diff_is_the_same_whatever_stands_around_the_lists() {
    let around = |list: &[_], form| snapshot(&[&[("first", form)], list, &[("last", form)]].concat());
    let lists = lists();
    for (old, new) in lists.iter().flat_map(|old| lists.iter().map(move |new| (old, new))) {
        let diff = |same| {
            let forms = if same { ["x", "x"] } else { ["x", "y"] };
            let mut diff = Diff::between(&around(old, forms[0]), &around(new, forms[1]));
            diff.backends.retain(|entry| !["first", "last"].contains(&entry.id.as_str()));
            diff
        };
        assert_eq!(diff(true), diff(false), "{old:?} {new:?}");
        assert_eq!(diff(true), Diff::between(&snapshot(old), &snapshot(new)), "{old:?} {new:?}");
    }
}

#[test]
fn a_server_that_is_switched_off_needs_no_connection_and_one_that_is_switched_on_does() {
    let of = |enabled, command| {
        let mut one = backend("a", command);
        one.policy.enabled = enabled;
        Snapshot { policy: Policy::default(), backends: vec![Arc::new(one.into())] }
    };
    for (old, new, expected) in [
        ((true, "x"), (false, "x"), Change::Adjusted),
        ((false, "x"), (false, "y"), Change::Adjusted),
        ((false, "x"), (true, "x"), Change::Reconnected),
        ((true, "x"), (true, "y"), Change::Reconnected),
    ] {
        let diff = Diff::between(&of(old.0, old.1), &of(new.0, new.1));
        assert_eq!(diff.backends.iter().map(|one| one.change).collect::<Vec<_>>(), [expected], "{old:?} {new:?}");
    }
}

#[test]
fn templates() {
    let text = |t: &str| Piece::Text(t.into());
    let check = |source: &str, expected: Result<Vec<Piece>, TemplateError>| {
        assert_eq!(Template::parse(source).map(|t| t.0), expected, "{source}");
    };
    check("plain", Ok(vec![text("plain")]));
    check("", Ok(vec![text("")]));
    check("a${env:X}b", Ok(vec![text("a"), Piece::Reference(Reference::Env("X".into())), text("b")]));
    check("$${env:X}", Ok(vec![text("${env:X}")]));
    check("${file:/run/x}", Ok(vec![Piece::Reference(Reference::File("/run/x".into()))]));
    check("${file:run/x}", Err(TemplateError::Unknown("file".into())));
    check("${env:}", Err(TemplateError::Unknown("env".into())));
    check("${vault:kv/x}", Err(TemplateError::Unknown("vault".into())));
    for hidden in ["${sk-ant-1}", "${secret}", "${:secret}", "${Bearer:x}", "${s3cret:x}", "${muchtoolong:x}", "${}"] {
        check(hidden, Err(TemplateError::NoReference));
    }
    check("${env:X", Err(TemplateError::Unclosed));
}

#[test]
fn wall_time_is_a_date() {
    assert_eq!(WallTime(0).to_string(), "1970-01-01T00:00:00.000Z");
    assert_eq!(WallTime(1_709_164_800_123).to_string(), "2024-02-29T00:00:00.123Z");
    assert_eq!(WallTime(1_798_761_599_999).to_string(), "2026-12-31T23:59:59.999Z");
}

#[test]
fn ids_are_checked_also_when_read() {
    assert!(serde_json::from_str::<BackendId>("\"a b\"").is_err());
    assert!(BackendId::new("-a").is_err());
    assert!(BackendId::new(&"a".repeat(65)).is_err());
    assert!(BackendId::new("a.b-c_D9").is_ok());
}

#[test]
fn a_policy_is_written_only_where_it_differs() {
    let policy = Policy {
        limits: Limits { request_bytes: 7, ..Limits::default() },
        validation: ValidationPolicy { two_phase_commit: false, ..ValidationPolicy::default() },
        ..Policy::default()
    };
    let text = String::from_utf8(canonical_json(&policy)).unwrap();
    assert_eq!(text, r#"{"limits":{"request_bytes":7},"validation":{"two_phase_commit":false}}"#);
    assert_eq!(serde_json::from_str::<Policy>(&text).unwrap(), policy);
}

#[test]
fn a_snapshot_of_parts_written_before_has_the_digest_of_the_whole() {
    let policy = Policy { allow_empty: true, ..Policy::default() };
    let whole = snapshot(&[("a", "x"), ("b", "y"), ("c", "z")]);
    let mut odd = backend("odd", "\"\u{e9}\n");
    (odd.tools, odd.policy.connect, odd.policy.critical) =
        (Some(vec!["t".into()]), Some(std::time::Duration::from_millis(1500)), true);
    let odd = Snapshot { policy: policy.clone(), backends: vec![Arc::new(odd.into())] };
    for mut one in [Snapshot::default(), Snapshot { policy, ..Snapshot::default() }, whole.clone(), odd] {
        assert_eq!(one.canonical(), (canonical_json(&one), Digest::of(&one)));
        one.backends.extend(whole.backends.iter().cloned());
        assert_eq!(one.canonical(), (canonical_json(&one), Digest::of(&one)), "some of them were written before");
    }
}

#[test]
fn what_is_equal_is_shared_and_what_is_asked_for_in_any_order_is_found() {
    let live = snapshot(&[("a", "x"), ("b", "y"), ("c", "z"), ("d", "w")]);
    let mut next = snapshot(&[("d", "w"), ("b", "other"), ("new", "x"), ("a", "x"), ("c", "z")]);
    let before = next.clone();
    next.share(&live);
    assert_eq!(next, before);
    let shared = |backend: &&Arc<FixedBackend>| live.backends.iter().any(|held| Arc::ptr_eq(held, backend));
    let shared: Vec<_> = next.backends.iter().filter(shared).map(|backend| backend.id.as_str()).collect();
    assert_eq!(shared, ["d", "a", "c"]);
    let mut lookup = live.lookup();
    for id in ["a", "b", "d", "none", "c", "d", "a"] {
        let id = BackendId::new(id).unwrap();
        assert_eq!(lookup.find(&id), live.backend(&id), "{id}");
    }
}

#[test]
fn the_policy_of_a_backend_stands_among_its_keys_and_an_unknown_key_is_refused_by_name() {
    let mut odd = backend("odd", "x");
    odd.policy = BackendPolicy {
        enabled: false,
        description: Some("odd".into()),
        labels: [("team".into(), "x".into())].into(),
        critical: true,
        replace: ReplaceMode::StopFirst,
        restart_unhealthy: true,
        drain: DrainOverlay { timeout: Some(std::time::Duration::from_secs(30)), ..DrainOverlay::default() },
        connect: Some(std::time::Duration::from_millis(1500)),
        dead: Some(DeadServers::Hide),
        health: CheckPolicy { expected_tools: vec!["t".into()], path: None },
    };
    let text = String::from_utf8(canonical_json(&odd)).unwrap();
    assert_eq!(
        text,
        r#"{"connect":{"nanos":500000000,"secs":1},"critical":true,"dead":"hide","description":"odd","drain":{},"enabled":false,"health":{"expected_tools":["t"]},"id":"odd","labels":{"team":"x"},"replace":"stop_first","restart_unhealthy":true,"variants":[{"endpoints":[{"transport":{"command":"x","type":"stdio"}}],"id":"default","weight":100}]}"#
    );
    assert_eq!(serde_json::from_str::<Backend>(&text).unwrap(), odd);
    let later = text.replace("critical", "later");
    let error = serde_json::from_str::<Backend>(&later).unwrap_err().to_string();
    assert!(error.starts_with("unknown field `later`"), "{error}");
}

/// Releases in which `timeout` was the only key of `drain` left it out at its default.
#[test]
fn a_drain_that_an_earlier_release_stored_means_what_it_meant_then() {
    let timeout = std::time::Duration::from_secs(7);
    let gateway = Policy { drain: DrainPolicy { timeout, ..DrainPolicy::default() }, ..Policy::default() };
    for (stored, seconds) in [("{}", 7), (r#"{"drain":{}}"#, 30), (r#"{"drain":{"timeout":{"nanos":0,"secs":5}}}"#, 5)]
    {
        let policy: BackendPolicy = serde_json::from_str(stored).unwrap();
        assert_eq!(policy.over(&gateway).drain.timeout.as_secs(), seconds, "{stored}");
        assert_eq!(canonical_json(&policy), stored.as_bytes(), "the digest of the content stays");
    }
}

/// Releases in which 10 was the default left it out, and wrote any other number.
#[test]
fn a_history_that_an_earlier_release_stored_keeps_its_digest_and_has_what_its_author_said() {
    for (stored, contents) in [
        ("{}", HistoryPolicy::CONTENTS),
        (r#"{"policy":{"history":{"max_snapshots":50}}}"#, 50),
        (r#"{"policy":{"history":{"max_snapshots":100,"retention":{"nanos":0,"secs":86400}}}}"#, 100),
        (r#"{"policy":{"history":{"retention":{"nanos":0,"secs":86400}}}}"#, HistoryPolicy::CONTENTS),
        (r#"{"policy":{"history":{"max_snapshots":10}}}"#, 10),
    ] {
        let snapshot: Snapshot = serde_json::from_str(stored).unwrap();
        assert_eq!(snapshot.policy.history.contents(), contents, "{stored}");
        assert_eq!(snapshot.canonical(), (stored.into(), Digest::of_bytes(stored.as_bytes())));
    }
}

#[test]
fn a_strategy_is_stored_where_it_is_set_and_nowhere_else() {
    let progressive = ProgressivePolicy { rate: 5, ..ProgressivePolicy::default() };
    let drain = DrainPolicy { strategy: DrainStrategy::Progressive, progressive, ..DrainPolicy::default() };
    assert_eq!(canonical_json(&drain), br#"{"progressive":{"rate":5},"strategy":"progressive"}"#);
    let own = DrainOverlay { strategy: Some(DrainStrategy::Graceful), ..DrainOverlay::default() };
    let text = canonical_json(&own);
    assert_eq!(text, br#"{"strategy":"graceful"}"#, "in place of the gateway's");
    assert_eq!(serde_json::from_slice::<DrainOverlay>(&text).unwrap(), own);
    assert_eq!(own.over(&drain), DrainPolicy { strategy: DrainStrategy::Graceful, ..drain });
}
