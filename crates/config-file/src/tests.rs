//! The golden files, and what holds for all files.

mod again;
mod bombs;
mod clients;
mod golden;
mod import;
mod inherited;
mod properties;
mod reference;
mod schema;
mod toml;

use std::fs;

use model::{Owner, Violation};

use crate::{Format, Known, MAX_BYTES, Source, merge_again, parse, read};

/// A file by its name, which says what it is written in.
fn named(name: &str, text: String) -> Source {
    Source { owner: Owner::file(), name: name.into(), format: Format::of(name), text }
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let check = |name: &str, content: Option<&[u8]>, expected: &str| {
        let path = dir.path().join(name);
        if let Some(content) = content {
            fs::write(&path, content).unwrap();
        }
        let violation = Violation::from(read(&path).unwrap_err());
        assert_eq!(violation.to_string(), format!("{}: {expected}", path.display()));
    };
    check("none.yaml", None, "there is no such file");
    check("", None, "is a directory; expected a file");
    check("latin.yaml", Some(b"a: b\nname: caf\xe9\n"), "not UTF-8 at byte 14 (line 2)");
    let large = usize::try_from(MAX_BYTES).unwrap() + 1;
    check("large.yaml", Some(&vec![b' '; large]), "larger than 16777216 bytes");
    let fifo = dir.path().join("fifo.yaml");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    check("fifo.yaml", None, "is no regular file");
    check("large.yaml/x", None, "cannot be opened: Not a directory (os error 20)");
    let loop_ = dir.path().join("loop");
    std::os::unix::fs::symlink(&loop_, &loop_).unwrap();
    assert!(read(&loop_).unwrap_err().to_string().contains("cannot be opened"));
}

#[test]
fn a_text_that_is_broken_is_called_what_its_author_takes_it_for() {
    for (name, text, expected) in [
        ("mcp.json", "{", "not valid JSON: a bracket is not closed"),
        ("mcp.json", "[1, 2", "not valid JSON: a bracket is not closed"),
        ("(standard input)", " {\"mcpServers\": {", "not valid JSON: a bracket is not closed"),
        ("f.yaml", "{", "not valid YAML: a bracket is not closed"),
        ("f", "servers: [", "not valid YAML: a bracket is not closed"),
    ] {
        let told = parse(&[named(name, text.to_owned())]).unwrap_err()[0].to_string();
        assert!(told.contains(expected), "{name}: {text}: {told}");
    }
}

#[test]
fn a_layer_that_is_too_large_is_refused_unread() {
    let text = " ".repeat(usize::try_from(MAX_BYTES).unwrap() + 1);
    let source = Source { owner: Owner::api("ops"), ..named("api:ops", text) };
    let violations = parse(&[source]).unwrap_err();
    assert_eq!(violations.len(), 1);
    assert!(violations[0].to_string().starts_with("api:ops:1:1: the text has 16777217 bytes"));
}

#[test]
fn a_text_that_is_no_configuration_at_all_has_a_bounded_answer() {
    let judge =
        |text: String| parse(&[named("f", text)]).unwrap_err().into_iter().map(|v| v.to_string()).collect::<Vec<_>>();
    let lines: String = (0..5000).map(|i| format!("line {i}: x\n")).collect();
    let listed = judge(lines);
    assert_eq!(listed.len(), 1001);
    assert_eq!(listed[1000], "f:999:1: 4001 more violations are not listed");
    let servers = format!("servers:\n{}", "- {}\n".repeat(10_001));
    assert_eq!(judge(servers), ["f:2:3: servers: 10001 servers; expected at most 10000"]);
    let many = |key: &str, entries: String| {
        judge(format!("servers: [{{ id: a, transport: {{ type: http, {key}: {entries} }} }}]"))
    };
    let urls = many("url: 'http://h/', urls", format!("[{}]", "'http://h/', ".repeat(10_001)));
    assert_eq!(urls, ["f:1:69: servers[0].transport.urls: 10001 URLs; expected at most 256"]);
    let headers: String = (0..10_001).map(|i| format!("H{i}: x, ")).collect();
    let headers = many("url: 'http://h/', headers", format!("{{ {headers} }}"));
    assert_eq!(headers, ["f:1:72: servers[0].transport.headers: 10001 entries; expected at most 10000"]);
}

#[test]
fn layers_are_merged_in_the_order_of_their_owners() {
    let layer = |owner: Owner, id: &str| {
        let text = format!("servers: [{{ id: {id}, transport: {{ type: stdio, command: x }} }}]");
        Source { owner: owner.clone(), ..named(&owner.0, text) }
    };
    let sources = [layer(Owner::api("b"), "third"), layer(Owner::api("a"), "second"), layer(Owner::file(), "first")];
    let snapshot = parse(&sources).unwrap();
    let ids: Vec<&str> = snapshot.backends.iter().map(|backend| backend.id.as_str()).collect();
    assert_eq!(ids, ["first", "second", "third"]);
}

/// Earlier releases took a mark for a secret.
#[test]
fn a_masked_secret_is_refused_where_a_change_brings_it_and_told_where_it_is_in_force() {
    let layer = |owner: Owner, id: &str, value: &str| {
        let text =
            format!("servers: [{{ id: {id}, transport: {{ type: stdio, command: x, env: {{ K: '{value}' }} }} }}]");
        Source { owner: owner.clone(), ..named(&owner.0, text) }
    };
    let (mark, ops) = ("***(1a2b3c4d)", Owner::api("ops"));
    let sources = [layer(Owner::file(), "a", "x"), layer(ops.clone(), "b", mark)];
    let judged = merge_again(&sources, std::slice::from_ref(&ops), &Known::default()).judge().unwrap();
    assert_eq!(judged.advice.len(), 1, "{:?}", judged.advice);
    assert!(judged.advice[0].to_string().starts_with("api:ops:1:") && judged.advice[0].message.contains(mark));
    for in_force in [vec![], vec![Owner::file()]] {
        let violations = merge_again(&sources, &in_force, &Known::default()).judge().unwrap_err();
        assert!(violations[0].message.contains(mark), "{violations:?}");
    }
}

#[test]
fn a_text_that_would_take_gigabytes_is_refused_before() {
    let first = |name: &str, text: &str| parse(&[named(name, text.repeat(2_000_000))]).unwrap_err()[0].to_string();
    assert_eq!(first("f.yaml", "[a, "), "f.yaml:1:1000001: more than 500000 commas and opening brackets");
    assert_eq!(first("f.toml", "a,b,"), "f.toml:1:1500001: more than 1500000 words and signs");
    assert_eq!(first("f.toml", "[a,"), "f.toml:1:600001: more than 200000 dots and opening brackets");
}
