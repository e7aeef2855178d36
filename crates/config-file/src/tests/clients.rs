//! Files of MCP clients, in the formats that these have today: what is made of each, and what is said about the rest.
//! `UPDATE_GOLDEN=1` writes the answers anew.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::named;
use crate::{Format, add, import, means_the_same, merge, own, parse, read, spell};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/clients")
}

/// The one file below a directory.
fn file_below(directory: &Path) -> PathBuf {
    let mut path = directory.to_owned();
    while path.is_dir() {
        path = fs::read_dir(&path).unwrap().next().unwrap().unwrap().path();
    }
    path
}

/// Each case: the file with its answer, the name of the client's file, and its text.
fn cases() -> Vec<(PathBuf, String, String)> {
    let directories = fs::read_dir(fixtures()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let mut cases: Vec<_> = directories
        .map(|case| {
            let file = file_below(&case);
            let name = Path::new("/srv/ann").join(file.strip_prefix(&case).unwrap());
            (case.with_extension("txt"), name.to_str().unwrap().to_owned(), read(&file).unwrap())
        })
        .collect();
    cases.sort();
    cases
}

/// What is said about a file, and its servers in the words of ours.
fn answer(name: &str, text: String) -> String {
    let sources = [named(name, text)];
    let merged = merge(&sources);
    let mut answer = merged.advice().iter().fold(String::new(), |mut lines, advice| {
        writeln!(lines, "{advice}").unwrap();
        lines
    });
    match merged.judge() {
        Ok(judged) => {
            for server in spell(&judged.snapshot)["servers"].as_array().unwrap() {
                writeln!(answer, "{server}").unwrap();
            }
        }
        Err(violations) => violations.iter().for_each(|violation| writeln!(answer, "refused: {violation}").unwrap()),
    }
    answer
}

#[test]
fn files_of_clients_are_understood() {
    let mut failures = Vec::new();
    let cases = cases();
    assert!(cases.len() >= 12, "{cases:?}");
    for (golden, name, text) in cases {
        let got = answer(&name, text);
        assert!(!got.contains("s3cret"), "{got}");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &got).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        if expected != got {
            failures.push(format!("{}\n--- expected\n{expected}--- got\n{got}", golden.display()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn what_a_client_wrote_wrongly_is_refused_with_its_place() {
    let refused = |text: &str| {
        let said = parse(&[named("mcp.json", text.into())]).unwrap_err();
        said.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    for (text, expected) in [
        (
            r#"{"mcpServers": {"a": "npx"}}"#,
            "mcp.json:1:22: mcpServers.a: expected a mapping with `command` or `url`, found a text",
        ),
        (
            r#"{"mcpServers": {"a": {"command": ["npx"]}}}"#,
            "mcp.json:1:34: mcpServers.a.command: expected a text, found a list",
        ),
        (
            r#"{"mcpServers": {"a": {"command": "x", "args": "y"}}}"#,
            "mcp.json:1:47: mcpServers.a.args: expected a list of texts, found a text",
        ),
        (r#"{"mcpServers": ["a"]}"#, "mcp.json:1:16: mcpServers: expected servers by name, found a list"),
        (
            r#"{"mcpServers": {"a": {"type": "sse", "url": "http://h/"}}}"#,
            "mcp.json:1:31: mcpServers.a: not carried over: its transport is SSE, which is not available in this release; \
             many servers have a URL for Streamable HTTP as well",
        ),
        (
            r#"{"mcpServers": {}}"#,
            "mcp.json:1:1: servers: there are no servers; expected at least one, or `allow_empty: true`",
        ),
        (
            r#"{"mcpServers": {"a": {"url": "https://u:s3cret@h/"}}}"#,
            "mcp.json:1:30: mcpServers.a.url: credentials do not belong into a URL; use `headers: { Authorization: … }`",
        ),
        (
            "version: \"1.0\"\nmcpServers: { a: { command: x } }\nnamig: none\n",
            "mcp.json:3:1: namig: unknown key (did you mean `naming`?)",
        ),
        (
            "servers: [{ id: a, transport: { type: stdio, command: x } }]\nmcpServers: { a: { command: y } }\n",
            "mcp.json:2:15: mcpServers.a: server id `a` is already used at mcp.json:1:17",
        ),
        // A slip under our own key stays one.
        ("servers: { id: a }\n", "mcp.json:1:10: servers: expected a list of servers, found a mapping"),
    ] {
        assert_eq!(refused(text), expected, "{text}");
    }
}

#[test]
fn what_is_said_in_two_ways_is_kept_in_one() {
    for (name, text, expected) in [
        (
            "mcp.json",
            r#"{"mcpServers": {"all": {"command": "/usr/bin/only1mcp", "args": ["connect"]}, "x": {"command": "y"}}}"#,
            r#"mcp.json:1:17: mcpServers.all: not carried over: it is this gateway itself
{"id":"x","transport":{"command":"y","type":"stdio"}}
"#,
        ),
        (
            "mcp.json",
            r#"{"mcpServers": {"a": {"url": "http://h/sse", "httpUrl": "http://h/mcp", "command": null}}}"#,
            r#"mcp.json:1:30: mcpServers.a.url: not carried over: the client has another URL for this server
{"id":"a","transport":{"type":"http","url":"http://h/mcp"}}
"#,
        ),
        (
            "mcp.json",
            r#"{"mcpServers": {"a": {"url": "http://h/sse"}}}"#,
            r#"mcp.json:1:30: mcpServers.a.url: this looks like a URL for SSE, which is not available in this release; many servers have one for Streamable HTTP as well
{"id":"a","transport":{"type":"http","url":"http://h/sse"}}
"#,
        ),
        (
            "mcp.json",
            r#"{"mcpServers": {"a": {"command": "x", "url": "http://h/", "headers": {"A": "b"}}}}"#,
            r#"mcp.json:1:46: mcpServers.a.url: not carried over: a server of this type has neither URL nor headers
{"id":"a","transport":{"command":"x","type":"stdio"}}
"#,
        ),
        (
            "mcp.json",
            r#"{"mcpServers": {"a": {"type": "http", "url": "http://h/", "env": {"K": "v"}}}}"#,
            r#"mcp.json:1:67: mcpServers.a.env.K: not carried over: a server of this type starts no program
{"id":"a","transport":{"type":"http","url":"http://h/"}}
"#,
        ),
        (
            "mcp.json",
            r#"{"mcpServers": {"a": {"command": "x", "includeTools": ["r", "w", "r"], "excludeTools": ["w"]}}}"#,
            r#"{"id":"a","tools":["r"],"transport":{"command":"x","type":"stdio"}}
"#,
        ),
        (
            "mcp.json",
            r#"{"mcpServers": {"a": {"command": "x", "tools": {"r": {"approval_mode": "approve"}}}}}"#,
            r#"mcp.json:1:39: mcpServers.a.tools: not carried over: what may run without asking is up to the client
{"id":"a","transport":{"command":"x","type":"stdio"}}
"#,
        ),
        (
            "/p/.mcp.json",
            r#"{"mcpServers": {"a": {"command": "x", "cwd": "sub"}, "b": {"command": "y"}}}"#,
            r#"{"id":"a","transport":{"command":"x","cwd":"/p/sub","type":"stdio"}}
{"id":"b","transport":{"command":"y","cwd":"/p","type":"stdio"}}
"#,
        ),
    ] {
        assert_eq!(answer(name, text.into()), expected, "{text}");
    }
}

#[test]
fn what_is_imported_is_the_same_in_a_file_of_ours() {
    for (_, name, text) in cases() {
        let Ok(imported) = import(&named(&name, text)) else {
            assert!(name.ends_with("only1mcp.yaml"), "{name}");
            continue;
        };
        for target in ["f.yaml", "f.toml"] {
            let added = add(&named(target, String::new()), &imported.servers).unwrap();
            assert_eq!(own(&named(target, added)).unwrap(), imported.servers, "{name}");
        }
    }
}

#[test]
fn what_else_a_client_keeps_in_its_file_changes_nothing() {
    let file = |starts: u32, command: &str| {
        format!("{{ \"numStartups\": {starts}, \"mcpServers\": {{ \"a\": {{ \"command\": \"{command}\" }} }} }}")
    };
    let same = |one: &str, other: &str| means_the_same((one, Format::Yaml), (other, Format::Yaml));
    assert!(same(&file(1, "x"), &file(2, "x")));
    assert!(!same(&file(1, "x"), &file(1, "y")));
    assert!(!same("naming: none\nmcpServers: {}\n", "naming: prefix\nmcpServers: {}\n"));
    assert!(!same("{ \"theme\": 1 }", "{ \"theme\": 2 }"));
}

const WORDS: [&str; 34] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"mcpServers\"",
    "\"servers\"",
    "\"projects\"",
    "\"a\"",
    "\"command\"",
    "\"url\"",
    "\"args\"",
    "\"env\"",
    "\"headers\"",
    "\"type\"",
    "\"sse\"",
    "\"cwd\"",
    "\"transport\"",
    "\"disabled\"",
    "true",
    "null",
    "1e999",
    "\"${X:-${Y}}\"",
    "\"${input:b}\"",
    "\"$${\"",
    "\"${workspaceFolder\"",
    "// c\n",
    "/* c */",
    "\n",
    "\"inputs\"",
    "\"startup_timeout_sec\"",
    "\"enabled_tools\"",
    "\"only1mcp\"",
];

proptest! {
    #[test]
    fn any_mix_of_a_clients_words_is_judged(words in vec(select(&WORDS[..]), 0..60)) {
        for text in [words.concat(), format!("{{\"mcpServers\":{{\"a\":{{{}}}}}}}", words.concat())] {
            answer("/p/.vscode/mcp.json", text);
        }
    }

    #[test]
    fn any_value_is_a_template(value in "[$\\{\\}:a-zA-Z/-]{0,24}") {
        let text = serde_json::json!({ "mcpServers": { "a": { "command": "x", "env": { "K": value } } } }).to_string();
        for violation in parse(&[named("mcp.json", text)]).err().into_iter().flatten() {
            prop_assert!(violation.message.starts_with("not carried over"), "{violation}");
        }
    }
}
