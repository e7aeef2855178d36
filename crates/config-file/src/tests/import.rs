//! What is added to a file of ours is added, and nothing else of it changes.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::named;
use crate::{AddError, add, import, parse, spell};

fn servers() -> Vec<Value> {
    let text = r#"{"mcpServers": {
        "files": {"command": "npx", "args": ["-y", "some server", "8080", "true", "ä\"\\"], "env": {"KEY": "${KEY}", "E": ""}},
        "search": {"url": "https://h.example.org/mcp", "headers": {"X-A": "b: c # d"}, "enabled_tools": ["a", "b"]}
    }}"#;
    let imported = import(&named("mcp.json", text.into())).unwrap();
    assert!(imported.of_client && imported.notes.is_empty(), "{imported:?}");
    imported.servers
}

const NEW_YAML: &str = r#"- id: files
  transport:
    type: stdio
    command: npx
    args: ["-y", "some server", "8080", "true", "ä\"\\"]
    env: { E: "", KEY: "${env:KEY}" }
  connect: 1m
- id: search
  transport:
    type: http
    url: "https://h.example.org/mcp"
    headers: { X-A: "b: c # d" }
  tools: [a, b]
"#;

fn indented(by: usize) -> String {
    NEW_YAML.lines().map(|line| format!("{:by$}{line}\n", "")).collect()
}

const OWN: &str = "- id: own # mine\n  transport: { type: stdio, command: x }\n";

#[test]
fn servers_stand_after_those_that_were_there() {
    let own = OWN.replace('\n', "\n  ").trim_end().to_owned();
    let (flat, two) = (indented(0), indented(2));
    for (before, after) in [
        (String::new(), format!("version: \"1.0\"\nservers:\n{two}")),
        (format!("servers:\n{OWN}"), format!("servers:\n{OWN}{flat}")),
        (format!("servers:\n  {own}"), format!("servers:\n  {own}\n{two}")),
        (
            format!("# top\nservers:\n  {own}\n  # between\n\n# about naming\nnaming: none\n"),
            format!("# top\nservers:\n  {own}\n  # between\n{two}\n# about naming\nnaming: none\n"),
        ),
        (format!("servers:\n{OWN}...\n"), format!("servers:\n{OWN}{flat}...\n")),
        ("allow_empty: true\n".into(), format!("allow_empty: true\n\nservers:\n{two}")),
    ] {
        let added =
            add(&named("f.yaml", before.clone()), &servers()).unwrap_or_else(|error| panic!("{error:?}{before}"));
        assert_eq!(added, after);
    }
    let toml = "# top\n[[servers]]\nid = \"own\"\ntransport = { type = \"stdio\", command = \"x\" }";
    let added = add(&named("f.toml", toml.into()), &servers()).unwrap();
    let new = "\n\n[[servers]]\nid = \"files\"\nconnect = \"1m\"\n[servers.transport]\ntype = \"stdio\"\ncommand = \"npx\"\n\
        args = [\"-y\", \"some server\", \"8080\", \"true\", \"ä\\\"\\\\\"]\nenv = { \"E\" = \"\", \"KEY\" = \"${env:KEY}\" }\n";
    assert!(added.starts_with(&format!("{toml}{new}")), "{added}");
    assert!(add(&named("f.toml", String::new()), &servers()).is_ok());
}

#[test]
fn what_is_downloaded_before_it_first_runs_gets_the_time_for_that() {
    let text = r#"{"mcpServers": {
        "a": {"command": "/usr/bin/uvx", "args": ["mcp-server-time"]},
        "b": {"command": "npx", "startup_timeout_sec": 20},
        "c": {"command": "node"}
    }}"#;
    let servers = import(&named("mcp.json", text.into())).unwrap().servers;
    let connect: Vec<&Value> = servers.iter().map(|server| &server["connect"]).collect();
    assert_eq!(connect, [&json!("1m"), &json!("20s"), &Value::Null]);
}

#[test]
fn a_text_without_a_place_for_more_stays_as_it_is() {
    for text in [
        "servers: [{ id: own, transport: { type: stdio, command: x } }]\n",
        "{ \"servers\": [\n{ \"id\": \"own\", \"transport\": { \"type\": \"stdio\", \"command\": \"x\" } }\n] }\n",
        "allow_empty: true\nservers: []\n",
        "servers:\n  - id: files\n    transport: { type: stdio, command: x }\n",
    ] {
        assert!(matches!(add(&named("f.yaml", text.into()), &servers()), Err(AddError::Layout)), "{text}");
    }
    let invalid = add(&named("f.yaml", "servers: 1\n".into()), &servers());
    assert!(matches!(invalid, Err(AddError::Invalid(_))), "{invalid:?}");
    let inline = "servers = [{ id = \"own\", transport = { type = \"stdio\", command = \"x\" } }]\n";
    assert!(matches!(add(&named("f.toml", inline.into()), &servers()), Err(AddError::Layout)));
}

#[test]
fn what_is_no_file_of_a_client_has_nothing_to_import() {
    let nothing = import(&named("settings.json", r#"{"theme": "dark", "ui": {"a": [1]}}"#.into())).unwrap();
    assert!(!nothing.of_client && nothing.servers.is_empty() && nothing.notes.is_empty());
    let ours = import(&named("f.yaml", format!("servers:\n{OWN}mcpServers: {{}}\n"))).unwrap_err();
    assert_eq!(
        ours[0].to_string(),
        "f.yaml:1:1: servers: this is a configuration of Only1MCP already; `only1mcp up --config` serves it"
    );
    let out =
        import(&named("mcp.json", r#"{"mcpServers": {"a": {"url": "http://h/", "type": "sse"}}}"#.into())).unwrap();
    assert!(out.of_client && out.servers.is_empty() && out.notes.len() == 1, "{out:?}");
}

const WORDS: [&str; 16] = [
    "servers:",
    "\n",
    "\n  ",
    "- ",
    "id: own",
    "transport: { type: stdio, command: x }",
    "naming: none",
    "# c",
    "...",
    "---",
    "[",
    "]",
    "{",
    "}",
    ", ",
    "\t",
];

proptest! {
    #[test]
    fn any_text_gets_more_or_stays(words in vec(select(&WORDS[..]), 0..30)) {
        for text in [words.concat(), format!("servers:\n- id: own\n  transport: {{ type: stdio, command: x }}\n{}", words.concat())] {
            for name in ["f.yaml", "f.toml"] {
                drop(add(&named(name, text.clone()), &servers()));
            }
        }
    }

    /// Whatever a value is, it is the same after it was written and read.
    #[test]
    fn any_value_is_written_and_read(value in any::<String>(), key in "[A-Za-z_][A-Za-z0-9_.-]{0,8}") {
        let value: String = value.chars().filter(|c| *c != '\0').collect();
        let literal = value.replace("${", "$ {");
        let server = json!({ "id": "a", "transport": { "type": "stdio", "command": "x", "args": [literal], "env": { key: literal } } });
        for name in ["f.yaml", "f.toml"] {
            match add(&named(name, String::new()), std::slice::from_ref(&server)) {
                Ok(text) => {
                    let back = spell(&parse(&[named(name, text)]).unwrap());
                    prop_assert_eq!(&back["servers"][0]["transport"]["args"], &server["transport"]["args"]);
                }
                Err(error) => prop_assert!(false, "{name}: {error:?} {server}"),
            }
        }
    }
}
